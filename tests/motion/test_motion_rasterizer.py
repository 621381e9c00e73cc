"""The rasterizer against a plain loop over triangles and samples, and what it must not depend on."""

import numpy as np
import pytest
import torch
from tiny_motion import paper_doll

from fashionflow_core.motion import rasterizer, rasterizer_numba
from fashionflow_core.motion.matte import Matte
from fashionflow_core.motion.prepared import PreparedPhoto
from fashionflow_core.motion.rasterizer import Triangles, facing, rasterize


def random_triangles(seed: int, count: int = 60, size: float = 14.0) -> tuple[torch.Tensor, ...]:
    """x, y, z (v,) of random triangles, corners (3, t), and two attributes (2, v)."""
    g = torch.Generator().manual_seed(seed)
    centre = torch.rand(2, count, 1, generator=g) * torch.tensor([48.0, 40.0])[:, None, None] - 4
    place = centre + (torch.rand(2, count, 3, generator=g) - 0.5) * size
    z = torch.rand(count, 3, generator=g) * 40 - 20
    corners = torch.arange(count * 3).view(count, 3).T.contiguous()
    return (*place.reshape(2, -1), z.view(-1), corners, torch.rand(2, count * 3, generator=g))


def by_hand(x: np.ndarray, y: np.ndarray, z: np.ndarray, corners: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """(a + 1, 40, 48): the same picture by a loop."""
    result, depth = np.zeros((len(attributes) + 1, 40, 48)), np.full((40, 48), -np.inf)
    v, u = np.mgrid[:40, :48] + 0.5
    for corner in corners.T:
        (x0, x1, x2), (y0, y1, y2) = x[corner], y[corner]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0:
            continue
        w1 = ((u - x0) * (y2 - y0) - (x2 - x0) * (v - y0)) / area
        w2 = ((x1 - x0) * (v - y0) - (u - x0) * (y1 - y0)) / area
        weights = np.stack([1 - w1 - w2, w1, w2])
        here = np.tensordot(z[corner], weights, 1)
        wins = (weights.min(0) >= 0) & (here > depth)
        depth[wins] = here[wins]
        result[-1][wins] = 1
        for k, values in enumerate(attributes):
            result[k][wins] = np.tensordot(values[corner], weights, 1)[wins]
    return result


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_plain_loop(seed: int) -> None:
    x, y, z, corners, attributes = random_triangles(seed)
    triangles = Triangles(x[corners], y[corners], z[corners], corners)
    made = rasterize(triangles, attributes, None, (0, 0, 48, 40)).numpy()
    exact = by_hand(
        *(v.double().numpy() if v.is_floating_point() else v.numpy() for v in (x, y, z, corners, attributes))
    )
    assert (made[-1] != exact[-1]).mean() < 0.002  # samples on an edge
    np.testing.assert_array_less(np.quantile(np.abs(made - exact), 0.995), 1e-3)


def test_a_window_is_a_part_of_the_whole() -> None:
    x, y, z, corners, attributes = random_triangles(5)
    triangles = Triangles(x[corners], y[corners], z[corners], corners)
    constant = torch.arange(corners.shape[1]).float()
    whole = rasterize(triangles, attributes, constant, (-16, -16, 96, 80))
    part = rasterize(triangles, attributes, constant, (3, 5, 20, 17))
    torch.testing.assert_close(part, whole[:, 21:38, 19:39], atol=1e-4, rtol=1e-4)


def test_does_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, z, corners, attributes = random_triangles(6)
    triangles = Triangles(x[corners], y[corners], z[corners], corners)
    whole = rasterize(triangles, attributes, None, (0, 0, 48, 40))
    for chunk in (1, 7, 300):
        monkeypatch.setattr(rasterizer, "_CHUNK_CPU", chunk)
        assert torch.equal(rasterize(triangles, attributes, None, (0, 0, 48, 40)), whole)


def test_equal_depths_are_decided_by_number() -> None:
    x = torch.tensor([0.0, 8, 0]).repeat(3)
    y = torch.tensor([0.0, 0, 8]).repeat(3)
    corners = torch.arange(9).view(3, 3).T.contiguous()
    triangles = Triangles(x[corners], y[corners], torch.zeros(3, 3), corners)
    made = rasterize(triangles, torch.zeros(1, 9), torch.tensor([1.0, 2, 3]), (0, 0, 8, 8))
    assert set(made[2][made[1] > 0].tolist()) == {3.0}


def test_neighbours_leave_no_sample_between_them() -> None:
    """A sheet of triangles, bent at random, covers every sample of its inside."""
    g = torch.Generator().manual_seed(2)
    n = 24
    v, u = torch.meshgrid(torch.arange(n).float(), torch.arange(n).float(), indexing="ij")
    ids = torch.arange(n * n).view(n, n)
    a, b, c, d = (ids[i : n - 1 + i, j : n - 1 + j].reshape(-1) for i, j in ((0, 0), (0, 1), (1, 1), (1, 0)))
    corners = torch.cat([torch.stack([a, b, c]), torch.stack([a, c, d])], 1)
    for _ in range(20):
        x, y = (3.7 * (w + 0.4 * torch.rand(n, n, generator=g)).reshape(-1) for w in (u, v))
        sheet = facing(x, y, torch.zeros(n * n), corners, 1)
        assert sheet.x.shape == (3, corners.shape[1])
        made = rasterize(sheet, torch.zeros(1, n * n), None, (4, 4, 76, 76))
        assert bool((made[-1] == 1).all())


def test_only_what_faces_the_camera() -> None:
    x, y = torch.tensor([0.0, 4, 0, 4]), torch.tensor([0.0, 0, 4, 4])
    corners = torch.tensor([[0, 0], [1, 2], [2, 1]])  # clockwise, and the same turned over
    for sign, kept in ((1, [0, 1, 2]), (-1, [0, 2, 1])):
        triangles = facing(x, y, torch.zeros(4), corners, sign)
        assert triangles.corners[:, 0].tolist() == kept and triangles.corners.shape[1] == 1


def test_nothing_to_draw() -> None:
    empty = torch.zeros(3, 0)
    triangles = Triangles(empty, empty, empty, torch.zeros(3, 0, dtype=torch.long))
    assert not rasterize(triangles, torch.zeros(2, 0), None, (0, 0, 5, 4)).any()
    away = torch.full((3, 1), 100.0)
    far = Triangles(away, away, away, torch.zeros(3, 1, dtype=torch.long))
    assert rasterize(far, torch.zeros(2, 1), torch.ones(1), (0, 0, 5, 4)).shape == (4, 4, 5)


@pytest.mark.parametrize("seed", range(3))
def test_the_compiled_loops_draw_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run uncompiled, so that they are tested where numba is missing, too."""
    x, y, z, corners, attributes = random_triangles(seed)
    triangles = Triangles(x[corners], y[corners], z[corners], corners)
    constant = torch.arange(corners.shape[1]).float()
    drawn = []
    for draw in (None, rasterizer_numba.draw):
        monkeypatch.setattr(rasterizer, "compiled", lambda draw=draw: draw)
        drawn.append(rasterize(triangles, attributes, constant, (2, 1, 40, 37)))
    torch.testing.assert_close(*drawn, atol=1e-4, rtol=1e-4)


def test_pictures_with_numba_are_within_a_grey_level(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    photo, mask = paper_doll(200, 160)
    parts = np.where(mask > 0, np.where(np.arange(200)[:, None] < 50, 1, 5), 0).astype(np.uint8)
    prepared = PreparedPhoto(photo, Matte(mask, parts, True, ""))
    channels = torch.zeros(4, 3, 40, 32)
    channels[0, 1:], channels[2, 1:], channels[2, 2] = 0.01, 0.3, -0.4
    pictures = []
    for draw in (None, rasterizer_numba.compiled()):
        monkeypatch.setattr(rasterizer, "compiled", lambda draw=draw: draw)
        pictures.append(np.stack(list(prepared.frames(channels))).astype(int))
    assert np.abs(pictures[1][2] - photo).max() > 20  # it moves
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
