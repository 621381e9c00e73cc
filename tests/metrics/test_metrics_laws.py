"""What any distance of videos must do, whatever the weights; and agreement with an independent implementation."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from metric_weights import named_videos
from torch import nn

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.metrics import frechet
from fashionflow_core.metrics.features import fvd_features, inception_features, vfid_features
from fashionflow_core.metrics.frechet import frechet_distance, inception_score, interval, noise_floor
from fashionflow_core.metrics.weights import FILES, load_network

RNG = np.random.default_rng(0)


def gaussian_rows(count: int, width: int, mean: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return (mean + scale * RNG.standard_normal((count, width))).astype(np.float32)


@pytest.mark.parametrize("count", [3, 50, 5000], ids=["few", "some", "more-than-a-block"])
def test_identity_symmetry_permutation(count: int):
    a, b = gaussian_rows(count, 16), gaussian_rows(count + 1, 16, 0.5)
    scale = frechet_distance([a], [b])
    assert frechet_distance([a], [a]) == pytest.approx(0, abs=1e-9 * scale)
    assert frechet_distance([a], [a[::-1]]) == pytest.approx(0, abs=1e-9 * scale)
    assert frechet_distance([b], [a]) == pytest.approx(scale, rel=1e-9)
    assert frechet_distance(list(a[RNG.permutation(count), None]), [b]) == pytest.approx(scale, rel=1e-9)


def test_closed_form():
    """For N(m, s²) and N(n, t²) the distance is (m - n)² + (s - t)², d times."""
    a = RNG.standard_normal((40, 8))
    a = (a - a.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(a.T))).T  # mean 0, covariance the identity
    assert frechet_distance([a], [3 * a[:, ::-1] + 2]) == pytest.approx(8 * (4 + 4), rel=1e-9)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    a, b = gaussian_rows(300, 8), gaussian_rows(200, 8, 1)
    whole = frechet_distance([a], [b])
    monkeypatch.setattr(frechet, "_BLOCK", 7)
    assert frechet_distance([a], [b]) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.ones((1, 4)), np.ones((5, 4)), "1 samples"),
        (np.ones((5, 4)), np.ones((5, 3)), "one width"),
        (np.full((5, 4), np.nan), np.ones((5, 4)), "finite"),
    ],
    ids=["one-row", "widths", "nan"],
)
def test_no_number_where_there_is_none(a: np.ndarray, b: np.ndarray, words: str):
    with pytest.raises(ValueError, match=words):
        frechet_distance([a], [b])


def test_noise_floor_and_interval():
    same = [gaussian_rows(1, 8) for _ in range(60)]
    other = [gaussian_rows(1, 8, 3.0) for _ in range(60)]
    floor = noise_floor(same)
    value = frechet_distance(same, other)
    assert floor is not None and 0 < floor < value / 5
    assert noise_floor(same) == floor and noise_floor(same[:3]) is None
    found = interval(frechet_distance, [same, other], 50)
    assert found is not None and 0 < found[0] < value < found[1] < 2 * value
    assert interval(frechet_distance, [same, other], 50) == found
    assert interval(frechet_distance, [same, other], 0) is None
    wide = interval(frechet_distance, [same[:6], other[:6]], 50)
    assert wide is not None and wide[1] - wide[0] > found[1] - found[0]


def test_inception_score_bounds():
    certain = np.eye(10, dtype=np.float32)[np.arange(50) % 10] * 1000
    assert inception_score([certain]) == pytest.approx(10)
    assert inception_score([np.zeros((7, 10), np.float32)]) == pytest.approx(1)
    assert inception_score([np.repeat(certain[:1], 9, axis=0)]) == pytest.approx(1)
    assert inception_score([certain], splits=5) == pytest.approx(10)
    with pytest.raises(ValueError, match="split"):
        inception_score([certain[:2]], splits=3)


def noisy(videos: list[np.ndarray], deviation: float) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [np.clip(v + rng.normal(0, deviation, v.shape), 0, 255).astype(np.uint8) for v in videos]


def frozen(videos: list[np.ndarray], repeats: int) -> list[np.ndarray]:
    """Frames dropped: each one left is shown `repeats` times."""
    return [v[np.arange(len(v)) // repeats * repeats] for v in videos]


@pytest.mark.parametrize(
    "kind", ["vfid", pytest.param("fvd", marks=pytest.mark.slow), pytest.param("fid", marks=pytest.mark.slow)]
)
def test_more_noise_is_further(metric_weights: Path, kind: str):
    measure = extractor(metric_weights, kind)
    videos = named_videos("noise", 4, (16, 32, 32))
    real = measure(videos)
    found = [frechet_distance(real, measure(noisy(videos, deviation))) for deviation in (0, 15, 40, 90)]
    assert found[0] == pytest.approx(0, abs=1e-6 * found[1])
    assert found == sorted(found) and len(set(found)) == 4


@pytest.mark.slow
def test_more_dropped_frames_are_further(metric_weights: Path):
    measure = extractor(metric_weights, "fvd")
    videos = named_videos("drop", 4, (16, 32, 32))
    real = measure(videos)
    found = [frechet_distance(real, measure(frozen(videos, repeats))) for repeats in (1, 2, 4, 16)]
    assert found[0] == pytest.approx(0, abs=1e-6 * found[1])
    assert found == sorted(found) and len(set(found)) == 4


def extractor(folder: Path, kind: str) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    network = load_network("inception" if kind == "fid" else "i3d", folder).network
    of_video = {"fvd": fvd_features, "vfid": vfid_features, "fid": lambda n, v: inception_features(n, v[::4])[0]}[kind]
    return lambda videos: [of_video(network, video) for video in videos]


class Part(nn.Module):
    """One output of the network, in the form in which torchmetrics takes a network."""

    def __init__(self, network: nn.Module, part: int) -> None:
        super().__init__()
        self.network, self.part, self.num_features = network, part, 2048

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)[self.part]


@pytest.mark.slow
def test_torchmetrics_agrees(metric_weights: Path):
    fid_module = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics comes with the extra dev")
    from torchmetrics.image.inception import InceptionScore

    inception = load_network("inception", metric_weights).network
    real, fake = (np.concatenate(named_videos(name, 6, (2, 40, 40))) for name in ("tm:real", "tm:fake"))
    ours = [inception_features(inception, frames) for frames in (real, fake)]
    images = [torch.from_numpy(frames).permute(0, 3, 1, 2) for frames in (real, fake)]

    fid = fid_module.FrechetInceptionDistance(feature=Part(inception, 0), input_img_size=(3, 40, 40)).set_dtype(
        torch.float64
    )
    inception.float()
    fid.update(images[0], real=True)
    fid.update(images[1], real=False)
    assert frechet_distance([ours[0][0]], [ours[1][0]]) == pytest.approx(float(fid.compute()), rel=1e-3)

    score = InceptionScore(feature=Part(inception, 1), splits=1)
    score.update(images[1])
    assert inception_score([ours[1][1]]) == pytest.approx(float(score.compute()[0]), rel=1e-3)


def test_training_mode_leaves_no_trace(metric_weights: Path):
    """VFID's parity mode normalises each clip by itself: neither the stored statistics nor other metrics may change."""
    i3d = load_network("i3d", metric_weights).network
    before = {name: value.clone() for name, value in i3d.state_dict().items() if "running" in name}
    clip = named_videos("trace", 1, (16, 32, 32))[0]
    fvd = fvd_features(i3d, clip)
    vfid_features(i3d, clip, "train")
    assert all(torch.equal(i3d.state_dict()[name], value) for name, value in before.items())
    assert np.array_equal(fvd_features(i3d, clip), fvd)


