"""`fashionflow grid`: the clips of several methods side by side."""

from pathlib import Path

import numpy as np
import pytest
from clip_sets import named_clip, write_clip, write_frames
from command import assert_refused, run
from PIL import Image

from fashionflow_core import video
from fashionflow_core.errors import UsageError
from fashionflow_core.evaluate.contact_sheet import grid

RED, GREEN = (200, 30, 30), (30, 160, 60)


def plain(colour: tuple[int, int, int], count: int = 6, height: int = 64, width: int = 48) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (count, height, width, 3)).copy()


def colours(picture: Image.Image, box: tuple[int, int, int, int]) -> np.ndarray:
    return np.asarray(picture.crop(box).convert("RGB")).reshape(-1, 3).mean(axis=0)


def test_picture_holds_every_clip_of_every_method(tmp_path: Path):
    write_frames(tmp_path / "method one" / "dress 1", plain(RED))
    write_frames(tmp_path / "two" / "dress 1", plain(GREEN))
    done = run("grid", "method one", "two", "-o", "grid.png", "--columns", "3", "--height", "64", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "grid.png\n", done.stderr
    with Image.open(tmp_path / "grid.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    areas = [(np.abs(pixels - colour).max(axis=-1) < 4).sum() for colour in (RED, GREEN)]
    assert areas == [3 * 64 * 48] * 2
    assert_refused(run("grid", "two", "-o", "grid.png", cwd=tmp_path), 1, "already exists")


def test_what_is_missing_or_broken_is_named(tmp_path: Path):
    write_clip(tmp_path / "a" / "one.mp4", named_clip("one"))
    write_clip(tmp_path / "a" / "two.mp4", named_clip("two"))
    write_clip(tmp_path / "b" / "one.webm", named_clip("one", (20, 96, 64)))
    (tmp_path / "b" / "three.mp4").write_text("no video")
    done = run("grid", "a", "b", "-o", "grid.jpg", cwd=tmp_path)
    assert done.returncode == 3 and (tmp_path / "grid.jpg").is_file()
    failed = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 3
    assert any("b: no clip named two" in line for line in failed)
    assert any("three.mp4: not a video" in line for line in failed)
    (tmp_path / "empty").mkdir()
    assert_refused(run("grid", "a", "empty", "-o", "x.png", cwd=tmp_path), 1, "empty", "no clips")
    assert_refused(run("grid", "b/three.mp4", "-o", "x.png", cwd=tmp_path), 1, "three.mp4")
    assert_refused(run("grid", "a", "-o", "x.pdf", cwd=tmp_path), 2, "x.pdf")
    assert not (tmp_path / "x.png").exists()


def test_video_runs_every_clip_at_its_own_rate(tmp_path: Path):
    """At 20 and 10 frames per second, the second clip's frames last two frames of the grid; a clip that ends stays."""
    slow = np.concatenate([plain(RED, 2), plain(GREEN, 2)])
    write_clip(tmp_path / "fast" / "a.mp4", np.concatenate([plain(RED, 2), plain(GREEN, 2)]), 20)
    write_clip(tmp_path / "slow" / "a.mp4", slow, 10)
    assert grid([tmp_path / "fast", tmp_path / "slow"], tmp_path / "grid.mp4", height=64) == []
    frames = video.read(tmp_path / "grid.mp4").astype(int)
    info = video.probe(tmp_path / "grid.mp4")
    assert len(frames) == 8 and info.fps == 20
    half = frames.shape[2] // 2

    def red(frame: np.ndarray) -> bool:
        return (np.abs(frame - RED).max(axis=-1) < 40).sum() > 2000

    assert [red(frame[:, :half]) for frame in frames] == [True] * 2 + [False] * 6
    assert [red(frame[:, half:]) for frame in frames] == [True] * 4 + [False] * 4


def test_one_folder_twice_and_files(tmp_path: Path):
    write_clip(tmp_path / "a" / "one.mp4", named_clip("one"))
    assert grid([tmp_path / "a", tmp_path / "a"], tmp_path / "twice.png") == []
    write_clip(tmp_path / "other.mp4", named_clip("other"))
    assert grid([tmp_path / "a" / "one.mp4", tmp_path / "other.mp4"], tmp_path / "files.gif") == []
    with pytest.raises(UsageError):
        grid([tmp_path / "a"], tmp_path / "grid")


def test_long_names_stay_in_the_picture(tmp_path: Path):
    name = "a very long name of a clip that nobody would ever want to read to its end " * 2 + "ü"
    write_frames(tmp_path / ("m" * 120) / name.strip(), plain(RED))
    assert grid([tmp_path / ("m" * 120)], tmp_path / "grid.png", columns=2, height=64) == []
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width < 500
