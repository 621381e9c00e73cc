"""The feature networks and the distances against the golden values of the published ones."""

from pathlib import Path

import numpy as np
import pytest
from metric_weights import named_videos

from fashionflow_core.metrics.features import fvd_features, inception_features, vfid_features
from fashionflow_core.metrics.frechet import frechet_distance, inception_score
from fashionflow_core.metrics.weights import load_network

TOLERANCE = 1e-3  # relative, of features and distances alike


@pytest.fixture(scope="module")
def values(golden: Path):
    return np.load(golden / "golden_metrics.npz")


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return float(np.abs(found - wanted).max()) <= TOLERANCE * float(np.abs(wanted).max())


@pytest.mark.slow
def test_fvd(metric_weights: Path, values):
    i3d = load_network("i3d", metric_weights).network
    real, fake = (
        [fvd_features(i3d, v) for v in named_videos(f"pub:{kind}", 5, (16, 64, 48))] for kind in ("real", "fake")
    )
    assert close(real[0][0], values["pub_fvd_logits0"])
    assert frechet_distance(real, fake) == pytest.approx(values["pub_fvd"], rel=TOLERANCE)


@pytest.mark.parametrize("bn_mode", ["train", "eval"])
def test_vfid(metric_weights: Path, values, bn_mode: str):
    i3d = load_network("i3d", metric_weights).network
    real, fake = (
        [vfid_features(i3d, v, bn_mode) for v in named_videos(f"pub:{kind}60", 5, (24, 96, 80))]
        for kind in ("real", "fake")
    )
    assert close(real[0][0], values[f"pub_vfid_feat0_{bn_mode}"])
    found = frechet_distance(real, fake)
    assert found == pytest.approx(values[f"pub_vfid_{bn_mode}"], rel=TOLERANCE)


def test_inception_score(metric_weights: Path, values):
    inception = load_network("inception", metric_weights).network
    logits = [inception_features(inception, v)[1] for v in named_videos("pub:inc", 5, (2, 64, 48))]
    assert close(logits[0][0], values["pub_is_logits0"])
    assert inception_score(logits) == pytest.approx(values["pub_is"], rel=TOLERANCE)
