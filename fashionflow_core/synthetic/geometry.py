"""Exact geometry of a 2-D figure: surface points, parts, positions over time.

The rasterizer (`raster.Canvas`) returns colours; here the same closed forms give the points. A surface point is
identified by (stack, knot, angle): index of the part's stack, position along its knots, and angle around its ellipse.
Stacks keep their index and knots over a clip, so the identity holds at every time. Lengths are body heights, x
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fashionflow_core.images import parts as labels
from fashionflow_core.synthetic.body import figure_stacks
from fashionflow_core.synthetic.clips import cast_shadow
from fashionflow_core.synthetic.figure import Figure
from fashionflow_core.synthetic.limbs import FEET_PITCH
from fashionflow_core.synthetic.raster import Canvas, Light, Stack
from fashionflow_core.synthetic.wardrobe import Wardrobe

_NECK = 0.163  # an adult's height on the body down to which the trunk's skin counts as neck
_SWEEPS = 2  # fixed-point steps for the image row of a surface point; the camera's pitch is at most 0.13


@dataclass(frozen=True, eq=False)
class Surface:
    """The visible surface point at each pixel.

    Attributes:
        stack: index of the stack, int16 (h, w); -1 outside the figure.
        knot: position along the stack's knots, float32 (h, w).
        angle: angle around the ellipse in radians, float32 (h, w); 0 is the body's front.
        depth: z in body heights, float32 (h, w); -inf outside the figure.
        part: indices of `images.parts.PARTS`, uint8 (h, w).
        lining: mask of cloth seen from the inside, bool (h, w).
    """

    stack: np.ndarray
    knot: np.ndarray
    angle: np.ndarray
    depth: np.ndarray
    part: np.ndarray
    lining: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """bool (h, w), true on the figure."""
        return self.stack >= 0

    def points(self, where: np.ndarray | None = None) -> Points:
        """The points at the pixels of a mask, (h, w) and within `seen`, row by row; None: at all of `seen`."""
        at = self.seen if where is None else where
        return Points(self.stack[at], self.knot[at].astype(np.float64), self.angle[at].astype(np.float64))


@dataclass(frozen=True, eq=False)
class Points:
    """Surface points by identity: stack int16 (n,), knot and angle float64 (n,)."""

    stack: np.ndarray
    knot: np.ndarray
    angle: np.ndarray


@dataclass(frozen=True, eq=False)
class Places:
    """Positions of surface points, each float64 (n,).

    Attributes:
        x, y: column and row in pixels of the frame.
        z: depth in body heights.
        facing: above 0 if the surface faces the camera.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    facing: np.ndarray


