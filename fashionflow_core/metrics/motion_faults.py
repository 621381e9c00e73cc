"""Faults of motion: figures that stand still, and zoom in place of movement.

Measured on drawn clips with these faults: docs/concepts/lock.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fashionflow_core.metrics.tracking import blurred

LEAST_GROWTH = 0.02
"""Growth below which a zoom cannot be seen."""

_ROWS = 96  # rows of the images that a zoom is looked for in
_LEAST_CHANGE = 1.0  # grey levels from the photo below which a frame shows no movement that could be a zoom
_CELLS = 40  # rows of cells whose mean colours are compared: noise and compression do not change those
_MOVING = 0.1  # share of the cells that a figure fills about


@dataclass(frozen=True)
class Zoom:
    """What a zoom or a shift of the whole picture explains of a clip's change.

    Attributes:
        share: of the squared difference from the photo, 0..1; 1 for a clip that only zooms.
        growth: largest change of scale, 0 and up; 0.1 is a zoom of a tenth, in or out.
    """

    share: float
    growth: float


def zoom(frames: np.ndarray, looks: int = 8) -> Zoom:
    """Zoom of a clip, by the scale and shift that bring its frames nearest to the photo (Lucas and Kanade, 1981).

    Args:
        frames: uint8 `(f, h, w, 3)`; frame 0 is the photo.
        looks: number of frames looked at.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, looks + 1).round().astype(int))
    small = [_small(frames[index]) for index in chosen]
    state = torch.zeros(3)
    before = after = growth = 0.0
    for frame in small[1:]:
        for sigma in (3.0, 1.5):
            state = _nearest(small[0], frame, state, sigma)
        inner = _inner(small[0])
        first, moved = _soft(small[0], 1.0), _moved(_soft(frame, 1.0), state)
        change = float(((_soft(frame, 1.0) - first) * inner).square().mean())
        if change < _LEAST_CHANGE**2:
            continue
        before, after = before + change, after + min(change, float(((moved - first) * inner).square().mean()))
        growth = max(growth, abs(float(torch.exp(-state[0])) - 1))
    return Zoom(1 - after / before if before else 0.0, growth if before else 0.0)


def _small(frame: np.ndarray) -> torch.Tensor:
    """Grey image `(1, h, w)` of about `_ROWS` rows."""
    grey = torch.from_numpy(frame.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32))[None]
    step = max(1, frame.shape[0] // _ROWS)
    return F.avg_pool2d(grey[None], step)[0]


def _soft(image: torch.Tensor, sigma: float) -> torch.Tensor:
    return blurred(image, sigma) / blurred(torch.ones_like(image), sigma)


def _inner(image: torch.Tensor) -> torch.Tensor:
    """1 but near the border, which a zoom brings into sight, `(1, h, w)`."""
    inner = torch.zeros_like(image)
    rows, columns = image.shape[1] // 12, image.shape[2] // 12
    inner[:, rows:-rows, columns:-columns] = 1
    return inner


def _moved(image: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """The image scaled by exp(state[0]) about its middle, and shifted by state[1:], in halves of its sides."""
    scale = torch.exp(state[0])
    turn = torch.stack([torch.stack([scale, scale * 0, state[1]]), torch.stack([scale * 0, scale, state[2]])])
    grid = F.affine_grid(turn[None], [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]


def _nearest(photo: torch.Tensor, frame: torch.Tensor, state: torch.Tensor, sigma: float) -> torch.Tensor:
    """The state that brings a frame nearest to the photo: Gauss-Newton with differences for derivatives."""
    target, source, inner = _soft(photo, sigma), _soft(frame, sigma), _inner(photo)
    for _ in range(6):
        now = _moved(source, state)
        columns = []
        for index in range(3):
            other = state.clone()
            other[index] += 0.01
            columns.append(((_moved(source, other) - now) * inner).flatten() / 0.01)
        slopes = torch.stack(columns)
        normal = slopes @ slopes.T + 1e-3 * torch.eye(3)
        state = state + torch.linalg.solve(normal, slopes @ ((target - now) * inner).flatten()).clamp(-0.1, 0.1)
    return state


def movement(frames: np.ndarray) -> float:
    """How far the figure's parts change from frame to frame, without noise.

    Args:
        frames: uint8 `(f, h, w, 3)`, f at least 2.

    Returns:
        mean change of the tenth of the cells (a fortieth of the height each) that change most, in grey levels; about
        0.2 for a still clip with noise, 5 and up for figures that turn.
    """
    cell = max(1, frames.shape[1] // _CELLS)
    rows, columns = frames.shape[1] // cell, frames.shape[2] // cell
    means = np.stack(
        [
            frame[: rows * cell, : columns * cell].reshape(rows, cell, columns, cell, 3).mean((1, 3), dtype=np.float32)
            for frame in frames
        ]
    )
    change = np.sort(np.abs(np.diff(means, axis=0)).mean(-1).reshape(len(frames) - 1, -1), axis=1)
    most = change[:, -max(1, int(_MOVING * change.shape[1])) :]
    return float(most.mean())
