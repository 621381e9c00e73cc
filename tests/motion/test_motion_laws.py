"""Laws of the moving shell: no holes, no jumps, exact turns of an ellipsoid, the same at every size."""

import os

import numpy as np
import pytest
import torch
from motion_figures import FOREARM, MANNEQUIN, Drawn, drawn, psnr, random_motion
from PIL import Image, ImageDraw

from fashionflow_core.images.parts import BACKGROUND, UPPER
from fashionflow_core.motion.figure_box import GRID
from fashionflow_core.motion.handmade import handmade_motion
from fashionflow_core.motion.inflation import inflate
from fashionflow_core.motion.mesh import Mesh, surface
from fashionflow_core.motion.rasterizer import Triangles, facing, rasterize

MOTIONS = int(os.environ.get("TEST_MOTIONS", "2000"))  # random motions of the slow test; 10,000 take five minutes
SAMPLES = 2  # per pixel along each axis, where coverage is compared


def small_mesh() -> tuple[Mesh, int, int]:
    """A mesh with a neck, two legs and both sizes of cells."""
    alpha = drawn(60, 48, shapes=MANNEQUIN[:5]).alpha
    zero = np.zeros_like(alpha)
    return surface(alpha, inflate(alpha), zero, zero, cell=2), 60, 48


def moved(mesh: Mesh, height: int, width: int, seed: int) -> list[np.ndarray]:
    """Front and back of a mesh in a smooth random motion: x and y (2, v) each, in samples."""
    rng = np.random.default_rng(seed)
    u, v = mesh.x / width, mesh.y / height

    def smooth(size: float) -> np.ndarray:
        waves = [
            rng.normal() * np.sin(2 * np.pi * (rng.uniform(-1, 1) * u + rng.uniform(-1, 1) * v) + rng.uniform(0, 6.3))
            for _ in range(3)
        ]
        return size * np.sum(waves, 0)

    across, down, turn = smooth(0.04 * height), smooth(0.03 * height), smooth(0.35)
    sides = []
    at, first, last = mesh.hanging
    for sign in (1, -1):
        place = np.stack([mesh.x + across + sign * turn * mesh.e, mesh.y + down]) * SAMPLES
        place[:, at] = place[:, first] + mesh.share * (place[:, last] - place[:, first])
        sides.append(place.astype(np.float32))
    return sides


def leaves_no_hole(mesh: Mesh, height: int, width: int, seed: int) -> None:
    """What faces the camera covers all that any triangle covers, as Pillow fills polygons."""
    pad = 16 * SAMPLES
    size = (width * SAMPLES + 2 * pad, height * SAMPLES + 2 * pad)
    sides = [place + pad for place in moved(mesh, height, width, seed)]
    image = Image.new("1", size)
    pen = ImageDraw.Draw(image)
    corners = torch.from_numpy(mesh.triangles.T.copy())
    parts = []
    for place, sign in zip(sides, (1, -1), strict=True):
        for polygon in (place - 0.5).T[mesh.triangles].reshape(-1, 6).tolist():
            pen.polygon(polygon, fill=1)
        x, y = torch.from_numpy(place)
        parts.append(facing(x, y, torch.zeros_like(x), corners, sign))
    made = rasterize(Triangles.concatenate(parts), torch.zeros(0, len(mesh.x)), None, (0, 0, *size))[-1].numpy() > 0
    union = np.array(image)
    # Pillow also paints the pixels that an edge touches: a ring of samples, and slits narrower than two of them
    inner = union & shifted(union).all(0)
    for row, column in np.argwhere(inner & ~made):
        assert not any(covers(mesh, place, column + 0.5, row + 0.5, 1e-3) for place in sides), (seed, row, column)
    for row, column in np.argwhere(made & ~(union | shifted(union).any(0))):
        assert any(covers(mesh, place, column + 0.5, row + 0.5, -0.02) for place in sides), (seed, row, column)


