"""What a video has lost of its first frame: the garment's print, the face, sharpness.

Print and face are compared by structure in frames 2 and 4, before a turn hides much of either; softness is measured up
to the end, by energies that a turn changes little. Measured on drawn clips with faults of five strengths:
docs/concepts/lock.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fashionflow_core.images.person import shrink
from fashionflow_core.metrics.face import FACE_BANDS, face_mask
from fashionflow_core.metrics.pattern import garment_weight, structure_likeness
from fashionflow_core.metrics.tracking import blurred, follow

FIRST, EVERY = 5, 2  # frames that print and face are looked for in, and their step
_FINE, _COARSE = 1.0, 3.0  # standard deviations of blur, in pixels of a frame of 320 rows
_INVISIBLE = 0.1  # energy in squared grey levels of what nobody sees


@dataclass(frozen=True)
class LostStructure:
    """Shares of the first frame's fine structure that are gone, 0..1.

    Attributes:
        pattern: of the garment's.
        face: of eyes, nose and mouth; 0 where the first frame shows no face.
    """

    pattern: float
    face: float


def lost_structure(frames: np.ndarray, figure: np.ndarray, garment: np.ndarray) -> LostStructure:
    """What garment and face have lost in the first frames.

    Args:
        frames: uint8 `(f, h, w, 3)`, f at least 3.
        figure, garment: bool `(h, w)`, in frame 0.

    Returns:
        near 0 for a video that moves what the photo shows; nothing is lost where no figure is seen.
    """
    frames = frames[:FIRST]
    if not figure.any() or not garment.any():
        return LostStructure(0.0, 0.0)
    track = follow(frames, figure, EVERY)
    pattern = structure_likeness(frames, track, garment_weight(garment)).mean
    face = face_mask(figure)
    kept = structure_likeness(frames, track, face, FACE_BANDS, features=True).mean if face.any() else 1.0
    return LostStructure(1 - pattern, 1 - kept)


def softness(frames: np.ndarray, figure: np.ndarray) -> np.ndarray:
    """Fine detail that the figure has lost relative to coarser detail, frame by frame.

    Args:
        frames: uint8 `(f, h, w, 3)`.
        figure: bool `(f, h, w)`.

    Returns:
        float64 `(f,)`, 1 less the ratio to the first frame: 0 as sharp, near 1 without any detail, below 0 sharper; nan
        where no figure is seen.
    """
    scale = max(1.0, frames.shape[1] / 320)
    found = np.full(len(frames), np.nan)
    for index, (frame, mask) in enumerate(zip(frames, figure, strict=True)):
        inner = shrink(mask, max(1, round(3 * scale)))
        if inner.sum() < 50:
            continue
        luma = torch.from_numpy(frame.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32))[None]
        soft, softer = blurred(luma, _FINE * scale), blurred(luma, _COARSE * scale)
        fine, coarse = (luma - soft)[0].numpy()[inner], (soft - softer)[0].numpy()[inner]
        found[index] = np.sqrt((np.square(fine).mean() + _INVISIBLE) / (np.square(coarse).mean() + _INVISIBLE))
    return 1 - found / found[0]


def blur(frames: np.ndarray, figure: np.ndarray) -> float:
    """Median `softness` of the last third of a clip, 0..1; 0 where no figure is seen."""
    found = softness(frames, figure)
    last = found[-max(1, len(found) // 3) :]
    return 0.0 if np.isnan(last).all() else float(np.clip(np.nanmedian(last), 0, 1))
