"""Pattern kept and garment sharpness: flow against known shifts, and scores that fall with damage of known strength."""

from itertools import pairwise

import clip_damage as damage
import numpy as np
import pytest
import torch

from fashionflow_core.metrics.pattern import garment_sharpness, garment_weight, pattern_kept, sharpness_kept
from fashionflow_core.metrics.tracking import blurred, follow

SEEDS = (damage.DOTS, damage.STRIPES)


def textured(height: int = 96, width: int = 80) -> np.ndarray:
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (3, height, width)).astype(np.float32))
    return (128 + 400 * blurred(noise, 2.5)).permute(1, 2, 0).numpy()


def shifted(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """Content moved right by dx and down by dy, cyclically and exactly (by its Fourier transform)."""
    v, u = np.fft.fftfreq(image.shape[0])[:, None, None], np.fft.fftfreq(image.shape[1])[None, :, None]
    moved = np.fft.ifft2(np.fft.fft2(image, axes=(0, 1)) * np.exp(-2j * np.pi * (u * dx + v * dy)), axes=(0, 1))
    return np.clip(np.rint(moved.real), 0, 255).astype(np.uint8)


def test_flow_follows_a_known_shift_without_drift():
    image = textured()
    frames = np.stack([shifted(image, 0.7 * i, -0.4 * i) for i in range(20)])
    track = follow(frames, np.ones((96, 80), bool), every=2)
    assert track.indices == (*range(0, 20, 2), 19)
    inner = track.flow[:, :, 24:-24, 24:-24]  # the shift is cyclic, frames are not
    for number, index in enumerate(track.indices):
        assert inner[number, 0].numpy() == pytest.approx(0.7 * index, abs=0.25)
        assert inner[number, 1].numpy() == pytest.approx(-0.4 * index, abs=0.25)
    back = track.warped(frames[-1], len(track.indices) - 1)[:, 24:-24, 24:-24].permute(1, 2, 0).numpy()
    assert np.abs(back - image[24:-24, 24:-24]).mean() < 2


def test_blurs_keep_sums_and_agree_with_a_plain_gaussian():
    image = torch.zeros(1, 65, 65)
    image[0, 32, 32] = 1
    for sigma in (1.0, 3.0, 5.0, 9.0):
        place = torch.arange(65) - 32.0
        line = torch.exp(-(place**2) / (2 * sigma**2))
        exact = line[:, None] * line[None] / line.sum() ** 2
        # Wide blurs are computed at a lower resolution, from blocks that the point is not in the middle of.
        assert float((blurred(image, sigma)[0] - exact).abs().sum()) < (0.03 if sigma < 4 else 0.35)


@pytest.mark.parametrize(
    ("harm", "levels", "seed"),
    [
        (damage.softened, (0, 1.0, 2.0, 5.0), damage.DOTS),
        (damage.retextured, (0, 0.3, 0.6, 1), damage.STRIPES),
        (damage.noisy, (0, 10, 25, 60), damage.DOTS),
    ],
    ids=["blur", "texture", "noise"],
)
def test_pattern_kept_falls_with_damage_to_the_garment(harm, levels: tuple[float, ...], seed: int):
    frames, garments = damage.clip(seed, 5), damage.garments(seed, 5)
    values = [pattern_kept(harm(frames, garments, level), garments[0]) for level in levels]
    assert all(0 <= b < a - 0.01 for a, b in pairwise(values)), values
    assert values[-1] < 0.75 * values[0]


def test_pattern_kept_of_a_still_photo_and_of_shading():
    frames, garments = damage.clip(damage.DOTS, 5), damage.garments(damage.DOTS, 5)
    still = np.repeat(frames[:1], 2, axis=0)
    assert pattern_kept(still, garments[0]) == pytest.approx(1, abs=1e-3)
    shaded = still.copy()
    light = np.linspace(0.8, 1.1, frames.shape[2])[None, None, :, None]
    shaded[1:] = (shaded[1:] * light).astype(np.uint8)
    assert pattern_kept(shaded, garments[0]) > 0.95
    plain = still.copy()
    plain[1:][:, garments[0]] = frames[0][garments[0]].mean(0).astype(np.uint8)
    assert pattern_kept(plain, garments[0]) < 0.4


def test_places_that_a_turn_hides_count_nothing():
    garment = np.zeros((60, 60), bool)
    garment[10:50, 20:40] = True
    weight = garment_weight(garment)
    assert weight[30, 30] == 1 and weight[30, 21] == 0 and weight[30, 38] == 0
    assert not garment_weight(np.zeros((8, 8), bool)).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_sharpness_falls_with_blur_and_rises_with_noise(seed: int):
    frames, garments = damage.clip(seed, 5), damage.garments(seed, 5)
    still, masks = np.repeat(frames[:1], 2, axis=0), np.repeat(garments[:1], 2, axis=0)
    assert garment_sharpness(still, masks) == pytest.approx(1)
    blurs = [garment_sharpness(damage.softened(still, masks, sigma), masks) for sigma in (0, 0.7, 1.5, 3)]
    assert all(b < a - 0.05 for a, b in pairwise(blurs)), blurs
    noises = [garment_sharpness(damage.noisy(still, masks, sigma), masks) for sigma in (0, 10, 30)]
    assert all(b > a for a, b in pairwise(noises)), noises
    for values in (blurs, noises):
        kept = [sharpness_kept(value) for value in values]
        assert all(b < a for a, b in pairwise(kept)), kept
    # An outline beside another wall is not the garment's sharpness.
    walled = still.copy()
    walled[1:][~masks[1:]] = 0
    assert garment_sharpness(walled, masks) == pytest.approx(1, abs=0.02)


def test_frames_are_refused_by_shape():
    with pytest.raises(ValueError, match="at least 2"):
        follow(np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        follow(np.zeros((3, 32, 32, 3), np.float32))
