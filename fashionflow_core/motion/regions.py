"""Connected components, box filters and morphology of masks."""

from __future__ import annotations

import numpy as np


def components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected components (4 neighbours) of a mask.

    Args:
        mask: bool `(h, w)`.

    Returns:
        Labels, int32 `(h, w)`, 0 outside the mask and 1..n inside, and the pixels of each label, int64 `(n + 1,)`
        (entry 0 counts what is outside).
    """
    height, width = mask.shape
    # Runs of each row: starts and ends in the flattened mask, with an empty column between rows.
    padded = np.zeros((height, width + 1), np.int8)
    padded[:, :width] = mask
    steps = np.diff(padded.ravel(), prepend=np.int8(0))
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    labels = np.zeros((height, width), np.int32)
    if not len(starts):
        return labels, np.array([mask.size])
    # Runs that touch a run of the row below: those that overlap it when shifted down by one row.
    first = np.searchsorted(ends, starts + (width + 1), side="right")
    last = np.searchsorted(starts, ends + (width + 1), side="left")
    counts = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(starts)), counts)
    lower = np.arange(len(upper)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    root = np.arange(len(starts))
    while True:
        least = np.minimum(root[upper], root[lower])
        before = root.copy()
        np.minimum.at(root, root[upper], least)
        np.minimum.at(root, root[lower], least)
        root = root[root]  # pointer jumping: chains halve in every round
        if np.array_equal(root, before):
            break
    _, names = np.unique(root, return_inverse=True)
    flat = np.repeat(names.astype(np.int32) + 1, ends - starts)
    labels[mask] = flat
    return labels, np.bincount(labels.ravel(), minlength=int(names.max()) + 2)


def box_mean(image: np.ndarray, radius: int) -> np.ndarray:
    """Mean over windows of `2 * radius + 1` pixels a side, cut off at the borders; float32 `(h, w[, c])`."""
    if radius < 1:
        return image.astype(np.float32)
    result = image.astype(np.float64)
    for axis in (0, 1):
        length = result.shape[axis]
        total = np.cumsum(result, axis=axis)
        total = np.concatenate([np.zeros_like(np.take(total, [0], axis)), total], axis=axis)
        low = np.maximum(np.arange(length) - radius, 0)
        high = np.minimum(np.arange(length) + radius + 1, length)
        size = (high - low).reshape((-1,) + (1,) * (result.ndim - 1 - axis))
        result = (np.take(total, high, axis) - np.take(total, low, axis)) / size
    return result.astype(np.float32)


def dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """Dilation: pixels within a square of `2 * radius + 1` pixels around a pixel of the mask."""
    result = mask
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(result, padding), axis=axis, dtype=np.int32)
        length = result.shape[axis]
        result = np.take(total, np.arange(length) + 2 * radius + 1, axis) > np.take(total, np.arange(length), axis)
    return result


def erode(mask: np.ndarray, radius: int) -> np.ndarray:
    """Erosion: pixels whose square of `2 * radius + 1` pixels is in the mask; outside the border counts as mask."""
    return ~dilate(~mask, radius)


def keep_large(mask: np.ndarray, least: float) -> np.ndarray:
    """The mask without its components of fewer than `least` pixels."""
    labels, sizes = components(mask)
    keep = sizes >= least
    keep[0] = False
    return keep[labels]


def fill_small(mask: np.ndarray, least: float) -> np.ndarray:
    """The mask with its holes of fewer than `least` pixels closed."""
    labels, sizes = components(~mask)
    small = sizes < least
    small[0] = False
    return mask | small[labels]
