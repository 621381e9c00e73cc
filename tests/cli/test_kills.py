"""kill -9 at random moments of each command that writes: old files stay whole, and the same command then finishes.

`TEST_KILLS` in the environment is the number of kills of each command.
"""

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogues import photo
from clip_sets import write_clip
from command import run, started
from PIL import Image
from tiny import build_tiny_model
from tiny_motion import build_tiny_motion_model

from fashionflow_core import video
from fashionflow_core.store import folder as model_folder

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("TEST_KILLS", "2"))


@dataclass(frozen=True)
class Case:
    """One command.

    Attributes:
        prepare: makes its inputs in a folder.
        command: its arguments.
        again: what is added to run it once more over what it made or left.
        outputs: what it writes.
    """

    prepare: Callable[[Path], Any]
    command: tuple[str, ...]
    again: tuple[str, ...]
    outputs: tuple[str, ...]


SMALL = ("--model", "model", "--steps", "2", "-q")


def _photo_and_motion(place: Path) -> None:
    photo(place / "a.jpg")
    build_tiny_motion_model(place / "model")


def _folder(place: Path) -> None:
    for number in range(6):
        photo(place / "photos" / f"{number}.jpg")
    build_tiny_motion_model(place / "model")


def _videos(place: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        write_clip(place / "videos" / f"{number}.mp4", rng.integers(0, 255, (8, 64, 48, 3), np.uint8))
    build_tiny_model(place / "model")


CASES = {
    "generate": Case(
        _photo_and_motion,
        ("generate", "a.jpg", "-o", "a.mp4", "--poster", "--frames-dir", "frames", "--size", "96x80", *SMALL),
        ("--overwrite",),
        ("a.mp4", "a-poster.png", "frames"),
    ),
    "catalogue": Case(
        _folder,
        ("generate", "photos", "-o", "out", "--size", "96x80", "--frames", "4", "--no-scores", *SMALL),
        (),
        ("out",),
    ),
    "synth": Case(
        lambda place: None,
        ("data", "synth", "-o", "clips", "--clips", "8", "--frames", "4", "--size", "64x48", "-q"),
        (),
        ("clips",),
    ),
    "prepare": Case(
        _videos,
        ("data", "prepare", "videos", "-o", "cache", "--model", "model", "--frames", "4", "-q"),
        (),
        ("cache",),
    ),
    "export": Case(
        lambda place: build_tiny_model(place / "model"),
        ("export", "--model", "model", "-o", "engines", "--onnx", "--networks", "vae_decoder", "-q"),
        ("--overwrite",),
        ("engines",),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_killed_at_random_moments(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    case.prepare(tmp_path)
    start = time.monotonic()
    whole = run(*case.command, cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    lasted = time.monotonic() - start
    inputs = {path.name for path in tmp_path.iterdir()}
    reference = _content(tmp_path, case)
    moments = random.Random(name)
    for number in range(KILLS):
        if number % 2:  # over what is there, and from nothing
            for output in case.outputs:
                _remove(tmp_path / output)
        with started(*case.command, *case.again, cwd=tmp_path, log=tmp_path / "log") as process:
            deadline = time.monotonic() + moments.uniform(0, 3 + lasted)
            while time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.01)
        _assert_nothing_half(tmp_path, case)
    (tmp_path / "log").unlink()
    last = run(*case.command, *case.again, cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    assert _content(tmp_path, case) == reference
    assert {path.name for path in tmp_path.iterdir()} == inputs, "a killed run's leftovers are still there"


def _content(place: Path, case: Case) -> dict[str, Any]:
    """What the outputs hold, without times."""
    found: dict[str, Any] = {}
    for output in case.outputs:
        path = place / output
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if not file.is_file() or file.name.startswith("."):
                continue
            key = file.relative_to(place).as_posix()
            if file.name == "manifest.jsonl":
                found[key] = sorted({line["item"] for line in _lines(file) if line["status"] == "done"})
            elif file.suffix in (".html", ".json", ".jsonl"):
                found[key] = None  # times and paths
            else:
                found[key] = file.read_bytes()
    return found


def _assert_nothing_half(place: Path, case: Case) -> None:
    """Every file under its own name is whole."""
    for output in case.outputs:
        path = place / output
        for file in sorted(path.rglob("*")) if path.is_dir() else [path] * path.is_file():
            if any(part.startswith(".") for part in file.relative_to(place).parts) or not file.is_file():
                continue
            if file.suffix == ".mp4":
                assert len(video.read(file)), file
            elif file.suffix in (".png", ".jpg"):
                Image.open(file).load()
            elif file.suffix == ".json":
                json.loads(file.read_text())
            elif file.name == "manifest.jsonl":
                _lines(file)
    if "engines" in case.outputs and (place / "engines").exists():
        problems = model_folder.damage(place / "engines")
        assert all(line.startswith("holds no ") for line in problems), problems  # networks that were not asked for


def _lines(manifest: Path) -> list[dict[str, Any]]:
    """Its records; the last line may be half written, and the next run removes it."""
    lines = manifest.read_text().split("\n")
    return [json.loads(line) for line in lines if line.endswith("}")]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
