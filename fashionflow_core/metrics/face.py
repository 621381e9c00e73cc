"""Face preservation by local structure of the head."""

from __future__ import annotations

import numpy as np

from fashionflow_core.images.person import figure_mask, figure_rows
from fashionflow_core.metrics.pattern import structure_likeness
from fashionflow_core.metrics.tracking import Track, follow

# As pattern.BANDS; eyes and mouths are smaller than prints.
FACE_BANDS = ((0.0015, 0.004, 0.006), (0.003, 0.009, 0.007))


def head_mask(figure: np.ndarray) -> np.ndarray:
    """Mask of the head of a standing figure: everything above the neck.

    The neck is the narrowest row between 9 and 20 percent of the figure's height. If long hair hides it, 13 percent are
    used, the proportion of an adult's head.

    Args:
        figure: bool `(h, w)`, full length.

    Returns:
        bool `(h, w)`; empty without a figure.
    """
    top, bottom = figure_rows(figure)
    tall = bottom - top
    head = np.zeros_like(figure)
    if tall < 16:
        return head
    widths = figure[top:bottom].sum(axis=1)
    first, last = int(0.09 * tall), int(0.2 * tall) + 1
    neck = first + int(np.argmin(widths[first:last]))
    # A neck is clearly narrower than the head above it.
    if widths[neck] > 0.85 * np.median(widths[int(0.03 * tall) : first]):
        neck = int(0.13 * tall)
    head[top : top + neck] = figure[top : top + neck]
    return head


def face_mask(figure: np.ndarray) -> np.ndarray:
    """Mask of the face: eyes, nose and mouth, without the outline and hairline of the head.

    Args:
        figure: bool `(h, w)`, full length, facing the camera more or less.

    Returns:
        bool `(h, w)`, an ellipse; empty without a figure.
    """
    head = head_mask(figure)
    rows, columns = np.nonzero(head)
    if not len(rows):
        return head
    top, height = rows.min(), np.ptp(rows) + 1
    low, high = np.quantile(columns[rows < top + 0.7 * height], (0.02, 0.98))
    # From the crown to the narrowest row of the neck, eyes are at 0.43 of the way and mouths at 0.7.
    y = (np.arange(head.shape[0]) + 0.5 - top - 0.56 * height) / (0.28 * height)
    x = (np.arange(head.shape[1]) - 0.5 * (low + high)) / (0.36 * max(2.0, high - low + 1))
    return head & (y[:, None] ** 2 + x[None] ** 2 < 1)


def face_kept(frames: np.ndarray, figure: np.ndarray | None = None, track: Track | None = None) -> float:
    """Share of the head's structure in the photo (eyes, mouth, hairline) preserved on average over the clip.

    Args:
        frames: uint8 `(f, h, w, 3)`, f at least 2; frame 0 is the photo.
        figure: bool `(h, w)`, the figure in frame 0; found by `figure_mask` if None.
        track: `tracking.follow` of the frames, if available.

    Returns:
        0..1; 0 without a figure. A head that turns away also loses structure: compare with a
        renderer with true motion.
    """
    figure = figure_mask(frames[0]) if figure is None else figure
    face = face_mask(figure)
    if not face.any():
        return 0.0
    track = follow(frames, figure) if track is None else track
    return structure_likeness(frames, track, face, FACE_BANDS, features=True).mean
