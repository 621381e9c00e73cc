"""Matte before a plain wall (background subtraction)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fashionflow_core.images.lab import srgb_to_lab
from fashionflow_core.images.person import CLEAR, figure_rows, find_foreground
from fashionflow_core.motion.regions import components, dilate, erode, fill_small, keep_large

FLOOR = 20.0  # the largest distance of a shadow or reflection on the floor from the floor itself, in L*a*b*
SMOOTH = 2.2  # the largest step in L*a*b* from pixel to pixel inside a shadow or reflection
GAP = 4.0  # a hole's mean distance from the wall, at most, if wall is seen through it


@dataclass(frozen=True, eq=False)
class WallMatte:
    """A figure before a plain wall.

    Attributes:
        mask: bool `(h, w)`, the figure with the wall seen between arms and body, but mostly not between legs apart.
        lab: float32 `(h, w, 3)`, the photo in L*a*b*.
        away: float32 `(h, w)`, distance from the wall in L*a*b*.
        clutter: share of what lies outside the figure that is no plain wall, 0..1.
    """

    mask: np.ndarray
    lab: np.ndarray
    away: np.ndarray
    clutter: float


def wall_matte(photo: np.ndarray) -> WallMatte:
    """Finds the figure by what differs from the wall at the photo's left and right border.

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
    """The mask without shadows and reflections on the floor: faint, and reached from the wall without any edge."""
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
    # A shadow is what hangs together with the wall around the figure.
    wall = np.bincount(labels[~mask].ravel(), minlength=len(sizes)) > 0
    wall[0] = False
    shadow = wall[labels]
    rest = mask & ~shadow
    # Rims between shadow and wall, too steep for the above, are thin; so is nothing of a foot.
    low = np.zeros_like(mask)
    low[top + int(0.8 * (bottom - top)) :] = True
    thin = rest & ~dilate(erode(rest, 1), 1)
    return rest & ~(thin & low & dilate(shadow, 2) & (away < FLOOR))
