"""Garment masks against the renderer's, the colour difference against published pairs, and the measures' laws."""

from pathlib import Path

import numpy as np
import pytest

from fashionflow_core.images.lab import ciede2000, srgb_to_lab
from fashionflow_core.images.loading import load_photo
from fashionflow_core.metrics import drift
from fashionflow_core.synthetic.clips import render_clip

# Sharma, Wu and Dalal 2005, table 1: two L*a*b* colours and their difference.
SHARMA = np.array(
    [
        [50.0000, 2.6772, -79.7751, 50.0000, 0.0000, -82.7485, 2.0425],
        [50.0000, 3.1571, -77.2803, 50.0000, 0.0000, -82.7485, 2.8615],
        [50.0000, 2.8361, -74.0200, 50.0000, 0.0000, -82.7485, 3.4412],
        [50.0000, -1.3802, -84.2814, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, -1.1848, -84.8006, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, -0.9009, -85.5211, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, 0.0000, 0.0000, 50.0000, -1.0000, 2.0000, 2.3669],
        [50.0000, -1.0000, 2.0000, 50.0000, 0.0000, 0.0000, 2.3669],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0009, 7.1792],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0010, 7.1792],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0011, 7.2195],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0012, 7.2195],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0009, -2.4900, 4.8045],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0010, -2.4900, 4.8045],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0011, -2.4900, 4.7461],
        [50.0000, 2.5000, 0.0000, 50.0000, 0.0000, -2.5000, 4.3065],
        [50.0000, 2.5000, 0.0000, 73.0000, 25.0000, -18.0000, 27.1492],
        [50.0000, 2.5000, 0.0000, 61.0000, -5.0000, 29.0000, 22.8977],
        [50.0000, 2.5000, 0.0000, 56.0000, -27.0000, -3.0000, 31.9030],
        [50.0000, 2.5000, 0.0000, 58.0000, 24.0000, 15.0000, 19.4535],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.1736, 0.5854, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.2972, 0.0000, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 1.8634, 0.5757, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.2592, 0.3350, 1.0000],
        [60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644],
        [63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630],
        [61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731],
        [35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645],
        [22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373],
        [36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146],
        [90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441],
        [90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381],
        [6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377],
        [2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082],
    ]
)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def test_ciede2000_reproduces_the_published_pairs() -> None:
    one, two, expected = SHARMA[:, :3], SHARMA[:, 3:6], SHARMA[:, 6]
    np.testing.assert_allclose(ciede2000(one, two), expected, atol=5e-5)
    np.testing.assert_allclose(ciede2000(two, one), expected, atol=5e-5)
    np.testing.assert_array_equal(ciede2000(one, one), 0)


def test_lab_of_known_colours() -> None:
    # Bruce Lindbloom's calculator, sRGB, D65.
    known = {
        (255, 255, 255): (100, 0, 0),
        (0, 0, 0): (0, 0, 0),
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 255, 0): (87.73, -86.18, 83.18),
        (0, 0, 255): (32.30, 79.19, -107.86),
        (119, 119, 119): (50.03, 0, 0),
    }
    rgb = np.array(list(known), np.uint8)
    np.testing.assert_allclose(srgb_to_lab(rgb), np.array(list(known.values())), atol=0.03)
    np.testing.assert_allclose(srgb_to_lab(rgb / 255), srgb_to_lab(rgb), atol=1e-3)
    with pytest.raises(ValueError, match="length 3"):
        srgb_to_lab(np.zeros((4, 4)))


@pytest.mark.slow
def test_garment_masks_agree_with_the_renderer() -> None:
    alone, within = [], []
    for seed in range(1000, 1040):
        clip = render_clip(seed, frame_indices=[0, 20, 45])
        palette = drift.frame_palette(clip.frames[0])
        alone.append(_overlap(drift.garment_mask(clip.frames[0]), clip.garment_mask[0]))
        within += [
            _overlap(drift.garment_mask(frame, palette), mask)
            for frame, mask in zip(clip.frames[1:], clip.garment_mask[1:], strict=True)
        ]
    assert np.mean(alone) >= 0.8 and np.mean(within) >= 0.8
    # Few fail: mostly clothes of the colour of skin, or as white as the wall.
    assert np.mean(np.array(alone) > 0.7) > 0.85


