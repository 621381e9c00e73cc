"""Every kind of video that is written: the same bytes again, text that comes back, options that go together."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import every_kind, flat, moving
from PIL import Image

from fashionflow_core import video
from fashionflow_core.config import EncodeOptions
from fashionflow_core.errors import UsageError

METADATA = {
    "title": 'Robe d’été "bleue" = 1; 2',
    "Mixed Case": "two\nlines \\ and a tab\t.",
    "comment": "my own",
    "description": '{"json": "inside"}',
    "fashionflow_seed": "7",
    "fashionflow_empty": "",
    "fashionflow_long": "x" * 20_000,
    "日本語": "ワンピース",
}


# Text


@every_kind
def test_metadata_reads_back_as_it_was(tmp_path: Path, suffix: str, codec: str | None) -> None:
    path = tmp_path / f"text{suffix}"
    video.write(moving(3), path, 25, 3, METADATA, codec=codec)
    assert video.read_metadata(path) == METADATA
    assert len(video.read(path)) == 3
    video.write(moving(3), path, 25, 3, codec=codec)
    assert video.read_metadata(path) == {}


def test_foreign_texts_are_read_as_they_are(tmp_path: Path) -> None:
    picture = Image.fromarray(flat((1, 2, 3)))
    for comment in (b"made with love", b"[1, 2]", b'{"a": 1}'):
        picture.save(tmp_path / "a.gif", comment=comment)
        assert video.read_metadata(tmp_path / "a.gif") == {"comment": comment.decode()}
    picture.save(tmp_path / "a.webp")
    assert video.read_metadata(tmp_path / "a.webp") == {}


def test_one_frame_is_a_picture(tmp_path: Path) -> None:
    for suffix in (".gif", ".webp"):
        path = tmp_path / f"one{suffix}"
        for metadata in ({}, METADATA):
            info = video.write([flat((200, 40, 60))], path, 25, 1, metadata)
            assert (info.frames, video.probe(path).frames, info.fps) == (1, 1, 25)
            assert video.read_metadata(path) == metadata


# The same bytes


@every_kind
def test_same_frames_give_the_same_bytes_on_one_processor_as_on_all(
    tmp_path: Path, suffix: str, codec: str | None
) -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system cannot bind a process to a processor")
    script = f"""
