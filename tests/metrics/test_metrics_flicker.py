"""Flicker by warping error: laws, and what it answers without OpenCV."""

import numpy as np
import pytest
from clip_damage import clip

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.metrics import flicker
from fashionflow_core.metrics.flicker import warping_error

FRAMES = 6


@pytest.fixture(scope="module")
def turning() -> np.ndarray:
    """A figure that turns, at half of its size."""
    return np.ascontiguousarray(clip()[:FRAMES, ::2, ::2])


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    """Smooth random texture, uint8 (160, 200, 3)."""
    cv2 = pytest.importorskip("cv2", reason="flow is of the extra lock")
    noise = np.random.default_rng(0).integers(0, 256, (160, 200, 3)).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)


def test_a_still_clip_has_none(texture: np.ndarray):
    assert warping_error(np.repeat(texture[None], 5, axis=0)) == 0


@pytest.mark.parametrize(("dy", "dx"), [(0, 1), (2, 0), (1, -3)], ids=["right", "down", "both"])
def test_exact_translation_has_nearly_none(texture: np.ndarray, dy: int, dx: int):
    places = [(20 + dy * i, 40 + dx * i) for i in range(6)]
    moved = np.stack([texture[y : y + 100, x : x + 120] for y, x in places])
    uncompensated = float(np.sqrt(np.mean((moved[1:].astype(float) - moved[:-1]) ** 2)))
    found = warping_error(moved)
    assert found is not None and found < 0.05 * uncompensated


@pytest.mark.parametrize("damage", ["brightness", "noise"])
def test_it_grows_with_the_damage(turning: np.ndarray, damage: str):
    rng = np.random.default_rng(1)
    signs = np.where(np.arange(FRAMES) % 2, 0.5, -0.5)[:, None, None, None]
    change = signs if damage == "brightness" else rng.standard_normal(turning.shape)
    levels = [0, 6, 15, 30]
    found = [warping_error(np.clip(turning + level * change, 0, 255).astype(np.uint8)) for level in levels]
    assert all(value is not None for value in found) and found == sorted(found) and len(set(found)) == len(levels)


def test_alternating_brightness_is_measured_in_grey_levels(texture: np.ndarray):
    middle = np.clip(texture, 20, 235)
    signs = np.where(np.arange(6) % 2, 4, -4)[:, None, None, None]
    assert warping_error((middle + signs).astype(np.uint8)) == pytest.approx(8, rel=0.1)


def test_time_has_no_direction(turning: np.ndarray):
    assert warping_error(turning[::-1]) == pytest.approx(warping_error(turning), rel=1e-9)


def test_the_first_difference_counts_as_the_last(texture: np.ndarray):
    flash = np.repeat(texture[None], 6, axis=0)
    early, late = flash.copy(), flash.copy()
    early[1], late[4] = texture // 2, texture // 2
    assert warping_error(early) == pytest.approx(warping_error(late), rel=1e-9)


@pytest.mark.parametrize(
    "frames",
    [np.zeros((1, 32, 32, 3), np.uint8), np.zeros((4, 8, 32, 3), np.uint8), np.zeros((4, 32, 32, 3), np.float32)],
    ids=["one-frame", "small", "float"],
)
def test_what_it_cannot_take(frames: np.ndarray):
    with pytest.raises(ValueError, match="expected"):
        warping_error(frames)


def test_without_opencv(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flicker, "is_installed", lambda: False)
    with pytest.raises(FashionFlowError, match="OpenCV") as error:
        warping_error(np.zeros((3, 32, 32, 3), np.uint8))
    assert "lock" in (error.value.hint or "")
