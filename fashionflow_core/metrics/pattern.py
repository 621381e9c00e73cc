"""Garment pattern preservation by local structure and sharpness.

The photo's pixels are tracked through the clip (`tracking.follow`), each frame is warped back to the photo's pose, and
its fine structure is compared with the photo's by the contrast-and-structure term of SSIM at every pixel. Shading has
no effect, since slow changes of brightness are removed first; blur, noise and another texture do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fashionflow_core.images.lab import srgb_to_lab
from fashionflow_core.images.person import figure_rows, shrink
from fashionflow_core.metrics.garment import frame_palette, garment_mask
from fashionflow_core.metrics.tracking import Track, blurred, follow

# Two bands of structure: standard deviations of the finest and the coarsest blur, and of the comparison window, in
# figure heights. The finer one contains threads, eyes and sharp edges, the coarser folds, dots and stripes.
BANDS = ((0.0018, 0.006, 0.008), (0.006, 0.02, 0.011))
_VISIBLE = 0.5  # variance in (L*a*b*)^2 of compression and sensor noise, below which structure is invisible


@dataclass(frozen=True, eq=False)
class Likeness:
    """Local similarity of a clip's frames to its photo.

    Attributes:
        over_time: similarity, float64 `(n,)`, 0..1, one per tracked frame after the photo.
        map: mean over frames, float32 `(height, width)` of the track's part of the photo, 0..1.
        weight: weight of each pixel, float32, same shape.
    """

    over_time: np.ndarray
    map: np.ndarray
    weight: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.over_time.mean())


def _band(image: Tensor, fine: float, coarse: float) -> Tensor:
    """Structure of `(3, h, w)` between two standard deviations in pixels."""
    ones = torch.ones_like(image[:1])
    return blurred(image, fine) / blurred(ones, fine) - blurred(image, coarse) / blurred(ones, coarse)


def _lab(image: Tensor) -> Tensor:
    """L*a*b* of `(3, h, w)` 0..255: so that features of dark and light faces count equally."""
    return torch.from_numpy(srgb_to_lab(image.permute(1, 2, 0).numpy() / np.float32(255))).permute(2, 0, 1)


def structure_likeness(
    frames: np.ndarray,
    track: Track,
    place: np.ndarray,
    bands: tuple[tuple[float, float, float], ...] = BANDS,
    features: bool = False,
) -> Likeness:
    """Similarity of fine structure to the photo's at `place`, in all tracked frames.

    Args:
        frames: uint8 `(f, h, w, 3)`.
        track: tracking of these frames.
        place: mask, bool `(h, w)`, or weights 0..1, in the photo.
        bands: bands of structure, as `BANDS`.
        features: weight each pixel by the strength of the photo's structure, so that a few features (eyes, mouth)
            outweigh smooth areas. Otherwise all structured pixels have equal weight.

    Returns:
        1 for a repeated photo; near 0 if none of the photo's structure is left. Where photo and frame both have none,
        the similarity is 1, but such pixels have a low weight.

    Raises:
        ValueError: empty `place`.
    """
    weight = torch.from_numpy(place[track.rows, track.columns].astype(np.float32))
    if not bool((weight > 0).any()):
        raise ValueError("the mask is empty")
    top, bottom = figure_rows(track.mask)
    tall = max(16, bottom - top)
    total, values = torch.zeros_like(weight), np.zeros(len(track.indices) - 1)
    with torch.inference_mode():
        scales = [tuple(max(least, x * tall) for least, x in zip((0.5, 1.0, 1.5), band)) for band in bands]
        first = _lab(track.warped(frames[0], 0))
        photo = [_band(first, fine, coarse) for fine, coarse, _ in scales]
        variance = [_mean(x * x, window) for x, (_, _, window) in zip(photo, scales)]
        seen = variance[-1] / (variance[-1] + 4 * _VISIBLE)
        weight = weight * (0.01 + variance[-1].sqrt() * seen if features else 0.1 + seen)
        for number, index in list(enumerate(track.indices))[1:]:
            lab = _lab(track.warped(frames[index], number))
            # Pixels hidden or narrowed by a turn keep a tenth of their weight, so that squeezing still counts.
            now = weight * (0.1 + 0.9 * track.visible(number))
            for one, own, (fine, coarse, window) in zip(photo, variance, scales):
                other = _band(lab, fine, coarse)
                alike = (2 * _mean(one * other, window) + _VISIBLE) / (own + _mean(other * other, window) + _VISIBLE)
                total += alike.clamp(min=0) / len(bands)
                values[number - 1] += float((alike.clamp(min=0) * now).sum() / now.sum()) / len(bands)
    return Likeness(values, (total / len(values)).numpy(), weight.numpy())


def _mean(image: Tensor, window: float) -> Tensor:
    return blurred(image.mean(0, keepdim=True), window)[0]


def garment_weight(garment: np.ndarray) -> np.ndarray:
    """Weight of the part of a garment that stays visible in a turn of 40 degrees.

    Args:
        garment: bool `(h, w)`.

    Returns:
        float32 `(h, w)`, 0..1: 1 around the garment's axis, 0 outside 85 percent of its half-width in each row.
    """
    rows, columns = np.nonzero(garment)
    weight = np.zeros(garment.shape, np.float32)
    if not len(rows):
        return weight
    tall = rows.max() - rows.min() + 1
    inner = shrink(garment, max(1, tall // 60))
    inner = inner if inner.any() else garment
    centre = np.zeros(len(garment))
    half = np.ones(len(garment))
    for row in np.unique(rows):
        here = columns[rows == row]
        low, high = np.quantile(here, (0.02, 0.98))
        centre[row], half[row] = 0.5 * (low + high), max(1.0, 0.5 * (high - low + 1))
    off = np.abs(np.arange(garment.shape[1])[None] - centre[:, None]) / half[:, None]
    weight = np.clip((0.85 - off) / 0.25, 0, 1).astype(np.float32) * inner
    return weight if weight.any() else inner.astype(np.float32)


def _garment(photo: np.ndarray, garment: np.ndarray | None) -> np.ndarray:
    garment = garment_mask(photo) if garment is None else garment
    return garment if garment.any() else np.ones(photo.shape[:2], bool)


def pattern_kept(frames: np.ndarray, garment: np.ndarray | None = None, track: Track | None = None) -> float:
    """Share of the garment's pattern in the photo preserved on average over the clip.

    Args:
        frames: uint8 `(f, h, w, 3)`, f at least 2; frame 0 is the photo.
        garment: bool `(h, w)`, the garment in frame 0; found by `garment_mask` if None. Without any, the whole frame.
        track: `tracking.follow` of the frames, if available.

    Returns:
        0..1. A pure turn is below 1, since the far side goes out of sight: compare with a renderer with true motion,
        and read it together with the motion, since a still photo has 1.
    """
    track = follow(frames) if track is None else track
    return structure_likeness(frames, track, garment_weight(_garment(frames[0], garment))).mean


def garment_sharpness(frames: np.ndarray, masks: np.ndarray | None = None) -> float:
    """Sharpness inside the garment over that of the photo: root mean square luma gradients, without outlines.

    Args:
        frames: uint8 `(f, h, w, 3)`, f at least 2; frame 0 is the photo.
        masks: bool `(f, h, w)` of the garment; found by `garment_mask` if None. The masks are eroded by 2 percent of
            the garment's height. A frame without a garment is measured at the photo's mask.

    Returns:
        1 as sharp as the photo, below 1 softer, above 1 noise or false detail; 0 to about 100.
    """
    palette = frame_palette(frames[0])
    ratios: list[float] = []
    first, place = 1.0, np.ones(frames.shape[1:3], bool)
    for index, frame in enumerate(frames):
        mask = garment_mask(frame, palette) if masks is None else masks[index]
        tall = int(np.ptp(np.flatnonzero(mask.any(axis=1)))) if mask.any() else 0
        inner = shrink(mask, max(1, tall // 50))
        inner = inner if inner.any() else place
        luma = frame.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32)
        # Central differences: single pixels of sensor noise weigh less than in differences of neighbours.
        dy, dx = 0.5 * (luma[2:, 1:-1] - luma[:-2, 1:-1]), 0.5 * (luma[1:-1, 2:] - luma[1:-1, :-2])
        square = (dx * dx + dy * dy)[inner[1:-1, 1:-1]]
        # Half a level per pixel is invisible; avoids measuring the rounding of plain garments.
        value = float(np.sqrt((square.mean() if square.size else 0.0) + 0.25))
        if index == 0:
            first, place = value, inner
        else:
            ratios.append(value / first)
    return float(np.mean(ratios))


def sharpness_kept(ratio: float) -> float:
    """`garment_sharpness` as 0..1: false detail counts as much as missing detail of the same factor."""
    return min(ratio, 1 / ratio) if ratio > 0 else 0.0
