"""Synthetic training images of the figure parser, with exact mattes and part labels.

Everything follows from the seed. Figures are posed at random times of their motion, slightly bent and stretched, placed
anywhere and cut off by the borders; images get wrinkles, shadows, other light, blur, noise and JPEG artefacts.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from fashionflow_core.images.parts import ARM_LEFT, ARM_RIGHT
from fashionflow_core.synthetic.figure import Figure, sample_figure
from fashionflow_core.synthetic.geometry import Moment
from fashionflow_core.synthetic.scenery import busy_background
from fashionflow_core.synthetic.textures import fabric_tile, sample_fabric

HEIGHT, WIDTH = 320, 256
SWAPPED = np.arange(9, dtype=np.uint8)
SWAPPED[[ARM_LEFT, ARM_RIGHT]] = ARM_RIGHT, ARM_LEFT


@dataclass(frozen=True, eq=False)
class ParserSample:
    """A training image with its labels.

    Attributes:
        photo: pixels, uint8 `(320, 256, 3)` sRGB.
        alpha: true matte, uint8 `(320, 256)`, 0..255.
        parts: labels of `PARTS`, uint8 `(320, 256)`.
        busy: whether the background is other than a plain wall.
    """

    photo: np.ndarray
    alpha: np.ndarray
    parts: np.ndarray
    busy: bool


def parser_sample(seed: int, busy: bool | None = None, hard: bool = True) -> ParserSample:
    """Draw a training image.

    Args:
        seed: random seed; determines the image.
        busy: whether the background is busy; by default drawn from the seed.
        hard: whether figures of all sizes, cut off and bent are drawn; otherwise full figures as in shop photos.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 23]))
    busy = bool(rng.random() < 0.6) if busy is None else busy
    background, extras = _background(rng, seed, busy)
    colour = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    alpha = np.zeros((HEIGHT, WIDTH), np.float32)
    parts = np.zeros((HEIGHT, WIDTH), np.uint8)
    count = int(rng.choice([0, 1, 2], p=[0.03, 0.93, 0.04])) if hard else 1
    for index in range(count):
        figure, t = _placed(rng, seed + index * 50_000_000, hard, index if count == 2 else None)
        layer = _figure_layer(rng, figure, t, hard)
        background = _grounded(rng, background, layer[1], busy)
        covered = layer[1][..., None]
        colour = colour * (1 - covered) + layer[0]
        alpha = alpha + layer[1] - alpha * layer[1]
        parts = np.where(layer[2] > 0, layer[2], parts)
    picture = colour + (1 - alpha[..., None]) * background
    picture = _photographed(rng, picture, extras if hard else False)
    return ParserSample(picture, np.rint(alpha * 255).astype(np.uint8), parts, busy)


def _placed(rng: np.random.Generator, seed: int, hard: bool, place: int | None) -> tuple[Figure, float]:
    """A figure at a position in the image and a time of its motion."""
    figure = sample_figure(seed)
    t = float(rng.uniform(0, 6))
    # Mostly near front views, as in garment photos.
    for _ in range(8):
        if np.cos(float(figure.motion.yaw(t))) > rng.uniform(-1.2, 0.95):
            break
        t = float(rng.uniform(0, 6))
    if place is not None:
        centre = 0.28 + 0.44 * place + float(rng.uniform(-0.08, 0.08))
        size = float(rng.uniform(0.5, 0.85))
        return replace(figure, size=size, centre=centre, ground=float(rng.uniform(size + 0.02, 0.98))), t
    centre = float(np.clip(rng.normal(0.5, 0.1), 0.15, 0.85))
    kind = rng.random() if hard else 0.0
    if kind < 0.62:  # full figure
        size = float(rng.uniform(0.72, 0.95)) if kind < 0.45 else float(rng.uniform(0.35, 0.75))
        ground = float(rng.uniform(min(size + 0.03, 0.98), 0.985))
    elif kind < 0.9:  # cut at the waist to the ankles
        size = float(rng.uniform(1.0, 1.9))
        ground = size + float(rng.uniform(0.01, 0.1))
    else:  # without head, or without feet and head
        size = float(rng.uniform(0.9, 1.6))
        ground = float(rng.uniform(0.8, 1.0)) if rng.random() < 0.5 else float(rng.uniform(1.0, max(size, 1.05)))
    if hard and rng.random() < 0.08:
        centre = float(rng.choice([0.02, 0.98])) + float(rng.uniform(-0.05, 0.05))
    swing = figure.motion.swing * float(rng.choice([1.0, 2.5, 4.0], p=[0.7, 0.2, 0.1]))
    return replace(figure, size=size, centre=centre, ground=ground, motion=replace(figure.motion, swing=swing)), t


