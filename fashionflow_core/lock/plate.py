"""Background plate of a photo without the figure, and the test for a plain background."""

from __future__ import annotations

import numpy as np
import torch

from fashionflow_core.images.person import CLEAR, background, distance, grow
from fashionflow_core.metrics.garment import Outline
from fashionflow_core.metrics.tracking import blurred

_MOST_CLUTTER = 0.03  # share of the pixels around the figure that may differ from a plain wall
_BAND = 64  # rows worked on at once, in the processor's cache
_NOISE, _SHADOW = 1.5, 5.0  # L*a*b* distances from the wall: taken for noise below, kept as a shadow from the second on


def plate_of(lab: np.ndarray, figure: np.ndarray) -> np.ndarray:
    """L*a*b* `(h, w, 3)` of the photo's background: its own pixels, and the wall's gradient where the figure stands.

    Args:
        lab: float32 `(h, w, 3)`, the photo.
        figure: bool `(h, w)`, the figure with its shadow.
    """
    near = grow(figure, max(2, len(figure) // 80)).astype(np.float32)
    soft = blurred(torch.from_numpy(near)[None], max(1.0, len(near) / 160)).numpy()[0]
    share = np.maximum(soft, near)[..., None]
    wall = background(lab)
    # Spots of light and vignettes are not linear: the surroundings' difference from the gradient is continued inwards.
    known = torch.from_numpy(1 - near)[None]
    off = torch.from_numpy(lab - wall).permute(2, 0, 1) * known
    total, weight = torch.zeros_like(off), torch.full_like(known, 1e-6)
    for part, importance in ((0.02, 1.0), (0.06, 0.03), (0.2, 0.001)):
        total += importance * blurred(off, part * len(near))
        weight += importance * blurred(known, part * len(near))
    return lab * (1 - share) + (wall + (total / weight).permute(1, 2, 0).numpy()) * share


def is_plain(photo: Outline) -> bool:
    """Whether the background is one wall, of one colour or gradient, but for a shadow at the feet."""
    around = ~grow(photo.figure, max(2, len(photo.figure) // 40))
    around[int(0.85 * len(around)) :] = False
    return bool(around.any() and (photo.away[around] > CLEAR).mean() < _MOST_CLUTTER)


def backdrop(lab: np.ndarray, wall: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """The plate with the shadows of the frame: differences from the frame's wall above the noise are kept.

    Args:
        lab, wall, plate: `(h, w, 3)`: the frame, its empty wall, and the photo's plate.
    """
    made = np.empty_like(lab)
    for start in range(0, len(lab), _BAND):
        rows = slice(start, start + _BAND)
        size = distance(lab[rows], wall[rows])
        share = np.clip((size - _NOISE) / (_SHADOW - _NOISE), 0, 1)[..., None]
        made[rows] = plate[rows] + (lab[rows] - wall[rows]) * share
    return made
