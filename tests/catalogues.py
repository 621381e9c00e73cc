"""What tests of catalogues share: folders of small photos, and what a run has left behind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fashionflow_core import video
from fashionflow_core.catalogue.names import POSTER


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


OWN = ("manifest.jsonl", "index.html")


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
