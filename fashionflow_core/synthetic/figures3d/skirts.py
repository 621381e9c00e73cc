"""Skirts, dresses and coats of simulated cloth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fashionflow_core.images import parts as labels
from fashionflow_core.synthetic.figure import Figure
from fashionflow_core.synthetic.figures3d.body import BodyMesh
from fashionflow_core.synthetic.figures3d.rings import Ring, around, ring
from fashionflow_core.synthetic.figures3d.surface import FLAT, TRUNK, SurfaceMesh, grid_faces

_COLUMNS = 72
_SPACING = 0.024  # metres between rows
_PINNED = 2  # rows that are sewn to the waist
_CROTCH = 0.53  # of a 2-D figure, for which hems are given


@dataclass(frozen=True, eq=False)
class Skirt:
    """Pattern of a skirt.

    Attributes:
        rest: positions around the body at rest, float64 (rows, columns, 3).
        rings: cross-sections of the pinned rows.
        off: their distance from the skin in metres.
        closed: whether it is closed around the body.
        hem: z of the hem at rest.
    """

    rest: np.ndarray
    rings: list[Ring]
    off: float
    closed: bool
    hem: float

    @property
    def widest(self) -> float:
        """Largest half-width at rest in metres, down to the hands."""
        return float(np.abs(self.rest[: 1 + round(0.42 / _SPACING), :, 0]).max())


def skirt(body: BodyMesh, figure: Figure) -> Skirt:
    """The skirt of a figure whose clothes have one."""
    rng = np.random.Generator(np.random.PCG64([figure.seed, 35]))
    size, coat = body.size, figure.garment == "coat"
    share = float(np.clip((figure.hem_v - _CROTCH) / (1 - _CROTCH), 0.06, 0.9))
    hem = body.crotch - share * (body.crotch - body.sole)
    off = (0.022 if coat else 0.011) * size
    top = body.waist
    rows = max(8, round((top - hem) / (_SPACING * size)) + 1)
    heights = np.linspace(top, hem, rows)
    closed = not coat
    angles = np.linspace(-np.pi, np.pi, _COLUMNS, endpoint=False) if closed else np.linspace(0.02, 2 * np.pi - 0.02, 73)
    trunk = body.faces[(body.arm.sum(0)[body.faces] < 0.2).all(1)]
    rings = [ring(body.vertices, trunk, z, angles) for z in heights[:_PINNED]]
    outline = rings[0].at(body.vertices[None], off)[0]
    middle = (outline.max(0) + outline.min(0)) / 2
    start = around(outline)
    ease = 2 * np.pi * off * 1.6
    body_at = body.vertices[body.arm.sum(0) < 0.2]
    need = []
    for z in heights:
        near = body_at[np.abs(body_at[:, 2] - max(z, body.crotch)) < 0.015 * size]
        need.append(around(near) + ease)
    cone = start + 2 * np.pi * 1.25 * figure.flare * (top - heights)
    length = np.maximum(np.maximum.accumulate(need), cone)
    length[:_PINNED] = start
    # From the waist's outline to an almost circular ellipse at the hem.
    rest = np.empty((rows, len(angles), 3))
    ellipse = np.stack([np.sin(angles) * 1.08, -np.cos(angles) * 0.92], 1) * (start / (2 * np.pi))
    waves = int(rng.integers(7, 15))
    pleat = 0.25 * figure.pleats * np.cos(waves * angles + rng.uniform(0, 6.28)) * (1 if not coat else 0.2)
    for row, z in enumerate(heights):
        round_share = min(1.0, (top - z) / (0.3 * size))
        flat = (outline[:, :2] - middle[:2]) * (1 - round_share) + ellipse * round_share
        flat *= (length[row] / start) * (1 + pleat * round_share)[:, None]
        rest[row] = np.column_stack([middle[:2] + flat, np.full(len(angles), z)])
    return Skirt(rest, rings, off, closed, hem)


def hang(
    found: Skirt, body: BodyMesh, posed: np.ndarray, yaw: float, seconds: float, obstacles: list[SurfaceMesh]
) -> np.ndarray:
    """Simulate a skirt on the posed body.

    Args:
        posed: vertices of the body at each frame, float64 (t, v, 3).
        yaw: yaw of the body in the first frame, in radians.
        seconds: time between frames.
        obstacles: posed garments under it.

    Returns:
        Positions, float64 (t, rows, columns, 3).
    """
    from fashionflow_core.synthetic.figures3d.cloth import Grid, simulate

    pins = np.concatenate([r.at(posed, found.off) for r in found.rings], 1)
    count = found.rest.shape[1]
    anchor = found.rest[0].mean(0)
    c, s = np.cos(yaw), np.sin(yaw)
    turned = (found.rest - anchor) @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    start = turned + pins[0, :count].mean(0)
    start.reshape(-1, 3)[: pins.shape[1]] = pins[0]
    z = body.vertices[:, 2]
    low = (z < body.waist + 0.1 * body.size) & (body.arm.sum(0) < 0.2)
    faces = [body.faces[low[body.faces].all(1)]]
    positions = [posed]
    for surface in obstacles:
        faces.append(surface.faces + sum(p.shape[1] for p in positions))
        positions.append(surface.positions)
    grid = Grid(found.rest, found.closed)
    return simulate(grid, start, pins, np.concatenate(positions, 1), np.concatenate(faces), seconds, 0.008 * body.size)


def surface(found: Skirt, positions: np.ndarray, body: BodyMesh, material: str) -> SurfaceMesh:
    """The mesh of a simulated skirt, with a seam if it is closed."""
    rows, columns, _ = found.rest.shape
    if found.closed:
        positions = np.concatenate([positions, positions[:, :, :1]], 2)
        columns += 1
    faces = grid_faces(rows, columns)
    radius = around(found.rest[-1]) / (2 * np.pi)
    radius = min(radius, 0.2 * body.size)
    angle = np.linspace(-np.pi, np.pi, columns) if found.closed else np.linspace(0, 2 * np.pi, columns)
    across, down = np.meshgrid(angle * radius, np.linspace(body.waist, found.hem, rows))
    coords = np.stack([across, np.zeros_like(across), down], -1).reshape(-1, 3)
    count = len(faces)
    return SurfaceMesh(
        positions.reshape(len(positions), -1, 3),
        faces,
        coords,
        np.zeros(rows * columns),
        np.full(count, labels.LOWER, np.uint8),
        np.full(count, TRUNK, np.uint8),
        np.full(count, FLAT, np.uint8),
        material,
    )
