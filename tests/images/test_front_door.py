"""Every class of photo through the command itself: the exit code, the one line, the file or none, no traceback."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from command import assert_refused, run, run_process
from photos import CASES, Case, encoded, worn
from tiny import build_tiny_model

from fashionflow_core import video

GOOD = {name: case for name, case in CASES.items() if not case.fails}
BAD = {name: case for name, case in CASES.items() if case.fails}
# These stand for the rest, which the slow tests make too.
QUICK = ("jpeg", "corrupt exif", "palette with transparency", "heic")
MODEL_NOTE = "tiny random weights for tests"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_photo_makes_no_video(tmp_path: Path, name: str) -> None:
    case = BAD[name]
    photo = f"photo{case.suffix}"
    (tmp_path / photo).write_bytes(case.make())
    result = run("generate", photo, "-o", "out.mp4", cwd=tmp_path)
    assert_refused(result, 1, photo)
    line = result.stderr.splitlines()[0]
    assert re.search(case.fails or "", line), line
    assert line.startswith(f"error: {photo}: ")
    assert "Traceback" not in result.stderr and str(tmp_path) not in result.stderr
    assert os.listdir(tmp_path) == [photo]


def _made(result: subprocess.CompletedProcess[str], case: Case, name: str, folder: Path) -> None:
    """One video, its path on stdout, and on stderr the warning that the case asks for, or none."""
    assert (result.returncode, result.stdout) == (0, "out.mp4\n"), result.stderr
    assert "Traceback" not in result.stderr
    assert video.probe(folder / "out.mp4").frames == 4
    warned = [line for line in result.stderr.splitlines() if line.lower().startswith("warning")]
    told = [line for line in warned if "no figure found" not in line or "figure" in str(case.warns)]
    assert bool(told) == bool(case.warns), result.stderr
    if case.warns:
        assert len(told) == 1 and told[0].startswith(f"warning: {name}: "), result.stderr
        assert re.search(case.warns, told[0]), told


def _videos(names: tuple[str, ...]) -> list[object]:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", _videos(tuple(GOOD)))
def test_every_photo_makes_a_video(tmp_path: Path, tiny: Path, name: str) -> None:
    case = GOOD[name]
    photo = f"photo{case.suffix}"
    (tmp_path / photo).write_bytes(case.make())
    result = run("generate", photo, "-m", tiny, "--steps", "1", "-o", "out.mp4", cwd=tmp_path)
    _made(result, case, photo, tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(["out.mp4", photo])


def _piped(data: bytes, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run("generate", "-", *arguments, cwd=cwd, stdin=data)


def test_a_photo_from_standard_input(tmp_path: Path, tiny: Path) -> None:
    case = CASES["corrupt icc"]
    result = _piped(case.make(), "-m", tiny, "--steps", "1", "-o", "out.mp4", cwd=tmp_path)
    _made(result, case, "<stdin>", tmp_path)
    assert os.listdir(tmp_path) == ["out.mp4"]


@pytest.mark.parametrize("name", ["empty", "text", "truncated jpeg", "huge webp", "eps"])
def test_what_is_no_photo_from_standard_input(tmp_path: Path, name: str) -> None:
    assert_refused(_piped(CASES[name].make(), cwd=tmp_path), 1, "<stdin>: ")
    assert os.listdir(tmp_path) == []


def test_a_pipe_that_nobody_writes_to_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert_refused(run_process("generate", "pipe.jpg", cwd=tmp_path, timeout=60), 1, "pipe.jpg", "pipe")


def test_the_limit_is_an_option(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(worn(), "JPEG"))
    result = run("generate", "photo.jpg", "--max-megapixels", "0.3", cwd=tmp_path)
    assert_refused(result, 1, "photo.jpg", "0.3 megapixels")
    assert "--max-megapixels" in result.stderr.splitlines()[1]
    assert os.listdir(tmp_path) == ["photo.jpg"]
