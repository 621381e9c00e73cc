"""What is lost of prints, faces and sharpness: nothing in true clips, more with more damage."""

import numpy as np
import pytest

from fashionflow_core.metrics import drift
from fashionflow_core.metrics.lost_detail import LostStructure, blur, lost_structure, softness
from fashionflow_core.synthetic.faulty import faulty
from fashionflow_core.synthetic.labelled import LabelledClip, labelled_clip

SEED = 8
STRENGTHS = (0.2, 0.6, 1.0)


@pytest.fixture(scope="module")
def clip() -> LabelledClip:
    return labelled_clip(SEED, 8)


def parts(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Figure and garment."""
    _, figure, garment = drift.find_parts(frames)
    return figure, garment


def test_each_score_rises_with_its_damage(clip: LabelledClip) -> None:
    figure, garment = parts(clip.frames)
    clean = lost_structure(clip.frames, figure[0], garment[0])
    assert 0 <= clean.pattern < 0.08 and 0 <= clean.face < 0.15
    textures, faces, blurs = [clean.pattern], [clean.face], [blur(clip.frames, figure)]
    assert blurs[0] < 0.15
    for strength in STRENGTHS:
        textures.append(lost_structure(faulty(clip, "texture", strength, SEED), figure[0], garment[0]).pattern)
        melted = faulty(clip, "face", strength, SEED)
        found = lost_structure(melted, figure[0], garment[0])
        faces.append(found.face)
        assert found.pattern == pytest.approx(clean.pattern, abs=0.02)
        blurs.append(blur(faulty(clip, "blur", strength, SEED), figure))
    for values in (textures, faces, blurs):
        assert sorted(values) == values and values[-1] > 0.3, values


def test_a_photo_that_is_repeated_or_scaled_loses_nothing(clip: LabelledClip) -> None:
    still = np.repeat(clip.frames[:1], 5, axis=0)
    figure, garment = parts(still)
    found = lost_structure(still, figure[0], garment[0])
    assert (found.pattern, found.face) == pytest.approx((0, 0), abs=1e-5)
    assert softness(still, figure) == pytest.approx(np.zeros(5)) and blur(still, figure) == 0
    dim = still.copy()
    dim[1:] = np.rint(dim[1:] * 0.8)
    assert blur(dim, figure) < 0.05


def test_nothing_is_lost_without_a_figure() -> None:
    frames = np.full((5, 64, 48, 3), 200, np.uint8)
    empty = np.zeros(frames.shape[:3], bool)
    assert lost_structure(frames, empty[0], empty[0]) == LostStructure(0, 0)
    assert np.isnan(softness(frames, empty)).all() and blur(frames, empty) == 0
