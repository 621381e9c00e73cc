"""Hair: a cap on the scalp, curtains of cloth, tails and buns."""

from __future__ import annotations

import numpy as np

from fashionflow_core.images import parts as labels
from fashionflow_core.synthetic.figure import Figure
from fashionflow_core.synthetic.figures3d.body import BodyMesh, rigid
from fashionflow_core.synthetic.figures3d.rings import ring
from fashionflow_core.synthetic.figures3d.surface import (
    FLAT,
    HEAD,
    ON_HEAD,
    Smoother,
    SurfaceMesh,
    cut,
    grid_faces,
    normals,
)

_COLUMNS, _SPACING = 44, 0.022
# Height over the eyes by depth behind them, metres: forehead, temples, in front of the ears, behind them, nape.
_HAIRLINE = ((-0.03, 0.0, 0.03, 0.055, 0.075, 0.11, 0.14), (0.066, 0.056, 0.03, -0.012, 0.014, -0.05, -0.075))
_VOLUME = {"short": 0.011, "bob": 0.016, "long": 0.014, "afro": 0.055, "bun": 0.006, "ponytail": 0.006}


def hangs(figure: Figure) -> bool:
    """Whether hair is simulated."""
    return figure.hair in ("long", "bob")


def head_size(body: BodyMesh) -> float:
    """Factor on lengths of an adult's head."""
    return float((body.crown - body.bones["head"][2]) / 0.155)


def scalp(body: BodyMesh) -> np.ndarray:
    """Distance inside the hairline in metres, float64 (v,): from the forehead above the ears to the nape."""
    v, size = body.vertices, head_size(body)
    eye = body.bones["eye.L"]
    z, x = (v[:, 2] - eye[2]) / size, np.abs(v[:, 0]) / size
    ahead = (v[:, 1] - eye[1]) / size  # 0 at the eyes, grows towards the back
    line = np.interp(ahead, *_HAIRLINE)
    line = line + 0.012 * np.clip(x / 0.05, 0, 1) * (ahead < 0.03)
    ear = np.hypot((ahead - 0.092) / 0.026, (z + 0.012) / 0.036) - 1  # below 0 on the ear
    field = np.minimum((z - line) * size, np.where(x > 0.064, ear * 0.03 * size, 1.0))
    return np.where(body.head > 0.5, field, -0.05)


def cap(body: BodyMesh, figure: Figure, posed: np.ndarray) -> SurfaceMesh:
    """The hair on the head."""
    field = scalp(body)
    found = cut(body.faces, field)
    count, size = len(found.first), head_size(body)
    inside = found.of(field)
    smoother = Smoother(found.faces, count)
    volume = _VOLUME[figure.hair] * size
    offset = smoother(volume * np.clip(inside / (1.6 * volume + 0.004), 0.12, 1) ** 0.6, 6)
    skin = found.at(posed)
    outward = smoother(np.stack([normals(at, found.faces) for at in skin], 1), 12)
    outward /= np.maximum(np.linalg.norm(outward, axis=2, keepdims=True), 1e-9)
    positions = (smoother(skin.transpose(1, 0, 2), 3) + outward * offset[:, None, None]).transpose(1, 0, 2)
    return _surface(positions, found.faces, found.at(body.vertices), ON_HEAD)


def _surface(positions: np.ndarray, faces: np.ndarray, coords: np.ndarray, wound: int) -> SurfaceMesh:
    part, solid, winding = (np.full(len(faces), kind, np.uint8) for kind in (labels.HAIR, HEAD, wound))
    return SurfaceMesh(positions, faces, coords, np.zeros(len(coords)), part, solid, winding, "hair")


