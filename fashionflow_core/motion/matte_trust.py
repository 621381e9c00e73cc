"""Plausibility tests of mattes (size, overlap of wall and network masks), with reasons."""

from __future__ import annotations

import numpy as np

from fashionflow_core.images.parts import ARM_LEFT, ARM_RIGHT, HAIR, HEAD, LEGS, SHOES
from fashionflow_core.motion.regions import components

UNSURE = 0.3  # area of undecided probabilities, as a share of the figure, above which the outline is unreliable


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two masks, 0..1."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 0.0


def shape_doubts(mask: np.ndarray) -> str:
    """The reason why a mask is not a single figure; empty if plausible."""
    share = float(mask.mean())
    if share < 0.015:
        return "no person was found in the photo"
    if share > 0.85:
        return "the figure fills the whole photo"
    labels, sizes = components(mask)
    large = np.sort(sizes[1:])[::-1]
    if len(large) > 1 and large[1] > 0.25 * large[0]:
        return "there seem to be several people or things in the photo"
    if (large > 0.002 * large[0]).sum() > 12:
        return "the figure's outline is unclear"
    holes = components(~mask)[1][1:]
    if (holes > 0.002 * large[0]).sum() > 14:
        return "the figure's outline is full of holes"
    touched = [mask[0].mean(), mask[:, 0].mean(), mask[:, -1].mean()]
    if min(touched) > 0.05:
        return "the figure reaches all borders of the photo"
    return ""


def net_doubts(matte: np.ndarray, parts: np.ndarray, mask: np.ndarray) -> str:
    """The reason why a prediction is not a single person; empty if plausible.

    Args:
        matte: probability of the figure, float32 `(h, w)`.
        parts: probabilities of `PARTS`, float32 `(9, h, w)`.
        mask: figure derived from them, bool `(h, w)`.
    """
    area = float(mask.sum())
    if area < 0.015 * mask.size:
        return "no person was found in the photo"
    undecided = float(((matte > 0.25) & (matte < 0.75)).sum())
    if undecided > UNSURE * area:
        return "the figure's outline is unclear"
    label = np.where(mask, parts.argmax(axis=0), 0)
    sizes = components((label == HEAD) | (label == HAIR))[1][1:]
    if len(sizes) > 1:
        first, second = np.sort(sizes)[::-1][:2]
        if second > max(0.25 * first, 0.01 * area):
            return "there seem to be several people in the photo"
    bare = np.isin(label, (HEAD, HAIR, ARM_LEFT, ARM_RIGHT, LEGS, SHOES)).sum()
    if bare < 0.05 * area:
        return "no person wearing the garment was found in the photo"
    return ""
