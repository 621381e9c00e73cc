"""Prepared photo: matte, background, figure box and shell."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from fashionflow_core.motion.background import without_figure
from fashionflow_core.motion.camera import camera_frames
from fashionflow_core.motion.conditions import photo_channels
from fashionflow_core.motion.figure_box import GRID, FigureBox
from fashionflow_core.motion.layers import visible_e
from fashionflow_core.motion.matte import Matte, Parse, find_matte
from fashionflow_core.motion.shell import Shell

CAMERA_ONLY = "only the camera moves, a slow push"


@dataclass(frozen=True, eq=False)
class PreparedPhoto:
    """A photo with everything needed to move it.

    Attributes:
        pixels: photo at the video's size, uint8 (h, w, 3), sRGB.
        matte: matte of the figure.
        device: device of the renderer.
    """

    pixels: np.ndarray
    matte: Matte
    device: str = "cpu"

    @classmethod
    def of(
        cls, pixels: np.ndarray, parse: Parse | None = None, given: np.ndarray | None = None, device: str = "cpu"
    ) -> "PreparedPhoto":
        """Find the figure of a photo.

        Args:
            pixels: photo, uint8 (h, w, 3).
            parse: parser network; None: background subtraction only.
            given: mask to use unchanged, (h, w), 0 to 1.
            device: device of the renderer.
        """
        return cls(pixels, find_matte(pixels, parse, given), device)

    @property
    def moves_figure(self) -> bool:
        """Whether the figure is moved, and not only the camera."""
        return self.matte.trusted

    @property
    def warnings(self) -> tuple[str, ...]:
        """The reason for camera motion, as one line; empty if the figure moves."""
        return () if self.moves_figure else (f"{self.matte.reason}: {CAMERA_ONLY}",)

    @cached_property
    def box(self) -> FigureBox:
        """The figure's box; the whole photo if there is no reliable figure."""
        if self.moves_figure:
            return FigureBox.of(self.matte.alpha)
        return FigureBox.of(np.ones(self.pixels.shape[:2], np.float32))

    @cached_property
    def inflation(self) -> np.ndarray:
        """Inflation of the visible layer at each pixel, (h, w) in pixels."""
        return visible_e(self.matte.alpha, self.matte.parts)

    @cached_property
    def cells(self) -> np.ndarray:
        """Share of the figure in each cell of the grid, (40, 32)."""
        return self.box.resample(self.matte.alpha, *GRID, outside=0.0)

    @cached_property
    def content(self) -> np.ndarray:
        """Condition channels of the motion network, (9, 40, 32)."""
        return photo_channels(self.pixels, self.matte.alpha, self.matte.parts, self.box, self.inflation)

    @cached_property
    def _shell(self) -> Shell:
        plate = without_figure(self.pixels, self.matte.alpha)
        return Shell(self.pixels, self.matte, plate, self.box, device=self.device)

    def frames(self, channels: Tensor) -> Iterator[np.ndarray]:
        """Draw motion channels (c, n, 40, 32): n frames, uint8 (h, w, 3), the first one the photo itself."""
        return self._shell.frames(channels.numpy())

    def camera(self, times: np.ndarray, seed: int, period: float) -> Iterator[np.ndarray]:
        """Camera motion, if the figure cannot be moved; arguments of `camera.camera_frames`."""
        return camera_frames(self.pixels, times, seed, period)
