"""Figure and garment masks of frames.

Frames are those of product videos: one full-length figure on a plain background. The figure is what differs from the
background, which is estimated from the frame's left and right borders; the garment is the figure between neck and feet,
without pixels closer to the colours of skin, hair or shoes than to those of the trunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fashionflow_core.images.lab import srgb_to_lab
from fashionflow_core.images.person import CLEAR, check_frame, figure_rows, find_foreground, grow, shrink, skin_like


@dataclass(frozen=True, eq=False)
class Outline:
    """Colours and figure of a frame, the expensive part of garment masks, shared by several functions.

    Attributes:
        lab: colours of the frame, float32 `(h, w, 3)`, L*a*b*.
        figure: mask of the figure, bool `(h, w)`, as `person.figure_mask`.
        away: distance of each pixel from the background in L*a*b*, float32 `(h, w)`.
    """

    lab: np.ndarray
    figure: np.ndarray
    away: np.ndarray

    @classmethod
    def of(cls, frame: np.ndarray) -> Outline:
        """Outline of a frame, uint8 `(h, w, 3)` sRGB.

        Raises:
            ValueError: if the frame has another type or shape.
        """
        lab = srgb_to_lab(check_frame(frame))
        return cls(lab, *find_foreground(lab))


@dataclass(frozen=True, eq=False)
class Palette:
    """Colours of skin, hair and shoes, L*a*b* `(n, 3)`, each may be empty; from the first frame of a clip."""

    skin: np.ndarray
    hair: np.ndarray
    shoes: np.ndarray


def _quantised(colours: np.ndarray, least: float, step: float = 4.0) -> np.ndarray:
    """The frequent colours of a sample, `(n, 3)`: cells of `step` in L*a*b* with at least a share of `least`."""
    if len(colours) == 0:
        return np.zeros((0, 3), np.float32)
    # One integer per cell: comparing rows is fifty times slower. L*a*b* of sRGB stays below 128.
    span = np.int32(2 * 128 / step) + 2
    cells = np.round(colours / step).astype(np.int32) + span // 2
    numbers, counts = np.unique((cells[:, 0] * span + cells[:, 1]) * span + cells[:, 2], return_counts=True)
    numbers = numbers[counts >= max(1.0, least * len(colours))]
    found = np.stack([numbers // span**2, numbers // span % span, numbers % span], axis=1) - span // 2
    return (found * step).astype(np.float32)


def _shaded(colours: np.ndarray) -> np.ndarray:
    """Colours of a surface in less and more light: L*a*b* scales roughly with brightness."""
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


def frame_palette(frame: np.ndarray | Outline) -> Palette:
    """Colours of skin, hair and shoes of a frame, uint8 `(h, w, 3)`, or of its outline; best with a visible face."""
    seen = frame if isinstance(frame, Outline) else Outline.of(frame)
    lab, mask = seen.lab, seen.figure
    rows = figure_rows(mask)
    if rows[1] - rows[0] < 8:
        none = np.zeros((0, 3), np.float32)
        return Palette(none, none, none)
    face = lab[_band(mask, rows, 0.055, 0.125, 0.6)]
    looks = skin_like(face)
    skin = face[looks] if looks.mean() > 0.2 else np.zeros((0, 3), np.float32)
    if len(skin):
        # The tone of the face; hair of a skin-like hue differs from it.
        middle = np.median(skin, axis=0)
        skin = skin[np.linalg.norm(skin - middle, axis=1) < 22]
    hair = lab[_band(mask, rows, 0.0, 0.03, 0.9)]
    shoes = lab[_band(mask, rows, 0.965, 0.995, 1.0)]
    return Palette(_quantised(skin, 0.01), _quantised(hair, 0.03), _quantised(shoes, 0.05))


def _nearest(lab: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Distance of `(n, 3)` colours to the nearest of `(k, 3)`; infinite without any."""
    if len(colours) == 0:
        return np.full(len(lab), np.inf, np.float32)
    square = (lab**2).sum(1)[:, None] - 2 * lab @ colours.T + (colours**2).sum(1)[None]
    return np.sqrt(np.maximum(square.min(axis=1), 0))


def garment_mask(frame: np.ndarray | Outline, palette: Palette | None = None) -> np.ndarray:
    """The visible garment: what is worn between neck and feet, without skin, hair and shoes.

    Args:
        frame: uint8 `(h, w, 3)` sRGB, one full-length figure before a plain background; or its outline.
        palette: colours of skin, hair and shoes from another frame (`frame_palette` of a clip's first, which shows the
            face); None: those of this frame.

    Returns:
        bool `(h, w)`; empty if no figure is found.

    Raises:
        ValueError: if the frame has another type or shape.
    """
    seen = frame if isinstance(frame, Outline) else Outline.of(frame)
    lab, mask, away = seen.lab, seen.figure, seen.away
    rows = figure_rows(mask)
    top, bottom = rows
    tall = bottom - top
    if tall < 8:
        return np.zeros(mask.shape, bool)
    palette = frame_palette(seen) if palette is None else palette
    trunk = _band(mask, rows, 0.22, 0.44, 0.4)
    if (away[trunk] < CLEAR).mean() < 0.25:
        # Wall between legs or arms is enclosed by the figure, but not part of the garment.
        mask = mask & (away >= CLEAR)

    skin = _shaded(palette.skin)
    core = lab[trunk & mask]
    patterned = False
    worn = []
    for part in (_quantised(core, 0.02), _quantised(lab[_band(mask, rows, 0.46, 0.54, 0.5)], 0.03)):
        # Skin in the sample (deep neckline, bare waist) must not count as garment, unless it has that colour.
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
        to_skin = np.where(skin_like(colours), 8.0, np.inf)
    to_hair = np.where(y < 0.32, _nearest(colours, palette.hair), np.inf)
    to_shoes = np.where(y > 0.8, _nearest(colours, palette.shoes), np.inf)
    other = np.minimum(np.minimum(to_skin, to_hair), to_shoes)
    found = (to_garment < other) | (other > 14)
    mask = np.zeros(window.shape, bool)
    mask[window] = found
    # Specks are classification noise; skin-coloured stripes are bridged.
    mask = grow(shrink(mask)) & window if not patterned else mask
    bridge = max(1, tall // 40) if patterned else 1
    return shrink(grow(mask, bridge), bridge) & window


def skin_mask(frame: np.ndarray, palette: Palette, figure: np.ndarray, garment: np.ndarray) -> np.ndarray:
    """Mask of bare skin: pixels of the figure outside the garment with the skin colour of the clip's first frame.

    Args:
        frame: uint8 `(h, w, 3)` sRGB.
        palette: palette of the clip's first frame. Without skin in it the mask is empty.
        figure, garment: masks of this frame, bool `(h, w)`.

    Returns:
        bool `(h, w)`; its colours are within 25 (L*a*b*) of the palette's skin in some light, so that a drift of skin
        is seen up to about that.
    """
    found = figure & ~garment
    if len(palette.skin) == 0 or not found.any():
        return np.zeros_like(figure)
    lab = srgb_to_lab(check_frame(frame))[found]
    to_skin = _nearest(lab, _shaded(palette.skin))
    other = np.minimum(_nearest(lab, palette.hair), _nearest(lab, palette.shoes))
    found[found] = skin_like(lab) & (to_skin < 25) & (to_skin < other)
    return shrink(found)
