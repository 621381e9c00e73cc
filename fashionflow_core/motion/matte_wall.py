"""Background subtraction: matte of a figure before a plain wall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fashionflow_core.images.lab import srgb_to_lab
from fashionflow_core.images.person import CLEAR, figure_rows, find_foreground
from fashionflow_core.motion.regions import components, dilate, erode, fill_small, keep_large

FLOOR = 20.0  # maximum distance of a shadow or reflection from the floor, in L*a*b*
SMOOTH = 2.2  # maximum step between pixels inside a shadow or reflection, in L*a*b*
GAP = 4.0  # maximum mean distance from the wall of a hole that shows wall


@dataclass(frozen=True, eq=False)
class WallMatte:
    """A figure before a plain wall.

    Attributes:
        mask: figure without gaps between arms and body, but mostly with those between legs, bool `(h, w)`.
        lab: photo in L*a*b*, float32 `(h, w, 3)`.
        away: distance from the wall in L*a*b*, float32 `(h, w)`.
        clutter: share of the surroundings that is not plain wall, 0..1.
    """

    mask: np.ndarray
    lab: np.ndarray
    away: np.ndarray
    clutter: float


def wall_matte(photo: np.ndarray) -> WallMatte:
    """Find the figure as the difference from the wall, sampled at the photo's left and right border.

    Args:
        photo: uint8 `(h, w, 3)` sRGB; about 640 pixels high is enough, edges are refined elsewhere.
    """
    lab = srgb_to_lab(photo)
    mask, away = find_foreground(lab)
    scale = max(mask.shape) / 640
    outside = ~dilate(mask, max(2, round(4 * scale)))
    clutter = float((away[outside] > CLEAR).mean()) if outside.any() else 0.0
    mask = _without_shadow(lab, mask, away)
    sizes = components(mask)[1]
    if len(sizes) > 2:
        mask = keep_large(mask, max(12.0 * scale**2, 0.004 * sizes[1:].max()))
    return WallMatte(fill_small(mask, 0.02 * mask.size), lab, away, clutter)


def _without_shadow(lab: np.ndarray, mask: np.ndarray, away: np.ndarray) -> np.ndarray:
    """The mask without shadows and reflections on the floor: faint areas connected with the wall without an edge."""
    top, bottom = figure_rows(mask)
    if bottom - top < 8:
        return mask
    step = np.zeros(mask.shape, np.float32)
    for axis in (0, 1):
        difference = np.sqrt(np.sum(np.diff(lab, axis=axis) ** 2, axis=-1))
        for end in ((1, 0), (0, 1)):
            padding = [(0, 0), (0, 0)]
            padding[axis] = end
            np.maximum(step, np.pad(difference, padding), out=step)
    faint = (away < FLOOR) & (step < SMOOTH)
    faint[: top + int(0.8 * (bottom - top))] = False
    labels, sizes = components(faint)
    # A shadow is connected with the wall around the figure.
    wall = np.bincount(labels[~mask].ravel(), minlength=len(sizes)) > 0
    wall[0] = False
    shadow = wall[labels]
    rest = mask & ~shadow
    # Rims between shadow and wall, too steep for the above, are thinner than any part of a foot.
    low = np.zeros_like(mask)
    low[top + int(0.8 * (bottom - top)) :] = True
    thin = rest & ~dilate(erode(rest, 1), 1)
    return rest & ~(thin & low & dilate(shadow, 2) & (away < FLOOR))
