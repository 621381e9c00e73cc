"""Detail carried over from given frames: what the VAE softens comes back, and nothing else changes."""

import numpy as np
import pytest

from fashionflow_core.diffusion.vae_residual import restore_detail

FACTOR = 4


def _noise(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 196, (frames, 24, 16, 3), np.uint8)


def _mixed(given: np.ndarray) -> np.ndarray:
    """Linear mixtures in float, given frames included."""
    places = np.arange((len(given) - 1) * FACTOR + 1) / FACTOR
    before = np.minimum(places.astype(int), len(given) - 2)
    part = (places - before)[:, None, None, None]
    return (1 - part) * given[before] + part * given[before + 1]


def _softened(frames: np.ndarray) -> np.ndarray:
    """A loss that is linear, as that of a good VAE nearly is: each pixel half way to the middle grey."""
    return np.rint(frames.astype(float) / 2 + 64).astype(np.uint8)


def _restored(decoded: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    return np.stack(list(restore_detail(iter(decoded), FACTOR, None if given is None else iter(given))))


def test_given_frames_are_what_they_were():
    given = _noise(3)
    made = _restored(_softened(_mixed(given)), given)
    assert made.dtype == np.uint8 and len(made) == 9
    np.testing.assert_array_equal(made[::FACTOR], given)


def test_what_the_vae_lost_comes_back():
    given = _noise(3)
    made = _restored(_softened(_mixed(given)), given)
    np.testing.assert_allclose(made, _mixed(given), atol=2)


def test_what_the_model_adds_stays():
    given = _noise(2)
    decoded = _softened(_mixed(given)).astype(int)
    decoded[1:FACTOR, 4:12, 4:12] += 20
    made = _restored(decoded.astype(np.uint8), given).astype(int)
    added = made - _restored(_softened(_mixed(given)), given)
    assert added[1:FACTOR, 4:12, 4:12].min() >= 19
    added[1:FACTOR, 4:12, 4:12] = 0
    assert not added.any()


@pytest.mark.parametrize("known", [True, False])
def test_what_stands_still_stands_still(known: bool):
    """Whatever a model makes of it."""
    still = _noise(1)[0]
    decoded = _noise(9, seed=1)
    decoded[::FACTOR] = still
    made = _restored(decoded, np.stack([still] * 3) if known else None)
    assert all(np.array_equal(frame, still) for frame in made)


def test_only_where_it_moves_the_model_is_asked():
    """A bar that jumps: at its old and new place the model's frames, far from them the given ones."""
    given = np.full((2, 24, 40, 3), 100, np.uint8)
    given[0, :, 4:8] = given[1, :, 12:16] = 200
    decoded = np.full((5, 24, 40, 3), 100, np.uint8)
    decoded[0], decoded[4] = given
    decoded[1:4] = 150  # wrong everywhere but where the bar passes
    made = _restored(decoded, None)
    assert (made[1:4, :, 4:8] == 150).all() and (made[1:4, :, 12:16] == 150).all()
    assert (made[1:4, :, 24:] == 100).all()


def test_a_share_of_the_mixture_where_it_moves():
    given = _noise(2)
    decoded = _noise(5, seed=1)
    decoded[::FACTOR] = given
    alone, half = (np.stack(list(restore_detail(iter(decoded), FACTOR, None, share))) for share in (0.0, 0.5))
    expected = np.rint((alone.astype(float) + _mixed(given)) / 2)
    np.testing.assert_allclose(half, expected, atol=1)
