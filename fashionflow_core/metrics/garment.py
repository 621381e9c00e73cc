"""Where the figure and its garment are in a frame, found from the picture alone.

The frames are product videos: one figure, full length, before a plain background. The figure is what differs from the
background as the frame's left and right borders show it; the garment is the figure between neck and feet, without what
looks like the skin of the face, the hair or the shoes more than like the middle of the trunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fashionflow_core.color import srgb_to_lab

CLEAR = 5.0  # a distance from the background, in L*a*b*, that noise and compression do not reach
FAINT = 1.6  # the least distance tried, for white clothes before a white wall


@dataclass(frozen=True, eq=False)
class Palette:
    """Colours of skin, hair and shoes, L*a*b* `(n, 3)`, each possibly empty. A clip's come from its first frame."""

    skin: np.ndarray
    hair: np.ndarray
    shoes: np.ndarray


def _check(frame: np.ndarray) -> np.ndarray:
    if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8:
        raise ValueError(f"expected a uint8 frame (h, w, 3), got {frame.dtype} {frame.shape}")
    return frame


def _shifted(mask: np.ndarray, fill: bool) -> list[np.ndarray]:
    padded = np.pad(mask, 1, constant_values=fill)
    return [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]


def _grow(mask: np.ndarray, times: int = 1) -> np.ndarray:
    for _ in range(times):
        mask = np.logical_or.reduce([mask, *_shifted(mask, False)])
    return mask


def _shrink(mask: np.ndarray, times: int = 1) -> np.ndarray:
    for _ in range(times):
        mask = np.logical_and.reduce([mask, *_shifted(mask, True)])
    return mask


