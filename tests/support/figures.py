"""Rendered photos of people, of their clothes alone, and of clothes laid out flat, each with exact masks."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from fashionflow_core.synthetic import clips

HEIGHT, WIDTH = 320, 256

# Outlines of garments laid out flat, in shares of the photo's width and height.
LAID_OUT = {
    "T-shirt": "38,20 45,24 55,24 62,20 90,33 82,46 72,40 72,82 28,82 28,40 18,46 10,33",
    "dress": "40,8 43,18 50,20 57,18 60,8 64,20 62,45 80,92 20,92 38,45 36,20",
    "trousers": "33,10 67,10 72,92 55,92 50,35 45,92 28,92",
    "pullover": "38,15 45,19 55,19 62,15 72,22 88,70 80,74 68,40 68,85 32,85 32,40 20,74 12,70 28,22",
    "folded": "25,30 75,30 75,72 25,72",
    "shoe": "20,60 40,55 50,50 80,62 80,70 20,70",
    "scarf": "44,5 56,5 56,95 44,95",
    "hat": "30,60 38,58 42,40 58,40 62,58 70,60 70,64 30,64",
}


@dataclass(frozen=True, eq=False)
class Rendered:
    """A photo, uint8 (h, w, 3), its garment and the whole person, bool (h, w), and the renderer's attributes."""

    photo: np.ndarray
    garment: np.ndarray
    person: np.ndarray
    attributes: dict[str, str | float | int]


def _empty(seed: int) -> np.ndarray:
    figure = clips.sample_figure(seed)
    return np.rint(clips.studio_background(figure, HEIGHT, WIDTH) * 255).astype(np.uint8)


def worn(seed: int, frame: int = 0) -> Rendered:
    """A person before a plain background, seen from the front in frame 0."""
    clip = clips.render_clip(seed, height=HEIGHT, width=WIDTH, frame_indices=[frame])
    (photo,), (garment,) = clip.frames, clip.garment_mask
    person = np.abs(photo.astype(int) - _empty(seed)).max(axis=2) > 12
    person[: int(0.03 * HEIGHT)] = False
    person[int(0.9 * HEIGHT) :] = False  # the shadow on the floor, and the feet with it
    return Rendered(photo, garment, person | garment, clip.attributes)


def clothes_alone(seed: int) -> np.ndarray:
    """What `worn(seed)` wears, on nobody, uint8 (h, w, 3)."""
    rendered = worn(seed)
    return np.where(rendered.garment[:, :, None], rendered.photo, _empty(seed))


def laid_out(shape: str, seed: int) -> np.ndarray:
    """A garment of this outline before a light wall, a little askew, in any colour, every third one like skin."""
    random = np.random.default_rng(seed)
    points = np.array([point.split(",") for point in LAID_OUT[shape].split()], float) / 100 - 0.5
    angle = random.uniform(-0.15, 0.15)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = (points @ turn + 0.5) * [2 * WIDTH, 2 * HEIGHT]
    canvas = Image.new("L", (2 * WIDTH, 2 * HEIGHT))
    ImageDraw.Draw(canvas).polygon([(x, y) for x, y in corners], fill=255)
    cover = np.asarray(canvas.resize((WIDTH, HEIGHT)))[:, :, None] / 255
    colour = random.integers(10, 245, 3) if seed % 3 else np.array([222, 178, 146]) * random.uniform(0.35, 1.1)
    folds = 10 * np.sin(np.arange(WIDTH) / random.uniform(3, 20))[None, :, None]
    wall = random.integers(205, 250) + random.normal(0, 5, 3)
    grain = random.normal(0, 2, (HEIGHT, WIDTH, 3))
    return np.clip(wall * (1 - cover) + (colour + folds) * cover + grain, 0, 255).astype(np.uint8)


def on_canvas(pixels: np.ndarray, height: int, width: int, top: int, left: int) -> np.ndarray:
    """The picture or mask at a place of a larger one, its borders drawn out to fill the rest."""
    around = ((top, height - top - pixels.shape[0]), (left, width - left - pixels.shape[1]))
    return np.pad(pixels, around + ((0, 0),) * (pixels.ndim - 2), mode="edge")
