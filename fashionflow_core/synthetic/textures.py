"""Fabric and face textures, garment and skin colours.

All colours are sRGB values in 0..1 and blended as such (not in linear light), like the product photos that are imitated
and the training pipeline.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

Rgb = tuple[float, float, float]

SKIN_TONES: dict[str, str] = {
    "porcelain": "#f6dcc9",
    "ivory": "#eec7a9",
    "beige": "#e0ac84",
    "olive": "#c98f63",
    "tan": "#ad7648",
    "brown": "#8a5a38",
    "dark": "#663f29",
    "ebony": "#45291d",
}
HAIR_COLOURS: dict[str, str] = {
    "black": "#17130f",
    "darkbrown": "#33221a",
    "brown": "#5a3a25",
    "auburn": "#7a3b20",
    "blond": "#b48a53",
    "lightblond": "#d8bd86",
    "grey": "#8d8b88",
    "white": "#d6d3cd",
}
FABRICS = ("plain", "horizontal_stripes", "vertical_stripes", "checks", "dots", "print", "diagonal")
# Shortest and longest repeat of each fabric in pixels of a 320-pixel-high frame: the shortest is still resolved there.
REPEAT_PIXELS: dict[str, tuple[float, float]] = {
    "plain": (8, 8),
    "horizontal_stripes": (8, 26),
    "vertical_stripes": (7, 18),
    "checks": (9, 26),
    "dots": (9, 22),
    "print": (34, 60),
    "diagonal": (9, 20),
}


@dataclass(frozen=True)
class Fabric:
    """A fabric: its kind, two or three colours, and the length of one repeat in body heights."""

    kind: str
    colours: tuple[Rgb, ...]
    repeat: float
    seed: int


def rgb(code: str) -> Rgb:
    """`#rrggbb` as three values in 0..1."""
    return (int(code[1:3], 16) / 255, int(code[3:5], 16) / 255, int(code[5:7], 16) / 255)


def hex_code(colour: Rgb) -> str:
    """Three values in 0..1 as `#rrggbb`."""
    return "#" + "".join(f"{round(255 * float(value)):02x}" for value in colour)


def luma(colour: Rgb) -> float:
    """Rec. 709 weighted brightness of an sRGB colour, 0..1."""
    return 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]


def garment_colour(rng: np.random.Generator) -> Rgb:
    """One fabric colour: saturated, pastel, deep, or a neutral (black, white, grey, beige, navy)."""
    style = rng.choice(4, p=[0.36, 0.24, 0.18, 0.22])
    hue = float(rng.random())
    if style == 0:
        return colorsys.hsv_to_rgb(hue, rng.uniform(0.5, 0.86), rng.uniform(0.55, 0.9))
    if style == 1:
        return colorsys.hsv_to_rgb(hue, rng.uniform(0.16, 0.4), rng.uniform(0.85, 0.97))
    if style == 2:
        return colorsys.hsv_to_rgb(hue, rng.uniform(0.45, 0.8), rng.uniform(0.24, 0.5))
    neutrals = ("#16161a", "#f4f2ee", "#8b8d91", "#cdb894", "#1d2a4d", "#b9bcc2", "#3b3f46", "#4a6a94")
    return rgb(neutrals[int(rng.integers(len(neutrals)))])


def harmony(rng: np.random.Generator, base: Rgb) -> tuple[Rgb, Rgb, Rgb]:
    """Three matching colours: base, one with contrasting brightness, and an accent."""
    hue, saturation, value = colorsys.rgb_to_hsv(*base)
    dark = luma(base) < 0.5
    choice = rng.choice(4, p=[0.34, 0.16, 0.3, 0.2])
    if choice == 0:
        second = rgb("#f5f3ee") if dark else rgb("#1b1b22")
    elif choice == 1:
        second = rgb("#f5f3ee") if luma(base) < 0.7 else rgb("#24345f")
    else:
        turn = rng.choice([0.5, 1 / 3, 2 / 3]) if choice == 2 else rng.uniform(-0.09, 0.09)
        second = colorsys.hsv_to_rgb((hue + turn) % 1, max(0.35, saturation), 0.95 if dark else 0.38)
    if abs(luma(second) - luma(base)) < 0.28:
        second = rgb("#f5f3ee") if dark else rgb("#1b1b22")
    accent = colorsys.hsv_to_rgb((hue + rng.uniform(0.25, 0.75)) % 1, rng.uniform(0.5, 0.9), rng.uniform(0.6, 0.95))
    return base, second, accent


def sample_fabric(rng: np.random.Generator, body_pixels: float, kind: str | None = None) -> Fabric:
    """A random fabric; `body_pixels` is the figure's height in pixels of a 320-pixel-high frame."""
    if kind is None:
        kind = str(rng.choice(FABRICS, p=[0.28, 0.14, 0.12, 0.13, 0.12, 0.15, 0.06]))
    low, high = REPEAT_PIXELS[kind]
    repeat = float(low * (high / low) ** rng.random()) / body_pixels
    return Fabric(kind, harmony(rng, garment_colour(rng)), repeat, int(rng.integers(2**31)))


