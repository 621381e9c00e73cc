"""Videos as clips: which files are found, what is learned of them, which windows are drawn, what comes out of them."""

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import moving, muxed

from fashionflow_core import video
from fashionflow_core.dataset.clips import (
    ClipWindow,
    choose_windows,
    decode_windows,
    iter_videos,
    measure,
    named_videos,
)
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.images.fitting import fit

FRAME = (48, 64)  # what `moving` draws, so that fitting to it changes nothing


def numbered(path: Path, count: int = 30, fps: float = 25.0) -> Path:
    """A video whose frames are all different."""
    path.parent.mkdir(parents=True, exist_ok=True)
    video.write(moving(count), path, fps=fps, count=count, crf=1)
    return path


def shades(path: Path, window: ClipWindow) -> list[int]:
    """Which frames of `muxed` a window shows."""
    source = measure(path)
    ((_, frames),) = decode_windows(source, [window], source.height, source.width, "stretch", "bilinear")
    return [round(float(frame[-8:, -8:].mean()) / 4) for frame in frames]


def test_folders_are_searched_and_names_of_any_kind_are_kept(tmp_path: Path):
    names = ["train/91+3w x.mp4", "train/deep/ü.MOV", "test/b.webm", "note.txt", ".hidden/c.mp4", "train/.d.mp4"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "train" / "circle").symlink_to(tmp_path)
    found = named_videos([tmp_path, tmp_path / "train"])
    assert list(found) == [
        f"{tmp_path.name}/{name}" for name in ("test/b.webm", "train/91+3w x.mp4", "train/deep/ü.MOV")
    ]
    assert iter_videos([tmp_path / "note.txt"]) == [tmp_path / "note.txt"]
    with pytest.raises(FashionFlowError, match=r"nowhere: no such file or folder"):
        iter_videos([tmp_path / "nowhere"])


def test_equal_names_in_two_roots_stay_apart(tmp_path: Path):
    for side in "ab":
        (tmp_path / side / "videos").mkdir(parents=True)
        (tmp_path / side / "videos" / "x.mp4").write_bytes(b"")
    assert len(named_videos([tmp_path / "a" / "videos", tmp_path / "b" / "videos"])) == 2


def test_a_video_is_measured(tmp_path: Path):
    path = numbered(tmp_path / "Train" / "a.mp4", count=30, fps=29.97)
    source = measure(path, "set/Train/a.mp4")
    assert (source.frames, source.height, source.width, source.split) == (30, *FRAME, "train")
    assert source.fps == pytest.approx(29.97, abs=1e-3)
    assert measure(path).split == ""


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_windows_are_the_frames_of_the_video(tmp_path: Path, suffix: str):
    """Against reading the whole video and slicing it; windows overlap, and come in the order of their ends."""
    path = numbered(tmp_path / f"a{suffix}")
    frames = video.read(path)
    windows = [ClipWindow(20, 1, 5), ClipWindow(3, 4, 5), ClipWindow(0, 1, 5), ClipWindow(4, 2, 5), ClipWindow(0, 7, 5)]
    found = list(decode_windows(measure(path), windows, *FRAME, "pad", "lanczos"))
    assert [window.last for window, _ in found] == sorted(window.last for window in windows)
    for window, cut in found:
        np.testing.assert_array_equal(cut, frames[window.start :: window.stride][:5])


@pytest.mark.parametrize("mode", ["pad", "crop", "stretch"])
def test_a_clip_is_fitted_as_its_first_frame(tmp_path: Path, mode: str):
    path = numbered(tmp_path / "a.mp4")
    ((_, frames),) = decode_windows(measure(path), [ClipWindow(2, 3, 6)], 80, 32, mode, "lanczos")
    read = video.read(path)
    first = fit(read[2], 80, 32, mode, "lanczos")
    np.testing.assert_array_equal(frames[0], first.pixels)
    box = first.box
    outside = np.ones((80, 32), bool)
    outside[box.top : box.top + box.height, box.left : box.left + box.width] = False
    assert outside.any() == (mode == "pad")
    # Bars stand still, the rest moves.
    assert all((frame[outside] == frames[0][outside]).all() for frame in frames)
    assert all((frame != frames[0]).any() for frame in frames[1:])


def test_windows_are_fixed_by_seed_and_name_and_all_different():
    class Video:
        frames = 350

    def draw(**changes: Any) -> list[ClipWindow]:
        asked: dict[str, Any] = {"frames": 70, "per_video": 12, "seed": 0, "name": "a"} | changes
        return choose_windows(Video(), **asked)

    windows = draw()
    assert windows == draw() and windows != draw(seed=1) and windows != draw(name="b")
    assert len(set(windows)) == 12 and all(window.start >= 0 and window.last < 350 for window in windows)
    assert [sum(window.stride == stride for window in windows) for stride in (1, 2, 4)] == [4, 4, 4]
    assert set(draw(per_video=5)) < set(windows)