import os, sys
if sys.argv[1] == "one":
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from fashionflow_core import video
from fashionflow_core.synthetic.clips import render_clip
clip = render_clip(4, frames=16, height=256, width=320, supersample=1)
path = os.path.join(sys.argv[2], sys.argv[1] + {suffix!r})
video.write(clip.frames, path, 25, 16, {{"fashionflow_seed": "1"}}, codec={codec!r})
"""
    # Other processes, as other runs are: nothing inside this one, such as a counter or an address, may show.
    running = [
        subprocess.Popen([sys.executable, "-c", script, name, str(tmp_path)], stderr=subprocess.PIPE)
        for name in ("one", "all")
    ]
    for process in running:
        assert process.communicate(timeout=100)[1] == b""  # encoders that print would disturb progress bars
        assert process.returncode == 0
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"all{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@every_kind
@pytest.mark.parametrize("height, width", [(34, 48), (48, 144)])
def test_narrow_frames_give_the_same_bytes_every_time(
    tmp_path: Path, suffix: str, codec: str | None, height: int, width: int
) -> None:
    """x264's and x265's vector code reads past rows whose length is not a multiple of its own (`encoders._options`)."""
    path = tmp_path / f"narrow{suffix}"
    made = set()
    for _ in range(15):
        video.write(moving(12, height, width), path, 25, 12, codec=codec)
        made.add(path.read_bytes())
    assert len(made) == 1


@every_kind
def test_frames_are_streamed_not_collected(tmp_path: Path, suffix: str, codec: str | None) -> None:
    import weakref

    alive: set[int] = set()
    most = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal most
        for index, frame in enumerate(moving(60, 16, 16)):
            alive.add(index)
            weakref.finalize(frame, alive.discard, index)
            most = max(most, len(alive))
            yield frame
            del frame

    video.write(frames(), tmp_path / f"long{suffix}", 25, 60, codec=codec)
    assert most <= 3


# Options


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("a.webm", {"codec": "h264"}, ("codec", "h264", "a.webm", ".webm takes vp9, av1", ".mp4")),
        ("a.webm", {"codec": "hevc"}, ("codec", "hevc", "a.webm")),
        ("a.mp4", {"codec": "vp9"}, ("codec", "vp9", "a.mp4", ".mp4 takes h264, hevc, av1", ".webm")),
        ("a.gif", {"codec": "h264"}, ("codec", "a.gif", "leave it out")),
        ("a.webp", {"codec": "av1"}, ("codec", "a.webp", "leave it out", ".mp4 or .webm")),
        ("a.mp4", {"codec": "divx"}, ("codec", "'divx'", "h264, hevc, av1, vp9")),
        ("a.gif", {"crf": 20}, ("crf", "a.gif", ".mp4 and .webm")),
        ("a.webp", {"crf": 20}, ("crf", "a.webp")),
        ("a.mp4", {"crf": 52}, ("crf", "0 to 51", "h264", "52", "default is 18")),
        ("a.mp4", {"crf": -1}, ("crf", "-1")),
        ("a.mp4", {"crf": 0, "codec": "av1"}, ("crf", "1 to 63", "av1")),
        ("a.webm", {"crf": 64}, ("crf", "0 to 63", "vp9")),
        ("a.gif", {"encoder": "hardware"}, ("encoder", "a.gif", "hardware")),
        ("a.mp4", {"encoder": "h265"}, ("encoder", "h265", "software, hardware", "h264_nvenc")),
        ("a.mp4", {"encoder": "h264_qsv"}, ("encoder", "h264_qsv is not an encoder of h264")),
        ("a.webm", {"encoder": "hardware"}, ("encoder", "a.webm", "vp9", "software")),
        ("a.mp4", {"encoder": "hevc_nvenc", "codec": "h264"}, ("encoder", "hevc_nvenc", "h264")),
        ("a.webm", {"encoder": "h264_nvenc"}, ("encoder", "h264_nvenc", "vp9")),
        ("a.mkv", {}, ("a.mkv", ".mp4, .webm, .gif or .webp")),
        ("a", {}, ("a:", ".mp4, .webm, .gif or .webp")),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_any_work(
    tmp_path: Path, name: str, options: dict[str, Any], words: tuple[str, ...]
) -> None:
    frames = moving(3)
    for use in (lambda: video.check_options(name, **options), lambda: video.write(frames, name, 25, 3, **options)):
        with pytest.raises(UsageError) as caught:
            use()
        line = f"{caught.value.message} {caught.value.hint}"
        assert all(word in line for word in words), line
        assert "\n" not in line
    assert len(list(frames)) == 3
    assert not Path(name).exists()


@every_kind
def test_what_goes_together_passes(suffix: str, codec: str | None) -> None:
    video.check_options(f"CLIP{suffix.upper()}", EncodeOptions(codec=codec))
    if codec not in (None, "vp9"):
        video.check_options(f"a{suffix}", EncodeOptions(crf=30, codec=codec, encoder="hardware"))


def test_names_in_capitals_are_written(tmp_path: Path) -> None:
    for suffix in video.SUFFIXES:
        path = tmp_path / f"CLIP{suffix.upper()}"
        video.write(moving(2), path, 25, 2)
        assert len(video.read(path)) == 2


def test_kinds_are_told_by_content_and_not_by_name(tmp_path: Path) -> None:
    for suffix in video.SUFFIXES:
        path = tmp_path / f"clip{suffix}"
        video.write(moving(4), path, 25, 4)
        other = path.rename(tmp_path / f"renamed-{suffix[1:]}.bin")
        assert video.read(other).shape == (4, 48, 64, 3)


def test_options_are_checked_without_the_libraries_that_take_seconds() -> None:
    script = (
        "import sys; from fashionflow_core import video; video.check_options('a.webm', crf=20, codec='vp9'); "
        "print([name for name in ('av', 'torch', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