@pytest.mark.parametrize("kind", ["i3d", "inception"])
def test_weights_are_these_or_none(metric_weights: Path, tmp_path: Path, kind: str):
    with pytest.raises(FashionFlowError) as missing:
        load_network(kind, tmp_path)
    assert FILES[kind].name in missing.value.message and FILES[kind].url in (missing.value.hint or "")
    path = tmp_path / FILES[kind].name
    path.write_bytes(b"no weights")
    with pytest.raises(FashionFlowError, match="unreadable"):
        load_network(kind, tmp_path)
    state = torch.load(metric_weights / FILES[kind].name, weights_only=True)
    name = next(iter(state))
    for wrong in (
        {**state, "extra": state[name]},
        {k: v for k, v in state.items() if k != name},
        {**state, name: torch.ones(3)},
    ):
        torch.save(wrong, path)
        with pytest.raises(FashionFlowError, match="weights of another network"):
            load_network(kind, tmp_path)
    for other, words in ((nn.Linear(1, 1), "more than tensors"), ([1], "contains a list"), ({1: state[name]}, "lacks")):
        torch.save(other, path)
        with pytest.raises(FashionFlowError, match=words):
            load_network(kind, tmp_path)
    path.write_bytes(b"")
    with pytest.raises(FashionFlowError, match="empty or cut off"):
        load_network(kind, tmp_path)
    loaded = load_network(kind, metric_weights)
    assert not loaded.public and len(loaded.sha256) == 64