def covers(mesh: Mesh, place: np.ndarray, u: float, v: float, inside: float) -> bool:
    """Whether a place lies in any triangle, in double precision; `inside` is what its edges' areas must exceed."""
    x, y = (p[mesh.triangles].T.astype(float) for p in place)
    sides = [(x[(k + 1) % 3] - x[k]) * (v - y[k]) - (y[(k + 1) % 3] - y[k]) * (u - x[k]) for k in range(3)]
    return bool((np.min(sides, 0) > inside).any() or (np.max(sides, 0) < -inside).any())


def shifted(mask: np.ndarray) -> np.ndarray:
    """The mask moved to the four neighbours."""
    return np.stack([np.roll(mask, step, axis) for axis in (0, 1) for step in (1, -1)])


@pytest.mark.parametrize("start", range(0, 200, 50))
def test_a_closed_shell_leaves_no_hole(start: int) -> None:
    mesh, height, width = small_mesh()
    for seed in range(start, start + 50):
        leaves_no_hole(mesh, height, width, seed)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(200, 200 + MOTIONS, 500))
def test_a_closed_shell_leaves_no_hole_in_many_motions(start: int) -> None:
    mesh, height, width = small_mesh()
    for seed in range(start, start + 500):
        leaves_no_hole(mesh, height, width, seed)


