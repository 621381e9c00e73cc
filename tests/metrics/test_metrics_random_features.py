"""Random-feature distance: laws of a distance of videos, and features that never change."""

import numpy as np
import pytest
import torch
from golden.named_weights import named_video

from fashionflow_core.metrics.frechet import frechet_distance
from fashionflow_core.metrics.random_features import RFD_FEATURES, RandomVideoFeatures, random_features
from fashionflow_core.synthetic.clips import render_clip

GOLDEN = [0.0604151, 0.052152, 0.0284711, -0.409455]  # the first four features of a named clip
COUNT, SHAPE = 6, (16, 96, 72)


@pytest.fixture(scope="module")
def videos() -> list[np.ndarray]:
    return [render_clip(seed, *SHAPE, supersample=1).frames for seed in range(COUNT)]


def features(videos: list[np.ndarray]) -> list[np.ndarray]:
    network = RandomVideoFeatures()
    return [random_features(network, video) for video in videos]


def noisy(video: np.ndarray, level: float) -> np.ndarray:
    return np.clip(video + np.random.default_rng(0).normal(0, level, video.shape), 0, 255).astype(np.uint8)


def faded(video: np.ndarray, share: float) -> np.ndarray:
    return ((1 - share) * video + share * 200).astype(np.uint8)


def frozen(video: np.ndarray, repeats: int) -> np.ndarray:
    return video[np.arange(len(video)) // repeats * repeats]


def coarse(video: np.ndarray, side: int) -> np.ndarray:
    """Averaged over squares of `side` pixels."""
    f, h, w, c = video.shape
    small = video.reshape(f, h // side, side, w // side, side, c).mean(axis=(2, 4))
    return small.repeat(side, 1).repeat(side, 2).astype(np.uint8)


def test_identity_symmetry_order(videos: list[np.ndarray]):
    a, b = features(videos), features([noisy(video, 30) for video in videos])
    distance = frechet_distance(a, b)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9 * distance)
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(a[::-1], b[3:] + b[:3]) == pytest.approx(distance, rel=1e-9)


@pytest.mark.parametrize(
    ("damage", "levels"),
    [(noisy, (0, 10, 30, 80)), (faded, (0, 0.1, 0.3, 0.6)), (frozen, (1, 2, 4, 16)), (coarse, (1, 2, 4, 8))],
    ids=["noise", "fade", "dropped-frames", "coarse"],
)
def test_more_damage_is_further(videos: list[np.ndarray], damage, levels: tuple[float, ...]):
    real = features(videos)
    found = [frechet_distance(real, features([damage(video, level) for video in videos])) for level in levels]
    assert found[0] == pytest.approx(0, abs=1e-9) and found == sorted(found) and len(set(found)) == len(levels)


def test_features_are_the_same_everywhere():
    """Numbers of reports depend on the seed of the network: neither versions nor the caller's seed may change them."""
    torch.manual_seed(5)
    found = random_features(RandomVideoFeatures(), named_video("rfd", (16, 48, 32)))
    assert found.shape == (1, RFD_FEATURES) and found.dtype == np.float32
    np.testing.assert_allclose(found[0, :4], GOLDEN, rtol=1e-3)
    assert torch.initial_seed() == 5


def test_sixteen_frames(videos: list[np.ndarray]):
    with pytest.raises(ValueError, match="16 frames"):
        random_features(RandomVideoFeatures(), videos[0][:15])
