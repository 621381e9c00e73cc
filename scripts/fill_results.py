"""Write the README's table of speeds from the JSON files in benchmarks/results/, between two markers.

    python scripts/fill_results.py            # after adding results
    python scripts/fill_results.py --check    # exits 1 if the README differs from the files

Every number of the table comes from `bench-gpu.json`, `bench-cpu.json` or `bench-step-full-cpu.json`; where a file or a
suite is missing, the cell is "not measured yet".
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fashionflow_benchmarks import report
from fashionflow_core.utils.files import write_text

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FULL_STEP = "bench-step-full-cpu.json"
BEGIN, END = "<!-- speeds: begin -->", "<!-- speeds: end -->"
MISSING = "not measured yet"
Suites = Mapping[str, Mapping[str, Any]]


def ratio(suite: str, *names: str) -> Callable[[Suites], str]:
    """Ratios of a suite by prefix, with the number of steps, which differs between devices."""

    def cell(suites: Suites) -> str:
        found = suites[suite]["ratios"]
        return ", ".join(f"{value:.1f}x" for name, value in found.items() if name.startswith(names))

    return cell


def decoding(suites: Suites) -> str:
    """A whole clip, decoded in chunks."""
    suite = suites["vae"]
    frames, per_frame = suite["input"]["clip_frames"], list(suite["per_frame_s"].values())[-1]
    return f"{frames * per_frame:.2f} s for {frames}"


def video(suites: Suites) -> str:
    suite = suites["video"]
    size = suite["input"]
    seconds = suite["results"]["photo to mp4"]["median_s"]
    return f"{seconds:.2f} s, {size['frames']} frames, {size['steps']} steps"


def memory(row: str) -> Callable[[Suites], str]:
    def cell(suites: Suites) -> str:
        return f"{suites['memory']['results'][row]['peak_memory_bytes'] / 2**30:.1f} GiB"

    return cell


def exponents(suites: Suites) -> str:
    return ", ".join(f"{axis} {fitted['seconds']:.2f}" for axis, fitted in suites["scale"]["exponents"].items())


def shares(suites: Suites) -> str:
    row = suites["step"]["results"]["ours"]
    return f"{100 * row['matmul_share']:.0f} %, {100 * row['copy_share']:.0f} %"


def full_step(suites: Suites) -> str:
    """Ratio of the suite itself if measured at full size, as on GPUs; else of the full-size file."""
    suite = suites["step"] if not suites["step"]["reduced"] else suites["step, full"]
    seconds = [f"{row['median_s']:.3g} s" for row in suite["results"].values()]
    return f"{suite['ratios']['time']:.1f}x ({' and '.join(reversed(seconds))})"


def ratio_few(suites: Suites, key: str) -> str:
    """The ratio with few steps, that is, not with 1000."""
    found = suites["dreampose"]["ratios"]
    return next(f"{v:.1f}x" for name, v in found.items() if name.startswith(f"{key} over (c)") and "1000" not in name)


ROWS: list[tuple[str, str, Callable[[Suites], str]]] = [
    ("frame by frame over FashionFlow as published, (a) / (b)", "paper 9.3x", ratio("dreampose", "(a) over (b)")),
    ("the same two, both optimised, 1000 steps, (d) / (c)", "≥ 6x", ratio("dreampose", "(d) over (c), 1000")),
    ("the same, few steps in (c) (25 on the GPU)", "≥ 50x", lambda suites: ratio_few(suites, "(d)")),
    ("frame by frame over this implementation, few steps, (a) / (c)", "", lambda suites: ratio_few(suites, "(a)")),
    ("U-Net pass at the published size: reference formulation over this one", "≥ 3x", full_step),
    ("U-Net pass: share of the device's matrix-product and copy limits", "", shares),
    ("VAE decode", "≤ 0.7 s for 70", decoding),
    ("photo to mp4, model warm", "≤ 2 s, 25 steps", video),
    ("peak memory of a video", "≤ 6 GB", memory("video")),
    ("the same with `--low-memory`", "≤ 3 GB", memory("video, low memory")),
    ("U-Net pass: exponents of growth", "", exponents),
]


def table(results: Path) -> str:
    """The table in Markdown, followed by the hardware of each column."""
    columns = {"GPU": "bench-gpu.json", "CPU, reduced sizes": "bench-cpu.json"}
    opened = {name: _open(results / file) for name, file in columns.items()}
    opened["CPU, reduced sizes"] |= {f"{name}, full": suite for name, suite in _open(results / FULL_STEP).items()}
    lines = [f"| | goal (H200) | {' | '.join(columns)} |", f"|---|---|{'---|' * len(columns)}"]
    for what, goal, cell in ROWS:
        lines.append(f"| {what} | {goal} | {' | '.join(_cell(cell, suites) for suites in opened.values())} |")
    lines.append("")
    for name, file in columns.items():
        if suites := opened[name]:
            machine = next(iter(suites.values()))["hardware"]
            where = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} threads"
            lines.append(
                f"{name}: {where}, {machine['dtype']}, torch {machine['torch']}, {machine['date'][:10]}; "
                f"`benchmarks/results/{file}`, which lists the sizes of each suite."
            )
    return "\n".join(lines)


def _open(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    return {suite["suite"]: suite for suite in report.read(path)["suites"]}


def _cell(cell: Callable[[Suites], str], suites: Suites) -> str:
    try:
        return cell(suites)
    except KeyError:
        return MISSING


def filled(readme: str, results: Path) -> str:
    """The README with the table from the files."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table(results)}\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    path = ROOT / "README.md"
    before = path.read_text(encoding="utf-8")
    after = filled(before, RESULTS)
    if args.check:
        return before != after
    write_text(path, after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