# Points of the photos by eye (row, column; 640 x 512): on the dress, and on skin, hair, shoes, wall.
@pytest.mark.parametrize(
    ("name", "dress", "not_dress"),
    [
        (
            "blue.jpg",
            [(150, 215), (250, 220), (340, 200), (350, 270)],
            [(85, 230), (160, 165), (430, 190), (480, 270), (600, 205), (300, 60), (440, 230)],
        ),
        (
            "green.jpg",
            [(150, 240), (250, 240), (380, 240), (380, 205)],
            [(80, 240), (200, 180), (230, 308), (480, 210), (480, 280), (590, 210), (300, 60), (480, 245)],
        ),
    ],
)
def test_garment_of_real_photos(
    golden: Path, name: str, dress: list[tuple[int, int]], not_dress: list[tuple[int, int]]
) -> None:
    photo = load_photo(golden / name)
    mask = drift.garment_mask(photo)
    inside, outside = np.array(dress).T, np.array(not_dress).T
    assert mask[inside[0], inside[1]].all()
    assert not mask[outside[0], outside[1]].any()
    # Overlaid and looked at: the dresses, less an arm in front, fill 8.0 and 9.6 % of the photos.
    assert 0.07 < mask.mean() < 0.11


def test_masks_of_nothing_and_of_wrong_arrays() -> None:
    blank = np.full((64, 48, 3), 240, np.uint8)
    assert not drift.garment_mask(blank).any() and not drift.figure_mask(blank).any()
    assert drift.garment_drift(np.stack([blank, blank])) == 0
    assert drift.silhouette_width(blank[None]).tolist() == [0]
    with pytest.raises(ValueError, match="uint8"):
        drift.garment_mask(blank.astype(np.float32))
    with pytest.raises(ValueError, match="frames"):
        drift.motion(blank)
    with pytest.raises(ValueError, match="at least 2"):
        drift.motion(blank[None])
    with pytest.raises(ValueError, match="shape"):
        drift.psnr(np.stack([blank, blank]), blank[None])


def test_a_repeated_frame_neither_drifts_nor_moves() -> None:
    still = np.repeat(render_clip(3, frame_indices=[0]).frames, 4, axis=0)
    scores = drift.score_clip(still, still)
    assert scores["garment_drift"] == scores["motion"] == scores["temporal_energy"] == 0
    assert scores["silhouette_range"] == scores["silhouette_error"] == 0
    assert scores["sharpness_ratio"] == 1 and scores["psnr"] == float("inf")


def test_a_turning_figure_keeps_its_colour_and_a_recoloured_one_does_not() -> None:
    for seed in (0, 6, 8):
        clip = render_clip(seed, frame_indices=range(0, 70, 10))
        true = drift.garment_drift(clip.frames)
        assert true < 4
        recoloured = clip.frames.copy()
        for frame, mask in zip(recoloured[1:], clip.garment_mask[1:], strict=True):
            frame[mask] = frame[mask][:, [2, 0, 1]]
        assert drift.garment_drift(recoloured) > max(8, 3 * true)
        assert drift.garment_drift(recoloured, clip.garment_mask) > max(8, 3 * true)


def test_a_vanished_garment_drifts_to_the_wall() -> None:
    clip = render_clip(8, frame_indices=[0, 1])
    gone = clip.frames.copy()
    gone[1] = np.median(gone[0, :, :4], axis=(0, 1)).astype(np.uint8)
    assert drift.garment_drift(gone) > 20


def test_flicker_is_measured_in_grey_levels() -> None:
    rng = np.random.default_rng(0)
    noise = np.clip(np.round(128 + 9 * rng.standard_normal((40, 32, 32, 3))), 0, 255).astype(np.uint8)
    assert drift.temporal_energy(noise) == pytest.approx(9, rel=0.03)
    ramp = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8) * 5
    assert drift.temporal_energy(ramp) == 0
    assert drift.motion(ramp) == 5


def test_blur_costs_sharpness_and_no_width() -> None:
    truth = render_clip(8, frame_indices=[0, 15, 30]).frames
    blurred = truth.astype(np.float32)
    for _ in range(4):  # four passes of 1-2-1: a standard deviation of 1.4 pixels
        for axis in (1, 2):
            blurred = 0.25 * np.roll(blurred, 1, axis) + 0.5 * blurred + 0.25 * np.roll(blurred, -1, axis)
    scores = drift.score_clip(np.round(blurred).astype(np.uint8), truth)
    assert 0.25 < scores["sharpness_ratio"] < 0.55
    assert scores["silhouette_error"] < 4
    assert scores["garment_drift"] < 4
    # Moving texture is softened away, moving outlines are not.
    assert 0.6 < scores["motion_ratio"] < 1


def test_silhouette_width_is_the_width() -> None:
    frame = np.full((200, 120, 3), 235, np.uint8)
    frame[20:180, 40:70] = (30, 60, 140)
    wider = np.full_like(frame, 235)
    wider[20:180, 30:90] = (30, 60, 140)
    assert drift.silhouette_width(np.stack([frame, wider])).tolist() == [30, 60]
