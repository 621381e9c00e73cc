"""Gaps in a matte: between arm and body, between legs.

A gap looks like a white dot, stripe or collar of the garment. They are distinguished by their surroundings: arms, skin,
and the prediction of a parser network.
"""

from __future__ import annotations

import numpy as np

from fashionflow_core.images.parts import ARM_LEFT, ARM_RIGHT, LEGS, SHOES
from fashionflow_core.images.person import skin_like
from fashionflow_core.motion.matte_wall import GAP, WallMatte
from fashionflow_core.motion.regions import components, dilate

RIDGE = 0.3  # share of the distance from the wall on both sides below which a pixel shows wall
TAIL = 0.5  # the same for pixels that continue a gap
FAINT = 20.0  # maximum distance from the wall, in L*a*b*, of a blurred slit
LARGE = 0.01  # share of the figure above which a pale area is split by the network, not classified as a whole
PALE = 0.3  # share of the figure as pale as the wall above which pale areas are clothes


def find_gaps(found: WallMatte, matte: np.ndarray | None = None, parts: np.ndarray | None = None) -> np.ndarray:
    """Mask of gaps that show the wall through a figure.

    Args:
        found: figure whose `mask` has all holes closed.
        matte: probability of the figure by a network, float32 `(h, w)`; None without a network.
        parts: labels of `PARTS` by a network, uint8 `(h, w)`; together with `matte`.

    Returns:
        bool `(h, w)`.
    """
    scale = max(found.mask.shape) / 640
    area = max(1.0, float(found.mask.sum()))
    beside = _sides(found.away, max(2, round(6 * scale)))
    pale = (found.away < GAP) | ((found.away < FAINT) & (found.away < RIDGE * beside))
    pale &= found.mask
    labels, sizes = components(pale)
    gaps = np.zeros_like(found.mask)
    pale_clothes = matte is None and (found.mask & (found.away < 2 * GAP)).sum() > PALE * area
    skin = skin_like(found.lab) & found.mask
    for number in np.flatnonzero(sizes >= 10 * scale**2):
        if number == 0:
            continue
        window = _window(labels == number, max(2, round(5 * scale)))
        place = labels[window] == number
        if sizes[number] >= LARGE * area and matte is not None and parts is not None:
            gaps[window] |= place & ((matte[window] < 0.4) | between_legs(place, parts[window], found.mask[window]))
        elif _is_gap(
            place,
            found.away[window],
            skin[window],
            found.mask[window],
            scale,
            None if matte is None else matte[window],
            None if parts is None else parts[window],
            pale_clothes,
        ):
            gaps[window] |= place
    return gaps | _tails(gaps, found.mask & (found.away < FAINT) & (found.away < TAIL * beside))


def between_legs(place: np.ndarray, parts: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a pale area is among bare legs and shoes, not in a garment; arrays of one window."""
    rim = dilate(place, 3) & ~place & mask
    return bool(np.isin(parts[rim], (LEGS, SHOES)).mean() > 0.5) if rim.any() else False


def _tails(gaps: np.ndarray, faint: np.ndarray) -> np.ndarray:
    """The narrow ends of gaps, tinted by blur."""
    labels, sizes = components(faint | gaps)
    inside = np.bincount(labels[gaps], minlength=len(sizes))
    keep = (inside > 0) & (sizes < 2 * inside + 20)
    keep[0] = False
    return keep[labels]


def _is_gap(
    place: np.ndarray,
    away: np.ndarray,
    skin: np.ndarray,
    mask: np.ndarray,
    scale: float,
    matte: np.ndarray | None,
    parts: np.ndarray | None,
    pale_clothes: bool,
) -> bool:
    """Whether a pale area of a figure is a gap; all arrays are windows around it."""
    if away[place].min() > 2 * GAP:
        return False
    size, tall, wide = int(place.sum()), *(int(np.ptp(line)) + 1 for line in np.nonzero(place))
    rim = dilate(place, max(2, round(4 * scale))) & ~dilate(place, max(1, round(1.5 * scale))) & mask
    count = max(1, int(rim.sum()))
    by_skin = float((rim & skin).sum()) / count
    slender = tall > 1.6 * min(wide, size / tall * 1.5)
    if matte is not None and parts is not None:
        figure = float(matte[place].mean())
        if figure < 0.35:
            return True
        # Remainder of a gap between the legs after the network has removed its middle.
        if float(away[place].mean()) < GAP and figure < 0.75 and between_legs(place, parts, mask):
            return True
        by_arm = float((rim & ((parts == ARM_LEFT) | (parts == ARM_RIGHT))).sum()) / count
        # A pale stripe next to a sleeve looks the same, but the network is certain and no skin is near.
        beside_arm = slender and 0.2 < by_arm < 0.9 and (by_skin > 0.2 or figure < 0.75)
        return beside_arm or (by_arm > 0.4 and by_skin > 0.5)
    solid = float(away[place].mean()) < GAP and size > 14 * scale**2
    return (by_skin > 0.25 and slender) or by_skin > 0.6 or (solid and slender and not pale_clothes)


def _window(place: np.ndarray, margin: int) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(place.any(axis=1)), np.flatnonzero(place.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + margin + 1),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + margin + 1),
    )


def _sides(values: np.ndarray, reach: int) -> np.ndarray:
    """The largest value within `reach` columns to the left, or to the right if that is less."""
    padded = np.pad(values, ((0, 0), (reach, reach)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach + 1, axis=1).max(axis=-1)
    return np.minimum(windows[:, : values.shape[1]], windows[:, reach:])
