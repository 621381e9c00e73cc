"""Doubled limbs: parts of the figure that appear at once and stay.

An arm or leg moves little from one frame to the next, and a turn uncovers it slowly. A second arm or leg is in no place
near by in the frame before. Measured on drawn clips with copies of limbs: docs/concepts/lock.md.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
import torch.nn.functional as F

from fashionflow_core.images.person import CLEAR, figure_rows
from fashionflow_core.metrics.garment import Outline
from fashionflow_core.metrics.labels import without_shadow

_ROWS = 160  # rows of the images that are compared, about
_REACH = 0.02  # of the figure's height: how far a part moves between two frames
_UNLIKE = 10.0  # difference in L*a*b* between different parts
_CHANGED = 25.0  # the same within the figure, where colours that fade from one frame to the next differ by up to 15
_STAYS = 3  # frames after its first one in which a limb is seen
_LARGEST = 0.35  # share of the figure above which the picture changes as a whole: a cut, a flash, a jump of colours


def doubled_limb(frames: np.ndarray) -> float:
    """The largest value of `doubled_limbs`; below 0.02 in most clips without a doubled limb, above it with one."""
    return float(doubled_limbs(frames).max())


def doubled_limbs(frames: np.ndarray) -> np.ndarray:
    """How much of the figure appears at once in each frame and stays for at least four.

    A pixel of the figure is new if the frame before shows nothing similar within 2 % of the figure's height, and it
    stays if the next three frames show it near by. What disappears in the same frame is subtracted: a limb that moves
    fast leaves one place for another. Areas thinner than 2 % of the height are not counted, and frames in
    which the picture changes as a whole are 0.

    Args:
        frames: uint8 `(f, h, w, 3)`; frame 0 is the photo. Fewer than 5 frames show no limb that stays.

    Returns:
        float64 `(f,)`, new area as a share of the figure's in frame 0, 0..1; an arm is about 0.08. Frame 0 and the
        last three frames are 0.
    """
    found = np.zeros(len(frames))
    window: deque[Outline] = deque(maxlen=_STAYS + 2)
    tall, area = 0, 0
    for index, frame in enumerate(frames):
        window.append(without_shadow(Outline.of(_small(frame))))
        if index == 0:
            top, bottom = figure_rows(window[0].figure)
            tall, area = bottom - top, int(_seen(window[0]).sum())
        if tall < 8 or area == 0:
            break
        if len(window) == _STAYS + 2:
            before, now, *after = window
            reach = max(1, round(_REACH * tall))
            new = int(_appeared(before, now, after, reach).sum())
            if 0 < new < _LARGEST * area:
                # A limb that moves fast leaves a place that is as large.
                lost = int(_appeared(now, before, [], reach).sum())
                found[index - _STAYS] = max(0, new - lost) / area
    return found


def _small(frame: np.ndarray) -> np.ndarray:
    step = max(1, round(frame.shape[0] / _ROWS))
    height, width = frame.shape[0] // step, frame.shape[1] // step
    blocks = frame[: height * step, : width * step].reshape(height, step, width, step, 3)
    return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)


def _seen(outline: Outline) -> np.ndarray:
    """The figure without the wall between its limbs, bool `(h, w)`."""
    return outline.figure & (outline.away > CLEAR)


def _appeared(before: Outline, now: Outline, after: list[Outline], reach: int) -> np.ndarray:
    """What a frame shows, the frame before does not, and all frames after it do, bool `(h, w)`."""
    rows, columns = np.nonzero(_seen(now))
    inside, new = _seen(before), np.zeros(now.figure.shape, bool)
    for other, far, like in ((before, reach, False), *((one, reach * (k + 1), True) for k, one in enumerate(after))):
        if not len(rows):
            return new
        off = _least_difference(now.lab, rows, columns, other.lab, far)
        limit = np.where(inside[rows, columns], _CHANGED, _UNLIKE)
        kept = off < _UNLIKE if like else off > limit
        rows, columns = rows[kept], columns[kept]
    new[rows, columns] = True
    return _thick(new)


def _least_difference(
    lab: np.ndarray, rows: np.ndarray, columns: np.ndarray, other: np.ndarray, reach: int
) -> np.ndarray:
    """Of pixels `(n,)` from any within `reach` in another frame, `(n,)`, L*a*b*."""
    padded = np.pad(other, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    wide = padded.shape[1]
    colours, flat = lab[rows, columns], padded.reshape(-1, 3)
    at = (rows + reach) * wide + columns + reach
    least = np.full(len(rows), np.inf, np.float32)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            if down * down + right * right <= reach * reach + 1:
                off = colours - flat[at + (down * wide + right)]
                np.minimum(least, np.einsum("ij,ij->i", off, off), out=least)
    return np.sqrt(least)


def _thick(mask: np.ndarray) -> np.ndarray:
    """The mask where it is at least three pixels thick."""
    image = torch.from_numpy(mask.astype(np.float32))[None, None]
    inner = 1 - F.max_pool2d(1 - image, 3, 1, 1)
    return F.max_pool2d(inner, 3, 1, 1)[0, 0].numpy() > 0.5
