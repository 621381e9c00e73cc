"""Adaptive triangle meshes over a matte.

Vertices are on pixel centres (the outermost on the photo's border) and on the matte's contour. Cells of `CELL` pixels
are used where inflation and depth are bilinear to a quarter of a pixel; all others have one pixel. Vertices of small
cells on the edge of a large one are snapped to it, so that moving the mesh opens no cracks.
"""

from dataclasses import dataclass

import numpy as np

from fashionflow_core.motion.layers import CUT
from fashionflow_core.motion.regions import dilate

CELL = 4
"""Side of a large cell in pixels."""
_BAND = 2  # pixels between the outline and the first large cell
_TOLERANCE = 0.25  # pixels by which inflation may differ from bilinear in a large cell
_SOFT = (0.02, 0.97)  # range of alpha of cells in the soft edge


@dataclass(frozen=True)
class Mesh:
    """Vertices and triangles over a photo.

    Attributes:
        x, y: position in photo pixels, float32 (v,).
        e, z0: half thickness and depth at rest in pixels, float32 (v,).
        triangles: vertex indices, int64 (t, 3), clockwise in the image.
        hanging: vertex on an edge, and the two ends of that edge, int64 (3, k).
        share: position of the hanging vertex from the first end to the second, float32 (k,).
    """

    x: np.ndarray
    y: np.ndarray
    e: np.ndarray
    z0: np.ndarray
    triangles: np.ndarray
    hanging: np.ndarray
    share: np.ndarray


def lattice(length: int) -> np.ndarray:
    """Pixel centres along an axis, the first and the last moved to the border."""
    places = np.arange(length) + 0.5
    places[0], places[-1] = 0, length
    return places