def _figure_layer(
    rng: np.random.Generator, figure: Figure, t: float, hard: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Premultiplied colour 0..1, alpha 0..1 and parts of a figure only."""
    moment = Moment(figure, t, HEIGHT, WIDTH)
    frame, alpha = moment.draw(np.zeros((HEIGHT, WIDTH, 3), np.float32), 2, shadow=False)
    parts = moment.surface().part
    # Left and right are those of the image: arms swap labels in back views.
    if np.cos(float(figure.motion.yaw(t))) < 0:
        parts = SWAPPED[parts]
    colour = frame.astype(np.float32) / 255
    wrinkles = _fractal(rng, float(rng.uniform(0.8, 2.0)))
    colour = colour * np.exp(float(rng.uniform(0.0, 0.16)) * wrinkles)[..., None]
    if rng.random() < 0.08:  # garments outside the palettes
        colour = colour[..., rng.permutation(3)]
    if rng.random() < 0.5:
        colour, alpha, parts = _mirrored(colour, alpha, parts)
    if hard and rng.random() < 0.8:
        colour, alpha, parts = _bent(rng, colour, alpha, parts, float(rng.uniform(0.0, 0.035)))
    return np.minimum(colour, alpha[..., None]), alpha, parts


def _mirrored(colour: np.ndarray, alpha: np.ndarray, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return colour[:, ::-1], alpha[:, ::-1], SWAPPED[parts[:, ::-1]]


def _bent(
    rng: np.random.Generator, colour: np.ndarray, alpha: np.ndarray, parts: np.ndarray, strength: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bend by a smooth random displacement of about `strength` of the image, with slight rotation and stretch."""
    turn, shear = rng.uniform(-0.1, 0.1), rng.uniform(-0.06, 0.06)
    stretch = rng.uniform(0.9, 1.12)
    theta = torch.tensor([[[np.cos(turn) * stretch, -np.sin(turn) * 1.25, 0], [np.sin(turn) * 0.8 + shear, 1, 0]]])
    grid = F.affine_grid(theta.float(), [1, 1, HEIGHT, WIDTH], align_corners=False)
    cells = int(rng.integers(3, 8))
    bend = torch.from_numpy(rng.normal(0, strength, (1, 2, cells, cells)).astype(np.float32))
    bend = F.interpolate(bend, size=(HEIGHT, WIDTH), mode="bicubic", align_corners=True)
    grid = grid + bend.permute(0, 2, 3, 1)
    planes = torch.from_numpy(np.dstack((colour, alpha)).transpose(2, 0, 1)[None].astype(np.float32))
    # Content cut off by the border continues outside.
    moved = F.grid_sample(planes, grid, padding_mode="border", align_corners=False)[0].permute(1, 2, 0).numpy()
    labels = torch.from_numpy(parts[None, None].astype(np.float32))
    named = F.grid_sample(labels, grid, mode="nearest", padding_mode="border", align_corners=False)
    return moved[..., :3], moved[..., 3], named[0, 0].numpy().astype(np.uint8)


def _fractal(rng: np.random.Generator, falling: float, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Noise of deviation 1 with a spectrum that falls with the given power of the frequency, float32 `(h, w)`."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1 / height
    waves = rng.standard_normal(frequency.shape) + 1j * rng.standard_normal(frequency.shape)
    noise = np.fft.irfft2(waves / frequency**falling, s=(height, width))
    return ((noise - noise.mean()) / max(float(noise.std()), 1e-9)).astype(np.float32)


def _background(rng: np.random.Generator, seed: int, busy: bool) -> tuple[np.ndarray, bool]:
    """The scene without the figure, float32 `(h, w, 3)` 0..1, and whether its photo may be of low quality."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32) / HEIGHT
    if not busy:
        level = rng.uniform(0.93, 1.0) if rng.random() < 0.55 else rng.uniform(0.25, 0.95)
        wall = np.clip(level + rng.normal(0, rng.choice([0.004, 0.05]), 3), 0, 1)
        other = np.clip(wall * rng.uniform(0.85, 1.1), 0, 1)
        image = wall + (other - wall) * y[..., None] ** 2
        spot = (x - rng.uniform(0, 0.8)) ** 2 + (y - rng.uniform(0, 1)) ** 2
        image = image * (1 - rng.uniform(0, 0.18) * spot[..., None])
        if rng.random() < 0.4:
            soft = rng.choice([0.002, 0.1])
            floor = np.clip((y - rng.uniform(0.72, 0.97)) / soft, 0, 1)[..., None]
            image = image * (1 + rng.uniform(-0.12, 0.06) * floor)
        return np.clip(image, 0, 1).astype(np.float32), bool(rng.random() < 0.5)
    kind = rng.random()
    if kind < 0.4:
        image = busy_background(seed, HEIGHT, WIDTH)
    elif kind < 0.6:  # coloured noise of many scales: leaves, walls, crowds out of focus
        image = np.dstack([_fractal(rng, float(rng.uniform(0.8, 2.0))) for _ in range(3)])
        mixed = rng.uniform(0.2, 1.0)
        image = mixed * image + (1 - mixed) * image.mean(axis=2, keepdims=True)
        image = rng.uniform(0.2, 0.85, 3) + rng.uniform(0.05, 0.25) * image
    elif kind < 0.75:  # wallpaper and curtains
        tile = fabric_tile(sample_fabric(rng, 272.0))
        tile = np.tile(tile, (5, 5, 1)) if tile.shape[0] > 1 else np.tile(tile, (320, 320, 1))
        times = float(rng.uniform(0.5, 3.0))
        rows = (np.arange(HEIGHT) * times).astype(int) % tile.shape[0]
        columns = (np.arange(WIDTH) * times).astype(int) % tile.shape[1]
        image = tile[rows[:, None], columns] * rng.uniform(0.5, 1.0) + rng.uniform(0.0, 0.3)
    else:  # boards, shelves and windows over a gradient
        image = rng.uniform(0.1, 1, 3) + (rng.uniform(-0.4, 0.4, 3) * y[..., None])
        image = np.asarray(image, np.float32) + 0 * x[..., None]
    image = np.array(image, np.float32)
    if kind >= 0.4:
        for _ in range(int(rng.integers(0, 14))):
            _place_board(rng, image)
    image *= np.exp(float(rng.uniform(0, 0.2)) * _fractal(rng, float(rng.uniform(1.0, 2.2))))[..., None]
    if rng.random() < 0.35:
        image = _blurred(image, float(rng.uniform(0.5, 6)))
    return np.clip(image, 0, 1).astype(np.float32), True


def _place_board(rng: np.random.Generator, image: np.ndarray) -> None:
    """Draw a rectangle, ellipse or upright bar in any colour, including those of skin and hair, in place."""
    top, left = int(rng.uniform(-0.2, 0.95) * HEIGHT), int(rng.uniform(-0.2, 0.95) * WIDTH)
    tall, wide = (int(v) for v in np.exp(rng.uniform(np.log(4), np.log(200), 2)))
    window = (slice(max(0, top), max(0, top + tall)), slice(max(0, left), max(0, left + wide)))
    if image[window].size == 0:
        return
    colour = rng.uniform(0, 1, 3) if rng.random() < 0.6 else np.array([0.85, 0.62, 0.5]) * rng.uniform(0.25, 1.15)
    share = np.float32(rng.uniform(0.5, 1.0))
    if rng.random() < 0.35:
        rows, columns = np.arange(tall)[:, None] / tall - 0.5, np.arange(wide)[None] / wide - 0.5
        inside = ((rows**2 + columns**2) < 0.25)[max(0, -top) :, max(0, -left) :]
        inside = inside[: image[window].shape[0], : image[window].shape[1]]
        image[window] += (share * inside)[..., None] * (colour - image[window])
    else:
        image[window] += share * (colour - image[window])


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    reach = max(1, int(2.5 * sigma))
    weights = torch.from_numpy(np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32))
    weights = weights / weights.sum()
    planes = torch.from_numpy(np.ascontiguousarray(image.astype(np.float32).transpose(2, 0, 1)))[:, None]
    planes = F.conv2d(F.pad(planes, (0, 0, reach, reach), mode="replicate"), weights.reshape(1, 1, -1, 1))
    planes = F.conv2d(F.pad(planes, (reach, reach, 0, 0), mode="replicate"), weights.reshape(1, 1, 1, -1))
    return planes[:, 0].permute(1, 2, 0).numpy()


def _grounded(rng: np.random.Generator, background: np.ndarray, alpha: np.ndarray, busy: bool) -> np.ndarray:
    """Shadows on floor and wall, and the mirror image of a polished floor; none of them is part of the figure."""
    rows = np.flatnonzero(alpha.max(axis=1) > 0.5)
    if not len(rows):
        return background
    bottom = int(rows[-1]) + 1
    image = background
    if rng.random() < 0.7 and bottom < HEIGHT - 2:
        columns = np.flatnonzero(alpha[max(0, bottom - 12) : bottom].max(axis=0) > 0.5)
        centre, reach = columns.mean() + rng.uniform(-8, 8), 0.5 * len(columns) + rng.uniform(5, 40)
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        fall = ((y - bottom + rng.uniform(0, 6)) / (0.3 * reach)) ** 2 + ((x - centre) / reach) ** 2
        image = image * (1 - rng.uniform(0.05, 0.4) * np.exp(-fall))[..., None].astype(np.float32)
    if rng.random() < 0.25:  # on the wall behind
        shift = (int(rng.integers(-3, 10)), int(rng.integers(-25, 26)))
        cast = np.roll(alpha, shift, axis=(0, 1))
        cast = _blurred(cast[..., None], float(rng.uniform(2, 12)))
        image = image * (1 - rng.uniform(0.05, 0.35) * cast)
    if not busy and rng.random() < 0.3 and bottom < HEIGHT - 4:
        depth = min(HEIGHT - bottom, bottom)
        cast = np.zeros_like(alpha)
        cast[bottom : bottom + depth] = alpha[bottom - depth : bottom][::-1]
        fade = np.exp(-np.maximum(np.arange(HEIGHT) - bottom, 0) / rng.uniform(8, 60))
        tint = rng.uniform(0.5, 0.9, 3)
        cast = (rng.uniform(0.05, 0.4) * cast * fade[:, None])[..., None]
        image = image * (1 - cast) + tint * cast
    return image.astype(np.float32)


def _photographed(rng: np.random.Generator, picture: np.ndarray, poor: bool) -> np.ndarray:
    """Simulate light, lens, sensor and compression; uint8."""
    if rng.random() < 0.7:
        picture = picture * rng.uniform(0.75, 1.2) * (1 + rng.uniform(-0.07, 0.07, 3))
        picture = np.clip(picture, 0, 1) ** rng.uniform(0.75, 1.35)
    if rng.random() < 0.3:
        grey = picture.mean(axis=2, keepdims=True)
        picture = grey + rng.uniform(0.2, 1.4) * (picture - grey)
    picture = np.clip(picture, 0, 1).astype(np.float32)
    if rng.random() < 0.6:
        picture = _blurred(picture, float(rng.uniform(0.3, 1.6 if poor else 0.8)))
    picture = picture + rng.normal(0, rng.uniform(0, 0.035 if poor else 0.01), picture.shape)
    frame = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        stored = io.BytesIO()
        Image.fromarray(frame).save(stored, "JPEG", quality=int(rng.integers(25, 96)))
        frame = np.array(Image.open(stored).convert("RGB"))
    return frame
