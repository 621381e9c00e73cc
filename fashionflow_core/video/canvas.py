"""Canvas of a video: frames inside a larger picture with an extended background."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashionflow_core.config import RATIOS
from fashionflow_core.errors import SettingError
from fashionflow_core.video.platforms import PlatformLimits

LONGEST_CANVAS = 1920  # maximum pixels of the longer side of an extended canvas
_STRIP = 0.01  # share of a side: depth of the edge that gives background colours
_PLAIN = 48  # maximum deviation of a background's edge from its median; beyond, the figure reaches the edge
_LEAST_PLAIN = 0.6  # minimum share of background in the edge, else one colour fills the bar
_FADE = 0.03  # share of a side: length of the transition from the colours at the edge to smoothed ones


def ratio_of(text: str) -> Fraction | None:
    """`4:5` → 4/5, width by height; None for an empty text.

    Raises:
        UsageError: not one of `RATIOS`.
    """
    if text and text not in RATIOS:
        raise SettingError("ratio", f"must be one of {', '.join(RATIOS)} (width:height), not {text!r}")
    return Fraction(*map(int, text.split(":"))) if text else None


@dataclass(frozen=True)
class CanvasSize:
    """Size of a video in pixels, and position and size (`inner_height` x `inner_width`) of the frames in it."""

    height: int
    width: int
    top: int
    left: int
    inner_height: int
    inner_width: int


def plan_canvas(
    height: int, width: int, limits: PlatformLimits | None = None, ratio: Fraction | None = None, longest: int = 0
) -> CanvasSize:
    """The canvas for frames of `height` x `width`: whole frames, extended and never cut.

    Args:
        height, width: of the frames.
        limits: sizes and ratio of a target; its ratio overrides `ratio`.
        ratio: width by height of the canvas; None: that of the frames.
        longest: maximum pixels of the longer side; 0: no limit.
    """
    if limits is not None and limits.frames:
        # The size that scales the frames least.
        high, wide = min(limits.frames, key=lambda size: abs(math.log(min(size[0] / height, size[1] / width))))
        return enclosed(height, width, high, wide)
    ratio = (limits.ratio if limits is not None else None) or ratio
    low, high = limits.sides if limits is not None and limits.sides else (1, 1 << 30)
    most_wide = limits.width if limits is not None and limits.width else high
    high = min(high, longest or high)
    if ratio is None:
        scale = min(1.0, high / max(height, width), most_wide / width)
        scale = max(scale, low / min(height, width))
        if scale == 1:
            return CanvasSize(height, width, 0, 0, height, width)
        return enclosed(height, width, _even(height * scale), _even(width * scale))
    # Multiples of the smallest even sides of this ratio, so that it is exact.
    unit_high, unit_wide = 2 * ratio.denominator, 2 * ratio.numerator
    units = math.ceil(max(height / unit_high, width / unit_wide, low / min(unit_high, unit_wide)))
    units = min(units, max(1, int(min(high / max(unit_high, unit_wide), most_wide / unit_wide))))
    return enclosed(height, width, units * unit_high, units * unit_wide)


def enclosed(height: int, width: int, high: int, wide: int) -> CanvasSize:
    """Frames centred on a canvas of `high` x `wide`, scaled unless they already fill a side."""
    scale = min(high / height, wide / width)
    inner = (height, width)
    # Within a unit of the ratio frames are not scaled, which keeps their pixels.
    if scale < 1 or min(high - height, wide - width) > 0.05 * min(high, wide):
        inner = (min(high, _even(height * scale)), min(wide, _even(width * scale)))
    # Even offsets keep the frames' pixels on the same chroma samples.
    top, left = ((high - inner[0]) // 4 * 2, (wide - inner[1]) // 4 * 2)
    return CanvasSize(high, wide, top, left, *inner)


def photo_box(size: CanvasSize, source: Sequence[float], photo: tuple[int, int]) -> tuple[float, float, float, float]:
    """Where the whole photo would lie in a video: left, top, width and height as shares of the video's sides.

    Beyond 0 and 1 where the photo was cropped; (0, 0, 1, 1) where it fills the video.

    Args:
        size: canvas of the video.
        source: left, top, right, bottom of the part of the photo that the frames show, in its pixels (`Fitted.source`).
        photo: (height, width) of the photo in pixels.
    """
    left, top, right, bottom = source
    across, down = size.inner_width / (right - left), size.inner_height / (bottom - top)
    return (
        (size.left - left * across) / size.width,
        (size.top - top * down) / size.height,
        photo[1] * across / size.width,
        photo[0] * down / size.height,
    )


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))


class VideoCanvas:
    """A canvas whose bars continue the background of the first frame, uint8 (h, w, 3), for the whole video.

    Top and bottom bars continue each column of the frame's edge, left and right ones each row, smoothed along the edge;
    a figure that reaches the edge is left out.
    """

    def __init__(self, first: NDArray[np.uint8], size: CanvasSize) -> None:
        self.size = size
        inner = self._scaled(first).astype(np.float32)
        bottom, right = size.height - size.top - size.inner_height, size.width - size.left - size.inner_width
        if size.left or right:
            bars = [_bar(inner[:, ::-1].swapaxes(0, 1), size.left), _bar(inner.swapaxes(0, 1), right)]
            inner = np.concatenate([bars[0][::-1].swapaxes(0, 1), inner, bars[1].swapaxes(0, 1)], axis=1)
        if size.top or bottom:
            inner = np.concatenate([_bar(inner[::-1], size.top)[::-1], inner, _bar(inner, bottom)])
        self._background = inner.round().clip(0, 255).astype(np.uint8)

    def place(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A frame, uint8 (h, w, 3), on the canvas."""
        size = self.size
        if (size.height, size.width) == frame.shape[:2]:
            return frame
        placed = self._background.copy()
        rows, columns = slice(size.top, size.top + size.inner_height), slice(size.left, size.left + size.inner_width)
        placed[rows, columns] = self._scaled(frame)
        return placed

    def _scaled(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = (self.size.inner_width, self.size.inner_height)
        if frame.shape[1::-1] == size:
            return frame
        return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


def _bar(picture: NDArray[np.float32], depth: int) -> NDArray[np.float32]:
    """`depth` rows that continue the last rows of a picture (h, w, 3)."""
    height, width, _ = picture.shape
    strip = picture[-max(1, round(height * _STRIP)) :]
    edge = np.median(strip, axis=0)
    colour = np.median(edge, axis=0)
    plain = np.abs(edge - colour).max(axis=1) <= _PLAIN
    if plain.mean() < _LEAST_PLAIN:
        return np.broadcast_to(colour, (depth, width, 3)).astype(np.float32)
    places = np.arange(width)
    for channel in range(3):
        edge[:, channel] = np.interp(places, places[plain], edge[plain, channel])
    fade = np.exp(-np.arange(1, depth + 1) / max(1.0, _FADE * min(height, width)))[:, None, None]
    return (edge * fade + _smoothed(edge, max(3, width // 24)) * (1 - fade)).astype(np.float32)


def _smoothed(line: NDArray[np.floating], radius: int) -> NDArray[np.floating]:
    """Colours along an edge, (n, 3), after three box filters: close to a Gaussian."""
    for _ in range(3):
        padded = np.pad(line, ((radius + 1, radius), (0, 0)), mode="edge").cumsum(axis=0, dtype=np.float64)
        line = (padded[2 * radius + 1 :] - padded[: -2 * radius - 1]) / (2 * radius + 1)
    return line
