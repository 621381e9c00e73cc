"""Temporal jumps: the largest change between frames against its neighbours."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from fashionflow_core.images.person import figure_mask, grow

LIMIT = 1.5  # a change this many times its neighbours is visible as a jump
_AROUND = 4  # changes on each side used for comparison
_CELL = 0.03  # of the frame's height
_LEAST = 0.35  # floor, as a share of the clip's median change: in a pause any small change would exceed its neighbours


def steps(frames: np.ndarray, place: np.ndarray | None = None) -> np.ndarray:
    """Mean absolute change from each frame to the next, in grey levels.

    Args:
        frames: `(f, ...)`, 0..255, f at least 2.
        place: bool `(h, w)` of the pixels looked at; all if None.

    Returns:
        float64 `(f - 1,)`.
    """
    chosen = frames if place is None else frames[:, place]
    found = [np.abs(b.astype(np.float32) - a).mean() for a, b in pairwise(chosen)]
    return np.array(found, np.float64)


def ratios(changes: np.ndarray) -> np.ndarray:
    """Each change over the larger of the medians of the four before and the four after it.

    Args:
        changes: `(n,)`, not negative.

    Returns:
        float64 `(n,)`; about 1 for smooth motion at any speed. A start or stop lies between fast and slow, where the
        faster side counts. In a pause values are relative to a third of the clip's median change.
    """
    found = np.ones(len(changes))
    moving = changes[changes > 0]
    if not len(moving):
        return found
    floor = _LEAST * float(np.median(moving))
    for i, value in enumerate(changes):
        sides = [changes[max(0, i - _AROUND) : i], changes[i + 1 : i + 1 + _AROUND]]
        usual = max(float(np.median(side)) for side in sides if len(side)) if len(changes) > 1 else value
        found[i] = value / max(usual, floor)
    return found


def largest_pop(frames: np.ndarray) -> float:
    """The largest change from one frame to the next against its neighbours, over the figure and its surroundings.

    Args:
        frames: uint8 `(f, h, w, 3)`, f at least 3; frame 0 is the photo, and its step to frame 1 counts.

    Returns:
        About 1 for smooth motion; above `LIMIT` there is a jump: an outlier frame, a frozen clip that continues,
        a first frame unlike its video. 1 for a clip without any motion.

    Raises:
        ValueError: fewer than three frames.
    """
    if len(frames) < 3:
        raise ValueError(f"expected at least 3 frames, got {len(frames)}")
    figure = figure_mask(frames[0])
    place = grow(figure, max(2, frames.shape[1] // 40)) if figure.any() else np.ones(frames.shape[1:3], bool)
    fine = ratios(steps(frames, place))
    # Moving texture hides a flash of a few grey levels; means over cells are unaffected by it.
    cell = max(1, round(_CELL * frames.shape[1]))
    rows, columns = frames.shape[1] // cell * cell, frames.shape[2] // cell * cell
    shape = (rows // cell, cell, columns // cell, cell)
    inside = place[:rows, :columns].reshape(shape).mean((1, 3)) > 0.5
    if not inside.any():
        return float(fine.max())
    coarse = np.stack([frame[:rows, :columns].reshape(*shape, 3).mean((1, 3))[inside] for frame in frames])
    return float(max(fine.max(), ratios(steps(coarse)).max()))
