"""Person consistency: skin tone, silhouette, first frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def skin_tones(frames: np.ndarray, skin: np.ndarray, figure: np.ndarray) -> np.ndarray:
    """Median skin colour of each frame.

    Arms and legs are measured, since faded hair looks like skin; the face only if no other skin is visible in frame 0.

    Args:
        frames: uint8 `(f, h, w, 3)`.
        skin: bool `(f, h, w)`, `garment.skin_mask` of each.
        figure: bool `(f, h, w)`.

    Returns:
        L*a*b*, float64 `(f, 3)`; nan for frames without skin.
    """
    below = np.stack([_below_hair(mask) for mask in figure])
    if _seen(skin & below, figure)[0]:
        skin = skin & below
    tones = np.full((len(frames), 3), np.nan)
    for index in np.flatnonzero(_seen(skin, figure)):
        tones[index] = np.median(srgb_to_lab(frames[index][skin[index]]), axis=0)
    return tones


def tone_drift(tones: np.ndarray) -> tuple[str, float] | None:
    """Skin group of frame 0, and the mean CIEDE2000 difference of the skin's colour from frame 0's.

    Drift of skin towards the most common tone is a limitation named in the paper (4.7): compare groups.

    Args:
        tones: `skin_tones` of a clip.

    Returns:
        None if frame 0, or more than three quarters of the others, have no skin. Frames without skin are omitted.
    """
    enough = ~np.isnan(tones[:, 0])
    if not enough[0] or enough[1:].mean() < 0.25:
        return None
    return skin_group(tones[0]), float(np.mean(ciede2000(tones[0], tones[1:][enough[1:]])))


def skin_drift(frames: np.ndarray, skin: np.ndarray, figure: np.ndarray) -> tuple[str, float] | None:
    """`tone_drift` of a clip's `skin_tones`."""
    return tone_drift(skin_tones(frames, skin, figure))


def skin_error(tones: np.ndarray, truth: np.ndarray) -> float | None:
    """Mean CIEDE2000 difference of the skin's colour from that of the true clip, frame by frame.

    Args:
        tones, truth: `skin_tones` of both clips, of one length.

    Returns:
        None if less than a quarter of the frames show skin in both clips.
    """
    both = ~(np.isnan(tones[:, 0]) | np.isnan(truth[:, 0]))
    return float(np.mean(ciede2000(tones[both], truth[both]))) if both.mean() >= 0.25 else None


def skin_gap(groups: Mapping[str, Sequence[float]]) -> float | None:
    """Largest difference of mean skin drift between two skin groups: 0 if the drift is the same for all tones.

    Args:
        groups: group → drift of each clip.

    Returns:
        CIEDE2000; None for fewer than two groups.
    """
    means = [float(np.mean(values)) for values in groups.values()]
    return max(means) - min(means) if len(means) > 1 else None


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


def silhouette_overlap(masks: np.ndarray, truth: np.ndarray) -> float | None:
    """Agreement of two clips' silhouettes: intersection over union of their figures, mean over frames.

    Args:
        masks, truth: bool `(f, h, w)` of the figures, of one shape.

    Returns:
        0..1; 1 for the same outline in every frame. Frames without a figure in both are omitted; None if all are.
    """
    union = (masks | truth).sum(axis=(1, 2))
    shown = union > 0
    return float(np.mean((masks & truth).sum(axis=(1, 2))[shown] / union[shown])) if shown.any() else None
