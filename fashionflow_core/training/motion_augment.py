"""Augmentation of motion clips: mirror, colours, matte errors.

Synthetic figures have little variety. The network should learn how a shape moves, independent of its colours and of how
clean its outline is; both are varied until real photos lie inside the distribution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fashionflow_core.images.parts import ARM_LEFT, ARM_RIGHT
from fashionflow_core.training.randomness import uniform, whole

_MIRRORED = np.array([-1, 1, -1, 1], np.float32)  # signs of ax, ay, b, dz after mirroring


@dataclass(frozen=True, eq=False)
class View:
    """Input of a motion model from a photo.

    Attributes:
        photo: pixels, uint8 (h, w, 3).
        matte: matte, float32 (h, w), 0 to 1.
        parts: part labels, uint8 (h, w); None: unknown.
        inflation: inflation, float32 (h, w), pixels; None: computed from matte and parts.
    """

    photo: np.ndarray
    matte: np.ndarray
    parts: np.ndarray | None
    inflation: np.ndarray | None = None


def mirrored(view: View) -> View:
    """The mirrored view, with left and right arms exchanged."""
    parts = None
    if view.parts is not None:
        parts = view.parts[:, ::-1].copy()
        left, right = parts == ARM_LEFT, parts == ARM_RIGHT
        parts[left], parts[right] = ARM_RIGHT, ARM_LEFT
    inflation = None if view.inflation is None else view.inflation[:, ::-1].copy()
    return View(view.photo[:, ::-1].copy(), view.matte[:, ::-1].copy(), parts, inflation)


def mirrored_channels(channels: Tensor) -> Tensor:
    """Motion channels (4, n, h, w) of the mirrored figure."""
    return channels.flip(-1) * torch.from_numpy(_MIRRORED)[:, None, None, None]


def recoloured(view: View, random: torch.Generator) -> View:
    """The view with colour channels exchanged, inverted, scaled and shifted, another wall, or in grey."""
    photo = view.photo[..., torch.randperm(3, generator=random).numpy()].astype(np.float32)
    if uniform(random) < 0.3:
        photo = 255 - photo
    if uniform(random) < 0.25:
        wall = 255 * torch.rand(3, generator=random).numpy()
        photo = wall + (photo - wall) * view.matte[..., None]
    gain = 0.7 + 0.6 * torch.rand(3, generator=random).numpy()
    photo = photo * gain + 30 * torch.randn(3, generator=random).numpy()
    if uniform(random) < 0.1:
        photo = np.full_like(photo, 127.5)
    return replace(view, photo=np.clip(photo, 0, 255).astype(np.uint8))


def damaged(view: View, random: torch.Generator) -> View:
    """The view with typical errors of mattes and parts: a shifted outline, filled gaps, a lost hand, no parts."""
    matte, parts = view.matte, view.parts
    if parts is not None and uniform(random) < 0.08:
        matte = _without_hand(matte, parts, ARM_LEFT if uniform(random) < 0.5 else ARM_RIGHT)
    if uniform(random) < 0.15:
        matte = np.maximum(matte, _closed(matte, 1 + whole(random, 3)))
    if uniform(random) < 0.3:  # up to 0.75 pixels here are 3 in a photo of 640 rows
        soft = _blurred(matte)
        matte = np.clip(matte + 2 * (soft - 0.5) * (1.5 * uniform(random) - 0.75) * (soft > 0) * (soft < 1), 0, 1)
    if parts is not None and uniform(random) < 0.15:
        parts = None
    if parts is not None:
        parts = np.where(matte > 0.5, parts, 0).astype(np.uint8)
    return View(view.photo, matte.astype(np.float32), parts)


def _without_hand(matte: np.ndarray, parts: np.ndarray, arm: int) -> np.ndarray:
    rows = np.flatnonzero((parts == arm).any(axis=1))
    if not len(rows):
        return matte
    from_row = rows[0] + round(0.75 * (rows[-1] - rows[0]))
    lost = (parts == arm) & (np.arange(len(matte)) >= from_row)[:, None]
    return np.where(lost, 0, matte)


def _closed(matte: np.ndarray, radius: int) -> np.ndarray:
    """Fill gaps of up to twice the radius."""
    size = 2 * radius + 1
    x = torch.from_numpy(matte)[None, None]
    wide = F.max_pool2d(x, size, 1, radius)
    return (-F.max_pool2d(-wide, size, 1, radius))[0, 0].numpy()


def _blurred(matte: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(matte)[None, None]
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)[0, 0].numpy()
