"""Damage of known strength for clips of one figure: what scores of a clip must see."""

import functools

import numpy as np
import torch

from fashionflow_core.images.person import figure_mask, grow, shrink
from fashionflow_core.metrics.tracking import blurred
from fashionflow_core.synthetic.clips import render_clip

DOTS, STRIPES = 1_000_002, 1_000_001  # seeds of a dotted top with trousers, and of a striped dress


@functools.cache
def clip(seed: int = DOTS, frames: int = 12) -> np.ndarray:
    """Every second frame of a rendered clip, uint8 (frames, 320, 256, 3)."""
    found = render_clip(seed, height=320, width=256, frame_indices=range(0, 2 * frames, 2)).frames
    found.setflags(write=False)
    return found


@functools.cache
def garments(seed: int = DOTS, frames: int = 12) -> np.ndarray:
    """The renderer's garment masks of `clip`, bool (frames, 320, 256)."""
    return render_clip(seed, height=320, width=256, frame_indices=range(0, 2 * frames, 2)).garment_mask


def softened(frames: np.ndarray, masks: np.ndarray, sigma: float) -> np.ndarray:
    """Blurred where the masks are, after frame 0; a mask of one frame serves for all."""
    made = frames.copy()
    for i in range(1, len(frames) if sigma else 0):
        image = torch.from_numpy(frames[i].transpose(2, 0, 1).astype(np.float32))
        soft = blurred(image, sigma).permute(1, 2, 0).numpy()
        mask = masks[i] if masks.ndim == 3 else masks
        made[i][mask] = np.clip(soft[mask], 0, 255).astype(np.uint8)
    return made


def retextured(frames: np.ndarray, masks: np.ndarray, share: float) -> np.ndarray:
    """Another texture of the garment's own colours mixed in, after frame 0."""
    made = frames.copy()
    rows, columns = np.mgrid[: frames.shape[1], : frames.shape[2]]
    for i in range(1, len(frames)):
        inside = frames[i][masks[i]].astype(np.float32)
        check = ((rows // 5 + columns // 5) % 2).astype(np.float32)[..., None]
        other = inside.mean(0) + (check - 0.5) * 2 * inside.std(0)
        mixed = (1 - share) * frames[i] + share * other
        made[i][masks[i]] = np.clip(mixed[masks[i]], 0, 255).astype(np.uint8)
    return made


def noisy(frames: np.ndarray, masks: np.ndarray, sigma: float) -> np.ndarray:
    """Noise of its own in each frame after frame 0."""
    made = frames.copy()
    rng = np.random.default_rng(0)
    for i in range(1, len(frames)):
        values = frames[i] + rng.normal(0, sigma, frames[i].shape)
        made[i][masks[i]] = np.clip(values[masks[i]], 0, 255).astype(np.uint8)
    return made


def haloed(frames: np.ndarray, strength: float, pixels: int = 4) -> np.ndarray:
    """A whitish or dark fringe beside the figure, after frame 0; strength 0..1."""
    made = frames.copy()
    for i in range(1, len(frames)):
        figure = figure_mask(frames[i])
        ring = grow(figure, pixels) & ~figure
        colour = frames[i][figure].mean(0)
        made[i][ring] = ((1 - strength) * frames[i][ring] + strength * colour).astype(np.uint8)
    return made


def toothed(frames: np.ndarray, pixels: int) -> np.ndarray:
    """Bites of wall along the outline, every third one `pixels` deep, after frame 0."""
    made = frames.copy()
    rows, columns = np.mgrid[: frames.shape[1], : frames.shape[2]]
    for i in range(1, len(frames)):
        figure = figure_mask(frames[i])
        bites = figure & ~shrink(figure, pixels) & ((rows // 3) % 2 == 0) if pixels else np.zeros_like(figure)
        made[i][bites] = frames[i][:, :2].mean((0, 1)).astype(np.uint8)
    return made


def patched(frames: np.ndarray, radius: int, share: float = 0.7) -> np.ndarray:
    """A whitish patch of wall beside the trunk, where an arm hangs, after frame 0."""
    made = frames.copy()
    rows, columns = np.mgrid[: frames.shape[1], : frames.shape[2]]
    for i in range(1, len(frames)):
        figure = figure_mask(frames[i])
        where = np.flatnonzero(figure.any(1))
        row = int(where[0] + 0.4 * (where[-1] - where[0]))
        column = int(np.median(np.flatnonzero(figure[row]))) + 14
        patch = figure & ((rows - row) ** 2 / 4 + (columns - column) ** 2 < radius**2)
        wall = frames[i][:, :2].mean((0, 1))
        made[i][patch] = ((1 - share) * frames[i][patch] + share * wall).astype(np.uint8)
    return made


def popped(frames: np.ndarray, strength: float) -> np.ndarray:
    """One frame, in the middle, brighter by `strength` grey levels."""
    made = frames.copy()
    middle = len(frames) // 2
    made[middle] = np.clip(frames[middle] + strength, 0, 255).astype(np.uint8)
    return made


def frozen(frames: np.ndarray, count: int) -> np.ndarray:
    """`count` frames, from the middle on, that repeat the one before them; then the clip goes on."""
    made = frames.copy()
    middle = len(frames) // 2
    made[middle : middle + count] = frames[middle - 1]
    return made
