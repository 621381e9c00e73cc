"""Busy backgrounds: rooms and streets.

They imitate the statistics of real places: large soft shapes, straight edges, lamps, texture at several scales. A model
trained only on plain studios takes every edge behind a figure for the figure's own.
"""

from __future__ import annotations

import numpy as np


def busy_background(seed: int, height: int, width: int) -> np.ndarray:
    """A background, float32 (h, w, 3), sRGB 0 to 1.

    Args:
        seed: random seed; the image is the same at every size, except for resolution.
        height, width: size in pixels.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 11]))
    y = ((np.arange(height) + 0.5) / height).astype(np.float32)[:, None]
    x = ((np.arange(width) + 0.5) / height).astype(np.float32)[None]  # in heights, so that shapes keep their aspect
    across = width / height

    def colour() -> np.ndarray:
        grey = rng.uniform(0.1, 0.95)
        return np.clip(grey + rng.uniform(0.05, 0.6) * rng.uniform(-0.5, 0.5, 3), 0, 1)

    base, other = colour(), colour()
    image = np.asarray(base + (other - base) * y[..., None] + 0 * x[..., None], np.float32)
    for _ in range(int(rng.integers(3, 12))):
        paint, strength = colour(), rng.uniform(0.3, 1.0)
        centre, half = (rng.uniform(0, across), rng.uniform(0, 1)), rng.uniform(0.03, 0.35, 2)
        soft = rng.uniform(0.003, 0.04)
        if rng.random() < 0.6:  # a door, a window, a board
            inside = np.minimum(half[0] - np.abs(x - centre[0]), half[1] * 1.5 - np.abs(y - centre[1]))
        else:  # a lamp, a plant
            inside = half[0] * (1 - np.hypot((x - centre[0]) / half[0], (y - centre[1]) / half[1]))
        share = np.clip(inside / soft + 0.5, 0, 1) * strength
        image += share[..., None] * (paint - image)
    for cells in (6, 14, 40):  # patches of light and of texture
        image *= 1 + rng.uniform(0.02, 0.15) * _noise(rng, cells, y, x)[..., None]
    if rng.random() < 0.5:  # planks or bricks
        angle, count = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)]), rng.uniform(8, 40)
        stripes = np.sin(2 * np.pi * count * (x * np.cos(angle) + y * np.sin(angle)))
        image *= 1 + rng.uniform(0.02, 0.12) * np.clip(3 * stripes, -1, 1)[..., None]
    floor = rng.uniform(0.7, 0.95)
    if rng.random() < 0.7:
        image += np.clip((y - floor) / 0.02, 0, 1)[..., None] * (colour() - image) * 0.7
    return np.clip(image, 0, 1).astype(np.float32)


def _noise(rng: np.random.Generator, cells: int, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Smooth noise of about deviation 1, `cells` per height."""
    values = rng.standard_normal((cells + 2, 2 * cells + 2)).astype(np.float32)

    def corner(place: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        place = np.clip(place * cells, 0, most - 1.001)
        first = place.astype(int)
        part = place - first
        return first, part * part * (3 - 2 * part)

    (i, u), (j, v) = corner(y, cells + 1), corner(x, 2 * cells + 1)
    top = values[i, j] * (1 - v) + values[i, j + 1] * v
    bottom = values[i + 1, j] * (1 - v) + values[i + 1, j + 1] * v
    return top * (1 - u) + bottom * u