def surface(
    alpha: np.ndarray, e: np.ndarray, rim: np.ndarray, z0: np.ndarray, cell: int = CELL, cut: float = CUT
) -> Mesh:
    """Mesh of a layer, all arrays (h, w): it ends where alpha is `cut`; there the half thickness is `rim`."""
    height, width = alpha.shape
    inside = alpha > cut
    if not inside.any() or min(height, width) < 2:
        empty = np.zeros(0, np.float32)
        return Mesh(empty, empty, empty, empty, np.zeros((0, 3), np.int64), np.zeros((3, 0), np.int64), empty)
    # only the layer's box, one pixel larger for the contour
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    box = tuple(slice(max(0, int(v[0]) - 1), int(v[-1]) + 2) for v in (rows, columns))
    ys, xs = lattice(height)[box[0]], lattice(width)[box[1]]
    alpha, e, rim, z0, inside = alpha[box], e[box], rim[box], z0[box], inside[box]
    if min(alpha.shape) < 2:  # a single row or column of pixels has no cell
        return surface(np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)))
    large = _large_cells(inside, e, z0, cell)
    small = ~np.kron(large, np.ones((cell, cell), bool))
    small = np.pad(small, [(0, n - 1 - m) for n, m in zip(alpha.shape, small.shape, strict=True)], constant_values=True)
    vertices, edges = _vertices(alpha, e, rim, z0, xs, ys, cut)
    corners = np.arange(alpha.size).reshape(alpha.shape)
    triangles = _contoured(inside, small, corners, *edges)
    rows, columns = np.nonzero(large)
    rows, columns = rows * cell, columns * cell
    a, b = corners[rows, columns], corners[rows, columns + cell]
    d, c = corners[rows + cell, columns], corners[rows + cell, columns + cell]
    triangles += [np.stack([a, b, c], 1), np.stack([a, c, d], 1)]
    hanging = [np.zeros((3, 0), np.int64)]
    hanging += [
        np.stack([first + (last - first) // cell * step, first, last])
        for first, last in ((a, b), (b, c), (d, c), (a, d))
        for step in range(1, cell)
    ]
    return _compact(vertices, np.concatenate(triangles), np.concatenate(hanging, 1))


def soft_edge(alpha: np.ndarray) -> Mesh:
    """Mesh of one-pixel cells over the soft edge of a matte (h, w), and one more cell on both sides; flat."""
    height, width = alpha.shape
    cells = np.stack([alpha[:-1, :-1], alpha[:-1, 1:], alpha[1:, 1:], alpha[1:, :-1]])
    rows, columns = np.nonzero(dilate((cells.max(0) > _SOFT[0]) & (cells.min(0) < _SOFT[1]), 1))
    a = rows * width + columns
    b, c, d = a + 1, a + width + 1, a + width
    y, x = np.meshgrid(lattice(height), lattice(width), indexing="ij")
    vertices = np.stack([x.ravel(), y.ravel(), np.zeros(x.size), np.zeros(x.size)])
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return _compact(vertices, triangles, np.zeros((3, 0), np.int64))


def _large_cells(inside: np.ndarray, e: np.ndarray, z0: np.ndarray, cell: int) -> np.ndarray:
    """Blocks of `cell` by `cell` lattice cells to merge: far inside, with a bilinear surface."""
    height, width = inside.shape
    rows, columns = (height - 1) // cell, (width - 1) // cell
    if cell < 2 or not rows or not columns:
        return np.zeros((rows, columns), bool)
    deep = inside
    for axis in (0, 1):  # erosion by the band; the photo's border is not an outline
        padded = np.pad(deep, [(_BAND, _BAND) if a == axis else (0, 0) for a in (0, 1)], constant_values=True)
        length = inside.shape[axis]
        deep = np.all([np.take(padded, np.arange(length) + k, axis) for k in range(2 * _BAND + 1)], axis=0)

    def node(image: np.ndarray, row: int, column: int) -> np.ndarray:
        return image[row : row + rows * cell : cell, column : column + columns * cell : cell][:rows, :columns]

    large = np.ones((rows, columns), bool)
    for row in range(cell + 1):
        for column in range(cell + 1):
            large &= node(deep, row, column)
            p, q = column / cell, row / cell
            for image in (e, z0):
                upper = node(image, 0, 0) * (1 - p) + node(image, 0, cell) * p
                lower = node(image, cell, 0) * (1 - p) + node(image, cell, cell) * p
                large &= np.abs(upper * (1 - q) + lower * q - node(image, row, column)) < _TOLERANCE
    return large


def _vertices(
    alpha: np.ndarray, e: np.ndarray, rim: np.ndarray, z0: np.ndarray, xs: np.ndarray, ys: np.ndarray, cut: float
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """x, y, e, z0 of all lattice points, then of all crossings on rows, then on columns; numbers of the crossings."""
    height, width = alpha.shape
    grid = np.stack([np.broadcast_to(xs, alpha.shape), np.broadcast_to(ys[:, None], alpha.shape), rim, z0])

    def crossings(first: tuple[slice, ...], second: tuple[slice, ...]) -> np.ndarray:
        rise = alpha[second] - alpha[first]
        share = (cut - alpha[first]) / np.where(rise == 0, 1, rise)
        share = np.where((share > 0) & (share < 1), np.clip(share, 0.02, 0.98), 0.5)
        return (grid[:, *first] + share * (grid[:, *second] - grid[:, *first])).reshape(4, -1)

    every = slice(None)
    on_rows = crossings((every, slice(None, -1)), (every, slice(1, None)))
    on_columns = crossings((slice(None, -1), every), (slice(1, None), every))
    points = grid.copy()
    points[2] = e
    row_ids = alpha.size + np.arange(height * (width - 1)).reshape(height, width - 1)
    column_ids = alpha.size + row_ids.size + np.arange((height - 1) * width).reshape(height - 1, width)
    return np.concatenate([points.reshape(4, -1), on_rows, on_columns], 1), (row_ids, column_ids)


def _contoured(
    inside: np.ndarray, small: np.ndarray, corners: np.ndarray, on_rows: np.ndarray, on_columns: np.ndarray
) -> list[np.ndarray]:
    """Marching squares over the small cells."""
    around = [inside[:-1, :-1], inside[:-1, 1:], inside[1:, 1:], inside[1:, :-1]]  # clockwise
    code = np.where(small, sum(corner.astype(int) << k for k, corner in enumerate(around)), 0)
    # corners and crossings in turn, clockwise from the upper left
    ids = [corners[:-1, :-1], on_rows[:-1], corners[:-1, 1:], on_columns[:, 1:]]
    ids += [corners[1:, 1:], on_rows[1:], corners[1:, :-1], on_columns[:, :-1]]
    triangles = []
    for kind in range(1, 16):
        rows, columns = np.nonzero(code == kind)
        if not len(rows):
            continue
        polygon = []
        for k in range(4):
            if kind >> k & 1:
                polygon.append(ids[2 * k][rows, columns])
            if (kind >> k & 1) != (kind >> (k + 1) % 4 & 1):
                polygon.append(ids[2 * k + 1][rows, columns])
        if kind == 15:  # alternating diagonals
            even = (rows + columns) % 2 == 0
            a, b, c, d = polygon
            triangles.append(np.stack([a, b, np.where(even, c, d)], 1))
            triangles.append(np.stack([np.where(even, a, b), c, d], 1))
        else:
            triangles += [np.stack([polygon[0], polygon[k], polygon[k + 1]], 1) for k in range(1, len(polygon) - 1)]
    return triangles


def _compact(vertices: np.ndarray, triangles: np.ndarray, hanging: np.ndarray) -> Mesh:
    """The mesh of the vertices that triangles use, triangles in scan order."""
    used = np.zeros(vertices.shape[1], bool)
    used[triangles.ravel()] = True
    number = np.cumsum(used) - 1
    hanging = number[hanging[:, used[hanging[0]]]]
    x, y, e, z0 = (v.astype(np.float32) for v in vertices[:, used])
    triangles = number[triangles]
    order = np.lexsort((x[triangles].min(1), y[triangles].min(1)))
    at, first, last = hanging
    length = np.abs(x[last] - x[first]) + np.abs(y[last] - y[first])
    share = (np.abs(x[at] - x[first]) + np.abs(y[at] - y[first])) / length
    return Mesh(x, y, e, z0, triangles[order].astype(np.int64), hanging.astype(np.int64), share.astype(np.float32))
