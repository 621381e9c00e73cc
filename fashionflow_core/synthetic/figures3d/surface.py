"""Triangle meshes of a figure: cuts, normals, smoothing, grids."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch

# Solids: the point behind a visible one is searched on the same solid.
TRUNK, ARMS, LEGS, HEAD = 0, (1, 2), (3, 4), 5
# Texture mapping of a surface: around trunk, arm or leg, around the head or an eyeball, or by the coordinates
# themselves.
ROUND_TRUNK, ROUND_ARM, ROUND_LEG, ON_HEAD, FLAT, EYE = range(6)


@dataclass(frozen=True, eq=False)
class SurfaceMesh:
    """A triangle mesh in motion.

    Attributes:
        positions: vertices at each time in metres, float64 (t, v, 3).
        faces: triangles, int64 (f, 3).
        coords: texture coordinates, float64 (v, 3): position at rest, or metres across and down for grids.
        mask: share of a second colour (lips), float64 (v,).
        part: indices of `images.parts.PARTS`, uint8 (f,).
        solid: solid of each triangle, uint8 (f,), such as `TRUNK`.
        wound: texture mapping of each triangle, uint8 (f,), such as `ROUND_TRUNK`.
        material: material of the surface.
    """

    positions: np.ndarray
    faces: np.ndarray
    coords: np.ndarray
    mask: np.ndarray
    part: np.ndarray
    solid: np.ndarray
    wound: np.ndarray
    material: str


@dataclass(frozen=True, eq=False)
class Cut:
    """Part of a mesh: vertices on its edges, `vertices[first] * (1 - share) + vertices[second] * share`."""

    first: np.ndarray
    second: np.ndarray
    share: np.ndarray
    faces: np.ndarray

    def at(self, values: np.ndarray) -> np.ndarray:
        """Values (..., v, c) of the mesh at the vertices of the part."""
        share = self.share[:, None]
        return values[..., self.first, :] * (1 - share) + values[..., self.second, :] * share

    def of(self, values: np.ndarray) -> np.ndarray:
        """Values (v,) of the mesh at the vertices of the part."""
        return values[self.first] * (1 - self.share) + values[self.second] * self.share


def cut(faces: np.ndarray, field: np.ndarray) -> Cut:
    """The part of a mesh where a field over its vertices is above 0; triangles on the border are divided."""
    inside = field > 0
    count = inside[faces].sum(1)
    pairs: dict[tuple[int, int], int] = {}
    kept = np.flatnonzero(inside)
    number = np.full(len(field), -1)
    number[kept] = np.arange(len(kept))
    made: list[tuple[int, ...]] = [tuple(face) for face in number[faces[count == 3]].tolist()]
    ends: list[tuple[int, int]] = []

    def on(a: int, b: int) -> int:
        key = (a, b) if a < b else (b, a)
        if key not in pairs:
            pairs[key] = len(kept) + len(ends)
            ends.append(key)
        return pairs[key]

    for face in faces[(count == 1) | (count == 2)].tolist():
        alone = int(inside[face].sum()) == 1  # the corner that differs is inside
        turn = next(i for i in range(3) if inside[face[i]] == alone)
        a, b, c = face[turn], face[(turn + 1) % 3], face[(turn + 2) % 3]
        ab, ac = on(a, b), on(a, c)
        if alone:
            made.append((int(number[a]), ab, ac))
        else:
            made += [(ab, int(number[b]), int(number[c])), (ab, int(number[c]), ac)]
    pair = np.array(ends, np.int64).reshape(-1, 2)
    low, high = field[pair[:, 0]], field[pair[:, 1]]
    share = low / np.where(low == high, 1, low - high)
    return Cut(
        np.concatenate([kept, pair[:, 0]]),
        np.concatenate([kept, pair[:, 1]]),
        np.concatenate([np.zeros(len(kept)), np.clip(share, 0, 1)]),
        np.array(made, np.int64).reshape(-1, 3),
    )


def normals(positions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals at vertices, (v, 3), the sum over faces weighted by area."""
    a, b, c = (positions[faces[:, k]] for k in range(3))
    (ux, uy, uz), (vx, vy, vz) = (b - a).T, (c - a).T
    across = (uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx)
    corners, count = faces.T.ravel(), len(positions)
    total = np.stack([np.bincount(corners, np.tile(part, 3), count) for part in across], 1)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


class Smoother:
    """Laplacian smoothing of a mesh; borders are smoothed along themselves only."""

    def __init__(self, faces: np.ndarray, count: int) -> None:
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
        edges, used = np.unique(edges, axis=0, return_counts=True)
        border = np.zeros(count, bool)
        border[edges[used == 1].ravel()] = True
        both = np.concatenate([edges, edges[:, ::-1]])
        single = np.concatenate([used == 1] * 2)
        both = both[~border[both[:, 0]] | single]
        both = both[np.lexsort((both[:, 1], both[:, 0]))]
        degree = np.bincount(both[:, 0], minlength=count)
        alone = np.flatnonzero(degree == 0)
        both = np.concatenate([both, np.stack([alone, alone], 1)])
        both = both[np.lexsort((both[:, 1], both[:, 0]))]
        degree = np.maximum(degree, 1)
        starts = torch.from_numpy(np.concatenate([[0], np.cumsum(degree)]))
        shares = torch.from_numpy(1 / degree[both[:, 0]])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that sparse layouts are in beta
            self._mean = torch.sparse_csr_tensor(starts, torch.from_numpy(both[:, 1].copy()), shares, (count, count))

    def __call__(self, values: np.ndarray, times: int, strength: float = 0.6) -> np.ndarray:
        """Values (v, ...) after some steps towards the mean of the neighbours."""
        flat = torch.from_numpy(np.ascontiguousarray(values.reshape(len(values), -1)))
        for _ in range(times):
            flat = torch.lerp(flat, self._mean @ flat, strength)
        return flat.numpy().reshape(values.shape)


def grid_faces(rows: int, columns: int) -> np.ndarray:
    """Triangles of a grid of vertices, counter-clockwise for rows that go down and columns that go right."""
    at = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (part.ravel() for part in (at[:-1, :-1], at[:-1, 1:], at[1:, :-1], at[1:, 1:]))
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
