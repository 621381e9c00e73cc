"""What a generation gives: latents, and the frames and files that come of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fashionflow_core import video


@dataclass(frozen=True)
class Clip:
    """One generated video: its latents, decoded whenever frames are asked for.

    Attributes:
        count, fps, height, width: of the video; the pad bars of the fit are cropped off already.
        latents: float32 (1, c, count, h, w).
        metadata: what made the video, for the file's own metadata.
        decode: latents → a fresh iterator of frames.
    """

    count: int
    fps: float
    height: int
    width: int
    latents: Tensor = field(repr=False)
    metadata: dict[str, str]
    decode: Callable[[], Iterator[np.ndarray]] = field(repr=False)

    @property
    def frames(self) -> Iterator[np.ndarray]:
        """The frames, uint8 (height, width, 3), decoded as they are asked for; every time from the first one on."""
        return self.decode()

    def save(self, path: str | Path, **options: Any) -> video.VideoInfo:
        """Write the video; its suffix chooses the format. An existing file is replaced once the new one is whole.

        Args:
            path: the file.
            options: of `video.write`.

        Raises:
            FashionFlowError: as `video.write`, and as decoding.
        """
        return video.write(self.frames, path, fps=self.fps, count=self.count, metadata=self.metadata, **options)
