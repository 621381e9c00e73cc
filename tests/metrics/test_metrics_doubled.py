"""Doubled limbs: found where a copy of one appears, not in clips of figures that turn."""

import numpy as np
import pytest

from fashionflow_core.metrics.doubled import doubled_limb, doubled_limbs
from fashionflow_core.synthetic.faulty import faulty, limbs
from fashionflow_core.synthetic.labelled import labelled_clip

SEED, FRAMES, FIRST = 3, 16, 10


def test_a_copy_of_a_limb_is_found_in_its_first_frame() -> None:
    clip = labelled_clip(SEED, FRAMES)
    assert doubled_limb(clip.frames) == 0
    for strength in (0.6, 1.0):
        found = doubled_limbs(faulty(clip, "limb", strength, SEED))
        assert found.argmax() == FIRST and found[FIRST] > 0.02
        assert np.delete(found, FIRST).max() < 0.01


def test_a_limb_that_does_not_stay_and_a_cut_are_not_limbs() -> None:
    clip = labelled_clip(SEED, FRAMES)
    made = clip.frames.copy()
    made[FIRST : FIRST + 2] = faulty(clip, "limb", 1.0, SEED)[FIRST : FIRST + 2]
    assert doubled_limb(made) < 0.01
    other = labelled_clip(SEED + 1, FRAMES).frames
    assert doubled_limb(np.concatenate([clip.frames[:8], other[8:]])) == 0


def test_clips_without_a_figure_or_too_short() -> None:
    frames = np.full((8, 40, 32, 3), 200, np.uint8)
    assert doubled_limbs(frames).tolist() == [0.0] * 8
    assert doubled_limb(labelled_clip(SEED, 4).frames) == 0


def test_the_fault_adds_a_limb_beside_the_figure() -> None:
    clip = labelled_clip(SEED, FRAMES)
    made = faulty(clip, "limb", 1.0, SEED)
    np.testing.assert_array_equal(made[:FIRST], clip.frames[:FIRST])
    changed = (made != clip.frames).any(-1)[FIRST:]
    assert (changed.sum((1, 2)) > 0.02 * (clip.labels[FIRST:] > 0).sum((1, 2))).all()
    known = limbs(clip, SEED)
    assert set(known) == {"arm left", "arm right", "leg left", "leg right"}
    assert all(masks.shape == clip.frames.shape[:3] for masks in known.values())
    assert not (np.stack(list(known.values())) & (clip.labels == 0)).any()
    with pytest.raises(ValueError, match="unknown fault"):
        faulty(clip, "limbs", 1.0, SEED)
