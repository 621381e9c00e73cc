"""Canvas of a video: frames inside a larger picture with an extended background."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from fashionflow_core.config import RATIOS
from fashionflow_core.errors import SettingError
from fashionflow_core.video.platforms import PlatformLimits

LONGEST_CANVAS = 1920  # maximum pixels of the longer side of an extended canvas
_STRIP = 0.01  # share of a side: depth of the edge that gives background colours
_PLAIN = 48  # maximum deviation of a background's edge from its median; beyond, the figure reaches the edge
_TINT = 24  # the same for differences between channels, such as of skin; reflections on the floor have more
_HALO = 0.015  # share of an edge: soft border of the figure on either side
_LEAST_PLAIN = 0.6  # minimum share of background in the edge, else one colour fills the bar
_FADE = 0.03  # share of a side: length of the transition from the colours at the edge to smoothed ones
_SHADOW_FADE = 0.08  # the same for shadows and reflections on the floor
_SHADOW = 2.0  # levels: minimum deviation of a shadow or reflection
_REFLECTION = 0.3  # share of an edge: maximum length of a reflection
_RANGE = 4.0  # levels: steps beyond this and three times the noise stay sharp when an edge is smoothed
_GRAIN_DEPTH = 0.08  # share of a side: depth of the background whose grain the bars repeat
_LEAST_GRAIN = 0.5  # levels: standard deviation below which rounding to 8 bits explains the grain
_NOISE = 0.5  # levels: standard deviation of the noise on gradients without grain
_WINDOW = 4  # pixels: radius of the window that separates grain from shades
_LEAST_COLUMNS = 0.25  # share of an edge: minimum of background whose grain is measured


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

    Top and bottom bars continue each column of the frame's edge, left and right ones each row, smoothed along the edge
    except for steps such as that from wall to floor. A figure that reaches the edge is left out, and shadows and
    reflections on the floor fade. Bars have the grain of the background next to them, and are dithered, so that
    gradients do not show steps. All frames have the same bars, and the same first frame gives the same ones.
    """

    def __init__(self, first: NDArray[np.uint8], size: CanvasSize) -> None:
        self.size = size
        inner = self._scaled(first).astype(np.float32)
        bottom, right = size.height - size.top - size.inner_height, size.width - size.left - size.inner_width
        rng = np.random.default_rng(0)
        if size.left or right:
            bars = [_bar(inner[:, ::-1].swapaxes(0, 1), size.left, rng), _bar(inner.swapaxes(0, 1), right, rng)]
            inner = np.concatenate([bars[0][::-1].swapaxes(0, 1), inner, bars[1].swapaxes(0, 1)], axis=1)
        if size.top or bottom:
            bars = [_bar(inner[::-1], size.top, rng, fades=True), _bar(inner, bottom, rng, math.inf, fades=True)]
            inner = np.concatenate([bars[0][::-1], inner, bars[1]])
        # Random rounding keeps the mean of a gradient between two levels. Whole levels stay.
        dithered = np.floor(inner + rng.random(inner.shape, np.float32))
        self._background = dithered.clip(0, 255).astype(np.uint8)

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


