"""Paired bootstrap: known cases, laws, and what `compare` and ablations make of it."""

from typing import Any

import numpy as np
import pytest

from fashionflow_core.evaluate import report
from fashionflow_core.evaluate.compare import compare, text
from fashionflow_core.evaluate.paired import differences, paired_difference

RNG = np.random.default_rng(0)


def photos(values: np.ndarray) -> dict[str, float]:
    return {f"photo {index:03}": float(value) for index, value in enumerate(values)}


def result(metric: str = "garment_error", /, **values: np.ndarray | list[float]) -> dict[str, Any]:
    """An evaluation with one measure, or those named."""
    columns = {metric: values.pop("values")} if "values" in values else {}
    columns |= values
    count = len(next(iter(columns.values())))
    clips = [
        {"name": f"photo {i:03}.mp4"} | {name: float(column[i]) for name, column in columns.items()}
        for i in range(count)
    ]
    means = {name: float(np.mean(column)) for name, column in columns.items()}
    return {
        "metrics": means,
        "intervals": {name: [mean - 2, mean + 2] for name, mean in means.items()},
        "floors": {},
        "reference": {},
        "samples": {"fake": count} | dict.fromkeys(columns, count),
        "protocol": {"seed": 0, "weights": {}},
        "clips": clips,
        "failed": [],
        "warnings": [],
    }


def test_the_interval_of_a_normal_difference():
    """Of a mean of n values it has the ends mean ± 1.96 s / √n, however much the photos differ from each other."""
    difficulty = RNG.normal(20, 10, 400)
    a, b = difficulty, difficulty + RNG.normal(0.5, 1, 400)
    found = paired_difference(photos(a), photos(b))
    assert found is not None and found.photos == 400
    half = 1.96 * np.std(b - a) / np.sqrt(400)
    assert found.mean == pytest.approx(np.mean(b - a))
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.06 * half)
    assert found.is_clear
    # Without pairs the same difference drowns: the spread of the photos is 20 times larger.
    mixed = paired_difference(photos(a), photos(RNG.permutation(b)))
    assert mixed is not None and not mixed.is_clear and mixed.high - mixed.low > 8 * (found.high - found.low)


def test_coverage():
    """Of 200 experiments with a true difference of 1, about 95 % of the intervals contain it."""
    inside = 0
    for experiment in range(200):
        rng = np.random.default_rng(experiment)
        a = rng.normal(0, 5, 40)
        found = paired_difference(photos(a), photos(a + 1 + rng.exponential(1, 40) - 1), replicates=1000)
        assert found is not None
        inside += found.low <= 1 <= found.high
    assert 0.88 <= inside / 200 <= 0.99


def test_laws():
    a, b = RNG.normal(0, 1, 30), RNG.normal(0.3, 1, 30)
    found, turned = paired_difference(photos(a), photos(b)), paired_difference(photos(b), photos(a))
    assert found is not None and turned is not None
    assert (turned.mean, turned.low, turned.high) == pytest.approx((-found.mean, -found.high, -found.low), abs=0.02)
    order = dict(reversed(photos(a).items()))
    assert paired_difference(order, photos(b)) == found
    same, shifted = paired_difference(photos(a), photos(a)), paired_difference(photos(a), photos(a + 2))
    assert same is not None and (same.mean, same.low, same.high) == (0, 0, 0) and not same.is_clear
    assert shifted is not None and (shifted.low, shifted.high) == pytest.approx((2, 2)) and shifted.is_clear
    wide = paired_difference(photos(a), photos(b), level=0.99)
    assert wide is not None and wide.low < found.low < found.high < wide.high
    assert paired_difference(photos(a[:3]), photos(b)) is None
    partly = paired_difference(photos(a[:10]), photos(b))
    assert partly is not None and partly.photos == 10


def test_runs_are_averaged_by_photo_and_containers_do_not_matter():
    first, second = RNG.normal(5, 1, 12), RNG.normal(5, 1, 12)
    a, b = [result(values=first), result(values=second)], result(values=(first + second) / 2 + 1)
    for clip in b["clips"]:
        clip["name"] = clip["name"].replace(".mp4", ".webm")
    (found,) = differences(a, [b]).values()
    assert found.photos == 12 and (found.mean, found.low, found.high) == pytest.approx((1, 1, 1))


