"""Renderer of 3-D figures: camera, visibility, light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fashionflow_core.motion.rasterizer import Triangles, rasterize
from fashionflow_core.synthetic.clips import cast_shadow
from fashionflow_core.synthetic.figure import Figure
from fashionflow_core.synthetic.figures3d.body import BodyMesh
from fashionflow_core.synthetic.figures3d.paint import Painter
from fashionflow_core.synthetic.figures3d.surface import SurfaceMesh, normals

_SHADOW_CELL = 0.006  # metres of a cell of the shadow map
_BIAS = 0.02  # tolerance in metres before a surface is in shadow


class Camera:
    """A camera at the height of the hips that looks straight ahead, with its image shifted to the figure's position.

    Args:
        figure: figure, with `size`, `centre` and `ground` in the frame.
        height: height of the body in metres.
        frame: height and width of the image.
    """

    def __init__(self, figure: Figure, height: float, frame: tuple[int, int]) -> None:
        rng = np.random.Generator(np.random.PCG64([figure.seed, 43]))
        self.frame = frame
        self.far = float(rng.uniform(3.0, 5.5)) * height
        self.level = float(rng.uniform(0.4, 0.62)) * height
        self.scale = figure.size * frame[0] / height  # pixels per metre at the axis of turning
        self.column = figure.centre * frame[1]
        self.row = figure.ground * frame[0] - self.scale * self.level

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) in metres as (..., 3): column, row and depth towards the camera, in pixels."""
        near = self.far / (self.far + points[..., 1])
        x = self.column + self.scale * points[..., 0] * near
        y = self.row - self.scale * (points[..., 2] - self.level) * near
        return np.stack([x, y, -self.scale * points[..., 1]], -1)