def silhouette(frame: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """Pixels, (h, w), that are more figure than background, by their difference from a known background."""
    return np.abs(frame - plate).max(-1) > 40


def outline(inside: np.ndarray) -> np.ndarray:
    """Places (k, 2) of the pixels at a silhouette's outline."""
    return np.argwhere(inside & ~shifted(inside).all(0))


@pytest.mark.parametrize("with_parts", [False, True], ids=["body", "layers"])
def test_no_outline_point_jumps(with_parts: bool) -> None:
    """From frame to frame the outline moves at most twice as far as the figure does nearby.

    What changes between two frames lies in bands along their outlines; a slit that opens or closes is such a band too.
    """
    figure = drawn()
    box = figure.box
    channels = handmade_motion(figure.alpha, box, np.arange(0, 18) / 25, 3, 35.0)
    frames = [f.astype(float) for f in figure.shell(with_parts).frames(channels, fade=1)]
    e = inflate(figure.alpha)
    places = np.argwhere(figure.alpha > 0.5)
    for k in range(2, len(frames)):
        change = box.enlarge(channels[:, k] - channels[:, k - 1], *figure.alpha.shape)
        reach = np.hypot(change[0] * box.figure_height, change[1] * box.figure_height) + np.abs(change[2]) * e
        reach = reach[places[:, 0], places[:, 1]]
        before, after = silhouette(frames[k - 1], figure.plate), silhouette(frames[k], figure.plate)
        outlines = np.concatenate([outline(before), outline(after)])
        for place in np.argwhere(before ^ after):
            from_outline = np.hypot(*(outlines - place).T).min()
            nearby = reach[np.hypot(*(places - place).T) < 20]
            assert len(nearby) and 2 * from_outline <= 2 * nearby.max() + 2  # a band has two sides


def ellipsoid(height: int, width: int, a: float, b: float) -> Drawn:
    """A textured ellipsoid before a plain wall; half axes in pixels."""
    y, x = np.mgrid[:height, :width] + 0.5
    x, y = x - width / 2, y - height / 2
    radius = np.hypot(x / a, y / b)
    slope = np.hypot(x / a**2, y / b**2) / np.maximum(radius, 1e-9)
    alpha = np.clip((1 - radius) / np.maximum(slope, 1e-9) / 1.5 + 0.5, 0, 1).astype(np.float32)
    wall = np.full((height, width, 3), 225, np.float32)
    photo = alpha[..., None] * texture(x, y, a, b) + (1 - alpha[..., None]) * wall
    parts = np.where(alpha > 0.5, UPPER, BACKGROUND).astype(np.uint8)
    return Drawn(np.rint(photo).astype(np.uint8), alpha, wall, parts)


def texture(x: np.ndarray, y: np.ndarray, a: float, b: float) -> np.ndarray:
    """Colours on the front of the ellipsoid, by place at rest."""
    u, v = x / a, y / b
    return np.stack([120 + 60 * np.sin(5 * u), 110 + 50 * np.cos(6 * v), 100 + 45 * np.sin(4 * u + 5 * v)], -1)


def turned_picture(height: int, width: int, a: float, b: float, c: float, angle: float) -> np.ndarray:
    """The exact picture of the turned ellipsoid, 4 by 4 rays a pixel; its back has the front's colours."""
    n = 4
    y, x = (np.mgrid[: height * n, : width * n] + 0.5) / n
    x, y = x - width / 2, y - height / 2
    cos, sin = np.cos(angle), np.sin(angle)
    # x' = X cos + Z sin, z' = Z cos - X sin: solve (X/a)^2 + (Z/c)^2 = 1 - (y/b)^2 along z'
    p, q = cos**2 / a**2 + sin**2 / c**2, sin**2 / a**2 + cos**2 / c**2
    mixed = x * sin * cos * (1 / c**2 - 1 / a**2)
    inside = mixed**2 - q * (p * x**2 + (y / b) ** 2 - 1)
    z = (-mixed + np.sqrt(np.maximum(inside, 0))) / q
    colour = texture(x * cos - z * sin, y, a, b)
    picture = np.where((inside > 0)[..., None], colour, 225.0)
    return picture.reshape(height, n, width, n, 3).mean((1, 3))


@pytest.mark.parametrize(("degrees", "least"), [(10, 38.0), (25, 31.0), (35, 28.0), (-25, 31.0)])
def test_turns_of_an_ellipsoid_match_its_exact_picture(degrees: float, least: float) -> None:
    height, width, a, b, depth = 160, 128, 34.0, 62.0, 0.75
    figure = ellipsoid(height, width, a, b)
    box = figure.box
    angle = np.radians(degrees)
    column = (np.arange(GRID[1]) + 0.5) / GRID[1] * box.width + box.left - width / 2
    across = np.broadcast_to(column / box.figure_height, GRID)
    # inflation of an ellipse: e = a b / sqrt(a^2 + b^2) at the centre; its depth is `depth * a`
    ratio = depth * a / (a * b / np.hypot(a, b))
    channels = np.zeros((4, 2, *GRID), np.float32)
    channels[0, 1], channels[2, 1] = across * (np.cos(angle) - 1), ratio * np.sin(angle)
    channels[3, 1] = -across * np.sin(angle)
    shell = figure.shell(with_parts=True)
    frame = list(shell.frames(channels, fade=1))[1]
    exact = turned_picture(height, width, a, b, depth * a, angle)
    assert psnr(frame, exact) > least
    assert psnr(frame, exact) > psnr(figure.photo, exact) + 5


def test_two_sizes_agree() -> None:
    small, large = drawn(160, 128), drawn(320, 256)
    channels = handmade_motion(small.alpha, small.box, np.array([0, 0.2, 0.45, 0.7]), 1, 25.0)
    frames = list(small.shell().frames(channels, fade=1))
    halved = [f.reshape(160, 2, 128, 2, 3).mean((1, 3)) for f in large.shell().frames(channels, fade=1)]
    for one, other in zip(frames[1:], halved[1:], strict=True):
        assert psnr(one, other) > 33


@pytest.mark.slow
def test_two_large_sizes_agree() -> None:
    small, large = drawn(320, 256), drawn(640, 512)
    channels = handmade_motion(small.alpha, small.box, np.array([0, 0.2, 0.45, 0.7]), 1, 25.0)
    frames = list(small.shell().frames(channels, fade=1))
    halved = [f.reshape(320, 2, 256, 2, 3).mean((1, 3)) for f in large.shell().frames(channels, fade=1)]
    for one, other in zip(frames[1:], halved[1:], strict=True):
        assert psnr(one, other) > 36


@pytest.mark.parametrize("seed", range(3))
def test_layers_leave_no_wall_inside_the_body(seed: int) -> None:
    """An arm that moves over the body uncovers body, not wall."""
    figure = drawn(shapes=(*MANNEQUIN, FOREARM))
    frames = list(figure.shell().frames(random_motion(seed, 4, amount=0.5), fade=1))
    y, x = np.mgrid[:160, :128]
    centre = (np.abs(x - 64) < 6) & (np.abs(y - 60) < 12)  # deep inside at any such motion
    for frame in frames:
        assert np.abs(frame.astype(float) - figure.plate)[centre].max(-1).min() > 25
