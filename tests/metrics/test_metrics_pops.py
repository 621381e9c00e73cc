"""Temporal jumps: smooth motion at any speed has none; frames that stand apart and frozen clips that go on have."""

from itertools import pairwise

import clip_damage as damage
import numpy as np
import pytest

from fashionflow_core.metrics.pops import LIMIT, largest_pop, ratios
from fashionflow_core.synthetic.clips import render_clip


@pytest.mark.parametrize("seed", [1_000_000, 1_000_002, 1_000_006])
def test_rendered_motion_does_not_pop(seed: int):
    frames = render_clip(seed, height=160, width=128, frame_indices=range(24)).frames
    assert largest_pop(frames) < LIMIT


@pytest.mark.parametrize("seed", [damage.DOTS, damage.STRIPES])
def test_jumps_grow_with_damage(seed: int):
    frames = render_clip(seed, height=160, width=128, frame_indices=range(24)).frames
    flashes = [largest_pop(damage.popped(frames, strength)) for strength in (0, 8, 16, 40)]
    assert all(b > a for a, b in pairwise(flashes)), flashes
    stops = [largest_pop(damage.frozen(frames, count)) for count in (0, 1, 2, 4)]
    assert all(b > a for a, b in pairwise(stops)), stops
    assert flashes[0] < LIMIT < min(flashes[-1], stops[-1])


def test_a_first_frame_that_stands_apart_is_a_jump():
    frames = render_clip(damage.DOTS, height=160, width=128, frame_indices=range(16)).frames
    apart = frames.copy()
    apart[0] = np.clip(frames[0].astype(int) + 25, 0, 255).astype(np.uint8)
    assert largest_pop(apart) > LIMIT > largest_pop(frames)


def test_speeding_up_slowing_down_and_stops_are_no_jumps():
    speed = np.concatenate([np.linspace(0.1, 3, 20), np.full(10, 3.0), np.linspace(3, 0, 20), np.full(8, 0.001)])
    assert ratios(speed).max() < 1.3
    assert ratios(np.zeros(5)).max() == 1
    speed[25] *= 2
    assert ratios(speed).argmax() == 25 and ratios(speed).max() == pytest.approx(2)


def test_still_clips():
    frames = np.repeat(damage.clip(damage.DOTS, 5)[:1], 5, axis=0)
    assert largest_pop(frames) == 1
    with pytest.raises(ValueError, match="at least 3"):
        largest_pop(frames[:2])
