"""Comparison of two results of evaluation, ablation or benchmark."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError, option, reason_of
from fashionflow_core.evaluate import significance
from fashionflow_core.evaluate.paired import PairedDifference, differences
from fashionflow_core.evaluate.report import LABELS, difference_text, label, table

# Fields that describe the measurement rather than its results; differences are reported as conditions.
_CONDITIONS = ("protocol", "hardware", "input", "model", "suite", "samples", "schema", "repeats", "warmup")
# Ignored fields. Evaluation: paths of clips, details of single clips. Benchmark: date, quartiles.
_PASSED_OVER = (
    *("clips", "real", "fake", "failed", "warnings", "omitted", "intervals", "skin_groups", "replicates"),
    *("date", "lower_quartile_s", "upper_quartile_s"),
)
_ABLATION, _EVALUATION, _BENCHMARK = "an ablation", "an evaluation", "a benchmark"
# Parts of an evaluation, with suffixes for metric names.
_GROUPS = {"metrics": "", "floors": ", noise floor", "reference": ", real clips"}


@dataclass(frozen=True)
class ComparedNumber:
    """One number present in both files.

    Attributes:
        name: path in the JSON, keys joined by dots.
        a, b: values.
        ratio: b / a; None if a is 0.
        verdict: whether b is better or worse beyond noise (`significance`), for metrics and medians; else empty.
        difference: mean of b - a over the same clips and its 95 % interval (`paired`): photos, mean, low, high.
    """

    name: str
    a: float
    b: float
    ratio: float | None
    verdict: str = ""
    difference: PairedDifference | None = None


@dataclass(frozen=True)
class Comparison:
    """Numbers that two files have in common, and differences between their measurements.

    Attributes:
        rows: numbers present in both.
        conditions: differences between the measurements.
        lacking: entries present in only one of them.
        unlike: conditions whose difference prevents verdicts.
        regressions: names of rows in which b is worse or slower than a beyond noise.
    """

    rows: list[ComparedNumber]
    conditions: list[str]
    lacking: list[str]
    unlike: list[str] = field(default_factory=list)
    regressions: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """The comparison, JSON-serializable."""
        return asdict(self)


def read(path: Path) -> dict[str, Any]:
    """Load a JSON object; for a report's folder its `evaluation.json` or `ablation.json`.

    Raises:
        FashionFlowError: no such file, or not a JSON object.
    """
    if path.is_dir():
        named = [path / "evaluation.json", path / "ablation.json"]
        path = next((file for file in named if file.is_file()), named[0])
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FashionFlowError(f"{path}: no such file", hint="check the spelling of the path") from None
    except OSError as error:
        raise FashionFlowError(
            f"{path}: cannot be read ({reason_of(error)})", hint=f"check its permissions: ls -l {path}"
        ) from None
    except ValueError as error:
        raise FashionFlowError(
            f"{path}: invalid JSON ({error})", hint=f"pass a file written by {option('out')}"
        ) from None
    if not isinstance(value, dict):
        raise FashionFlowError(
            f"{path}: not a result, but a JSON {type(value).__name__}", hint=f"pass a file written by {option('out')}"
        )
    return value


def compare(a: Mapping[str, Any], b: Mapping[str, Any], tolerance: float = significance.TOLERANCE) -> Comparison:
    """Compare the numbers that both results have, and the conditions in which they differ.

    Args:
        a, b: results before and after.
        tolerance: for benchmarks, the accepted ratio of times, 1.05 for 5 % slower.

    Raises:
        FashionFlowError: different kinds of results, or no number in common.
    """
    kinds = [_kind(result) for result in (a, b)]
    if kinds[0] != kinds[1]:
        raise FashionFlowError(
            f"cannot compare {kinds[0]} with {kinds[1]}",
            hint="compare two evaluations, two ablations or two benchmarks",
        )
    if kinds[0] not in (_ABLATION, _BENCHMARK):
        return _one(a, b, kinds[0], tolerance)
    one, other = map(_suites, (a, b)) if kinds[0] == _BENCHMARK else (dict(a), dict(b))
    both = [name for name in one if name in other]
    if not both:
        raise FashionFlowError(
            f"one is of {', '.join(one) or 'nothing'}, the other of {', '.join(other) or 'nothing'}: they "
            "cannot be compared",
            hint="compare two files that have a row in common",
        )
    inner = _EVALUATION if kinds[0] == _ABLATION else _BENCHMARK
    parts = {name: _one(one[name], other[name], inner, tolerance) for name in both}
    found = next(iter(parts.values())) if kinds[0] == _BENCHMARK and len(parts) == 1 else _joined(parts)
    return replace(found, lacking=[*found.lacking, *_alone(one, other)])


def _one(a: Mapping[str, Any], b: Mapping[str, Any], kind: str, tolerance: float) -> Comparison:
    first, second = (
        dict(_numbers({k: v for k, v in r.items() if k not in (*_CONDITIONS, *_PASSED_OVER)})) for r in (a, b)
    )
    both = [name for name in first if name in second]
    if not both:
        raise FashionFlowError("the two files have no number in common", hint="pass two files of one kind")
    unlike, verdicts = _judged(a, b, kind, tolerance)
    paired = {}
    if kind == _EVALUATION and not unlike:
        paired = {f"metrics.{name}": found for name, found in differences([a], [b]).items()}
    rows = [
        ComparedNumber(n, x := first[n], y := second[n], y / x if x else None, verdicts.get(n, ""), paired.get(n))
        for n in both
    ]
    places = [_leaves({k: v for k, v in r.items() if k in _CONDITIONS}) for r in (a, b)]
    left, right = (dict(place) for place in places)
    conditions = [
        f"{name}: {_short(left.get(name))} and {_short(right.get(name))}"
        for name in dict.fromkeys([*left, *right])
        if left.get(name) != right.get(name)
    ]
    worse = [row.name for row in rows if row.verdict in (significance.WORSE, significance.SLOWER)]
    return Comparison(rows, conditions, _alone(first, second), unlike, worse)


def _alone(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    return [f"{name} is only in the {'first' if name in first else 'second'}" for name in sorted({*first} ^ {*second})]


def _judged(
    a: Mapping[str, Any], b: Mapping[str, Any], kind: str, tolerance: float
) -> tuple[list[str], dict[str, str]]:
    """The reason why there are no verdicts, or the verdicts by path."""
    if kind == _EVALUATION:
        unlike = significance.unlike_evaluations(a, b)
        verdicts = {f"metrics.{name}": verdict for name, verdict in significance.of_metrics(a, b).items()}
    elif kind == _BENCHMARK:
        unlike, others = significance.unlike_benchmarks(a, b), dict(significance.timings(b))
        verdicts = {
            f"results.{name}.median_s": significance.of_timing(row, others[name], tolerance)
            for name, row in significance.timings(a)
            if name in others
        }
    else:
        return [], {}
    return unlike, {} if unlike else verdicts


def _suites(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The results of a benchmark's file by suite, each with its hardware."""
    found: dict[str, Mapping[str, Any]] = {}
    for number, suite in enumerate(result.get("suites", [result]), 1):
        if isinstance(suite, Mapping):
            name = str(suite.get("suite", number))
            shared = {"hardware": result["hardware"]} if "hardware" in result else {}
            found[f"{name} {number}" if name in found else name] = shared | dict(suite)
    return found


