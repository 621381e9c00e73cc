"""The moving photo: exact at rest, within its limits, repeatable, at any size and wherever the figure stands."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from motion_figures import FOREARM, MANNEQUIN, Drawn, drawn, psnr, random_motion, still
from PIL import Image

from fashionflow_core.images.parts import HEAD
from fashionflow_core.motion.background import without_figure
from fashionflow_core.motion.constraints import HEAD_TURN, Constraints
from fashionflow_core.motion.figure_box import GRID, FigureBox
from fashionflow_core.motion.handmade import DEPTH_RATIO
from fashionflow_core.motion.matte import Matte, find_matte
from fashionflow_core.motion.shell import Shell

FIGURES = {
    "whole": {},
    "odd": {"height": 161, "width": 127},
    "cut at the knee": {"shift": (0.0, 0.25)},
    "cut at the side": {"shift": (-0.33, 0.0)},
    "cut at the top": {"shift": (0.0, -0.15)},
    "larger than the photo": {"scale": 2.0},
    "small": {"scale": 0.4},
    "arm across": {"shapes": (*MANNEQUIN, FOREARM)},
    "hard edge": {"soft": 0.01},
    "hair": {"soft": 6.0},
}


@pytest.mark.parametrize("with_parts", [False, True], ids=["body", "layers"])
@pytest.mark.parametrize("figure", [drawn(**options) for options in FIGURES.values()], ids=list(FIGURES))
def test_without_motion_it_is_the_photo(figure: Drawn, with_parts: bool) -> None:
    shell = figure.shell(with_parts)
    assert psnr(shell.still(), figure.photo) >= 50
    for frame in shell.frames(still(3), fade=1):
        np.testing.assert_array_equal(frame, figure.photo)


@pytest.mark.parametrize("name", ["blue.jpg", "green.jpg"])
def test_a_real_photo_without_motion_is_itself(name: str, golden: Path) -> None:
    photo = np.asarray(Image.open(golden / "photos" / name).convert("RGB"))
    matte = find_matte(photo)
    shell = Shell(photo, matte, without_figure(photo, matte.alpha), FigureBox.of(matte.alpha))
    assert psnr(shell.still(), photo) >= 50
    np.testing.assert_array_equal(next(iter(shell.frames(still()))), photo)


def test_the_first_frame_is_the_photo_and_the_rest_fades() -> None:
    figure = drawn()
    channels = random_motion(2, 16, amount=0.3)
    frames = [f.astype(float) for f in figure.shell().frames(channels, fade=8)]
    np.testing.assert_array_equal(frames[0], figure.photo)
    steps = [np.abs(b - a).mean() for a, b in itertools.pairwise(frames)]
    assert steps[0] < 1.5 * max(steps[1:4])  # the second frame does not pop


@pytest.mark.parametrize("figure", [drawn(**options) for options in FIGURES.values()], ids=list(FIGURES))
def test_any_motion_draws(figure: Drawn) -> None:
    channels = random_motion(5, 3, amount=1.5)
    frames = list(figure.shell().frames(channels))
    assert len(frames) == 3
    for frame in frames:
        assert frame.shape == figure.photo.shape and frame.dtype == np.uint8


def test_a_figure_may_leave_the_photo() -> None:
    figure = drawn()
    channels = still(3)
    channels[0, 1], channels[0, 2] = 0.4, 5.0
    channels[2, 1:] = 0.3
    frames = list(figure.shell(with_parts=False).frames(channels, fade=1))
    far = np.abs(frames[2].astype(float) - figure.plate)[:100].max(-1)
    assert (far > 8).mean() < 0.02  # gone, but for what stands on its feet


def test_it_is_the_same_every_time() -> None:
    figure = drawn(shapes=(*MANNEQUIN, FOREARM))
    channels = random_motion(3, 4)
    shell = figure.shell()
    first = np.stack(list(shell.frames(channels)))
    np.testing.assert_array_equal(np.stack(list(shell.frames(channels))), first)
    np.testing.assert_array_equal(np.stack(list(figure.shell().frames(channels))), first)


def test_a_frame_does_not_depend_on_how_many_there_are() -> None:
    figure = drawn()
    channels = random_motion(4, 11)
    all_frames = list(figure.shell().frames(channels, fade=1))
    some = list(figure.shell().frames(channels[:, [0, 9, 10]], fade=1))
    for one, other in zip(some[1:], all_frames[9:], strict=True):
        np.testing.assert_allclose(one.astype(int), other.astype(int), atol=1)


@pytest.mark.gpu
def test_a_gpu_draws_the_same() -> None:
    figure = drawn(shapes=(*MANNEQUIN, FOREARM))
    channels = random_motion(3, 4, amount=0.7)
    on_cpu = np.stack(list(figure.shell().frames(channels)))
    on_gpu = np.stack(list(figure.shell(device="cuda").frames(channels)))
    assert psnr(on_gpu, on_cpu) > 45
    np.testing.assert_array_equal(on_gpu[0], figure.photo)
    np.testing.assert_array_equal(np.stack(list(figure.shell(device="cuda").frames(channels))), on_gpu)


def figure_share(frame: np.ndarray, figure: Drawn) -> np.ndarray:
    """Where a frame differs from the background, (h, w)."""
    return np.abs(frame.astype(float) - figure.plate).max(-1) > 25


@pytest.mark.parametrize(
    ("shift", "channel", "amount", "border"),
    [
        ((0.0, 0.25), 1, -0.06, np.s_[-1, :]),  # cut at the knee, moved up
        ((0.0, -0.15), 1, 0.06, np.s_[0, :]),  # cut at the head, moved down
        ((-0.33, 0.0), 0, 0.06, np.s_[:, 0]),  # cut at the side, moved inwards
        ((0.33, 0.0), 0, -0.06, np.s_[:, -1]),
    ],
    ids=["bottom", "top", "left", "right"],
)
@pytest.mark.parametrize("with_parts", [False, True], ids=["body", "layers"])
def test_what_touches_the_border_keeps_touching_it(
    shift: tuple[float, float], channel: int, amount: float, border: tuple, with_parts: bool
) -> None:
    figure = drawn(shift=shift)
    channels = still(3)
    channels[channel, 1:] = amount
    channels[2, 2] = 0.35
    for frame in list(figure.shell(with_parts).frames(channels, fade=1))[1:]:
        touching = figure.alpha[border] > 0.99
        assert touching.any()
        assert figure_share(frame, figure)[border][touching].mean() > 0.9
        assert np.abs(frame.astype(float) - figure.photo)[40:120].max() > 30  # the rest does move


def test_planted_feet_stay() -> None:
    figure = drawn(240, 192)
    rows = np.flatnonzero((figure.alpha > 0.5).any(1))
    soles = slice(rows[-1] - 5, rows[-1] + 4)
    for seed in range(4):
        for frame in list(figure.shell().frames(random_motion(seed, 3, amount=1.2), fade=1))[1:]:
            difference = np.abs(frame.astype(float) - figure.photo)
            assert difference[soles].mean() < 1 and np.quantile(difference[soles], 0.99) < 12
            assert difference[60:180].mean() > 1


def test_feet_at_different_heights_are_both_planted() -> None:
    legs = ((7, 0.345, 0.75, 0.035, 0.17), (7, 0.455, 0.77, 0.035, 0.19))
    figure = drawn(240, 192, shapes=(*legs, *MANNEQUIN[2:]))
    limits = Constraints(figure.alpha, figure.parts, figure.box.figure_height)
    soles = []
    for cx, cy, b in ((0.345, 0.75, 0.17), (0.455, 0.77, 0.19)):
        x, y = (cx - 0.4) * 240 + 96, (cy + b) * 240 - 2
        soles.append((x, y))
    x, y = np.array(soles).T
    free = limits.at(x, y, np.ones(2, bool))
    assert not free.across.any() and not free.down.any() and not free.turn.any()
    free = limits.at(x, y - 0.3 * 240, np.ones(2, bool))
    assert bool((free.across == 1).all())


@pytest.mark.parametrize("with_parts", [False, True], ids=["without parts", "with parts"])
def test_the_head_turns_at_most_15_degrees(with_parts: bool) -> None:
    figure = drawn(240, 192)
    constraints = Constraints(figure.alpha, figure.parts if with_parts else None, figure.box.figure_height)
    rows, columns = np.nonzero(figure.parts == HEAD)
    face = rows < np.quantile(rows, 0.6)
    x, y = columns[face] + 0.5, rows[face] + 0.5
    limits = constraints.at(x, y, np.ones(len(x), bool))
    most = DEPTH_RATIO * np.sin(np.radians(HEAD_TURN))
    for b in (-0.6, -0.25, -0.1, 0.05, 0.3, 2.0):
        channels = torch.zeros(4, 1, len(x))
        channels[2] = b
        limited = limits.apply(channels)[2].numpy()
        assert np.abs(limited).max() <= most + 1e-6
        if abs(b) < 0.5 * most:
            np.testing.assert_allclose(limited, b, rtol=0.01)
    trunk = constraints.at(np.array([96.0]), np.array([0.5 * 240]), np.ones(1, bool))
    assert trunk.head[0] == 0


def test_a_head_beyond_the_limit_looks_as_at_the_limit() -> None:
    figure = drawn(240, 192)
    channels = still(3)
    channels[2, 1], channels[2, 2] = 0.5, 0.9
    _, one, other = figure.shell().frames(channels, fade=1)
    rows = np.flatnonzero((figure.parts == HEAD).any(1))
    face = slice(rows[0], rows[int(0.6 * len(rows))])
    assert psnr(one[face], other[face]) > 40
    assert psnr(one[100:150], other[100:150]) < 30


@pytest.mark.parametrize("turn", [0.05, 0.25, -0.4])
def test_edges_stay_soft(turn: float) -> None:
    """Hair keeps its soft edge, and a fold gets one: on most rows a pixel lies between figure and wall."""
    figure = drawn(240, 192, shapes=MANNEQUIN[:5], soft=3.0)
    channels = still(2)
    channels[2, 1] = turn
    frame = list(figure.shell(with_parts=False).frames(channels, fade=1))[1].astype(float)
    distance = np.abs(frame - figure.plate).max(-1)
    between = (distance > 12) & (distance < 50)
    rows = range(30, 150)
    assert np.mean([between[row].sum() >= 2 for row in rows]) > 0.8


def test_thin_parts_are_kept() -> None:
    """An arm of three pixels neither breaks nor vanishes when it moves."""
    thin = (*MANNEQUIN[:5], (5, 0.288, 0.38, 0.009, 0.17))
    figure = drawn(shapes=thin)
    channels = still(4)
    channels[0, 1:], channels[2, 1:] = np.array([0.01, 0.02, 0.03])[:, None, None], 0.3
    for frame in figure.shell().frames(channels, fade=1):
        share = figure_share(frame, figure)
        left = share[45:75, 20:52]
        assert left.any(1).all()


def test_stretched_places_take_the_colour_of_their_part() -> None:
    """The band that turns into view is figure-coloured, without streaks of the wall."""
    figure = drawn(240, 192, shapes=MANNEQUIN[:5])
    channels = still(2)
    channels[2, 1] = 0.4
    frame = list(figure.shell().frames(channels, fade=1))[1].astype(float)
    inside = Image.fromarray(figure.alpha > 0.99)
    inner = np.asarray(inside).copy()
    for _ in range(4):
        inner[1:-1, 1:-1] &= inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    assert figure_share(frame, figure)[inner].mean() > 0.995


def test_gain_scales_the_figure_s_luminance() -> None:
    figure = drawn()
    channels = np.concatenate([still(3), np.zeros((1, 3, *GRID), np.float32)])
    channels[1, 1:] = 1e-5
    channels[4, 1], channels[4, 2] = np.log(0.5), np.log(1.3)
    plain, darker, brighter = (f.astype(float) for f in figure.shell().frames(channels, fade=1))
    inner = (figure.alpha > 0.999) & (plain.min(-1) > 20)
    for frame, factor in ((darker, 0.5), (brighter, 1.3)):
        ratio = (frame[inner] / plain[inner]) ** 2.2
        assert np.median(ratio) == pytest.approx(factor, rel=0.05)
        wall = figure.alpha == 0
        assert np.abs(frame - plain)[wall].mean() < 0.5


def test_wrong_shapes_are_refused() -> None:
    figure = drawn()
    with pytest.raises(ValueError, match="differ in size"):
        Shell(figure.photo[1:], Matte(figure.alpha, None, True, ""), figure.plate, figure.box)
    for shape in ((3, 2, *GRID), (4, 2, 20, 16), (4, *GRID)):
        with pytest.raises(ValueError, match="channels"):
            next(iter(figure.shell().frames(np.zeros(shape, np.float32))))
