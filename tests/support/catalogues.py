"""What tests of catalogues share: folders of small photos, and what a run has left behind."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from command import environment, interruptible, run
from PIL import Image
from tiny import tiny_config

from fashionflow_core import video
from fashionflow_core.catalogue.naming import POSTER


def photo(path: Path, number: int = 0, size: tuple[int, int] = (72, 96)) -> Path:
    """A small photo, another one for each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 256, (4, 3, 3), np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def shop(folder: Path, count: int, start: int = 0) -> Path:
    """A folder of photos 000.jpg, 001.jpg, ..."""
    for number in range(start, start + count):
        photo(folder / f"{number:03d}.jpg", number)
    return folder


def lines(out: Path) -> list[dict[str, Any]]:
    """The manifest."""
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def last(out: Path) -> dict[str, dict[str, Any]]:
    """The last line of each item."""
    return {record["item"]: record for record in lines(out)}


def files(out: Path) -> list[str]:
    """All files a run has left, but for manifest, page and its own hidden folder."""
    found = (path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.startswith(".fashionflow/") and name not in OWN)


OWN = ("manifest.jsonl", "index.html", "results.csv", "results.json")


def assert_whole(out: Path) -> list[str]:
    """Nothing is half-written: every file is a poster or a video that decodes; returns the videos' names."""
    names = files(out)
    videos = [name for name in names if not name.endswith(POSTER)]
    for name in videos:
        assert name.endswith(".mp4"), names
        assert len(video.read(out / name)) == 4
    for name in names:
        if name.endswith(POSTER):
            Image.open(out / name).load()
    assert not list((out / ".fashionflow").glob("scratch-*/*"))
    return videos


QUICK = (sys.executable, str(Path(__file__).parent / "quick_run.py"))


def plain(path: Path, colour: tuple[int, int, int]) -> Path:
    """A photo of one colour: `quick_model` knows some that do harm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), colour).save(path)
    return path


def conventions(folder: Path, **overrides: Any) -> Path:
    """What a run reads of a model folder; `quick_model` needs no networks. `overrides` are fields of `ModelConfig`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(tiny_config(**overrides).to_json())
    return folder


def quick(*arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `fashionflow generate ARGUMENTS` with `quick_model` to its end, in this process; the workers have theirs."""
    from quick_run import with_quick_model

    with with_quick_model():
        return run("generate", *arguments, cwd=cwd, env=env)


def quick_process(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run `fashionflow generate ARGUMENTS` with `quick_model` to its end, as a process of its own."""
    return subprocess.run(
        [*QUICK, "generate", *map(str, arguments)],
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=timeout,
        check=False,
    )


@contextlib.contextmanager
def quick_started(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start such a run; its streams are in `cwd / "log"`."""
    with (cwd / "log").open("ab") as streams, interruptible():
        process = subprocess.Popen(
            [*QUICK, "generate", *map(str, arguments)], cwd=cwd, env=environment(env), stdout=streams, stderr=streams
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def workers(pid: int) -> list[int]:
    """Its worker processes; they are started from other threads, so that /proc lists them under those."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError):
            found += [int(child) for child in task.read_text().split()]
    return sorted(found)
