"""The feature networks on a GPU: the same numbers as on the CPU, and what bf16 does to them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from metric_weights import named_videos

from fashionflow_core.metrics.features import fvd_features, inception_features, vfid_features
from fashionflow_core.metrics.frechet import frechet_distance
from fashionflow_core.metrics.weights import load_network

pytestmark = pytest.mark.gpu


def close(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> bool:
    return float(np.abs(found - wanted).max()) <= tolerance * float(np.abs(wanted).max())


def test_golden_features(metric_weights: Path, golden: Path):
    values = np.load(golden / "golden_metrics.npz")
    i3d = load_network("i3d", metric_weights, "cuda").network
    inception = load_network("inception", metric_weights, "cuda").network
    fvd = fvd_features(i3d, named_videos("pub:real", 1, (16, 64, 48))[0])[0]
    assert close(fvd, values["pub_fvd_logits0"], 1e-3)
    clip = named_videos("pub:real60", 1, (24, 96, 80))[0]
    for mode in ("train", "eval"):
        assert close(vfid_features(i3d, clip, mode)[0], values[f"pub_vfid_feat0_{mode}"], 1e-3)
    frames = named_videos("pub:inc", 1, (2, 64, 48))[0]
    assert close(inception_features(inception, frames)[1][0], values["pub_is_logits0"], 1e-3)


def test_bf16_keeps_the_order_of_distances(metric_weights: Path):
    """Half the memory; a distance may be off by some percent, but what is further stays further."""
    sets = [named_videos(f"bf16:{name}", 6, (16, 64, 48)) for name in ("real", "fake")]
    rng = np.random.default_rng(0)
    sets.append([np.clip(v + rng.normal(0, 40, v.shape), 0, 255).astype(np.uint8) for v in sets[0]])
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        network = load_network("i3d", metric_weights, "cuda", dtype).network
        real, fake, noisy = ([fvd_features(network, clip) for clip in clips] for clips in sets)
        found[dtype] = np.array([frechet_distance(real, fake), frechet_distance(real, noisy)])
    exact, rough = found.values()
    assert np.abs(rough / exact - 1).max() < 0.1
    assert np.argsort(rough).tolist() == np.argsort(exact).tolist()
