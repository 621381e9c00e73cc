"""Inflation: exact where a closed form is known, the same at every size, open where the photo cuts the figure off."""

import numpy as np
import pytest

from fashionflow_core.motion.inflation import inflate


def strip(height: int, width: int, radius: float, centre: float) -> np.ndarray:
    x = np.arange(width) + 0.5
    return np.broadcast_to(np.clip(radius - np.abs(x - centre) + 0.5, 0, 1), (height, width))


def disc(height: int, width: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width] + 0.5
    return np.clip(radius - np.hypot(y - height / 2, x - width / 2) + 0.5, 0, 1)


@pytest.mark.parametrize(("height", "width", "radius"), [(96, 80, 20.0), (97, 83, 11.5), (64, 301, 90.0)])
def test_a_strip_is_a_circle(height: int, width: int, radius: float) -> None:
    x = np.arange(width) + 0.5
    e = inflate(strip(height, width, radius, width / 2))
    exact = np.sqrt(np.maximum(radius**2 - (x - width / 2) ** 2, 0))
    deep = np.abs(x - width / 2) < radius - 3  # beside the outline the slope is infinite
    assert np.abs(e[:, deep] - exact[deep]).max() < 0.06 * radius
    assert e.max() == pytest.approx(radius, abs=0.5 + 0.01 * radius)  # the outline is placed to half a pixel


@pytest.mark.parametrize(("height", "width", "radius"), [(90, 90, 30.0), (121, 95, 40.5)])
def test_a_disc_is_an_ellipsoid(height: int, width: int, radius: float) -> None:
    y, x = np.mgrid[:height, :width] + 0.5
    r = np.hypot(y - height / 2, x - width / 2)
    e = inflate(disc(height, width, radius))
    exact = np.sqrt(np.maximum(radius**2 - r**2, 0) / 2)
    deep = r < radius - 3
    assert np.abs(e - exact)[deep].max() < 0.05 * radius
    assert e.max() == pytest.approx(radius / np.sqrt(2), rel=0.02)


def test_twice_the_size_is_twice_as_thick() -> None:
    small, large = inflate(disc(100, 80, 30)), inflate(disc(200, 160, 60))
    halved = large.reshape(100, 2, 80, 2).mean((1, 3)) / 2
    deep = disc(100, 80, 27) > 0.99
    assert np.abs(halved - small)[deep].max() < 0.5


def test_the_surface_is_open_where_the_photo_cuts_it_off() -> None:
    whole = np.zeros((120, 60), np.float32)
    whole[10:110, 20:40] = 1
    cut = whole[:60]
    e = inflate(cut)
    assert e[-1, 30] == pytest.approx(inflate(whole)[59, 30], rel=0.05)
    assert e[-1, 30] > 0.95 * e[40, 30]
    assert e[10, 30] < 0.6 * e[40, 30]  # closed at its own end


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (2, 2), (33, 47), (64, 5)])
def test_any_size(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for alpha in (np.zeros(shape), np.ones(shape), rng.random(shape)):
        e = inflate(alpha)
        assert e.shape == shape and e.dtype == np.float32
        assert np.isfinite(e).all() and (e >= 0).all()


def test_nothing_outside_the_matte() -> None:
    alpha = disc(60, 60, 15)
    assert (inflate(alpha)[alpha == 0] == 0).all()
    assert not inflate(np.zeros((20, 30))).any()


def test_a_matte_has_two_dimensions() -> None:
    with pytest.raises(ValueError, match="expected a matte"):
        inflate(np.zeros((3, 4, 1)))
