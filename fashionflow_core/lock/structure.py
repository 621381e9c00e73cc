"""Self-check of pasted pixels: estimated errors of the warped photo and of the frame, without the true frame.

Both errors are estimated from the fine structure of the two images, in two bands. A band of the warped photo has the
energy p, the frame's band g, and their correlation is r. In the first frames the warp is nearly exact, so that r = r0
is due to the model, which lost or replaced structure; the frame's error is p + g - 2 r0 sqrt(p g). In later frames r /
r0 falls because the warp is off; the photo's error is 2 p (1 - r / r0). The share of the photo is that of two
independent measurements, E_frame / (E_frame + E_photo), which has the least expected error.
"""

from __future__ import annotations

import numpy as np
import torch

from fashionflow_core.lock.flow import FlowChain
from fashionflow_core.metrics.tracking import blurred

_BANDS = ((0.0, 0.9), (0.9, 3.0))  # standard deviations of the finer and the coarser blur, pixels of 320 rows
_BLOCK = 16  # pixels of 320 rows
_WINDOW = 4.0  # standard deviation of the comparison window, likewise
_NOISE = 0.4  # variance of L* that cannot be seen
_EARLY = 6  # frames in which r0 is measured
_EXPECTED = 0.9  # r / r0 where the frame has no structure to compare with
_REPLACED = (0.35, 0.65)  # r0 below which r does not measure the warp, and above which it does
_MARGIN = 2.0  # weight of the photo's error


def ramp(x: np.ndarray | np.floating | float, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def structure_kept(photo: np.ndarray, frame: np.ndarray, place: np.ndarray) -> float | None:
    """Correlation of a frame's fine structure with the photo's, block by block, at the best small shift of each.

    Args:
        photo, frame: float32 `(h, w)`, L*, of about 320 rows.
        place: bool `(h, w)`, where both show the same piece of clothing.

    Returns:
        median of the blocks, near 1 for the photo's print and about 0.3 for another one; None where the photo shows
        too little structure.
    """
    block, reach = max(8, round(_BLOCK * len(photo) / 320)), max(1, round(3 * len(photo) / 320))
    rows, columns = (size // block * block for size in photo.shape)
    images = torch.from_numpy(np.stack([photo, frame]))
    one, other = (images - blurred(images, len(photo) / 106)).numpy()
    down, across = (np.repeat(np.eye(size // block, dtype=np.float32), block, 1) for size in (rows, columns))

    def sums(image: np.ndarray) -> np.ndarray:
        return down @ image[:rows, :columns] @ across.T

    one = one * place
    energy = sums(one * one)
    blocks = (sums(place.astype(np.float32)) > 0.6 * block**2) & (energy > 2.0 * block**2)
    if blocks.sum() < 4:
        return None
    best = np.full(blocks.shape, -1.0)
    around = np.pad(other, reach, mode="wrap")
    for y in range(2 * reach + 1):
        for x in range(2 * reach + 1):
            moved = around[y : y + len(photo), x : x + photo.shape[1]] * place
            best = np.maximum(best, sums(one * moved) / np.sqrt(energy * sums(moved * moved) + 1e-3))
    return float(np.median(best[blocks]))


class StructureTest:
    """Comparison of the warped photo with the frames of one video, in order.

    Args:
        flow: flow chain of the video; it has the frames' size.
    """

    def __init__(self, flow: FlowChain) -> None:
        self._cv2, self._whole = flow.cv2, (flow.width, flow.height)
        size = (max(1, round(flow.width / 2 / flow.scale)), max(1, round(flow.height / 2 / flow.scale)))
        self._size = size if size[1] < flow.height else self._whole
        self._kept: list[np.ndarray] = []  # r0 of each region and band in the first frames

    def add(
        self,
        photo: np.ndarray,
        frame: np.ndarray,
        regions: tuple[np.ndarray, ...],
        still: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compare the next frame.

        Args:
            photo, frame: float32 `(h, w)`, L* of the warped photo and of the frame.
            regions: float32 `(h, w)` 0..1, parts of the figure that a model may treat each in its way.
            still: float32 `(h, w)` 0..1, places that can be trusted and have hardly moved.

        Returns:
            share of the photo with the least estimated error, and the reliability of the warp (1 without evidence
            against it), float32 `(h, w)` each.
        """
        images = [self._resized(np.ascontiguousarray(image)) for image in (photo, frame)]
        parts = [self._resized(region) for region in regions]
        still = self._resized(still)
        measures = [self._compared(*(self._band(image, *band) for image in images)) for band in _BANDS]
        if len(self._kept) < _EARLY:
            self._kept.append(np.array([[_mean(m, part * still) for m in measures] for part in parts]))
        usual = np.median(self._kept[-3:], axis=0)
        # Half a pixel of warp error halves the correlation of the fine band: its r0 is at least the coarse band's.
        usual[:, 0] = np.maximum(usual[:, 0], usual[:, 1])
        share, sure = np.zeros_like(still), np.ones_like(still)
        for part, kept in zip(parts, usual):
            frame_error, photo_error = np.zeros_like(still), np.full_like(still, _NOISE)
            for (one, other, alike), normal in zip(measures, kept):
                known = float(ramp(np.float32(normal), *_REPLACED))
                place = known * np.clip(alike / max(normal, 0.1), 0, 1) + (1 - known) * _EXPECTED
                frame_error += np.maximum(one + other - 2 * normal * np.sqrt(one * other), 0)
                photo_error += _MARGIN * 2 * one * (1 - place)
            share += part * frame_error / (frame_error + photo_error)
            one, other, alike = measures[-1]
            known = float(ramp(np.float32(kept[-1]), *_REPLACED))
            evidence = known * ramp(other, 0.5, 4.0) * ramp(other / (one + 1e-3), 0.02, 0.12)
            sure -= part * evidence * (1 - ramp(alike / max(kept[-1], 0.1), 0.25, 0.7))
        share, sure = (self._cv2.resize(x, self._whole, interpolation=self._cv2.INTER_LINEAR) for x in (share, sure))
        return np.clip(share, 0, 1), np.clip(sure, 0, 1)

    def _resized(self, image: np.ndarray) -> np.ndarray:
        return self._cv2.resize(image, self._size, interpolation=self._cv2.INTER_AREA)

    def _blurred(self, image: np.ndarray, sigma: float) -> np.ndarray:
        return self._cv2.GaussianBlur(image, (0, 0), sigma) if sigma else image

    def _band(self, image: np.ndarray, fine: float, coarse: float) -> np.ndarray:
        return self._blurred(image, fine) - self._blurred(image, coarse)

    def _compared(self, one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Energy of the photo's band and of the frame's, and their correlation."""
        both, first, second = (self._blurred(x, _WINDOW) for x in (one * other, one * one, other * other))
        alike = (both + _EXPECTED * _NOISE) / (np.sqrt(first * second) + _NOISE)
        return first, second, np.clip(alike, -1, 1)


def _mean(measure: tuple[np.ndarray, np.ndarray, np.ndarray], weight: np.ndarray) -> float:
    one, other, alike = measure
    weight = weight * np.sqrt(one * other) + 1e-6
    return float((alike * weight).sum() / weight.sum())
