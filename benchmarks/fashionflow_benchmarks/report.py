"""Results of benchmarks as JSON files and as text.

The schema, version 1 (`SCHEMA`); sizes in bytes, times in seconds:

    schema          1
    suite           what was measured: "step"
    model           name, parameters, config (of the U-Net), weights ("from the model folder" or "random, seed 0")
    input           batch, channels, frames, height, width (of the latents), context_tokens, context_dim
    repeats, warmup calls of each formulation, timed and before
    results         formulation → seconds [each repeat], lower_quartile_s, median_s, upper_quartile_s,
                    peak_memory_bytes and call_memory_bytes (null where the system cannot say), flop (multiply-adds
                    count two)
    ratios          time, flop, call_memory: literal over ours, so above 1 means ours is better; null where unknown
    difference      max_abs and rms between the outputs, and output_std of the literal one, all in float32
    hardware        what `timing.hardware` says
"""

import json
from pathlib import Path
from typing import Any

from fashionflow_core import files
from fashionflow_core.errors import FashionFlowError

SCHEMA = 1
KEYS = ("suite", "model", "input", "repeats", "warmup", "results", "ratios", "difference", "hardware")


def check(result: dict[str, Any]) -> None:
    """Refuse what is no result of this schema.

    Raises:
        FashionFlowError: naming what is missing or of another version.
    """
    if result.get("schema") != SCHEMA:
        raise FashionFlowError(f"benchmark result: schema is {result.get('schema')!r}, not {SCHEMA}")
    missing = [key for key in KEYS if key not in result]
    if missing:
        raise FashionFlowError(f"benchmark result: lacks {', '.join(missing)}")


def write(result: dict[str, Any], path: str | Path) -> None:
    """Write the result as JSON, whole or not at all; an existing file is replaced.

    Raises:
        FashionFlowError: not a result of this schema, a number that is not finite, or an unusable path.
    """
    check(result)
    try:
        text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    except ValueError:
        raise FashionFlowError(f"{path}: not written, the result holds numbers that are not finite") from None
    files.write_text(files.check_target(path, overwrite=True), text)


def read(path: str | Path) -> dict[str, Any]:
    """A result that `write` wrote.

    Raises:
        FashionFlowError: no such file, not JSON, or not a result of this schema.
    """
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FashionFlowError(f"{path}: does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FashionFlowError(f"{path}: is not valid JSON ({error})") from None
    if not isinstance(result, dict):
        raise FashionFlowError(f"{path}: is not a benchmark result")
    check(result)
    return result


def _number(value: float | None, unit: float, digits: int) -> str:
    return "-" if value is None else f"{value / unit:,.{digits}f}"


def table(result: dict[str, Any]) -> str:
    """The result as lines of text: what was measured on what, a row for each formulation, ratios and agreement."""
    check(result)
    model, size, machine, ratios = (result[key] for key in ("model", "input", "hardware", "ratios"))
    shape = f"{size['channels']}x{size['frames']}x{size['height']}x{size['width']}"
    where = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} threads"
    rows = [("", "median s", "quartiles s", "call MiB", "GFLOP")]
    for name, row in result["results"].items():
        quartiles = f"{row['lower_quartile_s']:.4f} .. {row['upper_quartile_s']:.4f}"
        memory = _number(row["call_memory_bytes"], 2**20, 0)
        rows.append((name, f"{row['median_s']:.4f}", quartiles, memory, _number(row["flop"], 1e9, 2)))
    ratio = [_number(ratios[key], 1, 2) for key in ("time", "call_memory", "flop")]
    rows.append(("literal / ours", ratio[0], "", ratio[1], ratio[2]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    difference = result["difference"]
    return "\n".join(
        [
            f"U-Net {result['suite']}: {model['name']} ({model['parameters']:,} parameters), latents {shape}",
            f"{where}; {machine['dtype']}; torch {machine['torch']}; {result['repeats']} repeats",
            "",
            *(
                "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
                for row in rows
            ),
            "",
            f"largest difference of the outputs {difference['max_abs']:.2e}"
            f" (rms {difference['rms']:.2e}, standard deviation of the output {difference['output_std']:.3f})",
        ]
    )