def test_one_clip_a_video_sees_every_stride_and_every_part_of_the_videos():
    class Video:
        frames = 350

    drawn = [choose_windows(Video(), 70, name=str(number))[0] for number in range(300)]
    for stride in (1, 2, 4):
        some = [window for window in drawn if window.stride == stride]
        assert 70 < len(some) < 130
        room = 350 - 69 * stride
        assert min(window.start for window in some) < room * 0.1 and max(window.start for window in some) > room * 0.9


def test_short_videos_give_what_they_have():
    class Video:
        frames = 10

    assert choose_windows(Video(), 11) == []
    assert choose_windows(Video(), 10, per_video=9) == [ClipWindow(0, 1, 10)]
    assert set(choose_windows(Video(), 5, per_video=99)) == {
        *(ClipWindow(start, 1, 5) for start in range(6)),
        *(ClipWindow(start, 2, 5) for start in range(2)),
    }
    assert len(choose_windows(Video(), 1, per_video=99)) == 30
    assert choose_windows(Video(), 4, strides=(4,)) == []


def test_a_varying_rate_is_read_at_a_steady_one(tmp_path: Path):
    """One frame every 40 ms, but frame 4 is shown for 200 ms, and two frames come within one tick."""
    times = [0, 40, 80, 120, 160, 360, 400, 410, 440, 480, 520, 560]
    path = muxed(tmp_path / "a.mkv", times)
    source = measure(path)
    assert source.fps == pytest.approx(25) and source.frames == 15
    shown = [max(i for i, time in enumerate(times) if time < tick * 40 + 20) for tick in range(15)]
    assert source.order == tuple(shown)
    assert shades(path, ClipWindow(0, 1, 15)) == shown
    assert shades(path, ClipWindow(3, 2, 6)) == shown[3:15:2]


def test_rounded_times_are_no_varying_rate(tmp_path: Path):
    path = muxed(tmp_path / "a.mkv", [round(index * 1000 / 30) for index in range(60)])
    source = measure(path)
    assert source.order is None and source.frames == 60 and source.fps == pytest.approx(30, rel=1e-3)


def test_times_without_sense_are_refused(tmp_path: Path):
    path = muxed(tmp_path / "a.mkv", [0, 40, 80, 120, 3_600_000])
    with pytest.raises(FashionFlowError, match=r"a\.mkv: invalid timestamps"):
        measure(path)


@pytest.mark.parametrize("turn", [90, -90, 180])
def test_turned_videos_come_upright(tmp_path: Path, turn: int):
    """The bright corner is stored at the upper left; players show it turned counter-clockwise by `turn`."""
    source = measure(muxed(tmp_path / "a.mp4", list(range(0, 400, 40)), turn=turn))
    ((_, frames),) = decode_windows(source, [ClipWindow(0, 1, 4)], source.height, source.width, "stretch", "bilinear")
    assert frames.shape == (4, 32, 64, 3) if turn == 180 else (4, 64, 32, 3)
    corners = {90: (-1, 0), -90: (0, -1), 180: (-1, -1)}
    for corner in itertools.product((0, -1), repeat=2):
        assert (frames[0][corner].mean() > 200) == (corner == corners[turn])


def test_pixels_are_made_square(tmp_path: Path):
    source = measure(muxed(tmp_path / "a.mp4", list(range(0, 400, 40)), aspect=Fraction(2, 1)))
    assert (source.height, source.width) == (32, 128)
    ((_, frames),) = decode_windows(source, [ClipWindow(0, 1, 2)], 32, 128, "pad", "lanczos")
    assert frames[0][2, 28].mean() > 200 > 50 > frames[0][2, 40].mean()


def test_what_is_no_video_says_so(tmp_path: Path):
    whole = numbered(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "page.mp4").write_text("<!doctype html><title>404</title>")
    for name, words in {"cut": "", "empty": "0 bytes", "page": "not a video", "gone": "unreadable"}.items():
        with pytest.raises(FashionFlowError, match=rf"{name}\.mp4: .*{words}"):
            measure(tmp_path / f"{name}.mp4")


def test_damage_in_the_middle_costs_only_what_comes_after_it(tmp_path: Path):
    source = measure(numbered(tmp_path / "a.mp4", count=30))
    shorter = numbered(tmp_path / "b.mp4", count=12)
    shorter.replace(source.path)
    found = decode_windows(source, [ClipWindow(0, 1, 5), ClipWindow(10, 2, 5)], *FRAME, "pad", "lanczos")
    assert next(found)[0] == ClipWindow(0, 1, 5)
    with pytest.raises(FashionFlowError, match=r"a\.mp4: ends before frame 12 of 30"):
        next(found)
