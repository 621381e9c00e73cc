"""Labels of garment, skin, hair and shoes that follow in time, against the renderer's own."""

import numpy as np
import pytest

from fashionflow_core.metrics import drift
from fashionflow_core.metrics.garment import Outline, frame_palette, garment_mask
from fashionflow_core.metrics.labels import GARMENT, HAIR, SHOES, SKIN, LabelTracker, follow_labels, without_shadow
from fashionflow_core.synthetic.labelled import labelled_clip

# Bare arms before a skirt, long hair, stripes as pale as the wall, trousers; turned by up to 100 degrees.
SEEDS = (2_000_000, 2_000_002, 2_000_005, 2_000_009)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def test_labels_agree_with_the_renderer_at_every_yaw() -> None:
    found: dict[int, list[tuple[float, float]]] = {GARMENT: [], SKIN: []}
    for seed in SEEDS:
        clip = labelled_clip(seed, indices=range(0, 40, 4))
        labels = follow_labels([Outline.of(frame) for frame in clip.frames])
        for here, truth, yaw in zip(labels, clip.labels, clip.yaws):
            for label, rows in found.items():
                rows.append((abs((yaw + 180) % 360 - 180), overlap(here.mask(label), truth == label)))
    for label, least in ((GARMENT, 0.85), (SKIN, 0.75)):
        yaw, value = np.array(found[label]).T
        for low, high in ((0, 20), (20, 45), (45, 70), (70, 181)):
            inside = (yaw >= low) & (yaw < high)
            assert inside.any() and value[inside].mean() >= least, (label, low)
        if label == GARMENT:
            assert value.min() > 0.7


def test_a_faded_clip_keeps_its_labels() -> None:
    clip = labelled_clip(SEEDS[0], indices=range(0, 40, 2))
    share = np.linspace(0, 0.55, len(clip.frames))[:, None, None, None]
    faded = np.rint(clip.frames * (1 - share) + 225 * share).astype(np.uint8)
    palette = frame_palette(faded[0])
    worst = min(
        overlap(garment_mask(frame, palette), truth == GARMENT) for frame, truth in zip(faded, clip.labels, strict=True)
    )
    labels = follow_labels([Outline.of(frame) for frame in faded])
    followed = min(overlap(here.mask(GARMENT), truth == GARMENT) for here, truth in zip(labels, clip.labels))
    assert followed > max(0.75, worst)


def test_the_shadow_on_the_floor_is_not_a_shoe() -> None:
    clip = labelled_clip(SEEDS[0], indices=[0])
    outline = Outline.of(clip.frames[0])
    assert overlap(outline.figure, clip.labels[0] > 0) < overlap(without_shadow(outline).figure, clip.labels[0] > 0)
    assert overlap(LabelTracker(outline).photo.mask(SHOES), clip.labels[0] == SHOES) > 0.6
    assert LabelTracker(outline).photo.mask(HAIR).any()


def test_nothing_is_labelled_where_nothing_is() -> None:
    blank = np.full((64, 48, 3), 240, np.uint8)
    assert not any(found.labels.any() for found in follow_labels([Outline.of(blank)] * 2))


def test_drift_by_cells_sees_two_changes_that_cancel() -> None:
    clip = labelled_clip(SEEDS[1], indices=[0, 1])
    worn = clip.labels == GARMENT
    assert drift.cell_drift(clip.frames[:1], clip.frames[0], worn[:1], worn[0]) == 0
    changed = clip.frames[:1].astype(np.int16)
    rows = np.flatnonzero(worn[0].any(1))
    middle = (rows[0] + rows[-1]) // 2
    changed[0, :middle] += 20
    changed[0, middle:] -= 20
    changed = np.clip(changed, 0, 255).astype(np.uint8)
    pair = np.concatenate([clip.frames[:1], changed])
    whole = drift.garment_drift(pair, np.stack([worn[0], worn[0]]))
    assert drift.cell_drift(changed, clip.frames[0], worn[:1], worn[0]) > max(4.0, 1.5 * whole)
    assert drift.cell_drift(clip.frames[:1], clip.frames[0], np.zeros_like(worn[:1]), worn[0]) == 0


@pytest.mark.slow
def test_garment_labels_of_many_clips() -> None:
    values = []
    for seed in range(2_000_100, 2_000_130):
        clip = labelled_clip(seed, indices=range(0, 40, 8))
        labels = follow_labels([Outline.of(frame) for frame in clip.frames])
        values.append(np.mean([overlap(x.mask(GARMENT), t == GARMENT) for x, t in zip(labels, clip.labels)]))
    assert np.mean(values) >= 0.93 and np.mean(np.array(values) > 0.85) >= 0.9
