"""Extended backgrounds: they continue tone, grain and lines of the photo, without steps, streaks or the figure."""

from itertools import groupby

import numpy as np
import pytest
from numpy.typing import NDArray

from fashionflow_core import video
from fashionflow_core.config import RATIOS
from fashionflow_core.video.canvas import CanvasSize, VideoCanvas, plan_canvas, ratio_of

HEIGHT, WIDTH = 640, 512
FIGURE = slice(80, 600), slice(200, 320)


def _slope() -> NDArray[np.float64]:
    """A backdrop that darkens by 12 levels downwards and by 6 to the right."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (220.3 - 12 * rows / HEIGHT - 6 * columns / WIDTH)[..., None] * (1, 0.98, 0.95)


def _photo(background: NDArray[np.float64], grain: float = 0.0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(3)
    picture = background + grain * rng.standard_normal(background.shape)
    picture[FIGURE] = (20, 120, 60)
    return picture.round().clip(0, 255).astype(np.uint8)


def _extended(photo: NDArray[np.uint8], ratio: str) -> tuple[NDArray[np.uint8], CanvasSize]:
    size = plan_canvas(*photo.shape[:2], ratio=ratio_of(ratio))
    return VideoCanvas(photo, size).place(photo), size


def _longest_run(line: NDArray[np.uint8]) -> int:
    return max(len(list(run)) for _, run in groupby(line.tolist()))


@pytest.mark.parametrize("grain", [0.6, 1.0])
@pytest.mark.parametrize("ratio", ["16:9", "9:16"])
def test_means_of_rows_and_columns_are_those_of_the_border(ratio: str, grain: float):
    made, size = _extended(_photo(_slope(), grain), ratio)
    if ratio == "16:9":
        rows = slice(size.top, size.top + HEIGHT)
        bars = {0: made[rows, : size.left], WIDTH - 1: made[rows, size.left + WIDTH :]}
        errors = [bar.mean(axis=1) - _slope()[:, column] for column, bar in bars.items()]
    else:
        columns = slice(size.left, size.left + WIDTH)
        bars = {0: made[: size.top, columns], HEIGHT - 1: made[size.top + HEIGHT :, columns]}
        errors = [bar.mean(axis=0) - _slope()[row] for row, bar in bars.items()]
    assert np.abs(errors).max() <= 0.5


def test_gradients_have_no_steps_before_and_after_coding(tmp_path):
    """A photo without grain has steps of a whole level; its bars have none."""
    photo = _photo(_slope())
    made, size = _extended(photo, "16:9")
    canvas = VideoCanvas(photo, size)
    frames = (canvas.place(np.roll(photo, shift, axis=1)) for shift in range(16))
    video.write(frames, tmp_path / "v.mp4", 25, 16)
    for picture, most in ((made, 0.3), (video.read(tmp_path / "v.mp4")[3], 0.6)):
        bar = picture[size.top : size.top + HEIGHT, : size.left - 16, 1].astype(float)
        assert np.abs(np.diff(bar.mean(axis=1))).max() < most
    assert np.abs(np.diff(photo[:, 0, 1].astype(int))).max() == 1


def test_bars_have_the_grain_of_the_photo():
    photo = _photo(_slope(), 1.5)
    made, size = _extended(photo, "16:9")
    own, bar = photo[:, :190], made[size.top : size.top + HEIGHT, : size.left]
    fine = [(part[:, 1:].astype(float) - part[:, :-1]).std() for part in (own, bar)]
    assert fine[1] == pytest.approx(fine[0], rel=0.15)
    runs = [max(_longest_run(line) for line in part[:, :190, 1]) for part in (own, bar)]
    assert runs[1] <= runs[0] + 2


def test_a_white_background_stays_white():
    for ratio in RATIOS:
        made, size = _extended(_photo(np.full((HEIGHT, WIDTH, 3), 255.0)), ratio)
        made[size.top : size.top + HEIGHT, size.left : size.left + WIDTH] = 255
        assert made.min() == 255


def test_bars_are_the_same_in_each_frame_and_each_run():
    photo = _photo(_slope(), 1.5)
    size = plan_canvas(HEIGHT, WIDTH, ratio=ratio_of("1:1"))
    one, other = (VideoCanvas(photo.copy(), size) for _ in range(2))
    moved = np.roll(photo, 3, axis=1)
    made = one.place(photo), one.place(moved), other.place(photo)
    assert np.array_equal(made[0], made[2])
    assert np.array_equal(made[0][:, : size.left], made[1][:, : size.left])
    assert np.array_equal(made[1][size.top : size.top + HEIGHT, size.left : size.left + WIDTH], moved)


def test_a_floor_and_its_skirting_board_go_on():
    room = np.empty((HEIGHT, WIDTH, 3))
    room[:520], room[512:520], room[520:] = (225, 220, 212), (120, 110, 100), (165, 140, 118)
    photo = _photo(room, 1.0)
    made, size = _extended(photo, "16:9")
    for bar in (made[size.top : size.top + HEIGHT, : size.left], made[size.top : size.top + HEIGHT, -size.left :]):
        error = np.abs(bar.mean(axis=1) - room[:, 0])
        assert error.max() < 4, "sharp, and in its colour"


@pytest.mark.parametrize("floor", [255.0, 60.0])
def test_reflections_on_the_floor_fade(floor: float):
    background = np.full((HEIGHT, WIDTH, 3), floor)
    for shoe in (slice(210, 250), slice(270, 310)):
        background[600:, shoe] += (-5, -20, -30) if floor > 128 else (30, 28, 25)
    made, size = _extended(_photo(background), "9:16")
    bar = made[size.top + HEIGHT :].astype(float)
    depth = np.abs(bar - floor).max(axis=(1, 2))
    assert depth[0] > 15 and depth[-1] <= 6
    assert np.abs(np.diff(bar, axis=1))[60:].max() <= 2, "without outlines"


def test_the_halo_of_a_head_is_not_drawn_out():
    background = np.full((HEIGHT, WIDTH, 3), 240.0)
    background[:20, 230:290] = 254
    made, size = _extended(_photo(background), "9:16")
    assert np.abs(made[: size.top // 2].astype(int) - 240).max() <= 6


def test_an_arm_at_the_edge_is_not_drawn_out():
    photo = _photo(_slope(), 1.0)
    photo[200:330, :30] = (236, 190, 170)
    made, size = _extended(photo, "16:9")
    bar = made[size.top : size.top + HEIGHT, : size.left]
    assert np.abs(bar.mean(axis=1) - _slope()[:, 0]).max() < 2


@pytest.mark.parametrize("size", [(2, 2), (2, 300), (300, 2), (8, 6), (64, 256), (256, 64), (31, 17)])
def test_all_sizes(size: tuple[int, int]):
    photo = np.random.default_rng(0).integers(180, 200, (*size, 3), np.uint8)
    for ratio in RATIOS:
        made, canvas = _extended(photo, ratio)
        assert made.shape == (canvas.height, canvas.width, 3)
        assert made.min() >= 150 and made.max() <= 230
