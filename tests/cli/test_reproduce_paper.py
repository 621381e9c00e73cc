"""The script of the paper's experiments, in its smallest form."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

pytestmark = pytest.mark.slow


def test_smoke_form_ends_with_the_report(tmp_path: Path) -> None:
    command = ["sh", str(ROOT / "examples" / "reproduce_paper.sh"), "smoke"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OUT": "out"}
    out = tmp_path / "out"
    first = subprocess.run(command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr[-3000:]
    assert first.stdout.splitlines()[-1] == "out/report.html"
    text, page = (out / "report.md").read_text("utf-8"), (out / "report.html").read_text("utf-8")
    for number in ("1659.546", "0.867", "9.3"):  # the paper's
        assert number in text and number in page
    for method in ("Global only", "Local only", "Global and local"):
        assert text.count(method) >= 2
    measured = json.loads((out / "ablation.json").read_text("utf-8"))
    assert {run["protocol"]["clip_frames"] for run in measured.values()} == {70}
    assert all(run["metrics"]["psnr"] > 0 for run in measured.values())
    assert "models pull metrics" in text, "what is missing is named with its command"
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|") and "---" not in line]
    cells = [cell for row in rows if "the paper's" not in row for cell in row[1:]]
    numbers = [cell for cell in cells if re.match(r"[-+]?\d+\.\d", cell)]
    assert len(numbers) > 80 and all("(" in cell for cell in numbers), "every number has an interval, or says none"
    assert sum(".." in cell for cell in numbers) > 60 and not {"", "-"} & set(cells)
    (speed,) = json.loads((out / "speed.json").read_text("utf-8"))["suites"]
    a, b = (speed["results"][f"({key}) video"]["seconds"] for key in "ab")
    each = [above / below for above, below in zip(a, b, strict=True)]
    assert len(each) == 2 and speed["ratio_ranges"]["(a) over (b): the paper's claim"] == [min(each), max(each)]
    assert (out / "ablation" / "clips.png").is_file() and "ablation/clips.png" in page
    # A second run trains and generates nothing again.
    models = sorted(out.glob("runs/*/model/unet/*.safetensors"))
    times = [model.stat().st_mtime_ns for model in models]
    again = subprocess.run(command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-3000:]
    assert len(models) == 3 and [model.stat().st_mtime_ns for model in models] == times
