"""Person consistency: skin tone, silhouette, first frame."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from fashionflow_core.images.lab import ciede2000, srgb_to_lab
from fashionflow_core.images.person import figure_rows

# Individual typology angle in degrees and above → group (Chardon et al. 1991; Del Bino and Bernerd 2013).
SKIN_GROUPS = {55: "very light", 41: "light", 28: "intermediate", 10: "tan", -30: "brown", -90: "dark"}

_LEAST_SKIN = 0.004  # of the figure's pixels: below that a frame is a back view, or without skin


def skin_group(lab: np.ndarray) -> str:
    """The group of a skin colour, L*a*b* `(3,)`, by its individual typology angle atan((L* − 50) / b*)."""
    angle = float(np.degrees(np.arctan2(lab[0] - 50, max(float(lab[2]), 1e-6))))
    return next(group for least, group in SKIN_GROUPS.items() if angle > least or least == -90)


def skin_drift(frames: np.ndarray, skin: np.ndarray, figure: np.ndarray) -> tuple[str, float] | None:
    """Skin group of frame 0, and the mean CIEDE2000 difference of the skin's median colour from frame 0's.

    Arms and legs are measured, since faded hair looks like skin; the face only if no other skin is visible in frame 0.
    Drift of skin towards the most common tone is a limitation named in the paper (4.7): compare groups.

    Args:
        frames: uint8 `(f, h, w, 3)`.
        skin: bool `(f, h, w)`, `garment.skin_mask` of each.
        figure: bool `(f, h, w)`.

    Returns:
        None if frame 0, or more than three quarters of the others, have no skin. Frames without skin are omitted.
    """
    below = np.stack([_below_hair(mask) for mask in figure])
    if _seen(skin & below, figure)[0]:
        skin = skin & below
    enough = _seen(skin, figure)
    if not enough[0] or enough[1:].mean() < 0.25:
        return None
    tones = [np.median(srgb_to_lab(frames[i][skin[i]]), axis=0) for i in np.flatnonzero(enough)]
    return skin_group(tones[0]), float(np.mean(ciede2000(tones[0], np.stack(tones[1:]))))


def _seen(skin: np.ndarray, figure: np.ndarray) -> np.ndarray:
    """Frames with enough skin to measure, bool `(f,)`."""
    return skin.sum(axis=(1, 2)) > np.maximum(_LEAST_SKIN * figure.sum(axis=(1, 2)), 8)


def _below_hair(figure: np.ndarray) -> np.ndarray:
    """Rows below the longest hair, as a mask `(h, 1)`."""
    top, bottom = figure_rows(figure)
    return (np.arange(len(figure)) >= top + 0.32 * (bottom - top))[:, None]


def silhouette_correlation(masks: np.ndarray) -> float | None:
    """Similarity of silhouettes of consecutive frames: mean correlation (phi) of the masks over pixels.

    Args:
        masks: bool `(f, h, w)` of the figure.

    Returns:
        1 for a still figure, near 1 for a smooth turn, lower for one that flickers or dissolves; 0 where a figure
        appears or disappears. None if no frame has a figure.
    """
    found = []
    for a, b in pairwise(masks.reshape(len(masks), -1)):
        if a.any() or b.any():
            p, q, both = a.mean(), b.mean(), (a & b).mean()
            spread = np.sqrt(p * (1 - p) * q * (1 - q))
            found.append((both - p * q) / spread if spread > 0 else float(np.array_equal(a, b)))
    return float(np.mean(found)) if found else None


def width_correlation(widths: np.ndarray, truth: np.ndarray) -> float | None:
    """Correlation over time of two clips' silhouette widths (`drift.silhouette_width`): agreement of their turning.

    Returns:
        -1 to 1; None where one of them does not change.
    """
    if len(widths) < 3 or np.ptp(widths) == 0 or np.ptp(truth) == 0:
        return None
    return float(np.corrcoef(widths, truth)[0, 1])


def first_step(frames: np.ndarray) -> float | None:
    """The change from frame 0 to frame 1 over the usual (median) change of later frames: a jump after a pinned photo.

    Args:
        frames: uint8 `(f, h, w, 3)`, f at least 3.

    Returns:
        About 1 for a continuous clip; above 3 the first frame is an outlier. None without later motion.
    """
    steps = [float(np.abs(b.astype(np.int16) - a).mean()) for a, b in pairwise(frames)]
    usual = float(np.median(steps[1:]))
    return steps[0] / usual if usual > 0 else None
