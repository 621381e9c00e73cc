"""Face kept: where the head is, and a score that falls with damage to the face and not with damage to the garment."""

from itertools import pairwise

import clip_damage as damage
import numpy as np
import pytest

from fashionflow_core.images.person import figure_mask, figure_rows, grow
from fashionflow_core.metrics.face import face_kept, face_mask, head_mask
from fashionflow_core.synthetic.clips import render_clip


@pytest.mark.parametrize("seed", [1_000_000, 1_000_001, 1_000_002, 1_000_003, 1_000_005])
def test_head_lies_above_the_neck(seed: int):
    photo = render_clip(seed, height=320, width=256, frame_indices=[0]).frames[0]
    figure = figure_mask(photo)
    top, bottom = figure_rows(figure)
    rows = np.flatnonzero(head_mask(figure).any(axis=1))
    assert abs(rows[0] - top) <= 2
    assert 0.09 < (rows[-1] + 1 - top) / (bottom - top) < 0.22
    face = face_mask(figure)
    assert face.any() and not (face & ~head_mask(figure)).any()
    assert not head_mask(np.zeros((40, 40), bool)).any()


def test_face_kept_falls_with_damage_to_the_face():
    frames = damage.clip(damage.STRIPES, 5)
    figure = figure_mask(frames[0])
    head = grow(head_mask(figure), 4)
    blurs = [face_kept(damage.softened(frames, head, sigma), figure) for sigma in (0, 1.0, 2.0, 5.0)]
    assert all(0 <= b < a - 0.03 for a, b in pairwise(blurs)), blurs
    masks = np.repeat(head[None], len(frames), axis=0)
    noises = [face_kept(damage.noisy(frames, masks, sigma), figure) for sigma in (0, 8, 25)]
    assert all(b < a for a, b in pairwise(noises)), noises
    assert blurs[-1] < 0.4 * blurs[0]


def test_the_garment_is_no_face():
    frames, garments = damage.clip(damage.STRIPES, 5), damage.garments(damage.STRIPES, 5)
    figure = figure_mask(frames[0])
    harmed = damage.softened(frames, garments, 4.0)
    assert face_kept(harmed, figure) == pytest.approx(face_kept(frames, figure), abs=0.05)


def test_still_and_missing_figures():
    photo = damage.clip(damage.STRIPES, 5)[:1]
    assert face_kept(np.repeat(photo, 2, axis=0)) == pytest.approx(1, abs=1e-3)
    assert face_kept(np.full((3, 64, 64, 3), 200, np.uint8)) == 0
