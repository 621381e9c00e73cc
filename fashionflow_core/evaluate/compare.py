"""Two results beside each other: evaluations, ablations, benchmarks, or any two JSON files of one kind."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.evaluate.report import LABELS, label, table

# What says how something was measured, not what came of it; each difference there is one between the measurements.
_CONDITIONS = ("protocol", "hardware", "input", "model", "suite", "samples", "schema", "repeats", "warmup")
# Of an evaluation: where its clips lay, and details of single clips.
_PASSED_OVER = ("clips", "real", "fake", "failed", "warnings", "intervals", "skin_groups", "replicates")
_ABLATION = "an ablation"
# Parts of an evaluation, and what they add to the name of a metric.
_GROUPS = {"metrics": "", "floors": ", noise floor", "reference": ", real clips"}


@dataclass(frozen=True)
class Row:
    """One number in both files.

    Attributes:
        name: its place, names joined by dots.
        a, b: its values.
        ratio: b / a; None where a is 0.
        verdict: of an evaluation's metric whether b is better or worse, beyond the intervals; else empty.
    """

    name: str
    a: float
    b: float
    ratio: float | None
    verdict: str = ""


@dataclass(frozen=True)
class Comparison:
    """What two files have in common, and what was not the same when they were measured."""

    rows: list[Row]
    conditions: list[str]
    lacking: list[str]

    def record(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def read(path: Path) -> dict[str, Any]:
    """A JSON object; of a folder its `evaluation.json`.

    Raises:
        FashionFlowError: no such file, or no JSON object.
    """
    path = path / "evaluation.json" if path.is_dir() else path
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FashionFlowError(f"{path}: no such file", hint="check the spelling of the path") from None
    except OSError as error:
        raise FashionFlowError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise FashionFlowError(f"{path}: is not valid JSON ({error})", hint="name what --out wrote") from None
    if not isinstance(value, dict):
        raise FashionFlowError(f"{path}: is not a result, but a JSON {type(value).__name__}")
    return value


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> Comparison:
    """The numbers that both results hold at the same place, and the conditions in which they differ.

    Raises:
        FashionFlowError: they have no number in common.
    """
    kinds = [_kind(result) for result in (a, b)]
    if kinds[0] != kinds[1]:
        raise FashionFlowError(f"one is {kinds[0]}, the other {kinds[1]}: they cannot be compared")
    if kinds[0] == _ABLATION:
        return _joined({title: compare(a[title], b[title]) for title in a if title in b})
    first, second = (
        dict(_numbers({k: v for k, v in r.items() if k not in (*_CONDITIONS, *_PASSED_OVER)})) for r in (a, b)
    )
    both = [name for name in first if name in second]
    if not both:
        raise FashionFlowError("the two files have no number in common", hint="name two files of one kind")
    rows = [Row(n, x := first[n], y := second[n], y / x if x else None, _verdict(n, x, y, a, b)) for n in both]
    places = [_leaves({k: v for k, v in r.items() if k in _CONDITIONS}) for r in (a, b)]
    left, right = (dict(place) for place in places)
    conditions = [
        f"{name}: {_short(left.get(name))} and {_short(right.get(name))}"
        for name in dict.fromkeys([*left, *right])
        if left.get(name) != right.get(name)
    ]
    lacking = [
        f"{name} is only in the {which}"
        for name in sorted({*first} ^ {*second})
        for which in ["first" if name in first else "second"]
    ]
    return Comparison(rows, conditions, lacking)


def text(comparison: Comparison, markdown: bool = False) -> str:
    """The comparison as a table and lines."""
    judged = any(row.verdict for row in comparison.rows)
    rows = [["", "A", "B", "B / A", *(["B is"] if judged else [])]]
    for row in comparison.rows:
        group, _, metric = row.name.partition(".")
        name = label(metric) + _GROUPS[group] if group in _GROUPS and metric in LABELS else row.name
        ratio = "-" if row.ratio is None else f"{row.ratio:.3f}"
        rows.append([name, f"{row.a:.6g}", f"{row.b:.6g}", ratio, *([row.verdict] if judged else [])])
    lines = [table(rows, markdown)]
    bullet = "- " if markdown else "  "
    if comparison.conditions:
        lines += ["", "Not measured alike:", *([""] if markdown else []), *(bullet + c for c in comparison.conditions)]
    if comparison.lacking:
        lines += ["", "In one of them alone:", *([""] if markdown else []), *(bullet + c for c in comparison.lacking)]
    return "\n".join(lines)


def _joined(parts: Mapping[str, Comparison]) -> Comparison:
    """Comparisons of the rows of two ablations as one; what differs in all of them is said once."""
    return Comparison(
        [replace(row, name=f"{title}: {row.name}") for title, part in parts.items() for row in part.rows],
        list(dict.fromkeys(line for part in parts.values() for line in part.conditions)),
        [f"{title}: {line}" for title, part in parts.items() for line in part.lacking],
    )


def _kind(result: Mapping[str, Any]) -> str:
    if result and all(isinstance(row, Mapping) and "metrics" in row for row in result.values()):
        return _ABLATION
    if "metrics" in result and "protocol" in result:
        return "an evaluation"
    return f"a benchmark of {result['suite']}" if "suite" in result else "of an unknown kind"


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _PASSED_OVER:
                yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _numbers(value: Any) -> Iterator[tuple[str, float]]:
    """Single numbers; lists hold repeats, which their medians stand for."""
    for name, leaf in _leaves(value):
        if isinstance(leaf, int | float) and not isinstance(leaf, bool):
            yield name, leaf


def _verdict(name: str, a: float, b: float, first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    metric = name.removeprefix("metrics.")
    arrow = LABELS.get(metric, ("", "", 0))[1] if name.startswith("metrics.") else ""
    if not arrow or a == b:
        return "equal" if arrow else ""
    ends = [result.get("intervals", {}).get(metric) for result in (first, second)]
    if not all(ends):
        return "no intervals"
    if ends[0][0] <= ends[1][1] and ends[1][0] <= ends[0][1]:
        return "within the intervals"
    return "better" if (b > a) == (arrow == "↑") else "worse"


def _short(value: Any) -> str:
    shown = (
        "nothing" if value is None else json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)
    )
    return shown if len(shown) <= 60 else shown[:57] + "..."
