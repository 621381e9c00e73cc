"""Edge quality: clean outlines keep it, halos, teeth and patches of wall lower it the more, the larger they are."""

from itertools import pairwise

import clip_damage as damage
import numpy as np
import pytest

from fashionflow_core.metrics.edges import edge_faults, edge_quality

SEEDS = (damage.DOTS, damage.STRIPES)


def whitish(frames: np.ndarray, pixels: int) -> np.ndarray:
    return damage.haloed(frames, 0.3, pixels) if pixels else frames


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("harm", "levels"),
    [
        (damage.haloed, (0, 0.02, 0.05, 0.1)),
        (whitish, (0, 2, 4)),
        (damage.toothed, (0, 1, 2, 4)),
        (damage.patched, (0, 5, 8, 12)),
    ],
    ids=["halo", "wide", "teeth", "patch"],
)
def test_edge_quality_falls_with_damage(harm, levels: tuple[float, ...], seed: int):
    frames = damage.clip(seed, 5)[[0, 4]]
    values = [edge_quality(harm(frames, level), 1) for level in levels]
    assert all(0 <= b < a - 0.01 for a, b in pairwise(values)), values
    assert values[0] > 0.75 and values[-1] < 0.65, values


@pytest.mark.parametrize("seed", SEEDS)
def test_each_fault_is_named(seed: int):
    frames = damage.clip(seed, 5)[[0, 4]]
    clean = edge_faults(frames, 1)
    assert edge_faults(damage.haloed(frames, 0.1), 1).halo > clean.halo + 1
    assert edge_faults(whitish(frames, 4), 1).soft > clean.soft + 1
    assert edge_faults(damage.toothed(frames, 3), 1).teeth > clean.teeth + 0.1
    assert edge_faults(damage.patched(frames, 12), 1).stain > clean.stain + 0.005
    assert edge_faults(damage.patched(frames, 12, share=1.0), 1).wall > clean.wall + 0.01


def test_repeated_and_vanished_figures():
    photo = damage.clip(damage.DOTS, 5)[:1]
    still = np.repeat(photo, 3, axis=0)
    assert edge_quality(still) == 1
    gone = still.copy()
    gone[1:] = photo[0, 0, 0]
    assert edge_quality(gone) < 1e-6
