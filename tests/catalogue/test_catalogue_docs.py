"""docs/guides/catalogues.md is true: its schema, its columns, its limits, its Python."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest
from catalogues import conventions, lines, plain, quick, shop
from command import environment
from places import ROOT
from quick_model import DEADLY, STILL

from fashionflow_core.catalogue.list_files import NAME_COLUMNS, SETTINGS, SOURCE_COLUMNS
from fashionflow_core.catalogue.quality_gate import QualityLimits

TEXT = (ROOT / "docs" / "guides" / "catalogues.md").read_text(encoding="utf-8")


def test_manifest_lines_are_as_documented(tmp_path: Path) -> None:
    photos, model = shop(tmp_path / "photos", 2), conventions(tmp_path / "model")
    (photos / "bad.jpg").write_bytes(b"")
    plain(photos / "deadly.png", (250, 5, DEADLY))
    plain(photos / "still.png", (250, 5, STILL))
    result = quick(photos, "-o", tmp_path / "out", "--model", model, "--reroll", "1", cwd=tmp_path)
    assert result.returncode == 3, result.stderr
    rules = json.loads((ROOT / "docs" / "reference" / "schemas" / "manifest.json").read_text(encoding="utf-8"))
    found = lines(tmp_path / "out")
    for line in found:
        jsonschema.validate(line, rules, jsonschema.Draft202012Validator)
    known = set(rules["properties"])
    assert {key for line in found for key in line} <= known
    assert {line["status"] for line in found} == {"done", "failed", "lost", "retried"}


def test_columns_and_limits_are_named() -> None:
    for column in (*SOURCE_COLUMNS, *NAME_COLUMNS, *SETTINGS):
        assert f"`{column.replace('guidance_scale', 'guidance')}`" in TEXT, column
    for limit in fields(QualityLimits):
        assert re.search(rf"^\| `{limit.name}`:.*\| {limit.default:g} \|", TEXT, re.M), limit.name


@pytest.mark.slow
def test_the_python_of_the_page_runs(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "photos", ignore=shutil.ignore_patterns("coat*", "dress*", "*.yaml"))
    (code,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
    code = code.replace(
        'scratch="")', 'scratch="", settings=__import__("fashionflow_core").GenerateSettings(steps=1, frames=4))'
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "1 0\n"), result.stderr
    assert (tmp_path / "videos" / "trousers.mp4").is_file() and (tmp_path / "videos" / "index.html").is_file()
