"""Synthetic clips: dressed figures that turn in a studio.

Needs only numpy. Clips resemble fashion e-commerce videos (such as the UBC Fashion data set): one full-length figure on
a light background, in front view and turning. Colours are sRGB, and averaged as such. A clip is determined by its seed:
all choices are drawn from `numpy.random.Generator(PCG64(seed))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fashionflow_core.synthetic.body import figure_stacks
from fashionflow_core.synthetic.figure import Figure, sample_figure
from fashionflow_core.synthetic.limbs import FEET_PITCH
from fashionflow_core.synthetic.raster import Canvas, Light
from fashionflow_core.synthetic.wardrobe import Wardrobe

__all__ = ["Figure", "SyntheticClip", "render_clip", "sample_figure"]


@dataclass(frozen=True, eq=False)
class SyntheticClip:
    """A rendered clip.

    Attributes:
        frames: frames, uint8 `(f, h, w, 3)`, sRGB.
        garment_mask: mask of clothes (with belt, without shoes, hair and skin) at half coverage, bool `(f, h, w)`.
        attributes: description of the figure, JSON-serializable; see `Figure.attributes`.
    """

    frames: np.ndarray
    garment_mask: np.ndarray
    attributes: dict[str, str | float | int]


def studio_background(figure: Figure, height: int, width: int) -> np.ndarray:
    """The empty studio, float32 `(h, w, 3)` in 0..1: wall, gradient, a slightly different floor, soft corners."""
    y = ((np.arange(height) + 0.5) / height).astype(np.float32)[:, None, None]
    x = ((np.arange(width) + 0.5) / width).astype(np.float32)[None, :, None]
    wall, top = np.array(figure.wall, np.float32), np.array(figure.wall_top, np.float32)
    image = top + (wall - top) * y
    floor = np.clip((y - 0.8) / 0.12, 0, 1)
    image = image * (1 + np.float32(figure.floor) * floor * floor * (3 - 2 * floor))
    corner = (x - np.float32(0.5)) ** 2 + (y - np.float32(0.5)) ** 2
    return np.clip(image * (1 - np.float32(0.06) * corner), 0, 1)


def cast_shadow(image: np.ndarray, row: float, column: float, radius: float, strength: float) -> None:
    """Darken an ellipse of floor softly, in place; `radius` is its half-width in pixels."""
    height, width, _ = image.shape
    top, bottom = max(0, int(row - radius)), min(height, int(row + radius) + 1)
    left, right = max(0, int(column - 2.5 * radius)), min(width, int(column + 2.5 * radius) + 1)
    if bottom <= top or right <= left:
        return
    dy = ((np.arange(top, bottom) + 0.5 - row) / (0.3 * radius)).astype(np.float32)
    dx = ((np.arange(left, right) + 0.5 - column) / radius).astype(np.float32)
    fall = np.exp(-dy * dy)[:, None] * np.exp(-dx * dx)[None, :]
    image[top:bottom, left:right] *= (1 - np.float32(strength) * fall)[..., None]


def render_clip(
    seed: int,
    frames: int = 70,
    height: int = 320,
    width: int = 256,
    fps: float = 25.0,
    supersample: int = 2,
    frame_indices: Sequence[int] | None = None,
) -> SyntheticClip:
    """Render the clip of a seed.

    Args:
        seed: random seed of figure, clothes, studio and motion (`sample_figure`).
        frames: number of frames; frame i is at time i / fps, for any length.
        height, width: size of a frame in pixels.
        fps: frames per second.
        supersample: factor of supersampling of the figure; the background has no edges.
        frame_indices: frames to render; each equals the same frame of the full clip.
    """
    figure = sample_figure(seed)
    wardrobe = Wardrobe(figure)
    light = Light(figure.light_direction, figure.ambient, figure.tint)
    canvas = Canvas(height, width, supersample, light, figure.pitch)
    empty = studio_background(figure, height, width)
    chosen = range(frames) if frame_indices is None else frame_indices
    pictures = np.empty((len(chosen), height, width, 3), np.uint8)
    masks = np.empty((len(chosen), height, width), bool)
    body = figure.size * height
    ground = figure.ground * height - FEET_PITCH * 0.06 * body
    for k, index in enumerate(chosen):
        t = index / fps
        axis = figure.centre * width + float(figure.motion.shift(t)) * body
        image = empty.copy()
        cast_shadow(image, ground + 0.01 * body, axis, 0.13 * body, 0.45 * figure.shadow)
        cast_shadow(image, ground + 0.008 * body, axis, 0.06 * body, figure.shadow)
        canvas.clear()
        for stack in figure_stacks(wardrobe, t):
            canvas.draw(stack, body * supersample, ground * supersample, axis * supersample)
        pictures[k], masks[k] = canvas.resolve(image)
    return SyntheticClip(pictures, masks, figure.attributes())
