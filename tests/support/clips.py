"""Frames that tests encode."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

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


def muxed(path: Path, times: list[int], codec: str = "libx264", turn: int = 0, aspect: Fraction | None = None) -> Path:
    """A video whose frame i, all grey i * 4, is shown from `times[i]` milliseconds on; with the tags of phones."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if turn:
            stream.set_display_rotation(turn)
        for index, time in enumerate(times):
            pixels = np.full((32, 64, 3), index * 4, np.uint8)
            pixels[:8, :16] = 255  # the upper left corner
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
