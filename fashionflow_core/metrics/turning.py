"""Turning speed of a figure from its surface and outline.

The front of a turning body slides across its outline. The offset between the middle of the trunk's surface and the
middle of the outline, as a share of the trunk's half-width, is the sine of the turn. A body is flatter than it is wide,
so angles are underestimated by the same factor for every method: use ratios to the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fashionflow_core.images.person import figure_rows
from fashionflow_core.metrics.tracking import Track

_TRUNK = (0.2, 0.5)  # of the figure's height: below the shoulders, above the hands
_INNER = 0.5  # of the trunk's half-width


@dataclass(frozen=True, eq=False)
class Turn:
    """Turning of a figure.

    Attributes:
        angles: angle against the photo in degrees, float64 `(n,)`, one per tracked frame.
        speed: mean absolute change, degrees per frame.
    """

    angles: np.ndarray
    speed: float


def turning(track: Track, figures: np.ndarray) -> Turn:
    """Turning of a tracked figure.

    Args:
        track: tracking of the clip.
        figures: masks of the figure in all frames, bool `(f, h, w)`.

    Returns:
        Zeros if no figure is found.
    """
    top, bottom = figure_rows(track.mask)
    rows = slice(*(top + round(share * (bottom - top)) for share in _TRUNK))
    still = Turn(np.zeros(len(track.indices)), 0.0)
    if bottom - top < 16 or not track.mask[rows].any():
        return still
    centre, half = _middle(track.mask[rows])
    columns = np.arange(track.mask.shape[1])
    inner = np.zeros_like(track.mask)
    inner[rows] = track.mask[rows] & (np.abs(columns - centre[:, None]) < _INNER * half[:, None])
    inner = inner[track.rows, track.columns]
    if not inner.any():
        return still
    usual = float(np.median(half[half > 0]))
    angles = []
    for number, index in enumerate(track.indices):
        slid = float(track.flow[number, 0].numpy()[inner].mean())
        now, width = _middle(figures[index][rows])
        seen = (width > 0) & (half > 0)
        moved = float((now - centre)[seen].mean()) if seen.any() else 0.0
        angles.append(np.degrees(np.arcsin(np.clip((slid - moved) / usual, -1, 1))))
    found = np.array(angles)
    speed = float(np.abs(np.diff(found)).sum() / max(1, track.indices[-1]))
    return Turn(found, speed)


def _middle(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean column of each row, and half its number of pixels; 0 for rows without any."""
    count = mask.sum(axis=1)
    columns = np.arange(mask.shape[1])
    return (mask * columns).sum(axis=1) / np.maximum(count, 1), count / 2
