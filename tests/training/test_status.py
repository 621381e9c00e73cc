"""Status line and charts of a run."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from fashionflow_core.training.curves import HEIGHT, WIDTH, Curve, averaged, chart
from fashionflow_core.training.status import TrainingStatus, duration, hours_left, level_means, status_line

STATUS = TrainingStatus(0.12, 4200, 2.1, 0.2134, (0.5, 0.2, None, 0.04), 2e-4, 1.9, 3.1)


def test_line_has_everything_a_terminal_can_hold():
    whole = status_line(STATUS)
    assert whole == (
        " 12%  step 4200  epoch 2.10  loss 0.213 (by noise 0.5 0.2 - 0.04)  3.1 h left  1.9 clips/s  lr 2.0e-04"
    )
    for width in range(20, 120):
        line = status_line(STATUS, width)
        assert whole.startswith(line) and len(line) <= max(width, len(" 12%  step 4200"))


def test_line_of_a_target_without_timesteps():
    assert "by noise" not in status_line(TrainingStatus(1.0, 5, 1.0, 0.1, (), 1e-3, None, None))


@pytest.mark.parametrize(
    ("hours", "text"), [(0.005, "18 s"), (0.5, "30 min"), (3.14, "3.1 h"), (47.9, "47.9 h"), (120, "5.0 days")]
)
def test_durations(hours: float, text: str):
    assert duration(hours) == text


def test_time_left_follows_from_the_completed_share():
    assert hours_left(0.25, 3600) == pytest.approx(3)
    assert hours_left(1.0, 3600) == 0
    assert hours_left(0.0, 0.0) is None


def test_a_level_without_clips_has_no_mean():
    assert level_means([3.0, 0.0], [2, 0]) == [1.5, None]


def test_averaging_keeps_the_mean_of_equal_runs():
    points = [(float(x), float(x % 7)) for x in range(1200)]
    few = averaged(points, 300)
    assert len(few) == 300
    assert sum(y for _, y in few) / 300 == pytest.approx(sum(y for _, y in points) / 1200)
    assert averaged(points[:5]) == points[:5]


@pytest.mark.parametrize("logarithmic", [True, False])
def test_chart_is_svg_with_its_lines_inside(logarithmic: bool):
    falling = [(step, 1 / (1 + step)) for step in range(500)]
    svg = chart([Curve("a", "one", falling), Curve("b", "two", [(0, 0.5)]), Curve("c", "three", [])], "x", logarithmic)
    ElementTree.fromstring(svg)
    numbers = [tuple(map(float, pair.split(","))) for pair in re.findall(r"[\d.]+,[\d.]+", svg)]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in numbers)
    first, last = numbers[0], numbers[299 if len(numbers) > 299 else 249]
    assert first[0] < last[0] and first[1] < last[1]  # down on the page, as the loss falls
    assert svg.count("<polyline") == 2


@pytest.mark.parametrize("values", [[0.0, 0.0], [2.0], [1e-9, 1e9], [-1.0, 1.0]])
def test_chart_of_odd_values(values: list[float]):
    ElementTree.fromstring(chart([Curve("a", "one", list(enumerate(values)))], "x"))


@pytest.mark.parametrize("steps", [[2], [2, 3], [1, 2, 3]])
def test_steps_of_a_short_chart_are_named_once(steps: list[int]):
    svg = chart([Curve("a", "one", [(step, 1.0) for step in steps])], "x")
    named = re.findall(r'text-anchor="middle">([^<]*)<', svg)
    assert named and len(named) == len(set(named))


def test_chart_without_points_is_nothing():
    assert chart([Curve("a", "one", [])], "x") == ""
