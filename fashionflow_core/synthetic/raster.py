"""Rasterizer of ellipse stacks.

In each pixel row a part is an ellipse with centre (ox, oz) and radii (rx, rz), rotated by yaw psi about the figure's
axis. The surface point at angle theta lies at `x = rx sin(theta) cos(psi) + rz cos(theta) sin(psi)
= w sin(theta + delta)` with `w = sqrt(rx^2 cos^2(psi) + rz^2 sin^2(psi))`, so a pixel's offset s in -1..1 of the
half-width gives angle, depth and normal in closed form; only sampling is approximate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TABLE = 1024  # entries of tables over the angle around a body


@dataclass(frozen=True, eq=False)
class Material:
    """Material of a surface: a tile repeated over arc length, or (`mapped`) unrolled once over the angle.

    `planes` is float32 `(3, rows * columns)`, sRGB 0..1. `sheen` scales a soft highlight. `relief` is a table over the
    angle (TABLE entries, about -1..1) of light and dark folds or strands.
    """

    planes: np.ndarray
    rows: int
    columns: int
    repeat: float = 1.0
    garment: bool = False
    mapped: bool = False
    sheen: float = 0.0
    relief: np.ndarray | None = None


def material(
    tile: np.ndarray,
    repeat: float = 1.0,
    garment: bool = False,
    mapped: bool = False,
    sheen: float = 0.0,
    relief: np.ndarray | None = None,
) -> Material:
    """A material of a tile `(rows, columns, 3)`; a colour of shape `(3,)` is a tile of one texel."""
    tile = np.asarray(tile, np.float32)
    tile = tile.reshape(1, 1, 3) if tile.ndim == 1 else tile
    rows, columns, _ = tile.shape
    planes = np.ascontiguousarray(tile.reshape(-1, 3).T)
    return Material(planes, rows, columns, repeat, garment, mapped, sheen, relief)


@dataclass(eq=False)
class Stack:
    """One part as knots along the body, `v` growing downwards (0 crown, 1 ground), all lengths in body heights.

    `yaw` is in radians and may differ by knot (a skirt that lags). `opening` removes angles nearer to the front than
    it (the face in a cap of hair). `neck` gives the half-width of the neckline at the front and at the back, where
    `bare` is visible, except straps at +-`strap`. `hem` cuts below a height, curved as a hem seen from slightly above,
    and by `wave` (amplitude, count, phase). `dark` is a factor on the light, `fold` the strength of the material's
    relief, `inside` draws the far half from within, and `span` limits the heights drawn. `part` is an index of
    `images.parts.PARTS`: the part of the stack (a dress is `UPPER` down to `split`, `LOWER` below).
    """

    v: np.ndarray
    ox: np.ndarray | float
    oz: np.ndarray | float
    rx: np.ndarray
    rz: np.ndarray
    yaw: np.ndarray | float
    material: Material
    dark: np.ndarray | float = 1.0
    fold: np.ndarray | float = 0.0
    opening: np.ndarray | None = None
    neck: tuple[np.ndarray, np.ndarray] | None = None
    strap: float | None = None
    bare: Material | None = None
    hem: float | None = None
    wave: tuple[float, float, float] = (0.0, 0.0, 0.0)
    inside: bool = False
    span: tuple[float, float] | None = None
    part: int = 0
    split: float | None = None


@dataclass(frozen=True)
class Light:
    """Direction to the light (unit vector: right, up, towards the camera), ambient share, and tint as RGB factors."""

    direction: tuple[float, float, float]
    ambient: float
    tint: tuple[float, float, float]


class Canvas:
    """Colour, depth and garment label at the supersampled size; `draw` adds stacks, `resolve` averages down."""

    def __init__(self, height: int, width: int, scale: int, light: Light, pitch: float) -> None:
        self.scale = scale
        self.shape = (height * scale, width * scale)
        self.colour = np.zeros((3, *self.shape), np.float32)
        self.depth = np.full(self.shape, -np.inf, np.float32)
        self.label = np.zeros(self.shape, np.float32)
        self.light = light
        self.pitch = pitch
        self.columns = np.arange(self.shape[1], dtype=np.float32) + 0.5
        self.clear()

    def clear(self) -> None:
        """Clear the canvas; only the touched box is reset."""
        if hasattr(self, "box"):
            top, bottom, left, right = self.box
            self.colour[:, top:bottom, left:right] = 0
            self.depth[top:bottom, left:right] = -np.inf
            self.label[top:bottom, left:right] = 0
        self.box = (self.shape[0], 0, self.shape[1], 0)

    def draw(self, stack: Stack, body: float, ground: float, axis: float) -> None:
        """Draw a stack; `body` (the figure's height), `ground` (row of v = 1), `axis` (column of x = 0) are pixels."""
        knots = stack.v
        low, high = (knots[0], knots[-1]) if stack.span is None else stack.span
        low, high = max(low, knots[0]), min(high, knots[-1])
        first = max(0, int(np.ceil(ground + (low - 1) * body - 0.5)))
        last = min(self.shape[0], int(np.ceil(ground + (high - 1) * body - 0.5)))
        if last <= first:
            return
        v = (np.arange(first, last) + 0.5 - ground) / body + 1

        def rows(value: np.ndarray | float) -> np.ndarray:
            if isinstance(value, np.ndarray):
                return np.interp(v, knots, value)
            return np.full_like(v, value)

        ox, oz, yaw = rows(stack.ox), rows(stack.oz), rows(stack.yaw)
        rx, rz = np.maximum(rows(stack.rx), 1e-4), np.maximum(rows(stack.rz), 1e-4)
        sin, cos = np.sin(yaw), np.cos(yaw)
        w = np.sqrt((rx * cos) ** 2 + (rz * sin) ** 2)
        centre, deep = ox * cos + oz * sin, oz * cos - ox * sin
        left = max(0, int(np.floor(np.min(centre - w) * body + axis)))
        right = min(self.shape[1], int(np.ceil(np.max(centre + w) * body + axis)) + 1)
        if right <= left:
            return

        def col(value: np.ndarray) -> np.ndarray:
            return value.astype(np.float32)[:, None]

        s = (self.columns[left:right] - col(centre * body + axis)) * col(1 / (w * body))
        c = 1 - s * s
        keep = c > 0
        np.sqrt(np.maximum(c, 0, out=c), out=c)
        if stack.inside:
            c *= -1
        relief = s * col((rz**2 - rx**2) * sin * cos / w) + c * col(rx * rz / w)
        z = relief + col(deep)
        window = (slice(first, last), slice(left, right))
        keep &= z > self.depth[window]
        stuff = stack.material
        mixed = stuff.rows * stuff.columns > 1
        theta = None
        if mixed or stack.opening is not None or stuff.relief is not None or stack.wave[0]:
            theta = np.arcsin(np.clip(s, -1, 1))
            if stack.inside:
                theta = np.pi - theta
            theta -= col(np.arctan2(rz * sin, rx * cos))
        height = col(v) - self.pitch * relief
        if theta is not None and (stack.opening is not None or stuff.mapped or stuff.relief is not None):
            theta = (theta + np.float32(3 * np.pi)) % np.float32(2 * np.pi) - np.float32(np.pi)
        if stack.opening is not None and theta is not None:
            keep &= np.abs(theta) > col(rows(stack.opening))
        if stack.hem is not None:
            edge = np.float32(stack.hem)
            if stack.wave[0] and theta is not None:
                edge = edge + np.float32(stack.wave[0]) * np.cos(theta * np.float32(stack.wave[1]) + stack.wave[2])
            keep &= height < edge
        if not keep.any():
            return

        planes = stuff.planes
        index = None
        if mixed and theta is not None:
            if stuff.mapped:
                iu = ((theta + np.float32(np.pi)) * np.float32(stuff.columns / (2 * np.pi))).astype(np.int32)
                iv = (col((v - knots[0]) / (knots[-1] - knots[0])) * np.float32(stuff.rows)).astype(np.int32)
                index = np.clip(iv, 0, stuff.rows - 1) * stuff.columns + np.clip(iu, 0, stuff.columns - 1)
            else:
                # Both sizes are powers of two; the offset keeps truncation a floor.
                per = stuff.columns / stuff.repeat
                iu = (theta * col((rx + rz) * 0.5 * per) + np.float32(64 * stuff.columns)).astype(np.int32)
                iv = (height * np.float32(stuff.rows / stuff.repeat) + np.float32(64 * stuff.rows)).astype(np.int32)
                index = (iv & (stuff.rows - 1)) * stuff.columns + (iu & (stuff.columns - 1))

        shade = self._shade(s, c, rx, rz, sin, cos, col(np.gradient(w, v) if len(v) > 1 else w * 0), stuff.sheen)
        if stuff.relief is not None and theta is not None:
            entry = ((theta + np.float32(np.pi)) * np.float32(TABLE / (2 * np.pi))).astype(np.int32) & (TABLE - 1)
            shade *= 1 + col(rows(stack.fold)) * stuff.relief[entry]
        if isinstance(stack.dark, np.ndarray) or stack.dark != 1.0:
            shade *= col(rows(stack.dark))
        if stack.inside:
            shade *= np.float32(0.6)

        bare = None
        if stack.neck is not None:
            front, back = (col(rows(part)) for part in stack.neck)
            across = np.abs(s * col(rx * rx * cos / w) - c * col(rx * rz * sin / w))
            facing = c * col(rx * cos / w) + s * col(rz * sin / w) > 0
            bare = across < np.where(facing, front, back)
            if stack.strap is not None:
                bare &= np.abs(across - np.float32(stack.strap)) > np.float32(0.0075)
        for plane in range(3):
            value = planes[plane, 0] if index is None else planes[plane].take(index)
            if bare is not None and stack.bare is not None:
                value = np.where(bare, stack.bare.planes[plane, 0], value)
            np.copyto(self.colour[plane][window], value * (shade * np.float32(self.light.tint[plane])), where=keep)
        np.copyto(self.depth[window], z, where=keep)
        if bare is not None:
            np.copyto(self.label[window], np.float32(stuff.garment) * ~bare, where=keep)
        else:
            np.copyto(self.label[window], np.float32(stuff.garment), where=keep)
        box = self.box
        self.box = (min(box[0], first), max(box[1], last), min(box[2], left), max(box[3], right))

    def _shade(
        self,
        s: np.ndarray,
        c: np.ndarray,
        rx: np.ndarray,
        rz: np.ndarray,
        sin: np.ndarray,
        cos: np.ndarray,
        slope: np.ndarray,
        sheen: float,
    ) -> np.ndarray:
        """Half-Lambert light on the ellipses' exact normals; `slope` is how fast the half-width grows downwards."""

        def col(value: np.ndarray) -> np.ndarray:
            return value.astype(np.float32)[:, None]

        right, up, front = (np.float32(value) for value in self.light.direction)
        # Normal of the turned ellipse: (s + q c, up, p c), not yet of unit length.
        nx = s + c * col(sin * cos * (rx / rz - rz / rx))
        nz = c * col(sin**2 * rz / rx + cos**2 * rx / rz)
        ny = np.clip(slope, -1.2, 1.2)
        length = np.sqrt(nx * nx + nz * nz + ny * ny) + np.float32(1e-6)
        half = (right * nx + up * ny + front * nz) / length * np.float32(0.5) + np.float32(0.5)
        half *= half
        ambient = np.float32(self.light.ambient)
        shade = half * (np.float32(1.12) - ambient) + ambient
        if sheen:
            shade += np.float32(sheen) * half**8
        return shade

    def resolve(self, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Average down and composite the figure over `background`, float32 `(h, w, 3)` in 0..1, which is overwritten.

        Returns:
            The frame, uint8 `(h, w, 3)`, and the garment mask, bool `(h, w)`: garment over at least half of the pixel.
        """
        n = self.scale
        mask = np.zeros(background.shape[:2], bool)
        top, bottom, left, right = self.box
        if bottom > top and right > left:
            top, left = top // n, left // n
            bottom, right = -(-bottom // n), -(-right // n)
            big = (slice(top * n, bottom * n), slice(left * n, right * n))
            small = (slice(top, bottom), slice(left, right))
            cover = self._down((self.depth[big] > -np.inf).astype(np.float32))
            for plane in range(3):
                target = background[..., plane][small]
                target *= 1 - cover
                target += self._down(np.minimum(self.colour[plane][big], 1))
            mask[small] = self._down(self.label[big]) >= 0.5
        frame = np.clip(background * np.float32(255) + np.float32(0.5), 0, 255).astype(np.uint8)
        return frame, mask

    def _down(self, image: np.ndarray) -> np.ndarray:
        n = self.scale
        if n == 1:
            return image
        total = image[0::n, 0::n].copy()
        for i in range(n):
            for j in range(n):
                if i or j:
                    total += image[i::n, j::n]
        return total * np.float32(1 / (n * n))
