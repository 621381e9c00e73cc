"""All weight-free scores of one image-to-video clip."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from fashionflow_core.metrics import drift, person
from fashionflow_core.metrics.edges import edge_faults
from fashionflow_core.metrics.face import face_kept
from fashionflow_core.metrics.garment import skin_mask
from fashionflow_core.metrics.pattern import garment_sharpness, pattern_kept, sharpness_kept
from fashionflow_core.metrics.pops import largest_pop
from fashionflow_core.metrics.tracking import follow
from fashionflow_core.metrics.turning import turning


def score_faithful(frames: np.ndarray, every: int = 2) -> dict[str, float | str | None]:
    """Score a clip: preservation of the photo, and motion.

    Args:
        frames: uint8 `(f, h, w, 3)`, f at least 3; frame 0 is the photo, a full-length figure before a plain wall.
        every: step between followed frames.

    Returns:
        `pattern_kept`, `face_kept`, `edge_quality`, `sharpness_kept` (0..1), `garment_sharpness` (1 as the photo),
        `garment_drift` and `skin_drift` (CIEDE2000; None without visible skin), `skin_group`, `largest_pop` (limit
        1.5), `motion` (grey levels), `silhouette_range` (pixels), `turning_speed` (degrees per frame), and the faults
        of the outline, `edge_` and their names in `edges.Edges`.
    """
    palette, figure, garment = drift.find_parts(frames)
    skin = np.stack([skin_mask(f, palette, whole, worn) for f, whole, worn in zip(frames, figure, garment)])
    tone = person.skin_drift(frames, skin, figure)
    track = follow(frames, figure[0], every)
    sharpness = garment_sharpness(frames, garment)
    faults = edge_faults(frames, 3 * every)
    return {
        "pattern_kept": pattern_kept(frames, garment[0], track),
        "face_kept": face_kept(frames, figure[0], track),
        "edge_quality": faults.quality,
        "sharpness_kept": sharpness_kept(sharpness),
        "garment_sharpness": sharpness,
        "garment_drift": drift.garment_drift(frames, garment),
        "skin_drift": tone[1] if tone else None,
        "skin_group": tone[0] if tone else None,
        "largest_pop": largest_pop(frames),
        "motion": drift.motion(frames),
        "silhouette_range": float(np.ptp(drift.silhouette_width(frames, figure))),
        "turning_speed": turning(track, figure).speed,
        **{f"edge_{name}": value for name, value in asdict(faults).items()},
    }