def _soften(tile: np.ndarray) -> np.ndarray:
    for axis in (0, 1):
        tile = 0.25 * np.roll(tile, 1, axis) + 0.5 * tile + 0.25 * np.roll(tile, -1, axis)
    return tile


def _print_tile(size: int, colours: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Flowers (five petals around a centre) and small leaves, wrapped around the tile's edges."""
    tile = np.broadcast_to(colours[0], (size, size, 3)).copy()
    grid = np.arange(size) + 0.5
    cells = [(row, column) for row in range(3) for column in range(3)]
    turn = rng.random(len(cells)) * 2 * np.pi
    petals = int(rng.choice([1, 3, 5, 5, 6]))
    for index, (row, column) in enumerate(cells):
        shift = rng.uniform(-0.06, 0.06, 2)
        # Every other row is shifted by half a cell, as in a half-drop repeat.
        cy = (row + 0.5) / 3 + shift[0]
        cx = (column + 0.5 + 0.5 * (row % 2)) / 3 + shift[1]
        dy = (grid[:, None] / size - cy + 0.5) % 1 - 0.5
        dx = (grid[None, :] / size - cx + 0.5) % 1 - 0.5
        radius, angle = np.hypot(dx, dy), np.arctan2(dy, dx) + turn[index]
        if index % 2 == 0:
            bloom = 0.135 * rng.uniform(0.8, 1.15) * (0.72 + 0.28 * np.cos(petals * angle))
            tile[radius < bloom] = colours[1]
            tile[radius < 0.042] = colours[2]
        else:
            leaf = 0.075 * np.abs(np.cos(angle)) ** 0.7 + 0.012
            tile[radius < leaf] = 0.5 * colours[2] + 0.5 * colours[1]
    return tile


def fabric_tile(fabric: Fabric) -> np.ndarray:
    """One repeat of a fabric.

    Returns:
        float32 `(n, n, 3)`, sRGB 0..1, n a power of two; rows run down the body, columns around it; wraps on all sides.
    """
    colours = np.array(fabric.colours, np.float32)
    rng = np.random.Generator(np.random.PCG64(fabric.seed))
    size = 128 if fabric.kind == "print" else 64
    phase = (np.arange(size) + 0.5) / size
    if fabric.kind == "plain":
        return colours[:1].reshape(1, 1, 3).copy()
    if fabric.kind == "print":
        return _soften(_print_tile(size, colours, rng)).astype(np.float32)
    share = float(rng.uniform(0.35, 0.6))
    third = rng.random() < 0.4
    band = np.where(phase < share, 1, 0)
    if third:
        band[(phase > share + 0.16) & (phase < share + 0.3)] = 2
    if fabric.kind in ("horizontal_stripes", "vertical_stripes"):
        tile = np.broadcast_to(colours[band][:, None], (size, size, 3))
        tile = tile.transpose(1, 0, 2) if fabric.kind == "vertical_stripes" else tile
    elif fabric.kind == "diagonal":
        tile = colours[band[(np.arange(size)[:, None] + np.arange(size)[None, :]) % size]]
    elif fabric.kind == "checks":
        # Gingham: crossing bands add up; the accent, if any, is a thin over-check.
        weight = 0.5 * ((phase < 0.5)[:, None].astype(np.float32) + (phase < 0.5)[None, :])
        tile = colours[0] * (1 - weight[..., None]) + colours[1] * weight[..., None]
        if third:
            line = (np.abs(phase - 0.75) < 0.05)[:, None] | (np.abs(phase - 0.75) < 0.05)[None, :]
            tile = np.where(line[..., None], colours[2], tile)
    else:
        tile = np.broadcast_to(colours[0], (size, size, 3)).copy()
        radius = rng.uniform(0.2, 0.28)
        for cy, cx, colour in ((0.25, 0.25, 1), (0.75, 0.75, 2 if third else 1)):
            dy = (phase[:, None] - cy + 0.5) % 1 - 0.5
            dx = (phase[None, :] - cx + 0.5) % 1 - 0.5
            tile[np.hypot(dx, dy) < radius] = colours[colour]
    return _soften(np.array(tile, np.float32)).astype(np.float32)


def face_map(skin: Rgb, hair: Rgb, lips: Rgb, eyes: Rgb, child: bool) -> np.ndarray:
    """The skin of a head, unrolled: rows run from crown to chin, columns over the angle -pi..pi, 0 the nose.

    Returns:
        float32 `(128, 256, 3)`, sRGB 0..1.
    """
    rows, columns = 128, 256
    y = ((np.arange(rows) + 0.5) / rows)[:, None]
    a = ((np.arange(columns) + 0.5) / columns * 2 * np.pi - np.pi)[None, :]
    base = np.array(skin, np.float32)
    face = np.broadcast_to(base, (rows, columns, 3)).copy()

    def paint(weight: np.ndarray, colour: Rgb | np.ndarray, strength: float) -> None:
        w = (strength * np.clip(weight, 0, 1))[..., None].astype(np.float32)
        face[...] = face * (1 - w) + np.asarray(colour, np.float32) * w

    def blob(row: float, angle: float, height: float, width: float, hard: float = 3.0) -> np.ndarray:
        distance = ((y - row) / height) ** 2 + ((a - angle) / width) ** 2
        return np.clip(hard * (1 - distance), 0, 1)

    level = 0.56 if child else 0.5
    warm = np.clip(base * np.array([1.04, 0.84, 0.8], np.float32), 0, 1)
    for side in (-1, 1):
        paint(blob(level + 0.17, side * 0.62, 0.09, 0.32, 1.0), warm, 0.5)
        paint(blob(level - 0.005, side * 0.44, 0.062, 0.28, 1.2), base * 0.72, 0.6)
        paint(blob(level, side * 0.44, 0.028, 0.18), np.float32(0.4 + 0.55 * luma(skin)) * np.ones(3, np.float32), 0.9)
        paint(blob(level, side * 0.43, 0.032, 0.105), eyes, 1.0)
        paint(blob(level - 0.03, side * 0.45, 0.014, 0.22), np.array(hair, np.float32) * 0.35, 0.85)
        brow = level - 0.085 + 0.03 * np.abs(np.abs(a) - 0.45)
        paint(np.clip(3 * (1 - ((y - brow) / 0.018) ** 2 - ((a - side * 0.46) / 0.26) ** 2), 0, 1), hair, 0.8)
        paint(blob(level + 0.2, side * 0.12, 0.02, 0.08), base * 0.55, 0.7)
    paint(blob(level + 0.315, 0, 0.033, 0.3), lips, 0.9)
    paint(blob(level + 0.315, 0, 0.008, 0.29), np.array(lips, np.float32) * 0.6, 0.8)
    paint(blob(level + 0.375, 0, 0.02, 0.22, 1.0), base * 0.8, 0.5)
    return face
