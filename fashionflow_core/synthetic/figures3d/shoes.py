"""Shoes of 3-D figures."""

from __future__ import annotations

import numpy as np

from fashionflow_core.images import parts as labels
from fashionflow_core.synthetic.figure import Figure
from fashionflow_core.synthetic.figures3d.body import HEELS, SIDES, BodyMesh, rigid
from fashionflow_core.synthetic.figures3d.surface import LEGS, ROUND_LEG, SurfaceMesh, grid_faces

_STATIONS, _AROUND = 26, 32
_SOLE = 0.007  # metres of an adult's shoe below the foot
# Height of the opening's edge over the sole along the foot, from behind the ankle (-0.3) to the toes (1): metres.
_LOW = ((-0.4, 0.0, 0.3, 0.72, 0.9, 1.3), (0.062, 0.048, 0.034, 0.026, 0.05, 0.05))


def covered(body: BodyMesh, figure: Figure) -> np.ndarray:
    """Distance inside the area covered by shoes in metres, float64 (v,), at rest."""
    height = body.vertices[:, 2] - body.sole
    if figure.shoes == "boots":
        edge = np.full(len(height), _ankle(body) + 0.2 * body.size)
    elif figure.shoes == "sneakers":
        edge = np.full(len(height), _ankle(body) + 0.012 * body.size)
    else:
        edge = np.zeros(len(height))
        for k, (name, _) in enumerate(SIDES):
            along, _ = _foot(body, name, body.vertices)
            edge = np.where(body.leg[k] > 0.5, np.interp(along, *_LOW) * body.size, edge)
    return np.where(body.leg.sum(0) > 0.5, edge - height, -0.1)


def shoes(body: BodyMesh, figure: Figure, posed: np.ndarray) -> SurfaceMesh:
    """Both shoes on the posed body (t, v, 3)."""
    meshes, faces, coords, solids = [], [], [], []
    count = 0
    for k, (name, _) in enumerate(SIDES):
        for points, columns in _shapes(body, figure, name, k):
            bend, _ = _foot(body, name, points)
            toes = np.clip((bend - 0.72) / 0.3, 0, 1)[:, None]
            foot, front = (_moved(body, posed, points, k, which) for which in ("foot", "toe"))
            meshes.append(foot * (1 - toes) + front * toes)
            faces.append(grid_faces(len(points) // columns, columns) + count)
            coords.append(points)
            solids.append(np.full(len(faces[-1]), LEGS[k], np.uint8))
            count += len(points)
    mesh, face = np.concatenate(meshes, 1), np.concatenate(faces)
    part, wound = np.full(len(face), labels.SHOES, np.uint8), np.full(len(face), ROUND_LEG, np.uint8)
    return SurfaceMesh(mesh, face, np.concatenate(coords), np.zeros(count), part, np.concatenate(solids), wound, "shoe")


def _ankle(body: BodyMesh) -> float:
    """Height of the ankle's joint over the sole."""
    return float(body.bones["foot.L"][2] - body.sole)


def _foot(body: BodyMesh, name: str, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the way from ankle to toe joint (n,), and distance from that line in metres (n,), at rest."""
    ankle, toe = body.bones[f"foot.{name}"], body.bones[f"toe3-1.{name}"]
    along = (toe - ankle)[:2]
    length = float(np.linalg.norm(along))
    p = points[:, :2] - ankle[:2]
    return p @ along / length**2, (p[:, 0] * along[1] - p[:, 1] * along[0]) / length


def _shapes(body: BodyMesh, figure: Figure, name: str, k: int) -> list[tuple[np.ndarray, int]]:
    """Grids of points at rest, each (rows * columns, 3), with its number of columns."""
    v, size = body.vertices, body.size
    ankle, toe = body.bones[f"foot.{name}"], body.bones[f"toe3-1.{name}"]
    length = float(np.linalg.norm((toe - ankle)[:2]))
    top = _ankle(body) + (0.012 if figure.shoes in ("sneakers", "boots") else 0.0) * size
    own = v[(body.leg[k] > 0.5) & (v[:, 2] < body.sole + top)]
    along, beside = _foot(body, name, own)
    height = own[:, 2] - body.sole
    room = {"sneakers": 0.008, "boots": 0.007}.get(figure.shoes, 0.004) * size
    ends = along.min() - room / length, along.max() + 2 * room / length
    stations = ends[0] + (ends[1] - ends[0]) * (0.5 - 0.5 * np.cos(np.linspace(0, np.pi, _STATIONS)))
    reach = 0.014 * size / length
    profile = np.zeros((_STATIONS, 3))
    for i, s in enumerate(np.clip(stations, along.min() + reach / 2, along.max() - reach / 2)):
        near = np.abs(along - s) < reach
        profile[i] = beside[near].min(), beside[near].max(), height[near].max()
    for _ in range(4):
        profile[1:-1] = (profile[:-2] + 2 * profile[1:-1] + profile[2:]) / 4
    low, high, tall = profile.T
    tall = tall + room
    if figure.shoes in ("flats", "pumps"):
        tall = np.minimum(tall, np.interp(stations, *_LOW) * size)
    # Rounded ends: an ellipse over the last centimetres of heel and toe.
    tip = np.clip(np.minimum((stations - ends[0]) / 0.16, (ends[1] - stations) / 0.34), 0, 1)
    tip = np.sqrt(1 - (1 - tip) ** 2)
    turn = np.linspace(-np.pi, np.pi, _AROUND)

    def square(x: np.ndarray) -> np.ndarray:
        return np.sign(x) * np.abs(x) ** 0.6

    across = (low + high)[:, None] / 2 + ((high - low) / 2 + room)[:, None] * tip[:, None] * square(np.sin(turn))
    bottom = -_SOLE * size
    up = bottom + (tall - bottom)[:, None] * (0.5 + 0.5 * square(np.cos(turn))) * (0.35 + 0.65 * tip[:, None])
    forward = (toe - ankle)[:2] / length
    side = np.array([forward[1], -forward[0]])
    at = ankle[:2] + stations[:, None, None] * length * forward + across[..., None] * side
    shapes = [(np.concatenate([at, up[..., None] + body.sole], -1).reshape(-1, 3), _AROUND)]
    if figure.shoes == "pumps":
        # The heel leans forward at rest by the angle of the foot.
        pitch, long = HEELS["pumps"], 0.95 * np.sin(HEELS["pumps"]) * (1 - ends[0]) * length
        down = np.linspace(0, 1, 6)[:, None]
        thick = np.interp(down[:, 0], (0, 0.4, 1), (0.016, 0.008, 0.006))[:, None] * size
        middle = (low[3] + high[3]) / 2
        centre = ankle[:2] + forward * (ends[0] * length + 0.022 * size) + side * middle
        lean = forward * np.sin(pitch) * long
        ring = (
            centre
            + down[..., None] * lean
            + thick[..., None] * (np.sin(turn)[:, None] * side + np.cos(turn)[:, None] * forward)
        )
        z = body.sole + 0.006 * size - down * np.cos(pitch) * long + 0 * turn
        shapes.append((np.concatenate([ring, z[..., None]], -1).reshape(-1, 3), _AROUND))
    return shapes


def _moved(body: BodyMesh, posed: np.ndarray, points: np.ndarray, k: int, which: str) -> np.ndarray:
    """Points (n, 3) moved by foot or toes, (t, n, 3)."""
    held = np.flatnonzero((body.foot if which == "foot" else body.toes)[k] > 0.9)
    rotation, shift = rigid(body.vertices[held], posed[:, held])
    return np.einsum("tij,nj->tni", rotation, points) + shift[:, None]