def text(comparison: Comparison, markdown: bool = False) -> str:
    """The comparison as a table with remarks."""
    judged = any(row.verdict for row in comparison.rows)
    paired = any(row.difference is not None for row in comparison.rows)
    heading = ["", "A", "B", "B / A", *(["B − A, same photos"] if paired else []), *(["B is"] if judged else [])]
    rows = [heading]
    for row in comparison.rows:
        group, _, metric = row.name.partition(".")
        name = label(metric) + _GROUPS[group] if group in _GROUPS and metric in LABELS else row.name
        ratio = "-" if row.ratio is None else f"{row.ratio:.3f}"
        values = [f"{v / 2**20:,.0f} MiB" if name.endswith("_bytes") else f"{v:.6g}" for v in (row.a, row.b)]
        shown = [] if not paired else [difference_text(metric, row.difference) if row.difference else ""]
        rows.append([name, *values, ratio, *shown, *([row.verdict] if judged else [])])
    lines = [table(rows, markdown)]
    bullet = "- " if markdown else "  "
    if comparison.unlike:
        lines += ["", f"No verdicts, since these differ: {', '.join(comparison.unlike)}"]
    if comparison.conditions:
        lines += [
            "",
            "Measured differently:",
            *([""] if markdown else []),
            *(bullet + c for c in comparison.conditions),
        ]
    if comparison.lacking:
        lines += ["", "In only one of them:", *([""] if markdown else []), *(bullet + c for c in comparison.lacking)]
    return "\n".join(lines)


def _joined(parts: Mapping[str, Comparison]) -> Comparison:
    """Comparisons of the rows of two ablations, or of suites, as one; common differences are listed once."""
    return Comparison(
        [replace(row, name=f"{title}: {row.name}") for title, part in parts.items() for row in part.rows],
        list(dict.fromkeys(line for part in parts.values() for line in part.conditions)),
        [f"{title}: {line}" for title, part in parts.items() for line in part.lacking],
        [f"{title}: {line}" for title, part in parts.items() for line in part.unlike],
        [f"{title}: {name}" for title, part in parts.items() for name in part.regressions],
    )


def _kind(result: Mapping[str, Any]) -> str:
    if result and all(isinstance(row, Mapping) and "metrics" in row for row in result.values()):
        return _ABLATION
    if isinstance(result.get("metrics"), Mapping) and "protocol" in result:
        return _EVALUATION
    return _BENCHMARK if "suite" in result or isinstance(result.get("suites"), list) else "of an unknown kind"


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _PASSED_OVER:
                yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _numbers(value: Any) -> Iterator[tuple[str, float]]:
    """Whether a value is a single finite number; lists are repeats, summarized by their medians."""
    for name, leaf in _leaves(value):
        if isinstance(leaf, int | float) and not isinstance(leaf, bool) and math.isfinite(leaf):
            yield name, leaf


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)
    shown = "nothing" if value is None else text
    return shown if len(shown) <= 60 else shown[:57] + "..."
