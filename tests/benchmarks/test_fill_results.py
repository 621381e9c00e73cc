"""The README's table of speeds: exactly what the committed files say, and honest where there are none."""

import json
import subprocess
import sys
from pathlib import Path

import fill_results
import pytest
from places import ROOT

from fashionflow_benchmarks import report


def test_the_readme_says_what_the_files_say():
    command = [sys.executable, ROOT / "scripts" / "fill_results.py", "--check"]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, f"run scripts/fill_results.py\n{checked.stderr}"


def test_committed_results_are_of_the_schema():
    found = sorted((ROOT / "benchmarks" / "results").glob("bench-*.json"))
    assert found
    for path in found:
        content = report.read(path)
        for suite in content["suites"]:
            assert suite["hardware"]["commit"] and suite["hardware"]["date"] and suite["hardware"]["torch"]


def test_what_was_not_measured_says_so(tmp_path: Path):
    text = fill_results.table(tmp_path)
    rows = text.splitlines()[2:]
    assert len([row for row in rows if row.startswith("|")]) == len(fill_results.ROWS)
    assert text.count(fill_results.MISSING) == 2 * len(fill_results.ROWS)


def test_cells_come_from_the_file(tmp_path: Path):
    content = json.loads((ROOT / "benchmarks" / "results" / "bench-cpu.json").read_text())
    (video,) = (suite for suite in content["suites"] if suite["suite"] == "video")
    video["results"]["photo to mp4"]["median_s"] = 1234.5
    content["suites"] = [video]
    report.write(content, tmp_path / "bench-gpu.json")
    lines = fill_results.table(tmp_path).splitlines()
    (row,) = (line for line in lines if line.startswith("| photo to mp4"))
    assert "1234.50 s" in row and row.count(fill_results.MISSING) == 1
    assert any(line.startswith("GPU: ") and video["hardware"]["cpu"] in line for line in lines)


@pytest.mark.parametrize("text", ["", "only text", f"{fill_results.BEGIN} no end"])
def test_a_readme_without_marks_is_refused(text: str, tmp_path: Path):
    with pytest.raises(ValueError):
        fill_results.filled(text, tmp_path)
