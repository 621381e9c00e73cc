"""Pasting of the photo's pixels into a video, along optical flow, where the flow is reliable.

Confidence has two factors. The instant one tests the current frame: the map is not stretched or folded, both images
show the same part of the figure, at about the same brightness. The lasting one (`FlowChain.alive`) decreases and never
rises. Within confident places the share of the photo is the one with the least estimated error (`structure`).
Elsewhere the video's corrected pixels remain, shifted by the local colour difference of the pasted pixels around them.
"""

from __future__ import annotations

import numpy as np

from fashionflow_core.lock.colour import Corrected, bands
from fashionflow_core.lock.flow import FlowChain, opencv
from fashionflow_core.lock.head import HeadLatch
from fashionflow_core.lock.structure import StructureTest, ramp
from fashionflow_core.metrics.labels import WORKING_HEIGHT

_UNSEEN = 0.002  # share of the photo below which its pixels are not looked up
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
        cv2 = self._cv2 = opencv()
        self._photo, self._shading = photo, shading
        # Flow and confidence are smooth: about 320 rows hold them, whatever the video's size.
        height, width = figure.shape
        step = max(1, round(height / WORKING_HEIGHT))
        self._size, self._whole = (max(1, round(width / step)), max(1, round(height / step))), (width, height)
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        self._grid = np.stack([x, y], -1)
        self._factor = np.array([width / self._size[0], height / self._size[1]], np.float32)
        head = (weights[1] + weights[2] > 0.5) & figure & HeadLatch.zone(figure)
        self.head = HeadLatch(weights[1], head, figure)
        self._head = self._small(self.head.head)
        garment = self._small(weights[0]) > 0.5
        figure = self._small(figure.astype(np.float32)) > 0.5
        self._small_photo = self._small(photo)
        self.flow = FlowChain(self._small_photo, chroma)
        # Pixels at the photo's outline contain wall: erode by two pixels.
        side = max(3, 2 * round(2.5 * self.flow.scale) + 1)
        inner = cv2.erode(figure.astype(np.uint8), np.ones((side, side)))
        self._parts = np.where(inner > 0, np.where(garment, 1, 2), 0).astype(np.uint8)
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
        shape, alpha, back = self._small(frame.figure), self._small(frame.alpha), self._small(frame.back)
        figure = alpha > 0.3
        inside = figure.astype(np.float32)
        garment = self._small(frame.weights[0]) > 0.5
        worn, rest = (garment & figure).astype(np.float32), (~garment & figure).astype(np.float32)
        flow.advance(back + alpha[..., None] * (shape - back), worn, rest, first)
        places = self._grid + self._large(flow.map - flow.grid) * self._factor
        pixels = flow.from_photo(self._small_photo, sharp=True)
        shown = flow.carried(self._shown)

        least, most, det = flow.stretch()
        instant = ramp(least, 1 / _STRETCH, 1.6 / _STRETCH) * (1 - ramp(most, 2.5, 4.0)) * (det > 0.05)
        torn = (det < 0.02) | (least < 0.8 / _STRETCH) | (most > 5)
        flow.alive[torn] *= 0.6
        instant *= self._same_part(worn, rest)
        low = flow.spread(flow.quarter(pixels - shape), 3.0)
        instant *= 1 - ramp(flow.whole(np.sqrt(np.einsum("hwc,hwc->hw", low, low))), 16.0, 34.0)
        still = instant * flow.alive * (np.exp(-((flow.moved() / _STILL) ** 2)) + 0.02).astype(np.float32)
        best, sure = self._structure.add(pixels[..., 0], shape[..., 0], (worn, rest), still)
        instant *= sure
        flow.alive *= 1 - 0.2 * (1 - flow.blur(instant, 2.0)) * inside

        on = flow.from_photo(self._head)
        if not self.head.gone:
            place = (on > 0.5) & figure
            trust = float((instant * flow.alive)[place].mean()) if place.sum() > 40 else 0.0
            self._look_at_head(frame, places, trust)
        as_one = 0.3 * instant + 0.7 * inside
        instant = instant * (1 - on) + on * as_one * self.head.share

        target = flow.blur((instant * flow.alive).astype(np.float32), 1.5)
        shown += np.where(target < shown, np.float32(_FALL), np.float32(_RISE)) * (target - shown)
        self._shown = shown
        share = np.clip(shown * np.minimum(1, target * 3), 0, 1)
        share *= 1 - ramp(on, 0.0, 0.6) * (1 - self.head.share)
        area = max(float(inside.sum()), 1.0)
        self.followed = float((share * inside).sum()) / area
        best = flow.blur(best, 6)
        self._best = best = best if self._best is None else 0.5 * (flow.carried(self._best) + best)
        share *= best * (1 - on) + on  # a mixture of two heads would have two mouths
        self.pasted = float((share * inside).sum()) / area

        apart = self._spread_offset(pixels, shape, share * inside, (worn, rest))
        self._offset = apart if self._offset is None else 0.6 * flow.carried(self._offset) + 0.4 * apart
        return self._made(frame, places, share, self._offset)

    def _look_at_head(self, frame: Corrected, places: np.ndarray, trust: float) -> None:
        """Update the head at the video's size: a turn is seen in fractions of the head's width."""
        figure = frame.alpha > 0.3
        rows = slice(0, int(HeadLatch.zone(figure).sum()))
        face, middle = np.zeros_like(frame.alpha), np.zeros_like(frame.alpha)
        for part, source in ((face, self.head.face), (middle, self.head.middle)):
            if rows.stop:
                part[rows] = self._cv2.remap(source, places[rows], None, self._cv2.INTER_LINEAR)
        self.head.update(face, middle, frame.weights[1], figure, trust)

    def _made(
        self, frame: Corrected, places: np.ndarray, share: np.ndarray, offset: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Figure and alpha of a frame of the video's size, with a share of the photo's pixels.

        Two bands are mixed: the photo's fine structure, and its broad colour minus the share of the frame's shading.
        """
        cv2 = self._cv2
        offset, share = self._large(offset), self._large(share) * (frame.alpha > 0.3)
        made, alpha = np.empty_like(frame.figure), np.maximum(frame.alpha, share)
        for rows in bands(len(made)):
            made[rows] = frame.figure[rows] + (1 - self._shading) * offset[rows]
            columns = np.flatnonzero(share[rows].max(0) > _UNSEEN)
            if len(columns):
                box = rows, slice(columns[0], columns[-1] + 1)
                pixels = cv2.remap(self._photo, places[box], None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
                made[box] += share[box][..., None] * (pixels - frame.figure[box] - offset[box])
        return made, alpha

    def _small(self, image: np.ndarray) -> np.ndarray:
        """An image of the video's size, at about 320 rows."""
        if self._size == self._whole:
            return image
        return self._cv2.resize(np.ascontiguousarray(image), self._size, interpolation=self._cv2.INTER_AREA)

    def _large(self, image: np.ndarray) -> np.ndarray:
        """An image of about 320 rows, at the video's size."""
        if self._size == self._whole:
            return image
        return self._cv2.resize(image, self._whole, interpolation=self._cv2.INTER_LINEAR)

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
            size = np.sqrt(np.einsum("hwc,hwc->hw", offset, offset))[..., None]
            offset *= np.minimum(1, _LARGEST_OFFSET / np.maximum(size, 1e-3))
            found += flow.whole(offset) * flow.blur(region, 1.0)[..., None]
        return found
