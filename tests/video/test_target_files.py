"""Files for shops and platforms from a real photo: limits, ffprobe, exiftool, Chromium; kills and full disks."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import disks
import pytest
from catalogues import conventions, files, last, photo, quick, shop
from command import run, started
from places import ROOT
from tiny_motion import build_tiny_motion_model

from fashionflow_core import video
from fashionflow_core.config import TARGETS
from fashionflow_core.video import marking, platforms

PHOTO = ROOT / "examples" / "dress.jpg"
SMALL = ("--size", "160x128", "--steps", "2")
# Containers besides MP4 of the targets that are for web pages.
MORE = (("shopify", "webm"), ("shopify", "gif"), ("tiktok", "webm"), ("web", "webm"), ("web", "gif"), ("web", "webp"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    """A folder of files, and the reports of each target's."""
    place = tmp_path_factory.mktemp("targets")
    shutil.copy(PHOTO, place / "dress.jpg")
    done = run("generate", "dress.jpg", "-o", "v.mp4", "--for", ",".join(TARGETS), "--json", *SMALL, cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("loading ") == 1
    found: dict[str, list[dict[str, Any]]] = {}
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    for target, suffix in MORE:
        name = f"{target}.{suffix}"
        done = run("generate", "dress.jpg", "-o", name, "--for", target, "--json", *SMALL, cwd=place)
        assert done.returncode == 0, done.stderr
        reports += [json.loads(line) for line in done.stdout.splitlines()]
    for report in reports:
        found.setdefault(report["target"], []).append(report)
    return place, found


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_files_of_a_real_photo_keep_the_limits(made: tuple[Path, dict[str, list[dict[str, Any]]]], target: str):
    place, found = made
    for report in found[target]:
        done = run("check", report["path"], "--for", target, cwd=place)
        assert done.returncode == 0, done.stdout
        if shutil.which("ffprobe"):
            command = ["ffprobe", "-v", "error", "-count_frames", "-of", "json", "-show_streams", report["path"]]
            printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=place)
            (stream,) = json.loads(printed.stdout)["streams"]
            if not report["path"].endswith(".webp"):  # FFmpeg reads no animated WebP
                assert (int(stream["nb_read_frames"]), stream["width"]) == (report["frames"], report["width"])
                assert not printed.stderr
        if shutil.which("exiftool"):
            command = ["exiftool", "-s3", "-DigitalSourceType", report["path"]]
            printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=place)
            assert printed.stdout.strip() == marking.SOURCE_TYPE, printed.stdout


@pytest.mark.slow
def test_chromium_plays_them(made: tuple[Path, dict[str, list[dict[str, Any]]]], tmp_path: Path):
    program = browser.find()
    if program is None:
        pytest.skip(f"needs Chromium, and none of {', '.join(browser.NAMES)} is on the PATH")
    place, found = made
    jobs: list[dict[str, Any]] = []
    reports = [report for target in TARGETS for report in found[target]]
    for report in reports:
        name, fps = report["path"], report["fps"]
        if name.endswith((".mp4", ".webm")):
            jobs.append(
                {"kind": "video", "file": name, "fps": fps, "times": [0.5 / fps, (report["frames"] - 0.5) / fps]}
            )
        else:
            kind = f"image/{name.rpartition('.')[2]}"
            jobs.append({"kind": "image", "type": kind, "file": name, "frames": [0, report["frames"] - 1]})
    answers = browser.play(program, place, tmp_path / "profile", jobs, seconds=240)
    for report, answer in zip(reports, answers, strict=True):
        assert "error" not in answer, (report["path"], answer)
        assert (answer["height"], answer["width"]) == (report["height"], report["width"]), report["path"]
        if "duration" in answer:
            assert answer["duration"] == pytest.approx(report["frames"] / report["fps"], abs=0.05), report["path"]
            assert answer["ended"] == pytest.approx(answer["duration"], abs=0.05)
        else:
            assert (answer["count"], answer["animated"], answer["forever"]) == (report["frames"], True, True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with disks.small_disk(tmp_path / "disk", "8m") as folder:
        yield folder


TINY = ("--model", "model", "--steps", "2", "--size", "96x80", "-q")


@pytest.mark.slow
@pytest.mark.parametrize("leave", [300_000, 2_300_000])
def test_a_full_disk_is_one_line(tmp_path: Path, disk: Path, leave: int):
    """While frames are stored, and while the files are written: those that are in place are whole."""
    photo(disk / "a.jpg")
    build_tiny_motion_model(tmp_path / "model")
    (disk / "model").symlink_to(tmp_path / "model")
    ballast = disks.fill(disk, leave)
    command = ("generate", "a.jpg", "-o", "a.mp4", "--for", "reels,gif", "--poster", *TINY)
    done = run(*command, cwd=disk)
    assert done.returncode == 1, (done.stdout, done.stderr)
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ") and "no space left" in error.lower() and hint.startswith("hint: "), done.stderr
    left = {path.name for path in disk.iterdir()} - {"a.jpg", "model", "ballast"}
    assert left <= {"a.reels.mp4", "a.reels-poster.png"}, left
    for name in left - {"a.reels-poster.png"}:
        assert not platforms.check(disk / name, platforms.find_platform("reels"))
    ballast.unlink()
    done = run(*command, "--overwrite", cwd=disk)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_catalogue_of_several_targets_goes_on_after_a_full_disk(tmp_path: Path, disk: Path):
    shop(tmp_path / "photos", 4)
    model = conventions(tmp_path / "model")
    ballast = disks.fill(disk, leave=50_000)
    command = (tmp_path / "photos", "-o", disk / "out", "-m", model, "--for", "reels,gif", "--no-scores")
    done = quick(*command, cwd=tmp_path)
    assert done.returncode == 1 and "full" in done.stderr and "Traceback" not in done.stderr, done.stderr
    _assert_whole(disk / "out")
    ballast.unlink()
    done = quick(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(files(disk / "out")) == 12 and not list((disk / "out" / ".fashionflow").glob("scratch-*/*"))
    _assert_whole(disk / "out")


@pytest.mark.slow
def test_a_catalogue_of_several_targets_goes_on_after_kills(tmp_path: Path):
    """Killed as its files appear, one after the other: an item without one of them is made again."""
    shop(tmp_path / "photos", 3)
    build_tiny_motion_model(tmp_path / "model")
    out = tmp_path / "out"
    command = ("generate", "photos", "-o", "out", "--for", "reels,gif", "--no-scores", *TINY)
    for wanted in (1, 2, 4):
        with started(*command, cwd=tmp_path, log=tmp_path / "log") as process:
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline and len(_videos(out)) < wanted:
                time.sleep(0.005)
        _assert_whole(out)
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert _videos(out) == [f"00{n}{end}" for n in range(3) for end in (".gif", ".reels.mp4")]
    assert {record["status"] for record in last(out).values()} == {"done"}
    _assert_whole(out)


def _videos(out: Path) -> list[str]:
    return [name for name in files(out) if name.endswith((".mp4", ".gif"))]


def _assert_whole(out: Path) -> None:
    for name in _videos(out):
        assert len(video.read(out / name)) > 1, name