def tied(body: BodyMesh, figure: Figure, posed: np.ndarray, yaw: np.ndarray) -> list[SurfaceMesh]:
    """A bun, or a tail that lags behind the head; nothing for other hair.

    Args:
        posed: posed vertices, float64 (t, v, 3).
        yaw: lag of the tail's end behind the head in radians, (t,).
    """
    if figure.hair not in ("bun", "ponytail"):
        return []
    size = head_size(body)
    rng = np.random.Generator(np.random.PCG64([figure.seed, 37]))
    head = np.flatnonzero(body.head > 0.98)
    rest = body.vertices[head]
    back = np.array([0.0, rest[:, 1].max(), body.bones["eye.L"][2] + float(rng.uniform(0.01, 0.07)) * size])
    rotation, shift = rigid(rest, posed[:, head])
    rows, columns = 18, 24
    across = np.linspace(-np.pi, np.pi, columns)
    if figure.hair == "bun":
        radius = float(rng.uniform(0.032, 0.045)) * size
        down = np.linspace(0, np.pi, rows)
        ball = np.stack(
            [
                np.sin(down)[:, None] * np.sin(across),
                -np.sin(down)[:, None] * np.cos(across),
                np.cos(down)[:, None] * np.ones(columns),
            ],
            -1,
        )
        mesh = np.tile(ball * radius + back + [0, 0.4 * radius, 0], (len(posed), 1, 1, 1))
    else:
        length = float(rng.uniform(0.2, 0.34)) * size
        down = np.linspace(0, 1, rows)
        thick = np.interp(down, (0, 0.08, 0.3, 0.8, 1), (0.012, 0.02, 0.03, 0.022, 0.003)) * size
        # Out from the head, over in an arc, then down past the neck.
        y = back[1] + (0.01 + 0.05 * np.sin(np.minimum(down * 2.2, 1) * np.pi / 2) + 0.03 * down) * size
        z = back[2] + 0.01 * size - length * np.maximum(down - 0.1, 0)
        mesh = np.empty((len(posed), rows, columns, 3))
        for t in range(len(posed)):
            lag = float(yaw[t]) * down
            x = np.sin(lag) * 0.6 * length * down
            mesh[t, ..., 0] = x[:, None] + thick[:, None] * np.sin(across)
            mesh[t, ..., 1] = y[:, None] - 0.8 * thick[:, None] * np.cos(across)
            mesh[t, ..., 2] = z[:, None]
    flat = mesh.reshape(len(posed), -1, 3)
    positions = np.einsum("tij,tnj->tni", rotation, flat) + shift[:, None]
    grid = np.meshgrid(across * 0.04, np.linspace(0.3, 0, rows))
    coords = np.stack([grid[0], np.zeros_like(grid[0]), grid[1]], -1).reshape(-1, 3)
    return [_surface(positions, grid_faces(rows, columns), coords, FLAT)]


def hang(body: BodyMesh, figure: Figure, posed: np.ndarray, yaw: float, seconds: float) -> SurfaceMesh:
    """Long hair and bobs: a curtain from temple to temple around the back of the head, simulated as cloth.

    Args:
        posed: vertices of the body at each frame, float64 (t, v, 3).
        yaw: yaw of the head in the first frame, in radians.
        seconds: time between frames.
    """
    from fashionflow_core.synthetic.figures3d.cloth import Grid, simulate

    rng = np.random.Generator(np.random.PCG64([figure.seed, 39]))
    size, eye = head_size(body), body.bones["eye.L"]
    top = eye[2] + 0.045 * size
    skull = body.faces[(body.head[body.faces] > 0.9).all(1)]
    reach = float(rng.uniform(1.75, 2.05))
    angles = np.linspace(np.pi - reach, np.pi + reach, _COLUMNS)
    share = float(rng.uniform(0.215, 0.3)) if figure.hair == "long" else float(rng.uniform(0.135, 0.165))
    low = body.crown - share * body.height - (0.04 * size if figure.hair == "bob" else 0)
    rows = max(6, round((top - low) / (_SPACING * size)) + 1)
    heights = np.linspace(top, low, rows)
    rings = [ring(body.vertices, skull, z, angles) for z in (top + 0.012 * size, top)]
    off = 0.017 * size
    pins = np.concatenate([r.at(posed, off) for r in rings], 1)
    first = rings[1].at(body.vertices[None], off)[0]
    rest = np.repeat(first[None], rows, 0)
    rest[:, :, 2] = heights[:, None]
    rest[0] = rings[0].at(body.vertices[None], off)[0]
    c, s = np.cos(yaw), np.sin(yaw)
    anchor = first.mean(0)
    # It starts spread outwards, so that it falls on the shoulders from outside.
    down = (top - np.minimum(rest[..., 2:], top)) * np.array([1.0, 1.0, 0.0])
    outward = (rest - anchor) * np.array([1.0, 1.0, 0.0])
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    flung = rest + 0.9 * down * outward
    flung[..., 2] = top - 0.44 * (top - rest[..., 2])
    start = (flung - anchor) @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + pins[0, _COLUMNS:].mean(0)
    start.reshape(-1, 3)[: pins.shape[1]] = pins[0]
    z = body.vertices[:, 2]
    near = (z > low - 0.12 * size) & (body.arm.sum(0) < 0.6)
    grid = Grid(rest, closed=False)
    found = simulate(grid, start, pins, posed, body.faces[near[body.faces].all(1)], seconds, 0.019 * size, drag=3.0)
    across, down = np.meshgrid((angles - np.pi) * 0.09 * size, heights)
    coords = np.stack([across, np.zeros_like(across), down], -1).reshape(-1, 3)
    return _surface(found.reshape(len(found), -1, 3), grid_faces(rows, _COLUMNS), coords, FLAT)