class Moment:
    """A figure `t` seconds into its motion, in a frame of `height` x `width` pixels.

    Args:
        figure: figure, with `centre`, `ground` and `size` in the frame; parts may be outside.
        t: time in seconds.
        height, width: size of the frame.
        wardrobe: `Wardrobe(figure)`, if already computed.
    """

    def __init__(self, figure: Figure, t: float, height: int, width: int, wardrobe: Wardrobe | None = None) -> None:
        self.figure, self.height, self.width = figure, height, width
        self.wardrobe = wardrobe or Wardrobe(figure)
        self.stacks = figure_stacks(self.wardrobe, t)
        self.body = figure.size * height  # pixels of a body height
        self.ground = figure.ground * height - FEET_PITCH * 0.06 * self.body  # row of v = 1
        self.axis = figure.centre * width + float(figure.motion.shift(t)) * self.body  # column of x = 0

    def surface(self) -> Surface:
        """The visible surface at the centre of each pixel."""
        shape = (self.height, self.width)
        found = Surface(
            np.full(shape, -1, np.int16),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
            np.full(shape, -np.inf, np.float32),
            np.zeros(shape, np.uint8),
            np.zeros(shape, bool),
        )
        for number, stack in enumerate(self.stacks):
            self._scan(number, stack, found)
        return found

    def _scan(self, number: int, stack: Stack, found: Surface) -> None:
        """Draw a stack into `found` with a depth test, as in `Canvas.draw`."""
        knots, body, pitch = stack.v, self.body, self.figure.pitch
        low, high = (knots[0], knots[-1]) if stack.span is None else stack.span
        low, high = max(low, knots[0]), min(high, knots[-1])
        first = max(0, int(np.ceil(self.ground + (low - 1) * body - 0.5)))
        last = min(self.height, int(np.ceil(self.ground + (high - 1) * body - 0.5)))
        if last <= first:
            return
        v = (np.arange(first, last) + 0.5 - self.ground) / body + 1
        rows = _Ellipses(stack, v)
        left = max(0, int(np.floor(np.min(rows.centre - rows.w) * body + self.axis)))
        right = min(self.width, int(np.ceil(np.max(rows.centre + rows.w) * body + self.axis)) + 1)
        if right <= left:
            return
        s = (np.arange(left, right) + 0.5 - (rows.centre * body + self.axis)[:, None]) / (rows.w * body)[:, None]
        c = np.sqrt(np.maximum(1 - s * s, 0)) * (-1 if stack.inside else 1)
        relief = s * rows.along[:, None] + c * rows.across[:, None]
        z = relief + rows.deep[:, None]
        window = (slice(first, last), slice(left, right))
        keep = (1 - s * s > 0) & (z > found.depth[window])
        angle = np.arcsin(np.clip(s, -1, 1))
        if stack.inside:
            angle = np.pi - angle
        angle = (angle - rows.delta[:, None] + 3 * np.pi) % (2 * np.pi) - np.pi
        height = v[:, None] - pitch * relief
        if stack.opening is not None:
            keep &= np.abs(angle) > np.interp(v, knots, stack.opening)[:, None]
        if stack.hem is not None:
            amplitude, count, phase = stack.wave
            keep &= height < stack.hem + amplitude * np.cos(angle * count + phase)
        if not keep.any():
            return
        # A mapped material (the face) is fixed to image rows, all others to the tilted body.
        along = np.broadcast_to(v[:, None], s.shape) if stack.material.mapped else height
        found.stack[window][keep] = number
        found.knot[window][keep] = np.interp(along[keep], knots, np.arange(len(knots)))
        found.angle[window][keep] = angle[keep]
        found.depth[window][keep] = z[keep]
        found.lining[window][keep] = stack.inside
        found.part[window][keep] = self._parts(stack, v, angle, along)[keep]

    def _parts(self, stack: Stack, v: np.ndarray, angle: np.ndarray, along: np.ndarray) -> np.ndarray:
        part = np.full(angle.shape, stack.part, np.uint8)
        if stack.split is not None:
            part[along >= stack.split] = labels.LOWER
        neck = float(self.wardrobe.place(_NECK))
        if stack.neck is not None:  # as Canvas.draw: skin within the neckline, between straps
            front, back = (np.interp(v, stack.v, cut)[:, None] for cut in stack.neck)
            across = np.abs(np.interp(v, stack.v, stack.rx)[:, None] * np.sin(angle))
            bare = across < np.where(np.cos(angle) > 0, front, back)
            part[bare & (along < neck)] = labels.HEAD
        elif stack.material is self.wardrobe.skin and stack.part == labels.UPPER:
            part[along < neck] = labels.HEAD
        return part

    def places(self, points: Points) -> Places:
        """Positions of surface points at this time, visible or not, possibly outside the frame."""
        n = len(points.stack)
        found = Places(np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n))
        body, pitch = self.body, self.figure.pitch
        for number in np.unique(points.stack):
            at = np.flatnonzero(points.stack == number)
            stack = self.stacks[number]
            height = np.interp(points.knot[at], np.arange(len(stack.v)), stack.v)
            rows, s, c = self._on(stack, height, points.angle[at])
            relief, v = s * rows.along + c * rows.across, height
            if not stack.material.mapped:
                for _ in range(_SWEEPS):  # the image row depends on the point's depth there
                    v = height + pitch * relief
                    rows, s, c = self._on(stack, v, points.angle[at])
                    relief = s * rows.along + c * rows.across
            found.x[at] = (rows.centre + rows.w * s) * body + self.axis
            found.y[at] = self.ground + (v - 1) * body
            found.z[at] = relief + rows.deep
            found.facing[at] = -c if stack.inside else c
        return found

    def _on(self, stack: Stack, v: np.ndarray, angle: np.ndarray) -> tuple[_Ellipses, np.ndarray, np.ndarray]:
        """Cross-sections at the rows `v`, and sine and cosine of the angle to the camera there."""
        rows = _Ellipses(stack, v)
        return rows, np.sin(angle + rows.delta), np.cos(angle + rows.delta)

    def behind(self, points: Points) -> Points:
        """The point directly behind each one at this time, on the far side of the same stack."""
        angle = np.empty_like(points.angle)
        for number in np.unique(points.stack):
            at = np.flatnonzero(points.stack == number)
            stack = self.stacks[number]
            delta = _Ellipses(stack, np.interp(points.knot[at], np.arange(len(stack.v)), stack.v)).delta
            angle[at] = np.pi - points.angle[at] - 2 * delta
        return Points(points.stack, points.knot, angle)

    def draw(self, background: np.ndarray, supersample: int = 2, shadow: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Render over a background.

        Args:
            background: background, float32 (h, w, 3), 0 to 1; not modified.
            supersample: factor of supersampling of the figure.
            shadow: whether to draw the figure's shadow on the floor.

        Returns:
            The frame, uint8 (h, w, 3), and its true matte, float32 (h, w), 0 to 1.
        """
        figure = self.figure
        canvas = Canvas(
            self.height,
            self.width,
            supersample,
            Light(figure.light_direction, figure.ambient, figure.tint),
            figure.pitch,
        )
        image = background.astype(np.float32, copy=True)
        if shadow:
            cast_shadow(image, self.ground + 0.01 * self.body, self.axis, 0.13 * self.body, 0.45 * figure.shadow)
            cast_shadow(image, self.ground + 0.008 * self.body, self.axis, 0.06 * self.body, figure.shadow)
        for stack in self.stacks:
            canvas.draw(stack, self.body * supersample, self.ground * supersample, self.axis * supersample)
        frame, _ = canvas.resolve(image)
        covered = (canvas.depth > -np.inf).reshape(self.height, supersample, self.width, supersample)
        return frame, covered.mean(axis=(1, 3), dtype=np.float32)


class _Ellipses:
    """Cross-sections of a stack at heights `v`; see `raster` for the formulas."""

    def __init__(self, stack: Stack, v: np.ndarray) -> None:
        ox, oz, yaw = _at(stack, v, stack.ox), _at(stack, v, stack.oz), _at(stack, v, stack.yaw)
        rx, rz = np.maximum(_at(stack, v, stack.rx), 1e-4), np.maximum(_at(stack, v, stack.rz), 1e-4)
        sin, cos = np.sin(yaw), np.cos(yaw)
        self.w = np.sqrt((rx * cos) ** 2 + (rz * sin) ** 2)  # half-width in the image
        self.centre, self.deep = ox * cos + oz * sin, oz * cos - ox * sin  # x and z of the axis
        self.along, self.across = (rz**2 - rx**2) * sin * cos / self.w, rx * rz / self.w  # z = s along + c across
        self.delta = np.arctan2(rz * sin, rx * cos)  # x = w sin(angle + delta)


def _at(stack: Stack, v: np.ndarray, value: np.ndarray | float) -> np.ndarray:
    return np.interp(v, stack.v, value) if isinstance(value, np.ndarray) else np.full(v.shape, float(value))


def surface(figure: Figure, t: float, height: int, width: int) -> Surface:
    """The visible surface of a figure at each pixel; see `Moment.surface`."""
    return Moment(figure, t, height, width).surface()