def _bar(
    picture: NDArray[np.float32], depth: int, rng: np.random.Generator, tint: float = _TINT, fades: bool = False
) -> NDArray[np.float32]:
    """`depth` rows that continue the last rows of a picture (h, w, 3).

    Args:
        tint: as for `_plain`.
        fades: shadows, reflections and halos of the figure fade; at the sides they would be lines of the room.
    """
    height, width, _ = picture.shape
    if not depth:
        return picture[:0]
    edge = np.median(picture[-max(1, round(height * _STRIP)) :], axis=0)
    plain = _plain(edge, tint)
    if plain.mean() < _LEAST_PLAIN:
        colour = np.round(np.median(edge, axis=0))
        return np.broadcast_to(colour, (depth, width, 3)).astype(np.float32)
    places = np.arange(width)
    for channel in range(3):
        edge[:, channel] = np.interp(places, places[plain], edge[plain, channel])
    near = _smoothed(edge, max(1, width // 160))
    far = _smoothed(near, max(3, width // 16))
    level = _without_shadows(far) if fades else far
    # Shadows lose their outlines first, then themselves.
    shadow = _blurred(far - level, (0,), max(1, width // 24))
    distance = np.arange(1, depth + 1)[:, None, None] / max(1.0, min(height, width))
    outline = np.exp(-distance / _FADE)
    bar = level + (near - level) * outline + shadow * (np.exp(-distance / _SHADOW_FADE) - outline)
    # Rounding errors of whole levels would become single dots.
    bar = np.round(bar * 64) / 64
    grain = _grain(picture[-max(8, round(height * _GRAIN_DEPTH)) - 2 * _WINDOW :], plain)
    if grain is not None:
        bar += _tiled(grain, depth, width, rng)
    else:
        # Less noise would not outlast the coding of a video; white noise would need more bytes.
        noise = _blurred(rng.standard_normal((depth, width, 1), np.float32), radius=1)
        bar += np.where(bar == np.round(bar), 0, 3 * _NOISE * noise)
    return bar.astype(np.float32)


def _plain(edge: NDArray[np.float32], tint: float) -> NDArray[np.bool_]:
    """Where the background reaches an edge, colours (n, 3): near its median, and even parts at its ends (a floor)."""
    deviation = edge - np.median(edge, axis=0)
    plain = (np.abs(deviation).max(axis=1) <= _PLAIN) & (np.ptp(deviation, axis=1) <= tint)
    count = len(plain)
    for start, stop in _runs(~plain):
        part = edge[start:stop]
        if (start == 0 or stop == count) and np.abs(part - np.median(part, axis=0)).max() <= _PLAIN:
            plain[start:stop] = True
        else:
            halo = math.ceil(count * _HALO)
            plain[max(0, start - halo) : stop + halo] = False
    return plain


def _smoothed(line: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """Colours along an edge, (n, 3), smoothed over distance and colour (a bilateral filter), so that steps stay."""
    noise = 1.4826 * float(np.median(np.abs(np.diff(line, axis=0)))) if len(line) > 1 else 0.0
    padded = np.pad(line, ((radius, radius), (0, 0)), mode="symmetric")
    windows = sliding_window_view(padded, 2 * radius + 1, axis=0)
    difference = np.abs(windows - line[:, :, None]).max(axis=1) / (_RANGE + 3 * noise)
    distance = 2 * np.arange(-radius, radius + 1) / radius
    weights = np.exp(-(difference**2 + distance**2) / 2)[:, None]
    return (windows * weights).sum(axis=2) / weights.sum(axis=2)


def _without_shadows(line: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours along an edge, (n, 3), without parts that are darker, or short and brighter, than both sides."""
    level, radius = line, round(len(line) * _REFLECTION / 2)
    if radius:
        # A morphological opening removes short maxima; wide ones are brightness of the background.
        padded = np.pad(line, ((2 * radius, 2 * radius), (0, 0)), mode="reflect", reflect_type="odd")
        eroded = sliding_window_view(padded, 2 * radius + 1, axis=0).min(axis=2)
        level = np.minimum(line, sliding_window_view(eroded, 2 * radius + 1, axis=0).max(axis=2))
    high = np.maximum.accumulate
    level = np.minimum(high(level), high(level[::-1])[::-1])
    return level if np.abs(line - level).max() > _SHADOW else line


def _runs(chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and stop of each run of True."""
    turns = np.flatnonzero(np.diff(chosen, prepend=False, append=False))
    return list(zip(turns[::2].tolist(), turns[1::2].tolist(), strict=True))


def _grain(strip: NDArray[np.float32], plain: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """Fine structure (h, n, 3) of a background next to an edge, without the figure; None: it has none."""
    if min(strip.shape[:2]) <= 4 * _WINDOW:
        return None
    fine = (strip - _blurred(strip))[_WINDOW:-_WINDOW]
    # Outlines and texture are locally stronger than grain, which is the same everywhere.
    strength = np.sqrt(_blurred(fine**2).mean(axis=2))
    chosen = plain & (strength.max(axis=0) <= 1.5 * np.median(strength[:, plain]))
    chosen[:_WINDOW] = chosen[-_WINDOW:] = False
    fine = fine[:, chosen]
    if fine.shape[1] < _LEAST_COLUMNS * len(plain) or fine.std() < _LEAST_GRAIN:
        return None
    return fine - fine.mean(axis=(0, 1))


def _blurred(pixels: NDArray[np.float32], axes: tuple[int, ...] = (0, 1), radius: int = _WINDOW) -> NDArray[np.float32]:
    """Box filter of 2 `radius` + 1 pixels along axes."""
    for axis in axes:
        sides = [(radius, radius) if at == axis else (0, 0) for at in range(pixels.ndim)]
        windows = sliding_window_view(np.pad(pixels, sides, mode="reflect"), 2 * radius + 1, axis=axis)
        pixels = windows.mean(axis=-1, dtype=np.float32)
    return pixels


def _tiled(grain: NDArray[np.float32], depth: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Grain of `depth` x `width` from pieces that are moved and mirrored at random."""
    rows, columns, _ = grain.shape
    made = np.empty((depth, width, 3), np.float32)
    for top in range(0, depth, rows):
        piece = grain[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
        along = (np.arange(width) + rng.integers(columns)) % columns
        made[top : top + rows] = piece[: depth - top, along]
    return made
