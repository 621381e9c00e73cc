"""Triangle rasterizer of the shell with a z-buffer, in plain torch.

Positions are in subpixels of the output, x right and y down; a sample is at the centre (+0.5) of each subpixel. The
winner of a sample is the largest 64-bit key of depth and triangle index, so that ties are resolved identically on all
devices.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from fashionflow_core.motion.rasterizer_numba import compiled

_DEPTH_OFFSET, _DEPTH_STEPS = (
    16384.0,
    64.0,
)  # depth in pixels to a whole number; exact in float32 for photos below 16,000 px
_CHUNK_CPU, _CHUNK_CUDA = 1 << 19, 1 << 24  # samples per chunk
_EDGE = -1e-5  # barycentric slack, so that no sample on a shared edge is lost


@dataclass
class Triangles:
    """Triangles to draw: x, y, z (3, t) float32, and corners (3, t) int64 as vertex indices."""

    x: torch.Tensor
    y: torch.Tensor
    z: torch.Tensor
    corners: torch.Tensor

    def doubled_area(self) -> torch.Tensor:
        """Twice the signed area, (t,); positive if the corners are clockwise in the image."""
        x, y = self.x, self.y
        return (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])

    def select(self, index: torch.Tensor) -> "Triangles":
        """Some of the triangles."""
        return Triangles(*(v.index_select(1, index) for v in (self.x, self.y, self.z, self.corners)))

    @staticmethod
    def concatenate(parts: list["Triangles"]) -> "Triangles":
        """All triangles of several sets over the same vertices."""
        names = ("x", "y", "z", "corners")
        return Triangles(*(torch.cat([getattr(part, name) for part in parts], 1) for name in names))


def facing(
    x: torch.Tensor, y: torch.Tensor, z: torch.Tensor, corners: torch.Tensor, sign: int, least: float = 1e-4
) -> Triangles:
    """Triangles that show their front (sign 1: clockwise) or their back (sign -1) to the camera.

    Args:
        x, y, z: (v,), moved vertices.
        corners: (3, t).
        least: twice the minimum area of triangles.
    """
    triangles = Triangles(x[corners], y[corners], z[corners], corners)
    return triangles.select(torch.nonzero(triangles.doubled_area() * sign > least)[:, 0])


def rasterize(
    triangles: Triangles, attributes: torch.Tensor, per_triangle: torch.Tensor | None, box: tuple[int, int, int, int]
) -> torch.Tensor:
    """Attributes of the nearest triangle at each sample.

    Args:
        triangles: triangles to draw; those without area are skipped.
        attributes: values at vertices, (a, v), interpolated.
        per_triangle: constant of each triangle, (t,), or None.
        box: left, top, width, height of the result in subpixels.

    Returns:
        float32 (a + 1 or a + 2, height, width): attributes, 1 where a triangle is, and the constant; zeros elsewhere.
    """
    left, top, width, height = box
    device = attributes.device
    count = len(attributes)
    result = torch.zeros(count + (1 if per_triangle is None else 2), height * width, device=device)
    x, y, z = triangles.x - left, triangles.y - top, triangles.z
    draw = compiled() if device.type == "cpu" else None
    if draw is not None:
        constant = np.zeros(0, np.float32) if per_triangle is None else per_triangle.numpy()
        numbers = (width, np.float32(_DEPTH_OFFSET), np.float32(_DEPTH_STEPS), np.float32(_EDGE))
        inputs = (x, y, z, triangles.corners, attributes)
        draw(*(np.ascontiguousarray(v.numpy()) for v in inputs), constant, result.numpy(), *numbers)
        return result.view(-1, height, width)
    first_column = torch.ceil(x.amin(0) - 0.5).clamp_(min=0) if x.shape[1] else x.new_zeros(0)
    if not len(first_column):
        return result.view(-1, height, width)
    first_row = torch.ceil(y.amin(0) - 0.5).clamp_(min=0)
    columns = (torch.floor(x.amax(0) - 0.5).clamp_(max=width - 1) - first_column + 1).clamp_(min=0)
    rows = (torch.floor(y.amax(0) - 0.5).clamp_(max=height - 1) - first_row + 1).clamp_(min=0)
    area = triangles.doubled_area()
    counts = (columns * rows * (area != 0)).long()
    kept = torch.nonzero(counts)[:, 0]
    if not len(kept):
        return result.view(-1, height, width)
    counts, columns, first_column, first_row, area = (
        v.index_select(0, kept) for v in (counts, columns, first_column, first_row, area)
    )
    x, y, z, corners = (v.index_select(1, kept) for v in (x, y, z, triangles.corners))
    # barycentric weights of the second and the third corner: planes over the image
    w1x, w1y = (y[2] - y[0]) / area, (x[0] - x[2]) / area
    w2x, w2y = (y[0] - y[1]) / area, (x[1] - x[0]) / area
    z0, z1, z2 = z[0], z[1] - z[0], z[2] - z[0]
    dx, dy = first_column + 0.5 - x[0], first_row + 0.5 - y[0]
    planes = (
        columns,
        first_column,
        first_row,
        dx * w1x + dy * w1y,
        dx * w2x + dy * w2y,
        w1x,
        w1y,
        w2x,
        w2y,
        z0,
        z1,
        z2,
    )
    nearest = torch.full((height * width,), -1, dtype=torch.long, device=device)
    ends = torch.cumsum(counts, 0)
    for start, stop in _chunks(ends, _CHUNK_CUDA if device.type == "cuda" else _CHUNK_CPU):
        _test_samples(nearest, start, stop, counts, planes, width)
    hit = torch.nonzero(nearest >= 0)[:, 0]
    winner = nearest.index_select(0, hit).bitwise_and_(0xFFFFFFFF)
    row = torch.div(hit, width, rounding_mode="floor")
    px, py = (hit - row * width).float().add_(0.5), row.float().add_(0.5)
    for k in range(count):
        # an attribute is a plane over the image too: its value at the window's corner, and its slopes
        a, b, c = (attributes[k].index_select(0, corner) for corner in corners)
        across, down = (b - a) * w1x + (c - a) * w2x, (b - a) * w1y + (c - a) * w2y
        plane = (a - across * x[0] - down * y[0], across, down)
        value, across, down = (v.index_select(0, winner) for v in plane)
        result[k].index_copy_(0, hit, value.addcmul_(across, px).addcmul_(down, py))
    result[count].index_fill_(0, hit, 1)
    if per_triangle is not None:
        result[count + 1].index_copy_(0, hit, per_triangle.index_select(0, kept).index_select(0, winner))
    return result.view(-1, height, width)


def _chunks(ends: torch.Tensor, size: int) -> list[tuple[int, int]]:
    """Ranges of triangles with about `size` samples in each."""
    total = int(ends[-1])
    if total <= size:
        return [(0, len(ends))]
    marks = torch.arange(size, total, size, device=ends.device)
    cuts = torch.searchsorted(ends, marks, right=True).unique().tolist()
    edges = sorted({0, len(ends), *cuts})
    return list(itertools.pairwise(edges))


def _test_samples(
    nearest: torch.Tensor, start: int, stop: int, counts: torch.Tensor, planes: tuple[torch.Tensor, ...], width: int
) -> None:
    """Test every sample in the boxes of a range of triangles and keep the nearest."""
    device = nearest.device
    counts = counts[start:stop]
    owner = torch.repeat_interleave(torch.arange(stop - start, device=device), counts)
    place = torch.arange(len(owner), device=device)
    place -= (torch.cumsum(counts, 0) - counts).index_select(0, owner)
    columns, first_column, first_row, w1, w2, w1x, w1y, w2x, w2y, z0, z1, z2 = (v[start:stop] for v in planes)

    def of_owner(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return values.index_select(0, index)

    across = of_owner(columns, owner)
    place = place.float()
    row = torch.floor((place + 0.5) / across)
    column = place.addcmul_(row, across, value=-1)
    w1 = of_owner(w1, owner).addcmul_(column, of_owner(w1x, owner)).addcmul_(row, of_owner(w1y, owner))
    w2 = of_owner(w2, owner).addcmul_(column, of_owner(w2x, owner)).addcmul_(row, of_owner(w2y, owner))
    within = torch.nonzero(torch.minimum(torch.minimum(w1, w2), 1 - w1 - w2) >= _EDGE)[:, 0]
    owner, w1, w2, column, row = (v.index_select(0, within) for v in (owner, w1, w2, column, row))
    depth = of_owner(z0, owner).addcmul_(of_owner(z1, owner), w1).addcmul_(of_owner(z2, owner), w2)
    sample = ((of_owner(first_row, owner) + row) * width + of_owner(first_column, owner) + column).long()
    level = ((depth + _DEPTH_OFFSET) * _DEPTH_STEPS).clamp_(min=0, max=2**30).long()
    key = (level << 32) | (owner + start)
    nearest.scatter_reduce_(0, sample, key, "amax")
