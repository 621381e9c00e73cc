"""Meshes over a matte: closed, without cracks, on the contour, up to the border, coarse where it does not show."""

import numpy as np
import pytest
from motion_figures import drawn

from fashionflow_core.motion.inflation import inflate
from fashionflow_core.motion.mesh import CELL, Mesh, soft_edge, surface


def mesh_of(alpha: np.ndarray, cell: int = CELL, cut: float = 0.9) -> Mesh:
    zero = np.zeros_like(alpha)
    return surface(alpha, inflate(alpha), zero, zero, cell=cell, cut=cut)


def areas(mesh: Mesh) -> np.ndarray:
    x, y = mesh.x[mesh.triangles].T.astype(float), mesh.y[mesh.triangles].T.astype(float)
    return ((x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])) / 2


def outline_edges(mesh: Mesh) -> np.ndarray:
    """Edges of one triangle only, (k, 2), without those that a hanging vertex lies on or belongs to."""
    t = mesh.triangles
    edges = np.sort(np.concatenate([t[:, [0, 1]], t[:, [1, 2]], t[:, [2, 0]]]), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    assert counts.max() <= 2
    single = unique[counts == 1]
    ends = {tuple(sorted(pair)) for pair in mesh.hanging[1:].T.tolist()}
    hanging = set(mesh.hanging[0].tolist())
    kept = [e for e in single.tolist() if tuple(e) not in ends and not hanging & set(e)]
    return np.array(kept)


def test_triangles_are_clockwise_and_cover_the_matte_once() -> None:
    alpha = drawn().alpha
    mesh = mesh_of(alpha)
    area = areas(mesh)
    assert (area > 0).all()
    assert area.sum() == pytest.approx((alpha > 0.9).sum(), rel=0.03)


def test_the_outline_is_the_contour_and_flat() -> None:
    alpha = drawn().alpha
    mesh = mesh_of(alpha)
    rim = np.unique(outline_edges(mesh))
    assert len(rim) > 100
    assert (mesh.e[rim] == 0).all()
    x, y = np.clip(mesh.x[rim] - 0.5, 0, None), np.clip(mesh.y[rim] - 0.5, 0, None)
    i, j = x.astype(int), y.astype(int)
    fx, fy = x - i, y - j
    i1, j1 = np.minimum(i + 1, alpha.shape[1] - 1), np.minimum(j + 1, alpha.shape[0] - 1)
    top = alpha[j, i] * (1 - fx) + alpha[j, i1] * fx
    bottom = alpha[j1, i] * (1 - fx) + alpha[j1, i1] * fx
    np.testing.assert_allclose(top * (1 - fy) + bottom * fy, 0.9, atol=0.03)


def test_large_cells_save_triangles_and_keep_the_area() -> None:
    alpha = drawn(240, 192).alpha
    coarse, fine = mesh_of(alpha), mesh_of(alpha, cell=1)
    assert len(coarse.triangles) < 0.75 * len(fine.triangles)
    assert areas(coarse).sum() == pytest.approx(areas(fine).sum(), rel=1e-5)
    assert not fine.hanging.size and coarse.hanging.size


def test_hanging_vertices_lie_on_their_edge() -> None:
    mesh = mesh_of(drawn(240, 192).alpha)
    at, first, last = mesh.hanging
    for places in (mesh.x, mesh.y):
        np.testing.assert_allclose(places[at], places[first] + mesh.share * (places[last] - places[first]), atol=1e-4)
    assert not set(at.tolist()) & set(np.concatenate([first, last]).tolist())
    assert ((mesh.share > 0) & (mesh.share < 1)).all()


def test_the_mesh_reaches_the_border_that_cuts_the_figure_off() -> None:
    figure = drawn(161, 127, shift=(-0.35, 0.3))
    mesh = mesh_of(figure.alpha)
    assert mesh.x.min() == 0 and mesh.y.max() == 161
    on_border = mesh.y == 161
    assert mesh.e[on_border].max() > 3  # open there


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (2, 2), (5, 4), (33, 47), (8, 3)])
def test_any_size(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    for alpha in (np.zeros(shape), np.ones(shape), rng.random(shape)):
        mesh = mesh_of(alpha.astype(np.float32))
        assert mesh.triangles.size == 0 or mesh.triangles.max() < len(mesh.x)
        assert (areas(mesh) > 0).all()
        soft_edge(alpha)


def test_a_full_photo_is_covered_whole() -> None:
    mesh = mesh_of(np.ones((37, 50), np.float32))
    assert areas(mesh).sum() == pytest.approx(37 * 50)


def test_the_soft_edge_holds_all_soft_pixels() -> None:
    alpha = drawn(soft=4).alpha
    mesh = soft_edge(alpha)
    corners = set(zip((mesh.x - 0.5).astype(int).tolist(), (mesh.y - 0.5).astype(int).tolist(), strict=True))
    rows, columns = np.nonzero((alpha > 0.03) & (alpha < 0.96))
    assert set(zip(columns.tolist(), rows.tolist(), strict=True)) <= corners
    assert len(mesh.x) < 0.5 * alpha.size
    assert not mesh.e.any()
