"""Photos of a drawn mannequin with exact matte, background and parts, of any size, for tests of the renderer."""

from dataclasses import dataclass

import numpy as np

from fashionflow_core.images.parts import ARM_LEFT, ARM_RIGHT, BACKGROUND, HEAD, LEGS, LOWER, UPPER
from fashionflow_core.motion.figure_box import GRID, FigureBox
from fashionflow_core.motion.matte import Matte
from fashionflow_core.motion.shell import Shell

# label, centre x and y, half width and half height, in heights of the photo; later ones lie in front
MANNEQUIN = (
    (LEGS, 0.345, 0.77, 0.035, 0.17),
    (LEGS, 0.455, 0.77, 0.035, 0.17),
    (LOWER, 0.40, 0.53, 0.105, 0.13),
    (UPPER, 0.40, 0.34, 0.095, 0.16),
    (HEAD, 0.40, 0.13, 0.048, 0.075),
    (ARM_LEFT, 0.288, 0.38, 0.026, 0.17),
    (ARM_RIGHT, 0.512, 0.38, 0.026, 0.17),
)
FOREARM = (ARM_LEFT, 0.37, 0.42, 0.10, 0.022)  # of an arm that crosses the body
SQUARENESS = 4  # exponent of the parts' outlines


@dataclass(frozen=True)
class Drawn:
    """A photo, uint8 (h, w, 3); matte, float32 (h, w); background, float32 (h, w, 3); labels, uint8 (h, w)."""

    photo: np.ndarray
    alpha: np.ndarray
    plate: np.ndarray
    parts: np.ndarray

    def shell(self, with_parts: bool = True, **options: object) -> Shell:
        """The renderer of this photo."""
        matte = Matte(self.alpha, self.parts if with_parts else None, True, "")
        return Shell(self.photo, matte, self.plate, self.box, **options)  # type: ignore[arg-type]

    @property
    def box(self) -> FigureBox:
        """The figure's box."""
        return FigureBox.of(self.alpha)


def drawn(
    height: int = 160,
    width: int = 128,
    shapes: tuple[tuple[float, ...], ...] = MANNEQUIN,
    shift: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    soft: float = 1.5,
) -> Drawn:
    """Draw a mannequin.

    Args:
        height, width: of the photo.
        shapes: as `MANNEQUIN`.
        shift: of the figure to the right and down, in heights; it may be cut off by the border.
        scale: of the figure.
        soft: width of its edge in pixels at 160 pixels height.
    """
    y, x = np.mgrid[:height, :width] + 0.5
    u = (x - width / 2 - shift[0] * height) / height / scale + 0.4
    v = (y - height / 2 - shift[1] * height) / height / scale + 0.5
    alpha = np.zeros((height, width))
    parts = np.full((height, width), BACKGROUND, np.uint8)
    edge = soft * height / 160
    for label, cx, cy, a, b in shapes:
        p, q = np.abs(u - cx) / a, np.abs(v - cy) / b
        radius = (p**SQUARENESS + q**SQUARENESS) ** (1 / SQUARENESS)
        slope = np.hypot(p**3 / a, q**3 / b) / np.maximum(radius, 1e-6) ** 3
        inside = (1 - radius) / np.maximum(slope, 1e-6) * height * scale  # pixels to the outline
        cover = np.clip(inside / edge + 0.5, 0, 1)
        parts[cover > 0.5] = label
        alpha = np.maximum(alpha, cover)
    hue = np.stack([100 + 60 * np.sin(9 * u + 1), 90 + 50 * np.cos(7 * v), 80 + 40 * np.sin(11 * (u + v))], -1)
    hue += 14 * (parts[..., None] % 4) * np.array([1, -1, 1])
    wall = np.stack([215 + 10 * x / width, 218 + 0 * x, 222 + 8 * y / height], -1)
    photo = alpha[..., None] * hue + (1 - alpha[..., None]) * wall
    plate = wall.astype(np.float32)
    return Drawn(np.rint(photo).clip(0, 255).astype(np.uint8), alpha.astype(np.float32), plate, parts)


def still(frames: int = 1) -> np.ndarray:
    """Channels without motion, (4, frames, 40, 32)."""
    return np.zeros((4, frames, *GRID), np.float32)


def random_motion(seed: int, frames: int = 1, amount: float = 1.0, turn: float = 0.45) -> np.ndarray:
    """Smooth random channels, (4, frames, 40, 32), as large as a strong turn with sway."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: GRID[0], : GRID[1]].astype(float)
    y, x = y / GRID[0], x / GRID[1]
    channels = np.zeros((4, *GRID))
    for channel, size in enumerate((0.05, 0.03, turn, 0.08)):
        for _ in range(3):
            fx, fy = rng.uniform(-1.2, 1.2, 2)
            channels[channel] += rng.normal() * np.sin(2 * np.pi * (fx * x + fy * y) + rng.uniform(0, 6.3))
        channels[channel] *= size / max(np.abs(channels[channel]).max(), 1e-6) * rng.uniform(0.3, 1) * amount
    growth = np.linspace(0, 1, frames) if frames > 1 else np.ones(1)
    return (channels[:, None] * growth[None, :, None, None]).astype(np.float32)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures in dB."""
    return float(10 * np.log10(255.0**2 / max(np.mean((a.astype(float) - b.astype(float)) ** 2), 1e-12)))
