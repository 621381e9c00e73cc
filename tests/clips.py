"""Frames that tests encode."""

from collections.abc import Iterator

import numpy as np
import pytest

# Every suffix with every codec it takes.
KINDS = [
    (".mp4", "h264"),
    (".mp4", "hevc"),
    (".mp4", "av1"),
    (".webm", "vp9"),
    (".webm", "av1"),
    (".gif", None),
    (".webp", None),
]
every_kind = pytest.mark.parametrize("suffix, codec", KINDS, ids=[f"{s[1:]}-{c}" if c else s[1:] for s, c in KINDS])


def moving(count: int, height: int = 48, width: int = 64) -> Iterator[np.ndarray]:
    """A bright block that wanders over a slope of colours: every frame differs from every other."""
    rows, columns = np.mgrid[:height, :width]
    slope = np.stack([rows * 200 // height, columns * 200 // width, rows * 0 + 90], axis=2).astype(np.uint8)
    for index in range(count):
        frame = slope.copy()
        left = index * 3 % (width - 8)
        frame[8:24, left : left + 8] = (250, 240, 60)
        yield frame


def flat(colour: tuple[int, ...], height: int = 32, width: int = 32) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)
