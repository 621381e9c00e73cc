"""Benchmark results as JSON, text and Markdown.

The schema, version 2 (`SCHEMA`); sizes in bytes, times in seconds. A file:

    schema          2
    suites          list of results, each as below
    hardware        `timing.hardware` of the first of them

A result:

    suite, title    name of the suite, and a title line
    model           name, weights (where from), parameters
    reduced         how sizes are reduced from the published ones, in words; null: not reduced
    input           shapes
    repeats, warmup calls of each row, timed and before
    results         row → seconds [each repeat], lower_quartile_s, median_s, upper_quartile_s, peak_memory_bytes and
                    call_memory_bytes (null if unsupported), flop (a multiply-add counts as two), traffic_bytes
                    (operator by operator, `flops.count_traffic`), matmul_share and copy_share (of the device's limits)
    ratios          name → number; null where unknown
    hardware        `timing.hardware`: processor, GPU, driver, versions, commit, date

and, depending on the suite: difference (between outputs: max_abs, rms), limits (matmul_flop_per_s and
copy_bytes_per_s, measured), notes (lines for the reader), and other details.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.utils import files

SCHEMA = 2
_AGAIN = "pass a file written by `fashionflow bench`"
KEYS = ("suite", "title", "model", "reduced", "input", "repeats", "warmup", "results", "ratios", "hardware")
TIMES = ("seconds", "lower_quartile_s", "median_s", "upper_quartile_s")
ROW_KEYS = (*TIMES, "peak_memory_bytes", "call_memory_bytes", "flop", "traffic_bytes", "matmul_share", "copy_share")


def join(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Results of suites as the content of a file."""
    return {"schema": SCHEMA, "suites": list(results), "hardware": results[0]["hardware"]}


def check(content: Any) -> None:
    """Validate the content of a file against the schema.

    Raises:
        FashionFlowError: a missing field or another version.
    """
    if not isinstance(content, dict):
        raise FashionFlowError("benchmark result: not an object", hint=_AGAIN)
    if content.get("schema") != SCHEMA:
        raise FashionFlowError(f"benchmark result: schema is {content.get('schema')!r}, not {SCHEMA}", hint=_AGAIN)
    suites = content.get("suites")
    if not isinstance(suites, list) or not suites or "hardware" not in content:
        raise FashionFlowError("benchmark result: no suites or hardware", hint=_AGAIN)
    for result in suites:
        if missing := [key for key in KEYS if key not in result]:
            raise FashionFlowError(
                f"benchmark result: {result.get('suite', 'a suite')}: missing {', '.join(missing)}", hint=_AGAIN
            )
        for name, row in result["results"].items():
            if missing := [key for key in ROW_KEYS if key not in row]:
                raise FashionFlowError(
                    f"benchmark result: {result['suite']}, {name}: missing {', '.join(missing)}", hint=_AGAIN
                )


def write(content: dict[str, Any], path: str | Path) -> None:
    """Write a file atomically; an existing one is replaced.

    Raises:
        FashionFlowError: not of this schema, a number that is not finite, or an unusable path.
    """
    check(content)
    try:
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    except ValueError:
        raise FashionFlowError(
            f"{path}: not written: the result has numbers that are not finite",
            hint="run the benchmark again, with more repeats",
        ) from None
    files.write_text(files.check_target(path, overwrite=True), text)


def read(path: str | Path) -> dict[str, Any]:
    """Load a file written by `write`.

    Raises:
        FashionFlowError: no such file, not JSON, or not of this schema.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FashionFlowError(f"{path}: no such file", hint="check the spelling of the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FashionFlowError(f"{path}: invalid JSON ({error})", hint=_AGAIN) from None
    try:
        check(content)
    except FashionFlowError as error:
        raise FashionFlowError(f"{path}: {error.message}", error.hint) from None
    return content


def text(result: Mapping[str, Any], markdown: bool = False) -> str:
    """A result as text: model and hardware, one row per measurement, ratios and notes."""
    head, *rows = _cells(result)
    lines = list(_heading(result, markdown))
    if markdown:
        lines += [_line(head), _line(["---", *["---:"] * (len(head) - 1)]), *map(_line, rows)]
    else:
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        for row in (head, *rows):
            cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
            lines.append("  ".join(cells).rstrip())
    lines.append("")
    item = "- " if markdown else ""
    lines += [f"{item}{name}: {_number(value, 1, 3)}" for name, value in result["ratios"].items()]
    lines += [f"{item}{note}" for note in _notes(result)]
    return "\n".join(lines).rstrip()


def _heading(result: Mapping[str, Any], markdown: bool) -> Iterator[str]:
    machine, model = result["hardware"], result["model"]
    parameters = model.get("parameters")
    count = sum(parameters.values()) if isinstance(parameters, Mapping) else parameters
    what = f"{model['name']} ({count:,} parameters)" if count else model["name"]
    weights = str(model.get("weights") or "")
    random = f", random weights ({weights.removeprefix('random, ')})" if weights.startswith("random") else ""
    yield f"{'### ' if markdown else ''}{result['title']}: {what}{random}"
    yield ""
    where = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} threads"
    made = f"; {result['reduced']}" if result["reduced"] else ""
    yield f"{where}; {machine['dtype']}; torch {machine['torch']}; {result['repeats']} repeats{made}"
    yield ""


def _cells(result: Mapping[str, Any]) -> Iterator[list[str]]:
    """Head and rows; columns without values are omitted."""
    columns = {
        "median (s)": lambda row: _number(row["median_s"], 1, 4),
        "quartiles (s)": lambda row: f"{row['lower_quartile_s']:.4f} .. {row['upper_quartile_s']:.4f}",
        "peak memory (MiB)": lambda row: _number(row["peak_memory_bytes"], 2**20, 0),
        "added by the call (MiB)": lambda row: _number(row["call_memory_bytes"], 2**20, 0),
        "GFLOP": lambda row: _number(row["flop"], 1e9, 1),
        "memory traffic (GB)": lambda row: _number(row["traffic_bytes"], 1e9, 2),
        "of matmul limit": lambda row: _percent(row["matmul_share"]),
        "of copy limit": lambda row: _percent(row["copy_share"]),
    }
    made = [[show(row) for show in columns.values()] for row in result["results"].values()]
    kept = [place for place, _ in enumerate(columns) if any(row[place] != "-" for row in made)]
    yield ["", *(list(columns)[place] for place in kept)]
    for name, row in zip(result["results"], made):
        yield [name, *(row[place] for place in kept)]


def _notes(result: Mapping[str, Any]) -> Iterator[str]:
    if limits := result.get("limits"):
        yield (
            f"measured limits of the device: {limits['matmul_flop_per_s'] / 1e12:.3g} TFLOP/s in matrix products, "
            f"{limits['copy_bytes_per_s'] / 1e9:.3g} GB/s in copies"
        )
    yield from result.get("notes", ())


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, unit: float, digits: int) -> str:
    return "-" if value is None else f"{value / unit:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
