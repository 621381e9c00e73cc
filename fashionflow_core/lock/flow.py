"""Dense flow from frame to frame, chained to a map from each frame into the photo.

The flow is DIS (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016), of OpenCV. It is computed
on colour-corrected frames. On smooth cloth it is noisy, so it is averaged over textured neighbours, and the chained
map is smoothed within each region (a membrane). After each frame the map is aligned to the photo again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.utils import extras

_MEMBRANE = 0.15  # weight of the surroundings' motion at a trusted place, per frame
_REACH = 8.0  # standard deviation of the membrane's smoothing, pixels at 640 rows
_CLOSE = 4.0  # pixels at 640 rows that a chained map may be off by in one frame


def opencv(purpose: str = "the lock's level full", otherwise: str = ", or use level colour") -> Any:
    """The module cv2, on one thread.

    Args:
        purpose: what needs it, for the error.
        otherwise: end of the error's hint.

    Raises:
        FashionFlowError: the extra `lock` is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise FashionFlowError(
            f"{purpose} needs the extra 'lock' (OpenCV)", hint=f"{extras.install('lock')}{otherwise}"
        ) from None
    cv2.setNumThreads(1)  # results must not depend on the machine, and workers share its processors
    return cv2


def is_installed() -> bool:
    """Whether OpenCV is installed, which level full needs."""
    from importlib.util import find_spec

    return find_spec("cv2") is not None