@dataclass(frozen=True, eq=False)
class Hits:
    """Samples of an image that show a surface.

    Attributes:
        row, column: position, int64 (n,).
        triangle: index among all triangles, int64 (n,).
        weights: weights of the triangle's corners, float64 (n, 3).
    """

    row: np.ndarray
    column: np.ndarray
    triangle: np.ndarray
    weights: np.ndarray

    def at(self, values: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Values (v,) or (v, c) at the samples."""
        corners = values[faces[self.triangle]]
        return np.einsum("nk,nk...->n...", self.weights, corners)


class Model:
    """All surfaces of a figure as one mesh.

    Attributes:
        faces: triangles, int64 (f, 3).
        coords, mask: values at vertices. part, solid, wound, surface: values of triangles.
        surfaces: given surfaces.
    """

    def __init__(self, surfaces: list[SurfaceMesh]) -> None:
        starts = np.cumsum([0] + [len(s.coords) for s in surfaces])
        self.surfaces = surfaces
        self.faces = np.concatenate([s.faces + start for s, start in zip(surfaces, starts)])
        self.coords = np.concatenate([s.coords for s in surfaces])
        self.mask = np.concatenate([s.mask for s in surfaces])
        self.part, self.solid, self.wound = (
            np.concatenate([getattr(s, name) for s in surfaces]) for name in ("part", "solid", "wound")
        )
        self.surface = np.repeat(np.arange(len(surfaces)), [len(s.faces) for s in surfaces])

    def positions(self, moment: int) -> np.ndarray:
        """float64 (v, 3), metres, at one of the surfaces' times."""
        return np.concatenate([s.positions[moment] for s in self.surfaces])


def visible(projected: np.ndarray, faces: np.ndarray, frame: tuple[int, int], scale: int = 1) -> Hits:
    """The nearest triangle at each sample.

    Args:
        projected: column, row and depth in pixels, (v, 3).
        faces: triangles, (f, 3).
        frame: height and width of the image.
        scale: samples per pixel along each axis.
    """
    x, y, z = (torch.from_numpy(np.ascontiguousarray(projected[:, k] * scale, np.float32)) for k in range(3))
    corners = torch.from_numpy(np.ascontiguousarray(faces.T))
    left = int(np.clip(np.floor(float(x.min())), 0, frame[1] * scale - 1))
    top = int(np.clip(np.floor(float(y.min())), 0, frame[0] * scale - 1))
    width = int(np.clip(np.ceil(float(x.max())) + 1, left + 1, frame[1] * scale)) - left
    height = int(np.clip(np.ceil(float(y.max())) + 1, top + 1, frame[0] * scale)) - top
    numbers = torch.arange(len(faces), dtype=torch.float32)
    triangles = Triangles(x[corners], y[corners], z[corners], corners)
    found = rasterize(triangles, torch.empty(0, len(x)), numbers, (left, top, width, height)).numpy()
    row, column = np.nonzero(found[0])
    triangle = found[1][row, column].astype(np.int64)
    row, column = row + top, column + left
    a, b, c = (projected[faces[triangle, k], :2] * scale for k in range(3))
    px, py = column + 0.5, row + 0.5
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])
    area = np.where(np.abs(area) < 1e-9, 1e-9, area)
    second = ((px - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (py - a[:, 1])) / area
    third = ((b[:, 0] - a[:, 0]) * (py - a[:, 1]) - (px - a[:, 0]) * (b[:, 1] - a[:, 1])) / area
    weights = np.clip(np.stack([1 - second - third, second, third], 1), 0, 1)
    return Hits(row, column, triangle, weights / weights.sum(1, keepdims=True))


class StudioRenderer:
    """Renderer of a figure over one background.

    Args:
        model: surfaces of the figure.
        body: body of the figure.
        figure: figure with colours and light.
        camera: camera of the scene.
        background: background, float32 (h, w, 3), sRGB 0 to 1.
        shadow: whether to draw its shadow on the floor.
    """

    def __init__(
        self, model: Model, body: BodyMesh, figure: Figure, camera: Camera, background: np.ndarray, shadow: bool
    ) -> None:
        self.model, self.body, self.figure, self.camera = model, body, figure, camera
        self.background, self.shadow = background, shadow
        self.painter = Painter(body, figure)
        right, up, front = figure.light_direction
        self.light = np.array([right, -front, up])

    def draw(self, moment: int, supersample: int = 2) -> tuple[np.ndarray, np.ndarray]:
        """Render one of the model's times.

        Returns:
            The frame, uint8 (h, w, 3), and its matte, float32 (h, w).
        """
        model, (height, width) = self.model, self.camera.frame
        points = model.positions(moment)
        hits = visible(self.camera.project(points), model.faces, self.camera.frame, supersample)
        smooth = np.concatenate([normals(s.positions[moment], s.faces) for s in model.surfaces])
        found = hits.at(np.column_stack([smooth, points, model.coords, model.mask]), model.faces)
        normal, place, coords, mask = found[:, :3], found[:, 3:6], found[:, 6:9], found[:, 9]
        normal = self._turned(normal, points, hits)
        lit = self._lit(points, place)
        colour = np.empty((len(hits.row), 3))
        half = normal @ self.light * 0.5 + 0.5
        ambient = self.figure.ambient
        # Shadows keep the ambient light and a part of the rest.
        half = half * (0.55 + 0.45 * self._softened(lit, hits, supersample))
        shade = half**2 * (1.12 - ambient) + ambient
        # Light from the floor is weaker than from the sky.
        shade *= 0.93 + 0.07 * normal[:, 2]
        owner = model.surface[hits.triangle]
        for number, surface in enumerate(model.surfaces):
            on = np.flatnonzero(owner == number)
            if len(on):
                material = surface.material
                wound = surface.wound[hits.triangle[on] - np.searchsorted(model.surface, number)]
                base, folds, sheen = self.painter.colours(material, coords[on], wound, mask[on])
                colour[on] = base * (shade[on] * folds)[:, None] + (sheen * half[on] ** 8)[:, None]
        tint = np.array(self.figure.tint)
        image = self.background.copy()
        if self.shadow:
            self._cast(points, image)
        total = np.zeros((height * width, 4), np.float64)
        index = hits.row // supersample * width + hits.column // supersample
        for k in range(3):
            total[:, k] = np.bincount(index, np.clip(colour[:, k] * tint[k], 0, 1), height * width)
        total[:, 3] = np.bincount(index, minlength=height * width)
        total = (total / supersample**2).reshape(height, width, 4)
        cover = total[..., 3:]
        image = image * (1 - cover) + total[..., :3]
        return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8), cover[..., 0].astype(np.float32)

    def _turned(self, normal: np.ndarray, points: np.ndarray, hits: Hits) -> np.ndarray:
        """Unit normals at the samples, turned towards the camera."""
        normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        a, b, c = (points[self.model.faces[:, k]] for k in range(3))
        flat = np.cross(b - a, c - a)
        view = (a + b + c) / 3 - np.array([0.0, -self.camera.far, self.camera.level])
        away = (flat * view).sum(1) > 0
        return np.where(away[hits.triangle][:, None], -normal, normal)

    def _lit(self, points: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Light at points (n, 3), float64 (n,): 1 if lit, 0 if another surface is in front."""
        forward = self.light
        side = np.cross([0.0, 0.0, 1.0], forward)
        side /= np.linalg.norm(side)
        axes = np.stack([side, np.cross(forward, side), forward], 1)
        seen = points @ axes / _SHADOW_CELL
        low = seen.min(0) - 2
        seen = seen - low
        size = np.ceil(seen.max(0)).astype(int) + 2
        seen[:, 1] = size[1] - seen[:, 1]
        hits = visible(seen, self.model.faces, (int(size[1]), int(size[0])))
        depth = np.full((size[1], size[0]), -np.inf)
        depth[hits.row, hits.column] = hits.at(seen[:, 2], self.model.faces)
        at = place @ axes / _SHADOW_CELL - low
        row = np.clip((size[1] - at[:, 1]).astype(int), 0, size[1] - 1)
        column = np.clip(at[:, 0].astype(int), 0, size[0] - 1)
        return (depth[row, column] <= at[:, 2] + _BIAS / _SHADOW_CELL).astype(np.float64)

    def _softened(self, lit: np.ndarray, hits: Hits, supersample: int) -> np.ndarray:
        """Light averaged over nearby samples, for soft shadows."""
        reach = max(1, round(0.012 * self.camera.scale * supersample))
        row, column = hits.row - hits.row.min(), hits.column - hits.column.min()
        value, weight = np.zeros((2, row.max() + 1, column.max() + 1), np.float32)
        value[row, column], weight[row, column] = lit, 1
        for axis in (0, 1):
            value, weight = _box(value, reach, axis), _box(weight, reach, axis)
        return (value / np.maximum(weight, 1e-6))[row, column]

    def _cast(self, points: np.ndarray, image: np.ndarray) -> None:
        """The figure's shadow on the floor, as for 2-D figures."""
        skin = len(self.body.vertices)
        feet = points[:skin][points[:skin, 2] < 0.05 * self.body.height]
        at = self.camera.project(feet.mean(0) * np.array([1.0, 1.0, 0.0]))
        tall = self.camera.scale * self.body.height
        cast_shadow(image, at[1], at[0], 0.13 * tall, 0.45 * self.figure.shadow)
        cast_shadow(image, at[1] - 0.002 * tall, at[0], 0.06 * tall, self.figure.shadow)


def _box(image: np.ndarray, reach: int, axis: int) -> np.ndarray:
    pad = [(reach + 1, reach) if k == axis else (0, 0) for k in (0, 1)]
    total = np.cumsum(np.pad(image, pad), axis)
    if axis == 0:
        return total[2 * reach + 1 :] - total[: -2 * reach - 1]
    return total[:, 2 * reach + 1 :] - total[:, : -2 * reach - 1]
