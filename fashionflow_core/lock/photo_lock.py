"""Photo lock of one video, with fallbacks: from level full to colour, and to unchanged frames.

Frame 0 becomes the photo. The lock needs a figure before a plain background, and a video that starts with it; without
them frames are returned unchanged, and the report names the reason. Pixels of the photo are pasted as long as a tenth
of the figure can be followed; from then on only colours are corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from fashionflow_core.images.person import find_figure
from fashionflow_core.lock.colour import ColourLock, enlarged, reduced
from fashionflow_core.lock.flow import is_installed
from fashionflow_core.lock.options import LockOptions, LockReport
from fashionflow_core.lock.paste import PixelLock
from fashionflow_core.lock.plate import is_plain
from fashionflow_core.metrics.garment import Outline
from fashionflow_core.metrics.labels import WORKING_HEIGHT

_PATIENCE = 3  # frames below the least pasted share before pixels are given up
_LEAST_ALIKE = 0.6  # overlap of the figures in the photo and in the video's first frame


class PhotoLock:
    """Lock of a photo to the frames of one video, in order; a constant number of frames is held.

    Args:
        photo: uint8 `(h, w, 3)` sRGB, of the video's size.
        options: level and rates.
        report: filled in; a new one if None.

    Attributes:
        report: report of the frames so far.

    Raises:
        FashionFlowError: level full without the extra `lock`; see `best_level`.
    """

    def __init__(
        self, photo: np.ndarray, options: LockOptions = LockOptions(), report: LockReport | None = None
    ) -> None:
        self.photo, self.options = photo, options
        self.report = report or LockReport(options.level, options.level)
        self._colour: ColourLock | None = None
        self._pixels: PixelLock | None = None
        self._few = 0
        if options.level == "off":
            return
        step = max(1, round(photo.shape[0] / WORKING_HEIGHT))
        self._step, self._outline = step, Outline.of(reduced(photo, step))
        if not self._outline.figure.any() or find_figure(photo) is None:
            self._stop("no figure in the photo")
        elif not is_plain(self._outline):
            self._stop("the photo's background is not plain")
        else:
            self._colour = ColourLock(photo, options)
            if options.level == "full":
                self._pixels = self._start_pixels(self._colour)

    def _stop(self, reason: str) -> None:
        self._colour = self._pixels = None
        self.report.level, self.report.reason = "off", reason

    def _start_pixels(self, colour: ColourLock) -> PixelLock:
        columns, first = colour.columns, colour.first
        planes = np.concatenate([first.weights[:4], first.outline.figure[None].astype(np.float32)])
        planes[0] += first.weights[4:].sum(0)
        planes = enlarged(planes.astype(np.float32), self._step, *self.photo.shape[:2], columns=columns)
        lab = np.ascontiguousarray(colour.lab[:, columns])
        garment = planes[0] > 0.5
        wall = lab[:, :2].reshape(-1, 3).mean(0)
        chroma = lab[garment].mean(0)[1:] - wall[1:] if garment.any() else np.zeros(2)
        return PixelLock(lab, planes[:4], planes[4] > 0.5, chroma, self.options.shading)

    def add(self, frame: np.ndarray) -> np.ndarray:
        """Lock the next frame, uint8 `(h, w, 3)`.

        Raises:
            ValueError: a frame of another size than the photo.
        """
        if frame.shape != self.photo.shape:
            raise ValueError(f"frame {frame.shape} and photo {self.photo.shape} differ in size")
        number = self.report.frames
        self.report.frames += 1
        if number == 0 and self._colour is not None and not self._starts_with(frame):
            self._stop("the video does not start with this photo")
        if self._colour is None:
            return frame
        if number == 0:
            return self.photo.copy()
        columns = self._colour.columns
        corrected = self._colour.correct(frame)
        if self._pixels is not None and self._colour.columns != columns:
            self._give_up(number)  # the figure left the columns in which flow is computed
        if self._pixels is None:
            return self._colour.finished(corrected.composed())
        figure, alpha = self._pixels.add(corrected, number == 1)
        self._note(number, self._pixels)
        return self._colour.finished(corrected.composed(figure, alpha))

    def _starts_with(self, frame: np.ndarray) -> bool:
        one, other = self._outline.figure, Outline.of(reduced(frame, self._step)).figure
        return bool((one & other).sum() >= _LEAST_ALIKE * (one | other).sum())

    def _note(self, number: int, pixels: PixelLock) -> None:
        self.report.pasted.append(round(pixels.pasted, 4))
        if pixels.head.gone and self.report.head_until is None:
            self.report.head_until = number
        self._few = self._few + 1 if pixels.followed < self.options.least_pasted else 0
        if self._few >= _PATIENCE and pixels.followed < 0.3 * self.options.least_pasted:
            self._give_up(number + 1)

    def _give_up(self, number: int) -> None:
        self._pixels, self.report.pixels_until = None, number
        if sum(self.report.pasted) < self.options.least_pasted * max(1, number):
            self.report.level = "colour"
            self.report.reason = "less than a tenth of the figure can be followed from the photo"


def best_level(level: str) -> tuple[str, str]:
    """The level that this machine supports, and the reason if it is not the requested one (else empty)."""
    if level == "full" and not is_installed():
        return "colour", "level full needs the extra 'lock'"
    return level, ""


def locked(
    decode: Callable[[], Iterator[np.ndarray]], photo: np.ndarray, options: LockOptions
) -> tuple[Callable[[], Iterator[np.ndarray]], LockReport]:
    """Frames with the photo locked to them.

    Args:
        decode: returns the video's frames from the first one on at each call.
        photo: uint8 `(h, w, 3)` sRGB, of their size.
        options: without the extra `lock`, level full becomes colour, with a reason in the report.

    Returns:
        a function like `decode` that locks frames as they are requested, and the report of its latest call.
    """
    level, reason = best_level(options.level)
    report = LockReport(options.level, level, reason)

    def frames() -> Iterator[np.ndarray]:
        report.restart(level, reason)
        lock = PhotoLock(photo, replace(options, level=level), report)
        return map(lock.add, decode())

    return frames, report
