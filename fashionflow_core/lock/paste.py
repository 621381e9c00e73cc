"""Pasting of the photo's pixels into a video, along optical flow, where the flow is reliable.

Confidence has two factors. The instant one tests the current frame: the map is not stretched or folded, both images
show the same part of the figure, at about the same brightness. The lasting one (`FlowChain.alive`) decreases and never
rises. Within confident places the share of the photo is the one with the least estimated error (`structure`).
Elsewhere the video's corrected pixels remain, shifted by the local colour difference of the pasted pixels around them.
"""

from __future__ import annotations

import numpy as np

from fashionflow_core.lock.colour import Corrected
from fashionflow_core.lock.flow import FlowChain
from fashionflow_core.lock.head import HeadLatch
from fashionflow_core.lock.structure import StructureTest, ramp

_STRETCH = 2.5  # largest stretch of a pixel of the photo
_LITTLE = 0.05  # share of pasted pixels around a place below which its colour is hardly shifted
_STILL = 6.0  # displacement, pixels at 640 rows, below which a place shows what the model kept of the photo
_LARGEST_OFFSET = 14.0  # largest shift of pixels that are not pasted, L*a*b*
_FALL, _RISE = 0.45, 0.15  # rates at which the shown share follows a falling and a rising confidence


class PixelLock:
    """Pasting of the photo's pixels into the corrected frames of one video, in order.

    Args:
        photo: float32 `(h, w, 3)`, L*a*b*, within the lock's columns.
        weights: float32 `(4, h, w)`, probability of garment, skin, hair and shoes in the photo.
        figure: bool `(h, w)`, in the photo.
        chroma: float `(2,)`, from wall to garment.
        shading: share of the frame's shading that pasted pixels take over, 0 to 1.
    """

    def __init__(
        self, photo: np.ndarray, weights: np.ndarray, figure: np.ndarray, chroma: np.ndarray, shading: float
    ) -> None:
        self.flow = FlowChain(photo, chroma)
        self._photo, self._shading = photo, shading
        cv2 = self._cv2 = self.flow.cv2
        # Pixels at the photo's outline contain wall: erode by two pixels.
        side = max(3, 2 * round(2.5 * self.flow.scale) + 1)
        inner = cv2.erode(figure.astype(np.uint8), np.ones((side, side)))
        self._parts = np.where(inner > 0, np.where(weights[0] > 0.5, 1, 2), 0).astype(np.uint8)
        head = (weights[1] + weights[2] > 0.5) & figure & HeadLatch.zone(figure)
        self.head = HeadLatch(weights[1], head, figure)
        self._shown = np.ones(figure.shape, np.float32)
        self._offset: np.ndarray | None = None
        self.pasted = 1.0
        self.followed = 1.0
        self._structure = StructureTest(self.flow)
        self._best: np.ndarray | None = None

    def add(self, frame: Corrected, first: bool) -> tuple[np.ndarray, np.ndarray]:
        """The next frame's figure, L*a*b* `(h, w, 3)`, and its alpha `(h, w)`.

        Args:
            frame: with corrected colours.
            first: whether it follows the photo.
        """
        flow = self.flow
        figure = frame.alpha > 0.3
        inside = figure.astype(np.float32)
        garment = frame.weights[0] > 0.5
        worn, rest = (garment & figure).astype(np.float32), (~garment & figure).astype(np.float32)
        flow.advance(frame.composed(), worn, rest, first)
        pixels = flow.from_photo(self._photo, sharp=True)
        shown = flow.carried(self._shown)

        least, most, det = flow.stretch()
        instant = ramp(least, 1 / _STRETCH, 1.6 / _STRETCH) * (1 - ramp(most, 2.5, 4.0)) * (det > 0.05)
        torn = (det < 0.02) | (least < 0.8 / _STRETCH) | (most > 5)
        flow.alive[torn] *= 0.6
        instant *= self._same_part(worn, rest)
        low = flow.quarter(pixels - frame.figure)
        distance = np.linalg.norm(flow.spread(low, 3.0), axis=-1)
        instant *= 1 - ramp(flow.whole(distance), 16.0, 34.0)
        moved = np.linalg.norm(flow.map - flow.grid, axis=-1) / flow.scale
        still = instant * flow.alive * (np.exp(-((moved / _STILL) ** 2)) + 0.02).astype(np.float32)
        best, sure = self._structure.add(pixels[..., 0], frame.figure[..., 0], (worn, rest), still)
        instant *= sure
        flow.alive *= 1 - 0.2 * (1 - flow.blur(instant, 2.0)) * inside

        on = flow.from_photo(self.head.head)
        pixels_of_head = (on > 0.5) & figure
        trust = float((instant * flow.alive)[pixels_of_head].mean()) if pixels_of_head.sum() > 40 else 0.0
        followed = flow.from_photo(self.head.middle)
        self.head.update(flow.from_photo(self.head.face), followed, frame.weights[1], figure, trust)
        as_one = 0.3 * instant + 0.7 * inside
        instant = instant * (1 - on) + on * as_one * self.head.share

        target = flow.blur((instant * flow.alive).astype(np.float32), 1.5)
        shown += np.where(target < shown, np.float32(_FALL), np.float32(_RISE)) * (target - shown)
        self._shown = shown
        share = np.clip(shown * np.minimum(1, target * 3), 0, 1) * inside
        share *= 1 - ramp(on, 0.0, 0.6) * (1 - self.head.share)
        self.followed = float(share.sum() / max(inside.sum(), 1))
        best = flow.blur(best, 6)
        self._best = best = best if self._best is None else 0.5 * (flow.carried(self._best) + best)
        head_best = float((best * on * inside).sum() / max((on * inside).sum(), 1))
        share *= best * (1 - on) + head_best * on
        self.pasted = float(share.sum() / max(inside.sum(), 1))

        # Two bands: fine structure of the photo, and its broad colour minus the share of the frame's shading.
        apart = self._spread_offset(pixels, frame.figure, share, (worn, rest))
        self._offset = apart if self._offset is None else 0.6 * flow.carried(self._offset) + 0.4 * apart
        pasted = pixels - self._shading * self._offset
        base = frame.figure + (1 - self._shading) * self._offset
        made = base + share[..., None] * (pasted - base)
        return made, np.maximum(frame.alpha, share)

    def _same_part(self, worn: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """1 where photo and frame both show garment, or both show another part, float32 `(h, w)`."""
        cv2, flow = self._cv2, self.flow
        side = max(3, 2 * round(2 * flow.scale) + 1)
        kernel = np.ones((side, side))
        parts = cv2.remap(self._parts, flow.map[..., 0], flow.map[..., 1], cv2.INTER_NEAREST)
        return np.where(parts == 1, cv2.dilate(worn, kernel), np.where(parts == 2, cv2.dilate(rest, kernel), 0))

    def _spread_offset(
        self, pixels: np.ndarray, figure: np.ndarray, share: np.ndarray, regions: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """Broad colour difference of photo and frame, spread from pasted places into the rest of each region."""
        flow = self.flow
        found = np.zeros_like(figure)
        for region in regions:
            weight = share * region
            off, low = flow.quarter((pixels - figure) * weight[..., None]), flow.quarter(weight)
            total = flow.spread(off, 12.0) + 0.1 * flow.spread(off, 36.0)
            reach = flow.spread(low, 12.0) + 0.1 * flow.spread(low, 36.0) + _LITTLE
            offset = total / reach[..., None]
            size = np.linalg.norm(offset, axis=-1, keepdims=True)
            offset *= np.minimum(1, _LARGEST_OFFSET / np.maximum(size, 1e-3))
            found += flow.whole(offset) * flow.blur(region, 1.0)[..., None]
        return found
