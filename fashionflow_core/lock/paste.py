"""Photo's pixels in a video: followed by flow, and shown where that can be trusted.

Trust is of two kinds. The instant one asks of this frame alone: is the photo not drawn out or folded here, is it the
same part of the figure, is it about as bright? The lasting one (`FlowChain.alive`) is lost bit by bit and never comes
back. Elsewhere the video's corrected pixels stand, moved towards the photo by what their surroundings are off by.
"""

from __future__ import annotations

import numpy as np

from fashionflow_core.lock.colour import Corrected
from fashionflow_core.lock.flow import FlowChain
from fashionflow_core.lock.head import HeadLatch

_STRETCH = 2.5  # times that a pixel of the photo may be drawn out
_FITS = 0.5  # correlation of fine structure in the first frames below which the model has replaced the print
_LARGEST_OFFSET = 14.0  # L*a*b* that unpasted pixels are moved by at most
_FALL, _RISE = 0.45, 0.15  # how fast the shown share follows the trust


def _ramp(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


class PixelLock:
    """Puts the photo's pixels into corrected frames, one after the other.

    Args:
        photo: float32 `(h, w, 3)`, L*a*b*, within the lock's columns.
        weights: float32 `(4, h, w)`, probability of garment, skin, hair and shoes in the photo.
        figure: bool `(h, w)`, in the photo.
        chroma: float `(2,)`, from wall to garment.
        shading: share of the frame's own shading that pasted pixels take on, 0 to 1.
    """

    def __init__(
        self, photo: np.ndarray, weights: np.ndarray, figure: np.ndarray, chroma: np.ndarray, shading: float
    ) -> None:
        self.flow = FlowChain(photo, chroma)
        self._photo, self._shading = photo, shading
        cv2 = self._cv2 = self.flow.cv2
        # The photo's own border shows its wall: two pixels less.
        side = max(3, 2 * round(2.5 * self.flow.scale) + 1)
        inner = cv2.erode(figure.astype(np.uint8), np.ones((side, side)))
        self._parts = np.where(inner > 0, np.where(weights[0] > 0.5, 1, 2), 0).astype(np.uint8)
        head = (weights[1] + weights[2] > 0.5) & figure & HeadLatch.zone(figure)
        self.head = HeadLatch(weights[1], head, figure)
        self._shown = np.ones(figure.shape, np.float32)
        self._offset: np.ndarray | None = None
        self.pasted = 1.0
        self._fits: list[float] = []  # how well the garment's structure fitted in the first frames

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
        instant = _ramp(least, 1 / _STRETCH, 1.6 / _STRETCH) * (1 - _ramp(most, 2.5, 4.0)) * (det > 0.05)
        torn = (det < 0.02) | (least < 0.8 / _STRETCH) | (most > 5)
        flow.alive[torn] *= 0.6
        instant *= self._same_part(worn, rest)
        low = flow.quarter(pixels - frame.figure)
        distance = np.linalg.norm(flow.spread(low, 3.0), axis=-1)
        instant *= 1 - _ramp(flow.whole(distance), 16.0, 34.0)
        instant *= self._structure(pixels[..., 0], frame.figure[..., 0], worn, inside)
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
        share *= 1 - _ramp(on, 0.0, 0.6) * (1 - self.head.share)
        self.pasted = float(share.sum() / max(inside.sum(), 1))

        # Bands of both: fine structure of the photo, and its broad colour, less the share of the frame's shading.
        apart = self._spread_offset(pixels, frame.figure, share, (worn, rest))
        self._offset = apart if self._offset is None else 0.6 * flow.carried(self._offset) + 0.4 * apart
        pasted = pixels - self._shading * self._offset
        base = frame.figure + (1 - self._shading) * self._offset
        made = base + share[..., None] * (pasted - base)
        return made, np.maximum(frame.alpha, share)

    def _structure(self, pixels: np.ndarray, figure: np.ndarray, worn: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """1 where fine structure of photo and frame fits, or the frame shows none, float32 `(h, w)`.

        A print that fitted in the first frames and no longer does is followed wrongly. One that never fitted was
        replaced by the model, and nothing can be said.
        """
        flow, cv2 = self.flow, self._cv2
        size = (max(1, round(flow.width / 2 / flow.scale)), max(1, round(flow.height / 2 / flow.scale)))
        size = size if size[1] < flow.height else (flow.width, flow.height)
        bands = []
        for image in (pixels, figure):
            small = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
            bands.append(cv2.GaussianBlur(small, (0, 0), 0.8) - cv2.GaussianBlur(small, (0, 0), 3.5))
        one, other = bands
        both, first, second = (cv2.GaussianBlur(x, (0, 0), 4.0) for x in (one * other, one * one, other * other))
        alike = both / np.sqrt((first + 0.5) * (second + 0.5))
        evidence = _ramp(second, 0.5, 4.0) * _ramp(second / (first + 1e-3), 0.02, 0.12)
        whole = (flow.width, flow.height)
        alike, evidence = (cv2.resize(x, whole, interpolation=cv2.INTER_LINEAR) for x in (alike, evidence))
        weight = evidence * worn
        if len(self._fits) < 3 and weight.sum() > 200:
            self._fits.append(float((alike * weight).sum() / weight.sum()))
        replaced = bool(self._fits) and float(np.median(self._fits)) < _FITS
        if replaced:
            evidence = evidence * (1 - worn)
        return 1 - evidence * (1 - _ramp(alike, 0.25, 0.7)) * inside

    def _same_part(self, worn: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """1 where the photo shows garment and the frame does, too, or both show another part, float32 `(h, w)`."""
        cv2, flow = self._cv2, self.flow
        side = max(3, 2 * round(2 * flow.scale) + 1)
        kernel = np.ones((side, side))
        parts = cv2.remap(self._parts, flow.map[..., 0], flow.map[..., 1], cv2.INTER_NEAREST)
        return np.where(parts == 1, cv2.dilate(worn, kernel), np.where(parts == 2, cv2.dilate(rest, kernel), 0))

    def _spread_offset(
        self, pixels: np.ndarray, figure: np.ndarray, share: np.ndarray, regions: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """What the photo's broad colours are off the frame's, from trusted places into the rest of each region."""
        flow = self.flow
        found = np.zeros_like(figure)
        for region in regions:
            weight = share * region
            off, low = flow.quarter((pixels - figure) * weight[..., None]), flow.quarter(weight)
            total = flow.spread(off, 12.0) + 0.1 * flow.spread(off, 36.0)
            reach = flow.spread(low, 12.0) + 0.1 * flow.spread(low, 36.0) + 2e-3
            offset = total / reach[..., None]
            size = np.linalg.norm(offset, axis=-1, keepdims=True)
            offset *= np.minimum(1, _LARGEST_OFFSET / np.maximum(size, 1e-3))
            found += flow.whole(offset) * flow.blur(region, 1.0)[..., None]
        return found