def _swept(found: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """`found` carried down columns through `allowed`: from a run's first found pixel to the run's end."""
    position = np.arange(1, len(found) + 1, dtype=np.int16)[:, None]
    # Found pixels are marked even, walls odd, and both grow downwards: the largest so far is the latest of either.
    marks = np.where(found, 2 * position, np.where(allowed, np.int16(0), 2 * position + np.int16(1)))
    latest = np.maximum.accumulate(marks, axis=0)
    return (latest > 0) & (latest & 1 == 0) & allowed


def _reach(seed: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """All of `allowed` that is connected with `seed`: sweeps in four directions until nothing changes."""
    # Sweeping along the first axis is fast, so that rows are swept in a transposed copy.
    across = np.ascontiguousarray(allowed.T)
    found = seed & allowed
    before = -1
    while (now := int(np.count_nonzero(found))) != before:
        before = now
        found = _swept(found, allowed)
        found = _swept(found[::-1], allowed[::-1])[::-1]
        turned = _swept(np.ascontiguousarray(found.T), across)
        found = np.ascontiguousarray(_swept(turned[::-1], across[::-1])[::-1].T)
    return found


def _background(lab: np.ndarray) -> np.ndarray:
    """L*a*b* of the empty scene: each row runs from its left border's colour to its right border's."""
    height, width, _ = lab.shape
    strip = max(2, width // 40)
    sides = [np.median(lab[:, :strip], axis=1), np.median(lab[:, -strip:], axis=1)]
    # A running median over rows: one disturbed row must not draw a line across the picture.
    reach = max(1, height // 40)
    smooth = []
    for side in sides:
        padded = np.pad(side, ((reach, reach), (0, 0)), mode="edge")
        smooth.append(np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0), axis=-1))
    x = ((np.arange(width) + 0.5) / width)[None, :, None]
    return (smooth[0][:, None] * (1 - x) + smooth[1][:, None] * x).astype(np.float32)


def _figure(away: np.ndarray, threshold: float) -> np.ndarray:
    height, width = away.shape
    mask = _shrink(_grow(away > threshold))
    # Keep what is connected with the frame's middle; a pale dress leaves holes, which belong to the figure.
    middle = np.zeros_like(mask)
    middle[height // 6 : -height // 6, width // 5 : -width // 5] = True
    core = _grow(_shrink(mask, max(1, height // 200)), max(1, height // 200)) & mask
    mask = _reach(core & middle, mask)
    border = np.zeros_like(mask)
    border[0], border[-1], border[:, 0], border[:, -1] = True, True, True, True
    return ~_reach(border, ~mask)


def _find(lab: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The figure's mask, and every pixel's distance from the background."""
    away = np.sqrt(np.sum((lab - _background(lab)) ** 2, axis=-1))
    mask = _figure(away, CLEAR)
    top, bottom = figure_rows(mask)
    if bottom - top >= 8 and _filled(mask, (top, bottom)) < 0.7:
        # Clothes as pale as the wall: trace them by fainter differences, but never the floor's shadow.
        faint = _figure(away, FAINT)
        faint[bottom - int(0.15 * (bottom - top)) :] = False
        mask |= faint
    return mask, away


def figure_mask(frame: np.ndarray) -> np.ndarray:
    """The figure before its plain background, with whatever it encloses (the wall between its legs too).

    Args:
        frame: uint8 `(h, w, 3)` sRGB.

    Returns:
        bool `(h, w)`. A frame without any figure gives none, and a frame of noise something arbitrary.
    """
    return _find(srgb_to_lab(_check(frame)))[0]


def figure_rows(mask: np.ndarray) -> tuple[int, int]:
    """First row, and row after the last, of a figure's mask; `(0, 0)` if empty. Rows hit by few pixels are noise."""
    rows = np.flatnonzero(mask.sum(axis=1) >= max(2, mask.shape[1] // 100))
    return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)


def _quantised(colours: np.ndarray, least: float, step: float = 4.0) -> np.ndarray:
    """The frequent colours of a sample, `(n, 3)`: cells of `step` in L*a*b* holding at least a share of `least`."""
    if len(colours) == 0:
        return np.zeros((0, 3), np.float32)
    cells, counts = np.unique(np.round(colours / step).astype(np.int32), axis=0, return_counts=True)
    return (cells[counts >= max(1.0, least * len(colours))] * step).astype(np.float32)


def _skin_like(lab: np.ndarray) -> np.ndarray:
    """Skin of any tone, generously: hue between reddish and yellowish orange, moderate chroma."""
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
    return (hue > 15) & (hue < 82) & (chroma > 6) & (chroma < 50) & (lab[..., 0] > 6) & (lab[..., 0] < 96)


def _shaded(colours: np.ndarray) -> np.ndarray:
    """A surface's colours in less and in more light: L*a*b* scales about as a whole with brightness."""
    factors = np.array([0.55, 0.7, 0.85, 1.0, 1.1], np.float32)
    return (colours[None] * factors[:, None, None]).reshape(-1, 3)


def _band(mask: np.ndarray, rows: tuple[int, int], low: float, high: float, half: float) -> np.ndarray:
    """Pixels of the figure between two heights, within `half` of the figure's mean half-width about its axis there."""
    top, bottom = rows
    tall = bottom - top
    first, last = top + int(low * tall), max(top + int(low * tall) + 1, top + int(high * tall))
    band = np.zeros_like(mask)
    columns = np.flatnonzero(mask[first:last].any(axis=0))
    if len(columns):
        centre, reach = 0.5 * (columns[0] + columns[-1]), 0.5 * half * (columns[-1] - columns[0] + 1)
        left, right = int(np.ceil(centre - reach)), int(np.floor(centre + reach)) + 1
        band[first:last, left:right] = mask[first:last, left:right]
    return band


def frame_palette(frame: np.ndarray) -> Palette:
    """Colours of skin, hair and shoes of a frame, best one where the face is seen: uint8 `(h, w, 3)`."""
    lab = srgb_to_lab(_check(frame))
    return _palette(lab, _find(lab)[0])


def _palette(lab: np.ndarray, mask: np.ndarray) -> Palette:
    rows = figure_rows(mask)
    if rows[1] - rows[0] < 8:
        none = np.zeros((0, 3), np.float32)
        return Palette(none, none, none)
    face = lab[_band(mask, rows, 0.055, 0.125, 0.6)]
    looks = _skin_like(face)
    skin = face[looks] if looks.mean() > 0.2 else np.zeros((0, 3), np.float32)
    if len(skin):
        # The face's own tone; hair of a skin-like hue is off it.
        middle = np.median(skin, axis=0)
        skin = skin[np.linalg.norm(skin - middle, axis=1) < 22]
    hair = lab[_band(mask, rows, 0.0, 0.03, 0.9)]
    shoes = lab[_band(mask, rows, 0.965, 0.995, 1.0)]
    return Palette(_quantised(skin, 0.01), _quantised(hair, 0.03), _quantised(shoes, 0.05))


def _filled(mask: np.ndarray, rows: tuple[int, int]) -> float:
    """Share of the trunk's middle that the figure's mask covers: near 1 unless the clothes vanish before the wall."""
    tall = rows[1] - rows[0]
    head = np.flatnonzero(mask[rows[0] : rows[0] + max(1, tall // 9)].any(axis=0))
    centre, reach = 0.5 * (head[0] + head[-1]), max(2, tall // 25)
    trunk = mask[rows[0] + tall // 4 : rows[0] + tall // 2, max(0, int(centre) - reach) : int(centre) + reach]
    return float(trunk.mean()) if trunk.size else 1.0


def _nearest(lab: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Distance of `(n, 3)` colours to the nearest of `(k, 3)`; infinite without any."""
    if len(colours) == 0:
        return np.full(len(lab), np.inf, np.float32)
    square = (lab**2).sum(1)[:, None] - 2 * lab @ colours.T + (colours**2).sum(1)[None]
    return np.sqrt(np.maximum(square.min(axis=1), 0))


def garment_mask(frame: np.ndarray, palette: Palette | None = None) -> np.ndarray:
    """The visible garment: what is worn between neck and feet, without skin, hair and shoes.

    Args:
        frame: uint8 `(h, w, 3)` sRGB, one full-length figure before a plain background.
        palette: colours of skin, hair and shoes when known from another frame (`frame_palette` of a clip's first, which
            shows the face); taken from this frame if None.

    Returns:
        bool `(h, w)`; empty if no figure is found.

    Raises:
        ValueError: if the frame has another type or shape.
    """
    lab = srgb_to_lab(_check(frame))
    mask, away = _find(lab)
    rows = figure_rows(mask)
    top, bottom = rows
    tall = bottom - top
    if tall < 8:
        return np.zeros(mask.shape, bool)
    palette = _palette(lab, mask) if palette is None else palette
    trunk = _band(mask, rows, 0.22, 0.44, 0.4)
    if (away[trunk] < CLEAR).mean() < 0.25:
        # Wall seen between legs or arms is closed in by the figure, yet is no garment.
        mask &= away >= CLEAR

    skin = _shaded(palette.skin)
    core = lab[trunk & mask]
    patterned = False
    worn = []
    for part in (_quantised(core, 0.02), _quantised(lab[_band(mask, rows, 0.46, 0.54, 0.5)], 0.03)):
        # Skin seen in the sample (a deep neckline, a bare waist) must not count as garment, unless the garment is such.
        unlike = _nearest(part, skin) > 7
        if unlike.any() and unlike.mean() > 0.3:
            patterned |= bool(not worn and (_nearest(core, skin) < 7).mean() > 0.12)
            part = part[unlike]
        worn.append(part)
    garment = np.concatenate(worn)

    window = mask.copy()
    window[: top + int(0.125 * tall)] = False
    window[bottom - int(0.055 * tall) :] = False
    y = (np.nonzero(window)[0] - top) / tall
    colours = lab[window]
    to_garment = _nearest(colours, garment)
    to_skin = _nearest(colours, skin)
    if len(palette.skin) == 0:
        to_skin = np.where(_skin_like(colours), 8.0, np.inf)
    to_hair = np.where(y < 0.32, _nearest(colours, palette.hair), np.inf)
    to_shoes = np.where(y > 0.8, _nearest(colours, palette.shoes), np.inf)
    other = np.minimum(np.minimum(to_skin, to_hair), to_shoes)
    found = (to_garment < other) | (other > 14)
    mask = np.zeros(window.shape, bool)
    mask[window] = found
    # Specks either way are noise of the classification; stripes of the colour of skin are bridged.
    mask = _grow(_shrink(mask)) & window if not patterned else mask
    bridge = max(1, tall // 40) if patterned else 1
    return _shrink(_grow(mask, bridge), bridge) & window
