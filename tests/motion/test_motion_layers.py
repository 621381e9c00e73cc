"""Layers of a figure: arms of their own, and a body that goes on behind them where it should."""

import numpy as np
import pytest
from motion_figures import FOREARM, MANNEQUIN, drawn

from fashionflow_core.images.parts import ARM_LEFT, ARM_RIGHT, UPPER
from fashionflow_core.motion.layers import CUT, DEPTH, seen_e, split, visible_e


def test_without_parts_there_is_one_layer() -> None:
    figure = drawn()
    (body,) = split(figure.alpha, None)
    assert body.name == "body" and body.seen.all()
    np.testing.assert_array_equal(body.alpha, figure.alpha)


def test_each_arm_is_a_layer() -> None:
    figure = drawn()
    layers = split(figure.alpha, figure.parts)
    assert [layer.name for layer in layers] == ["body", "arm_left", "arm_right"]
    for layer, label in zip(layers[1:], (ARM_LEFT, ARM_RIGHT), strict=True):
        arm = figure.parts == label
        assert (layer.alpha > CUT)[arm & (figure.alpha > 0.99)].mean() > 0.9
        assert layer.seen[arm].all()
    assert np.sum([layer.seen for layer in layers], axis=0).max() == 1


def test_an_arm_beside_the_body_does_not_make_it_wider() -> None:
    figure = drawn(240, 192)
    body = split(figure.alpha, figure.parts)[0]
    bare = drawn(240, 192, shapes=MANNEQUIN[:5])
    grown = ((body.alpha > 0.5) & (bare.alpha < 0.5)).sum()
    arms = np.isin(figure.parts, (ARM_LEFT, ARM_RIGHT)).sum()
    assert grown < 0.2 * arms


def test_the_body_goes_on_behind_an_arm_that_crosses_it() -> None:
    figure = drawn(240, 192, shapes=(*MANNEQUIN, FOREARM))
    layers = split(figure.alpha, figure.parts)
    body = drawn(240, 192, shapes=MANNEQUIN[:5])
    hidden = np.isin(figure.parts, (ARM_LEFT,)) & (body.alpha > 0.99)
    assert (layers[0].alpha > CUT)[hidden].mean() > 0.95
    assert layers[0].e[hidden].mean() > 0.9 * split(body.alpha, None)[0].e[hidden].mean()


@pytest.mark.parametrize("shapes", [MANNEQUIN, (*MANNEQUIN, FOREARM)], ids=["beside", "across"])
def test_an_arm_lies_in_front_of_what_it_covers(shapes: tuple[tuple[float, ...], ...]) -> None:
    figure = drawn(240, 192, shapes=shapes)
    body, *arms = split(figure.alpha, figure.parts)
    for arm in arms:
        both = (body.alpha > CUT) & (arm.alpha > CUT) & arm.seen
        assert both.any()
        assert (arm.z0 + DEPTH * arm.e > body.z0 + DEPTH * body.e)[both].all()


def test_the_surface_is_continuous_at_the_shoulder() -> None:
    figure = drawn(240, 192)
    e = visible_e(figure.alpha, figure.parts)
    step = np.abs(np.diff(e, axis=1))
    seam = np.isin(figure.parts, (ARM_LEFT, ARM_RIGHT))[:, 1:] & (figure.parts == UPPER)[:, :-1]
    seam |= np.isin(figure.parts, (ARM_LEFT, ARM_RIGHT))[:, :-1] & (figure.parts == UPPER)[:, 1:]
    rows = np.flatnonzero(seam.any(1))
    assert len(rows)
    top = seam & (np.arange(len(seam)) < rows[0] + 8)[:, None]
    assert step[top].max() < 6


def test_visible_inflation_is_that_of_the_layer_in_front() -> None:
    figure = drawn()
    layers = split(figure.alpha, figure.parts)
    e = visible_e(figure.alpha, figure.parts)
    np.testing.assert_array_equal(e, seen_e(layers))
    arm = (figure.parts == ARM_LEFT) & (figure.alpha > 0.99)
    np.testing.assert_array_equal(e[arm], layers[1].e[arm])
    assert (e[figure.alpha == 0] == 0).all()


def test_specks_are_no_arm() -> None:
    figure = drawn()
    parts = np.where(np.isin(figure.parts, (ARM_LEFT, ARM_RIGHT)), UPPER, figure.parts).astype(np.uint8)
    parts[40:42, 60:62] = ARM_LEFT
    assert len(split(figure.alpha, parts)) == 1


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        split(np.zeros((4, 5)), np.zeros((5, 4), np.uint8))


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 1), (17, 33)])
def test_tiny_photos(shape: tuple[int, int]) -> None:
    parts = np.full(shape, ARM_LEFT, np.uint8)
    for alpha in (np.zeros(shape), np.ones(shape)):
        for labels in (None, parts, np.zeros(shape, np.uint8)):
            assert visible_e(alpha, labels).shape == shape
