"""Trust test of a matte, with reasons."""

from __future__ import annotations

import numpy as np

from fashionflow_core.images.parts import ARM_LEFT, ARM_RIGHT, HAIR, HEAD, LEGS, SHOES
from fashionflow_core.motion.regions import components

UNSURE = 0.3  # area of undecided probabilities, as a share of the figure, from which on the outline is a guess


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two masks, 0..1."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 0.0


def shape_doubts(mask: np.ndarray) -> str:
    """Why a mask is no single figure; empty if it may be one."""
    share = float(mask.mean())
    if share < 0.015:
        return "nobody was found in the photo"
    if share > 0.85:
        return "the figure fills the whole photo"
    labels, sizes = components(mask)
    large = np.sort(sizes[1:])[::-1]
    if len(large) > 1 and large[1] > 0.25 * large[0]:
        return "there seem to be several people or things in the photo"
    if (large > 0.002 * large[0]).sum() > 12:
        return "the figure's outline could not be made out"
    holes = components(~mask)[1][1:]
    if (holes > 0.002 * large[0]).sum() > 14:
        return "the figure's outline is full of holes"
    touched = [mask[0].mean(), mask[:, 0].mean(), mask[:, -1].mean()]
    if min(touched) > 0.05:
        return "the figure reaches all borders of the photo"
    return ""


def net_doubts(matte: np.ndarray, parts: np.ndarray, mask: np.ndarray) -> str:
    """Why a network's prediction is no single person; empty if it may be one.

    Args:
        matte: float32 `(h, w)`, probabilities of the figure.
        parts: float32 `(9, h, w)`, probabilities of `PARTS`.
        mask: bool `(h, w)`, the figure made of them.
    """
    area = float(mask.sum())
    if area < 0.015 * mask.size:
        return "nobody was found in the photo"
    undecided = float(((matte > 0.25) & (matte < 0.75)).sum())
    if undecided > UNSURE * area:
        return "the figure's outline could not be made out"
    label = np.where(mask, parts.argmax(axis=0), 0)
    sizes = components((label == HEAD) | (label == HAIR))[1][1:]
    if len(sizes) > 1:
        first, second = np.sort(sizes)[::-1][:2]
        if second > max(0.25 * first, 0.01 * area):
            return "there seem to be several people in the photo"
    bare = np.isin(label, (HEAD, HAIR, ARM_LEFT, ARM_RIGHT, LEGS, SHOES)).sum()
    if bare < 0.05 * area:
        return "nobody who wears the garment was found in the photo"
    return ""
