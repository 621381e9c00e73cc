"""Part labels from network probabilities, with arms checked."""

from __future__ import annotations

import numpy as np

from fashionflow_core.images.parts import ARM_LEFT, ARM_RIGHT, BACKGROUND
from fashionflow_core.motion.regions import components


def labelled(shares: np.ndarray) -> np.ndarray:
    """Most probable part at each pixel, uint8 `(h, w)`, excluding background."""
    return (shares[1:].argmax(axis=0) + 1).astype(np.uint8)


def label_parts(photo: np.ndarray, alpha: np.ndarray, shares: np.ndarray) -> np.ndarray | None:
    """Part labels, with plausibility checks.

    Args:
        photo: uint8 `(h, w, 3)` sRGB.
        alpha: float32 `(h, w)`, 0..1.
        shares: float32 `(9, h, w)`, probabilities of `PARTS`.

    Returns:
        uint8 `(h, w)`, above 0 everywhere (outside the figure the most probable part); None if implausible.
    """
    body = shares.copy()
    body[BACKGROUND] = -1.0
    label = body.argmax(axis=0).astype(np.uint8)
    rest = body.copy()
    rest[[ARM_LEFT, ARM_RIGHT]] = -1.0
    others = rest.argmax(axis=0).astype(np.uint8)
    inside = alpha > 0.5
    for arm in (ARM_LEFT, ARM_RIGHT):
        names, sizes = components((label == arm) & inside)
        if len(sizes) < 2:
            continue
        stray = sizes < 0.2 * sizes[1:].max()
        stray[0] = False
        label = np.where(stray[names], others, label)
    return label
