"""Significance of the difference between two results."""

from collections.abc import Iterator, Mapping
from typing import Any

from fashionflow_core.evaluate.paired import PairedDifference, differences
from fashionflow_core.evaluate.report import LABELS

TOLERANCE = 1.05

# Fields that must match for times to be comparable: the machine and its load. Versions and commits may differ.
_MACHINE = ("device", "cpu", "cores", "usable_cores", "threads", "gpu", "gpu_memory_bytes", "dtype")
# Fields that must match for evaluations to be comparable; models and settings may differ.
_PROTOCOL = (
    *("clip_frames", "fvd_window", "bn_mode", "is_splits", "inception_frames", "resize", "fit", "resample", "seed"),
    "dtype",
)
WORSE, SLOWER = "worse", "slower"


def unlike_evaluations(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Differences between two evaluations that make their numbers incomparable."""
    weights = [result["protocol"].get("weights", {}) for result in (a, b)]
    both = [kind for kind in weights[0] if kind in weights[1]]
    others = [f"protocol.weights.{kind}" for kind in both if weights[0][kind]["sha256"] != weights[1][kind]["sha256"]]
    encoders = [result["protocol"].get("encoder") for result in (a, b)]
    others += ["protocol.encoder"] if all(encoders) and encoders[0] != encoders[1] else []
    return _unlike(a["protocol"], b["protocol"], _PROTOCOL, "protocol") + others


def unlike_benchmarks(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Differences between two benchmarks that make their times incomparable: machine, shapes, model."""
    found = _unlike(a.get("hardware"), b.get("hardware"), _MACHINE, "hardware")
    found += ["input"] if a.get("input") != b.get("input") else []
    return found + _unlike(a.get("model"), b.get("model"), ("name", "parameters"), "model")


def _unlike(a: Any, b: Any, names: tuple[str, ...], place: str) -> list[str]:
    one, other = (value if isinstance(value, Mapping) else {} for value in (a, b))
    return [f"{place}.{name}" for name in names if one.get(name) != other.get(name)]


def of_metrics(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, str]:
    """Whether each metric of evaluation b is better or worse than a's beyond noise.

    Where clips have the measure, by the paired bootstrap over the photos that both have. Its level is divided by the
    number of metrics that are judged (Bonferroni), so that one of twenty is not found worse by chance. Else by more
    than both intervals.
    """
    names = [name for name in a["metrics"] if all(result["metrics"].get(name) is not None for result in (a, b))]
    judged = [name for name in names if _arrow(name)]
    paired = differences([a], [b], 1 - 0.05 / max(1, len(judged)), judged)
    return {name: _of_metric(name, a, b, paired.get(name)) for name in names}


def _arrow(metric: str) -> str:
    return LABELS.get(metric, ("", "", 0))[1]


def _of_metric(metric: str, a: Mapping[str, Any], b: Mapping[str, Any], paired: PairedDifference | None) -> str:
    """Verdict on one metric.

    Distances and IS depend on the number of samples; values of different numbers get no verdict.
    """
    arrow = _arrow(metric)
    values = [result["metrics"][metric] for result in (a, b)]
    if not arrow or values[0] == values[1]:
        return "equal" if arrow else ""
    if paired is not None:
        if not paired.is_clear:
            return "within the interval"
        return "better" if (paired.mean > 0) == (arrow == "↑") else WORSE
    counts = [result.get("samples", {}).get(metric) for result in (a, b)]
    if isinstance(counts[0], Mapping) and counts[0] != counts[1]:
        return "different number of samples"
    ends = [result.get("intervals", {}).get(metric) for result in (a, b)]
    if not all(ends):
        return "no intervals"
    if ends[0][0] <= ends[1][1] and ends[1][0] <= ends[0][1]:
        return "within the intervals"
    return "better" if (values[1] > values[0]) == (arrow == "↑") else WORSE


def of_timing(a: Mapping[str, Any], b: Mapping[str, Any], tolerance: float) -> str:
    """Whether b is faster or slower than a: quartile ranges apart, and medians further than `tolerance` apart."""
    before, after = a["median_s"], b["median_s"]
    low, high = (
        (row.get("lower_quartile_s", row["median_s"]), row.get("upper_quartile_s", row["median_s"])) for row in (a, b)
    )
    if high[0] > low[1] and after > before * tolerance:
        return SLOWER
    if high[1] < low[0] and before > after * tolerance:
        return "faster"
    return "within noise"


def timings(result: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Timed rows of a benchmark: name → a row with a median."""
    rows = result.get("results")
    for name, row in rows.items() if isinstance(rows, Mapping) else ():
        if isinstance(row, Mapping) and isinstance(row.get("median_s"), int | float):
            yield name, row
