"""Cross-sections of the posed body, as attachments of cloth and hair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Ring:
    """Points on the skin, each interpolated from four vertices.

    Attributes:
        vertices: vertex indices, int64 (n, 4).
        weights: weights with sum 1, float64 (n, 4).
    """

    vertices: np.ndarray
    weights: np.ndarray

    def at(self, posed: np.ndarray, off: float) -> np.ndarray:
        """Positions (t, n, 3) for posed vertices (t, v, 3), offset outwards from the ring's middle in metres."""
        points = np.einsum("nk,tnkc->tnc", self.weights, posed[:, self.vertices])
        middle = points.mean(1, keepdims=True)
        outward = points - middle
        outward[..., 2] = 0
        return points + outward / np.maximum(np.linalg.norm(outward, axis=-1, keepdims=True), 1e-9) * off


def ring(vertices: np.ndarray, faces: np.ndarray, height: float, angles: np.ndarray) -> Ring:
    """The outline of a mesh at a height, at angles from the front (-y) towards +x around its middle.

    Args:
        vertices: vertices, float64 (v, 3).
        faces: triangles to cut, int64 (f, 3).
        height: z in metres.
        angles: angles in radians, (n,); may exceed one turn.
    """
    edges = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1), axis=0)
    low, high = vertices[edges[:, 0], 2] - height, vertices[edges[:, 1], 2] - height
    crossed = (low > 0) != (high > 0)
    edges, share = edges[crossed], (low / np.where(low == high, 1, low - high))[crossed]
    points = vertices[edges[:, 0]] * (1 - share[:, None]) + vertices[edges[:, 1]] * share[:, None]
    middle = (points.max(0) + points.min(0)) / 2
    found = np.arctan2(points[:, 0] - middle[0], middle[1] - points[:, 1])
    order = np.argsort(found)
    found, edges, share = found[order], edges[order], share[order]
    wanted = (np.asarray(angles) + np.pi) % (2 * np.pi) - np.pi
    after = np.searchsorted(found, wanted) % len(found)
    before = after - 1
    gap = (found[after] - found[before]) % (2 * np.pi)
    mix = ((wanted - found[before]) % (2 * np.pi)) / np.maximum(gap, 1e-9)
    mix = np.clip(mix, 0, 1)
    a, b = share[before], share[after]
    weights = np.stack([(1 - a) * (1 - mix), a * (1 - mix), (1 - b) * mix, b * mix], 1)
    return Ring(np.concatenate([edges[before], edges[after]], 1), weights)


def around(points: np.ndarray) -> float:
    """Perimeter of the ellipse with the extent of points (n, 2 or 3) across and in depth."""
    a, b = np.ptp(points[:, 0]) / 2, np.ptp(points[:, 1]) / 2
    return float(np.pi * (3 * (a + b) - np.sqrt((3 * a + b) * (a + 3 * b))))
