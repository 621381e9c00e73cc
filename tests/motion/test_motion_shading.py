"""A lit cylinder looks the same however it is turned, and prints are not taken for light."""

import numpy as np
from motion_figures import drawn, still

from fashionflow_core.images.parts import UPPER
from fashionflow_core.motion.figure_box import FigureBox
from fashionflow_core.motion.handmade import DEPTH_RATIO
from fashionflow_core.motion.layers import split
from fashionflow_core.motion.matte import Matte
from fashionflow_core.motion.shading import fit, normals
from fashionflow_core.motion.shell import Shell

HEIGHT, WIDTH, MIDDLE, RADIUS = 160, 128, 64, 24
INSIDE = (slice(40, 120), slice(MIDDLE - 16, MIDDLE + 17))


def cylinder(lit: float = 0.5, stripes: float = 0.0) -> tuple[np.ndarray, Matte]:
    """A cylinder of one colour in front of a wall; `lit`: slope of log luminance by the normal's sideways component."""
    x = (np.arange(WIDTH) + 0.5 - MIDDLE) / RADIUS
    row = lit / 2.2 * np.clip(x, -1, 1) + stripes * np.sin(40 * x)
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[20:140] = np.abs(x) <= 1
    photo = np.where(inside[..., None], 110 * np.exp(row)[None, :, None] * np.array([1.0, 0.9, 0.8]), 230)
    return photo.round().clip(0, 255).astype(np.uint8), Matte(
        inside.astype(np.float32), np.where(inside, UPPER, 0).astype(np.uint8), True, ""
    )


def turned(photo: np.ndarray, matte: Matte, degrees: float) -> np.ndarray:
    """The photo in frame 20 of a turn that stays."""
    channels = still(21)
    channels[2] = DEPTH_RATIO * np.sin(np.radians(degrees))
    plate = np.full(photo.shape, 230, np.float32)
    return list(Shell(photo, matte, plate, FigureBox.of(matte.alpha)).frames(channels))[-1]


def coefficients(photo: np.ndarray, matte: Matte) -> np.ndarray:
    """Slope and curve at the figure's middle."""
    (body,) = fit(photo, matte.alpha, matte.parts, split(matte.alpha, matte.parts))
    return body[2:, HEIGHT // 2, MIDDLE]


def test_normals_of_a_cylinder_are_exact() -> None:
    x = np.arange(WIDTH) + 0.5 - MIDDLE
    e = np.broadcast_to(np.sqrt(np.maximum(RADIUS**2 - x**2, 0)), (HEIGHT, WIDTH))
    sideways, forward = (values[80, MIDDLE - 20 : MIDDLE + 20] for values in normals(e))
    np.testing.assert_allclose(sideways, x[MIDDLE - 20 : MIDDLE + 20] / RADIUS, atol=0.02)
    np.testing.assert_allclose(sideways**2 + forward**2, 1, atol=1e-5)


def test_a_lit_cylinder_looks_the_same_when_it_turns() -> None:
    for degrees in (-25, 25):
        photo, matte = cylinder()
        now = turned(photo, matte, degrees)[INSIDE].astype(float).mean((0, 2))
        before = photo[INSIDE].astype(float).mean((0, 2))
        # moved without its light, the brightness in the middle is that of a point 8 pixels away: 13 % off
        assert np.abs(now / before - 1).max() < 0.05, degrees


def test_coefficients_are_those_of_the_light() -> None:
    assert abs(coefficients(*cylinder(lit=0.5))[0] - 0.5) < 0.08
    flat = coefficients(*cylinder(lit=0.0))
    assert np.abs(flat).max() < 0.05
    assert np.abs(coefficients(*cylinder(lit=0.0, stripes=0.4))).max() < 0.2


def test_the_light_of_skin_counts_where_cloth_is_printed() -> None:
    figure = drawn()
    layers = split(figure.alpha, figure.parts)
    rng = np.random.default_rng(0)
    shade = np.ones(figure.alpha.shape)
    for layer in layers:
        shade[layer.seen] = np.exp(normals(layer.e)[0] * -0.8 / 2.2)[layer.seen]
    checks = np.where(figure.parts == UPPER, rng.choice([0.3, 1.0], figure.alpha.shape), 0.7)
    photo = (200 * checks * shade)[..., None].repeat(3, -1).clip(0, 255).astype(np.uint8)
    body = fit(photo, figure.alpha, figure.parts, layers)[0]
    assert abs(float(body[2][figure.parts == UPPER].mean()) + 0.8) < 0.2


def test_no_turn_no_change() -> None:
    photo, matte = cylinder()
    np.testing.assert_array_equal(turned(photo, matte, 0), photo)
