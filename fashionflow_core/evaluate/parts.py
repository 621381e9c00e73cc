"""Parts of a clip that several measures share: figure, garment, skin, their colours."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fashionflow_core.metrics import drift, person
from fashionflow_core.metrics.garment import Palette, skin_mask


@dataclass(frozen=True, eq=False)
class ClipParts:
    """Frames of a clip, uint8 `(f, h, w, 3)`, and what is found in them, when it is first needed."""

    frames: np.ndarray

    @cached_property
    def _found(self) -> tuple[Palette, np.ndarray, np.ndarray]:
        return drift.find_parts(self.frames)

    @property
    def figure(self) -> np.ndarray:
        """Masks of the figure, bool `(f, h, w)`."""
        return self._found[1]

    @property
    def garment(self) -> np.ndarray:
        """Masks of the garment, bool `(f, h, w)`."""
        return self._found[2]

    @cached_property
    def tones(self) -> np.ndarray:
        """Skin colours, `person.skin_tones`, `(f, 3)`."""
        palette, figure, garment = self._found
        skin = np.stack([skin_mask(f, palette, whole, worn) for f, whole, worn in zip(self.frames, figure, garment)])
        return person.skin_tones(self.frames, skin, figure)

    @cached_property
    def colours(self) -> np.ndarray:
        """Garment colours, `drift.garment_colours`, `(f, 3)`."""
        return drift.garment_colours(self.frames, self.garment)

    @cached_property
    def widths(self) -> np.ndarray:
        """Silhouette widths, `drift.silhouette_width`, `(f,)`, pixels."""
        return drift.silhouette_width(self.frames, self.figure)
