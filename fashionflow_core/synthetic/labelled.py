"""Drawn clips with the true label of every pixel: garment, skin, hair, shoes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fashionflow_core.images import parts
from fashionflow_core.metrics.labels import GARMENT, HAIR, SHOES, SKIN
from fashionflow_core.synthetic.clips import render_clip
from fashionflow_core.synthetic.figure import sample_figure
from fashionflow_core.synthetic.geometry import Moment
from fashionflow_core.synthetic.wardrobe import Wardrobe

# Parts that are skin where no garment covers them: a sleeve belongs to its arm, a neckline to the trunk.
_BARE = (parts.HEAD, parts.ARM_LEFT, parts.ARM_RIGHT, parts.LEGS, parts.UPPER)


@dataclass(frozen=True, eq=False)
class LabelledClip:
    """A rendered clip with its truth.

    Attributes:
        frames: uint8 `(f, h, w, 3)`, sRGB.
        labels: uint8 `(f, h, w)`, indices of `metrics.labels.LABELS`.
        yaws: float64 `(f,)`, degrees that the body is turned; 0 faces the camera.
        attributes: what the clip shows; see `figure.Figure.attributes`.
    """

    frames: np.ndarray
    labels: np.ndarray
    yaws: np.ndarray
    attributes: dict[str, str | float | int]


def labelled_clip(
    seed: int, frames: int = 40, height: int = 320, width: int = 256, fps: float = 16.0, indices: Sequence[int] = ()
) -> LabelledClip:
    """The clip of a seed, drawn as by `clips.render_clip`, with labels.

    Args:
        seed: of figure, clothes, studio and motion.
        frames, height, width, fps: of the clip.
        indices: numbers of the frames to draw; all if empty.
    """
    chosen = list(indices) or list(range(frames))
    drawn = render_clip(seed, frames, height, width, fps, frame_indices=chosen)
    figure = sample_figure(seed)
    wardrobe = Wardrobe(figure)
    labels = np.zeros(drawn.frames.shape[:3], np.uint8)
    for found, worn, index in zip(labels, drawn.garment_mask, chosen):
        part = Moment(figure, index / fps, height, width, wardrobe).surface().part
        found[np.isin(part, _BARE)] = SKIN
        found[part == parts.HAIR] = HAIR
        found[part == parts.SHOES] = SHOES
        found[worn | (part == parts.LOWER)] = GARMENT
    yaws = np.degrees([float(figure.motion.yaw(index / fps)) for index in chosen])
    return LabelledClip(drawn.frames, labels, yaws, drawn.attributes)