def test_compare_finds_what_intervals_of_the_sets_hide():
    difficulty = RNG.normal(20, 5, 60)
    a, b = result(values=difficulty), result(values=difficulty + RNG.normal(1, 1, 60))
    a_low, b_high = a["intervals"]["garment_error"][1], b["intervals"]["garment_error"][0]
    assert a_low > b_high  # they overlap
    found = compare(a, b)
    assert found.regressions == ["metrics.garment_error"]
    (row,) = (row for row in found.rows if row.difference is not None)
    assert row.difference is not None and row.difference.low > 0.3 and row.difference.photos == 60
    assert found.record()["rows"][0]["difference"]["photos"] == 60
    assert "B − A, same photos" in text(found) and f"{row.difference.mean:+.2f} (" in text(found)
    assert compare(b, a).regressions == []
    with_other_seed = b | {"protocol": {"seed": 1, "weights": {}}}
    assert all(row.difference is None for row in compare(a, with_other_seed).rows)


def test_twenty_metrics_of_one_model_are_seldom_called_worse():
    """Under no difference at all: each experiment judges 20 metrics; Bonferroni keeps the false alarms near 5 %."""
    names = [name for name, (_, arrow, _) in report.LABELS.items() if arrow][:20]
    alarms = 0
    for experiment in range(15):
        rng = np.random.default_rng(experiment)
        values = [{name: rng.normal(0, 1, 30) for name in names} for _ in range(2)]
        alarms += bool(compare(result(**values[0]), result(**values[1])).regressions)
    assert alarms <= 3


def test_tables_of_an_ablation_show_what_was_measured_with_intervals():
    photo = RNG.normal(10, 3, 20)
    measured = {
        "Global only": [result(values=photo + 4), result(values=photo + 6)],
        "Local only": [result(values=photo + 1)],
        "Global and local": [result(values=photo)],
    }
    shown = report.ablation(measured, markdown=True)
    mean = float(photo.mean())
    assert "1812.462" not in shown and "FVD" not in shown  # the paper's table only beside its metrics
    assert f"| {mean + 5:.2f} ({mean + 2:.2f} .. {mean + 8:.2f}) |" in shown
    assert "| Global and local − Global only | Global and local − Local only |" in shown
    assert "| -5.00 (-5.00 .. -5.00) | -1.00 (-1.00 .. -1.00) | 20 |" in shown


def test_cells_of_an_ablation_have_an_interval_or_say_what_is_missing():
    few = result(values=[1.0, 2.0]) | {"intervals": {}}
    few |= {"reference": {"garment_drift": 1.5, "skin_drift": None}}
    few["metrics"] |= {"garment_drift": 2.0, "skin_drift": None}
    many = few | {"intervals": {"garment_drift": [1.0, 3.0]}, "reference_intervals": {"garment_drift": [1.25, 1.75]}}
    many["metrics"] = {"garment_drift": 2.0, "fvd": 12.5}
    rows = {row[0]: row[1:] for row in report.method_rows({"a": [few], "b": [many]})}
    assert rows["garment colour error, ΔE ↓"] == ["1.50 (no interval)", "not computed", "not defined"]
    assert rows["garment drift, ΔE ↓"] == ["2.00 (no interval)", "2.00 (1.00 .. 3.00)", "1.50 (no interval)"]
    assert rows["skin drift, ΔE ↓"] == ["no value", "not computed", "no value"]
    assert report.method_rows({"b": [many]})[1][-1] == "not defined"
    assert report.method_rows({"b": [many]})[2][-1] == "1.50 (1.25 .. 1.75)"
    published = report.paper_rows({"mine": many | {"intervals": {"fvd": [10.0, 15.0]}}})[-1]
    assert published[1:4] == ["not computed", "12.500 (10.000 .. 15.000)", "not computed"]
