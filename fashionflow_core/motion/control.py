"""Motion control: angle of the turn, sway."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fashionflow_core.motion.figure_box import FigureBox
from fashionflow_core.motion.handmade import DEPTH_RATIO

_SWAY_TURN = 0.3  # share of the turn that is kept for sway
_MOST_GAIN = 1.6  # maximum scale of predicted motion, beyond which proportions are wrong
_LEAST_TURN = np.radians(2.0)  # smaller turns are not scaled up
_ROWS = 2.5  # rows of the grid over which turns are smoothed
_LARGEST_FACING = 0.5  # value for a figure turned by about 30 degrees
_BAND = 0.05  # figure heights of uncovered side that blurred colour can fill inconspicuously


def trunk(matte: np.ndarray) -> np.ndarray:
    """Weights of the grid's cells on the trunk, whose motion determines the turn.

    Args:
        matte: share of the figure in each cell, (h, w).
    """
    rows = np.flatnonzero(matte.max(axis=1) > 0.3)
    weights = np.zeros_like(matte)
    if len(rows):
        top, tall = rows[0], rows[-1] - rows[0] + 1
        part = slice(top + round(0.2 * tall), max(top + round(0.55 * tall), top + round(0.2 * tall) + 1))
        weights[part] = np.where(matte[part] > 0.9, matte[part], 0.0)
    return weights if weights.sum() > 0 else matte


@dataclass(frozen=True, eq=False)
class RowTurns:
    """Turn of each row of the grid against the photo.

    A turn by an angle moves points ``x`` from the axis by ``-x sin(angle)`` in depth, for any depth of the body.

    Attributes:
        across: distance from the axis in figure heights, (w,).
        angles: turn in radians, (n, h), smoothed over rows.
        widening: growth of sideways motion with `across`, (n, h).
        facing: for a figure turned in the photo, offset of the middle between front and back from the plane of the
            axis, as a factor of `across`.
    """

    across: np.ndarray
    angles: np.ndarray
    widening: np.ndarray
    facing: float

    @classmethod
    def of(cls, channels: Tensor, matte: np.ndarray, box: FigureBox) -> "RowTurns":
        """Fit the turns.

        Args:
            channels: (c, n, h, w).
            matte: share of the figure in each cell, (h, w).
            box: box of the figure, for the width of a cell.
        """
        motion, weights = channels.double().numpy(), np.where(matte > 0.5, matte, 0).astype(np.float64)
        middle = trunk(matte)
        x = (np.arange(matte.shape[1]) + 0.5) * (box.width / box.figure_height / matte.shape[1])
        across = x - (middle * x).sum() / max(middle.sum(), 1e-6)
        total = _near_rows(weights.sum(-1)) + 1e-9
        centre = _near_rows((weights * across).sum(-1)) / total
        spread = _near_rows((weights * across**2).sum(-1)) - centre**2 * total

        def slope(field: np.ndarray) -> np.ndarray:
            mean = _near_rows((field * weights).sum(-1)) / total
            return (_near_rows((field * weights * across).sum(-1)) - mean * centre * total) / (spread + 1e-9)

        angles = -np.arcsin(np.clip(slope(motion[3]), -1, 1))
        widening = slope(motion[0])
        rows = middle.sum(axis=1) > 0
        sines = np.sin(angles[:, rows])
        left = (widening[:, rows] - np.cos(angles[:, rows]) + 1) * sines
        facing = left.sum() / max((sines**2).sum(), 1e-9)
        return cls(across, angles, widening, float(np.clip(facing, -_LARGEST_FACING, _LARGEST_FACING)))

    def narrowed(self, gain: float) -> np.ndarray:
        """Sideways motion (n, h, w) to add if all turns are multiplied by `gain`.

        A turn narrows a figure by its cosine, not proportionally; weight shifts and steps are excluded.
        """
        turns = gain * self.angles
        slope = np.cos(turns) - np.cos(self.angles) + self.facing * (np.sin(turns) - np.sin(self.angles))
        return slope[..., None] * self.across


def _near_rows(values: np.ndarray) -> np.ndarray:
    """Values (..., h) summed over nearby rows with Gaussian weights."""
    rows = np.arange(values.shape[-1])
    return values @ np.exp(-0.5 * ((rows[:, None] - rows) / _ROWS) ** 2)


def turn_of(channels: Tensor, matte: np.ndarray, box: FigureBox) -> np.ndarray:
    """Turn of the trunk in radians, (n,), from channels (c, n, h, w) and the matte's shares (h, w)."""
    weights = trunk(matte).sum(axis=1)
    return RowTurns.of(channels, matte, box).angles @ (weights / max(weights.sum(), 1e-6))


def safe_turn(turn: float, inflation: float, box: FigureBox) -> float:
    """The requested turn, reduced for wide figures, which would uncover too much.

    Args:
        turn: requested turn in degrees.
        inflation: maximum inflation of the figure, in pixels.
        box: box of the figure.
    """
    reach = DEPTH_RATIO * inflation / box.figure_height
    if reach * np.sin(np.radians(turn)) <= _BAND:
        return turn
    return float(np.degrees(np.arcsin(_BAND / reach)))


def shift_of(channels: Tensor, matte: np.ndarray) -> Tensor:
    """Sideways motion of the whole figure in figure heights, (n,).

    Args:
        channels: (c, n, h, w).
        matte: share of the figure in each cell, (h, w).
    """
    weights = torch.from_numpy(np.where(matte > 0.5, matte, 0)).to(channels)
    return (channels[0] * weights).sum(dim=(1, 2)) / weights.sum().clamp(min=1e-6)


def controlled(
    channels: Tensor, matte: np.ndarray, box: FigureBox, kind: str, turn: float, shift_gain: float = 1.0
) -> Tensor:
    """Scale motion to the requested turn, and the figure's sideways motion by a factor.

    Args:
        channels: channels predicted by a network, (c, n, h, w).
        matte: share of the figure in each cell, (h, w).
        box: box of the figure.
        kind: turn, or sway, which keeps sideways motion and removes most of the turn.
        turn: maximum turn to a side in degrees; the prediction is scaled to
            it, by at most 1.6.
        shift_gain: factor on the sideways motion of the whole figure (weight shifts, steps); `ModelConfig.shift_gain`.

    Returns:
        (c, n, h, w).
    """
    peak = float(np.abs(turn_of(channels, matte, box)).max())
    gain = min(float(np.radians(turn)) / max(peak, _LEAST_TURN), _MOST_GAIN)
    if kind == "sway":
        gain *= _SWAY_TURN
    scaled = channels.clone()
    scaled[0] += torch.from_numpy(RowTurns.of(channels, matte, box).narrowed(gain)).to(channels)
    scaled[1:4] *= gain
    scaled[0] += (shift_gain - 1) * shift_of(channels, matte)[:, None, None]
    return scaled
