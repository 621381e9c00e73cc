"""Videos of other people's devices and programs: what is shown counts, in its place and in its colours."""

import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from clips import muxed
from PIL import Image
from places import GOLDEN

from fashionflow_core import video
from fashionflow_core.dataset.clips import iter_videos, measure
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning
from fashionflow_core.evaluate.sources import ClipFile, find_clips, look

CASES = GOLDEN / "cases"


@pytest.mark.parametrize("name, frames", [("cut-copy.mp4", 45), ("mid-gop.ts", 35), ("vflip.mp4", 60)])
def test_the_frames_that_are_shown_count(name: str, frames: int) -> None:
    path = CASES / name
    assert video.probe(path).frames == len(video.read(path)) == measure(path).frames == frames
    assert look(ClipFile(name, path)).frames == frames


def test_a_mirrored_video_is_shown_mirrored() -> None:
    """`vflip.mp4` stores what `cut-copy.mp4` shows from its 16th frame on, with a display matrix that mirrors it."""
    plain, mirrored = video.read(CASES / "cut-copy.mp4")[0], video.read(CASES / "vflip.mp4")[15]
    assert np.abs(mirrored.astype(int) - plain[::-1]).mean() < np.abs(mirrored.astype(int) - plain).mean() / 4


@pytest.mark.parametrize("turn", [0, 90, -90, 180])
def test_turned_videos_are_read_as_players_show_them(tmp_path: Path, turn: int) -> None:
    """The bright corner is stored at the upper left; players show it turned counter-clockwise by `turn`."""
    path = muxed(tmp_path / "a.mp4", [0, 40, 80], turn=turn)
    frame = video.read(path)[0]
    expected = np.rot90(np.pad(np.full((8, 16), 255), ((0, 24), (0, 48))), turn // 90)
    assert frame.shape[:2] == expected.shape == (video.probe(path).height, video.probe(path).width)
    assert (frame[expected > 0].mean() > 200) and (frame[expected == 0].mean() < 50)


def test_hdr_is_refused_with_what_to_do() -> None:
    with pytest.raises(FashionFlowError, match="HDR video") as caught:
        video.read(CASES / "hlg.mp4")
    assert caught.value.hint and "ffmpeg" in caught.value.hint


def test_the_cover_of_a_sound_file_is_no_video() -> None:
    with pytest.raises(FashionFlowError, match="no video"):
        video.read(CASES / "audio-with-cover.mp4")


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_pipes_named_like_videos_are_skipped(tmp_path: Path) -> None:
    muxed(tmp_path / "a.mp4", [0, 40, 80])
    os.mkfifo(tmp_path / "b.mp4")
    for search in (lambda: iter_videos([tmp_path]), lambda: [clip.path for clip in find_clips(tmp_path)]):
        with pytest.warns(FashionFlowWarning, match=r"b\.mp4: skipped, a pipe or device"):
            assert search() == [tmp_path / "a.mp4"]


def test_names_of_both_unicode_forms_pair(tmp_path: Path) -> None:
    keys = set()
    for form in ("NFC", "NFD"):
        path = tmp_path / form / unicodedata.normalize(form, "Kostüm.mp4")
        path.parent.mkdir()
        muxed(path, [0, 40])
        keys |= {clip.key for clip in find_clips(path.parent)}
    assert len(keys) == 1


def test_superscripts_are_no_frame_numbers(tmp_path: Path) -> None:
    for name in ("1.png", "²4.png", "3.png"):
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / name)
    with pytest.raises(FashionFlowError, match="missing frame 2"):
        look(find_clips(tmp_path)[0])