class FlowChain:
    """Map from each pixel of the current frame to the photo.

    Args:
        lab: float32 `(h, w, 3)`, the photo.
        chroma: float `(2,)`, a* b* direction from wall to garment: it enters the grey that flow is computed on.
    """

    def __init__(self, lab: np.ndarray, chroma: np.ndarray) -> None:
        self.cv2 = opencv()
        self.height, self.width = lab.shape[:2]
        self.scale = self.height / 640
        self._chroma = (chroma / max(float(np.linalg.norm(chroma)), 1.0)).astype(np.float32)
        self._dis, self._closer, self._coarse = self._searcher(12), self._searcher(25), self._searcher(12, 1)
        x, y = np.meshgrid(np.arange(self.width, dtype=np.float32), np.arange(self.height, dtype=np.float32))
        self.grid = np.stack([x, y], -1)
        self.map = self.grid.copy()  # x, y in the photo of each pixel
        self.alive = np.ones((self.height, self.width), np.float32)  # lasting trust; it never rises
        self._photo = self._before = self._grey(lab)
        self._back = self.grid

    def _searcher(self, iterations: int, coarser: int = 0) -> Any:
        """DIS that refines to about 320 rows; its preset stops at half of that, which is off by up to half a pixel."""
        dis = self.cv2.DISOpticalFlow_create(self.cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        dis.setFinestScale(max(0, round(float(np.log2(2 * self.scale)))) + coarser)
        dis.setGradientDescentIterations(iterations)
        return dis

    def blur(self, image: np.ndarray, sigma: float) -> np.ndarray:
        """Gaussian blur; sigma in pixels at 640 rows."""
        return self.cv2.GaussianBlur(image, (0, 0), max(0.5, sigma * self.scale))

    def spread(self, image: np.ndarray, sigma: float) -> np.ndarray:
        """A wide blur of an image a quarter as large, at that size."""
        return self.cv2.GaussianBlur(image, (0, 0), max(0.5, sigma * self.scale / 4))

    def quarter(self, image: np.ndarray) -> np.ndarray:
        """The image at a quarter of its size."""
        size = (max(1, self.width // 4), max(1, self.height // 4))
        return self.cv2.resize(np.ascontiguousarray(image), size, interpolation=self.cv2.INTER_AREA)

    def whole(self, image: np.ndarray) -> np.ndarray:
        """A quarter-size image at full size."""
        return self.cv2.resize(image, (self.width, self.height), interpolation=self.cv2.INTER_LINEAR)

    def carried(self, image: np.ndarray) -> np.ndarray:
        """An image of the previous frame, warped to this frame."""
        return self._remap(image, self._back)

    def from_photo(self, image: np.ndarray, sharp: bool = False) -> np.ndarray:
        """An image of the photo, warped to this frame."""
        return self._remap(image, self.map, self.cv2.INTER_CUBIC if sharp else self.cv2.INTER_LINEAR)

    def _remap(self, image: np.ndarray, places: np.ndarray, mode: int | None = None) -> np.ndarray:
        cv2 = self.cv2
        mode = cv2.INTER_LINEAR if mode is None else mode
        return cv2.remap(image, places, None, mode, borderMode=cv2.BORDER_REPLICATE)

    def _length(self, field: np.ndarray) -> np.ndarray:
        """Lengths of the vectors `(h, w, 2)`, in pixels at 640 rows."""
        return self.cv2.magnitude(*self.cv2.split(field)) / np.float32(self.scale)

    def moved(self) -> np.ndarray:
        """Distance of each pixel from its place in the photo, float32 `(h, w)`, pixels at 640 rows."""
        return self._length(self.map - self.grid)

    def _grey(self, lab: np.ndarray) -> np.ndarray:
        return np.clip(1.9 * lab[..., 0] - 1.6 * (lab[..., 1:] @ self._chroma) + 40, 0, 255).astype(np.uint8)

    def advance(self, lab: np.ndarray, garment: np.ndarray, rest: np.ndarray, first: bool) -> None:
        """Extend the map to the next frame.

        Args:
            lab: float32 `(h, w, 3)`, the frame with corrected colours.
            garment, rest: float32 `(h, w)` 0..1, garment and everything else of the figure.
            first: whether the frame before is the photo.
        """
        cv2, now = self.cv2, self._grey(lab)
        back = self._dis.calc(now, self._before, None)
        forth = self._coarse.calc(self._before, now, None)  # only to test the other way: half the size is enough
        error = self._length(back + self._remap(forth, self.grid + back))
        size = self._length(back)
        texture = self.blur(cv2.magnitude(cv2.Sobel(now, cv2.CV_32F, 1, 0), cv2.Sobel(now, cv2.CV_32F, 0, 1)), 1.5)
        good = np.exp(-((error / (1 + 0.1 * size)) ** 2)).astype(np.float32)
        clear = (np.minimum(texture, 60) / 20 + 0.02) * (garment + rest + 1e-3)
        weight = good * clear + 1e-6
        total = self.blur(back * weight[..., None], 2)
        share = self.blur(weight, 2)
        low, low_weight = self.quarter(back * weight[..., None]), self.quarter(weight)
        for sigma, importance in ((6.0, 0.2), (16.0, 0.03)):
            total += importance * self.whole(self.spread(low, sigma))
            share += importance * self.whole(self.spread(low_weight, sigma))
        self._back = self.grid + total / share[..., None]
        self.map, self.alive = self.carried(self.map), self.carried(self.alive)
        if not first:
            # Forward and backward flow disagree on texture: an occlusion.
            off = np.maximum(error / (3.5 + 0.4 * size) - 1, 0) * (texture > 8)
            self.alive *= np.exp(-0.5 * off * off).astype(np.float32)
        self._hold_together(garment, rest)
        self._align(now, clear + 1e-6)
        self._before = now

    def _align(self, now: np.ndarray, weight: np.ndarray) -> None:
        """Correct the map by the flow between the frame and the warped photo: errors of a chain add up."""
        off = self._closer.calc(now, self.from_photo(self._photo), None)
        off = self.blur(off * weight[..., None], 2) / self.blur(weight, 2)[..., None]
        size = self._length(off)[..., None]
        # Large offsets are another repeat of the print, or something that the photo does not show.
        self.map = self._remap(self.map, self.grid + off * np.exp(-((size / _CLOSE) ** 2)).astype(np.float32))

    def _hold_together(self, garment: np.ndarray, rest: np.ndarray) -> None:
        moved = self.map - self.grid
        for region in (garment, rest):
            weight = region * (0.1 + 0.9 * self.alive)
            total = self.spread(self.quarter(moved * weight[..., None]), _REACH)
            share = self.spread(self.quarter(weight), _REACH) + 1e-3
            smooth = self.whole(total / share[..., None])
            pull = (region * (_MEMBRANE + 0.5 * (1 - self.alive) * (1 - _MEMBRANE)))[..., None]
            moved += pull * (smooth - moved)
        self.map = self.grid + moved

    def stretch(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Smallest and largest singular value of the map's derivative, and its determinant, each `(h, w)`.

        The smallest is what a pixel of the photo is drawn out by, inverted; a determinant below 0 is a fold.
        """
        cv2, smooth = self.cv2, self.quarter(self.map) / 4
        smooth = cv2.GaussianBlur(smooth, (0, 0), max(0.5, self.scale))
        dx, dy = (cv2.Sobel(smooth, cv2.CV_32F, i, 1 - i, ksize=3) / 8 for i in (1, 0))
        det = dx[..., 0] * dy[..., 1] - dy[..., 0] * dx[..., 1]
        total = (dx * dx + dy * dy).sum(-1)
        root = np.sqrt(np.maximum(total * total - 4 * det * det, 0))
        least, most = np.sqrt(np.maximum((total - root) / 2, 0)), np.sqrt((total + root) / 2)
        return self.whole(least), self.whole(most), self.whole(det)
