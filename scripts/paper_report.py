"""Report of the paper's experiments: tables 1 and 2, the speed of section 4.5, and the figure of section 4.6.

    examples/reproduce_paper.sh laptop
    python scripts/paper_report.py paper-laptop

Reads `methods.json`, `ablation.json`, `speed.json` and the contact sheets of the reports in the folder, and writes
`report.html` and `report.md` there, with the paper's numbers in marked rows.
"""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fashionflow_benchmarks import report as bench_report
from fashionflow_core.evaluate import page, report
from fashionflow_core.evaluate.page import Picture, Section, Table
from fashionflow_core.utils.files import write_text

TITLE = "The paper's experiments"
INTRODUCTION = (
    "Rows marked as the paper's are copied from Islam, Miron, Liu and Li, FashionFlow (tables 1 and 2, section 4.5). "
    "All other numbers were measured by this run. Its data, sizes and training differ from the paper's, so only the "
    "order of the methods can be compared."
)
FIGURES = {
    "ablation/clips.png": "Section 4.6: the real clip, then global conditioning, local conditioning, and both",
    "ablation/methods.png": "Measures by method: mean with 95 % interval, single runs as grey dots",
    "ablation/garment-drift.png": "Garment drift over time, mean over clips and runs",
}
MISSING = "Not computed: the reason is under this title at the end of the report."
SPEED = "In brackets: lowest and highest ratio of the repeats, of which it needs 2."
_RUN = re.compile(r" \(\d+\)$")  # of a second run: "Global only (2)"


def by_method(runs: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Results of an ablation by method: "Global only" and "Global only (2)" are runs of one."""
    found: dict[str, list[Any]] = {}
    for name, result in runs.items():
        found.setdefault(_RUN.sub("", name), []).append(result)
    return found


def speed_rows(suite: Mapping[str, Any]) -> list[list[str]]:
    """Speed relative to sampling frame by frame with its range over repeats, below the paper's factor."""
    ranges = suite.get("ratio_ranges", {})  # results of older versions have none

    def cell(name: str, value: float) -> str:
        ends = ranges.get(name)
        return f"{value:.2f} ({f'{ends[0]:.2f} .. {ends[1]:.2f}' if ends else report.NO_INTERVAL})"

    rows = [["comparison", "times faster", "source"], ["the paper, 70 frames", f"{suite['paper']:.1f}", report.PAPER]]
    rows += [[name, cell(name, value), "measured here"] for name, value in suite["ratios"].items()]
    return [*rows, ["counted operations of (a) and (b)", f"{suite['arithmetic']:.1f} (exact)", "calculated"]]


def differences(ablation: Mapping[str, Any]) -> Section:
    """Paired differences of both conditioners from one, or the reason why there are none."""
    title, rows = "Differences on the same photos", report.difference_rows(ablation)
    if len(rows) == 1:
        return Section(title, (report.FEW_PHOTOS,))
    return Section(title, (report.DIFFERENCES,), [Table(rows)])


def sections(folder: Path) -> list[Section]:
    """All sections of the report; each says which experiment of the paper it repeats."""
    ablation = by_method(json.loads((folder / "ablation.json").read_text("utf-8")))
    methods = json.loads((folder / "methods.json").read_text("utf-8"))
    suites = bench_report.read(folder / "speed.json")["suites"]
    (speed,) = [suite for suite in suites if suite["suite"] == "dreampose"]
    measured = {"Global and local": methods}
    everything = [run for runs in ablation.values() for run in runs]
    counts = ", ".join(f"{name}: {len(runs)}" for name, runs in ablation.items())
    return [
        Section("What was run", (INTRODUCTION, f"{report.heading(methods)}. Training runs: {counts}.")),
        Section("Table 1: methods", (report.note(measured), MISSING), [Table(report.paper_rows(measured))]),
        Section("Table 2: conditioning", (MISSING,), [Table(report.ablation_rows(ablation))]),
        Section("Other measures of the ablation", (report.MEANS,), [Table(report.method_rows(ablation))]),
        differences(ablation),
        Section("Figure of section 4.6", (), (), [Picture(f, t) for f, t in FIGURES.items() if (folder / f).is_file()]),
        Section(
            "Section 4.5: speed",
            (speed["title"], speed["reduced"] or "", SPEED),
            [Table(speed_rows(speed))],
            lines=speed["notes"],
        ),
        *(Section(title, lines=lines) for title, lines in report.remarks([methods, *everything]).items()),
    ]


def markdown(parts: Sequence[Section]) -> str:
    """The sections as Markdown."""
    lines = [f"# {TITLE}"]
    for part in parts:
        lines.append(f"## {part.title}")
        lines += [text for text in part.text if text]
        lines += [report.table(table.rows, markdown=True) for table in part.tables]
        lines += [f"![{picture.caption}]({picture.file})" for picture in part.pictures]
        lines += ["\n".join(f"- {line}" for line in part.lines)] * bool(part.lines)
    return "\n\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of examples/reproduce_paper.sh")
    folder = parser.parse_args().folder
    parts = sections(folder)
    write_text(folder / "report.md", markdown(parts))
    write_text(
        folder / page.PAGE, page.rendered(TITLE, "Islam, Miron, Liu and Li, FashionFlow", parts, "ablation.json")
    )


if __name__ == "__main__":
    main()
