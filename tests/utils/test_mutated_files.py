"""Damaged videos, lists, settings, manifests and models: no crash, no hang, no error but one line of ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mutated_files
import pytest
from places import ROOT

MEMORY = 1_200_000_000
LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")


def check(kind: str, folder: Path, first: int, last: int) -> None:
    """Read the files of these numbers in a process of its own."""
    command = [sys.executable, mutated_files.__file__, kind, str(folder), str(first), str(last)]
    places = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    env = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    number = (folder / "number").read_text()
    assert result.returncode == 0, f"{kind} {number} ended the process ({result.returncode}): {result.stderr[-2000:]}"
    found = json.loads(result.stdout)
    assert found["wrong"] == []
    assert found["slowest"][0] < mutated_files.SECONDS, found["slowest"]
    assert found["largest"][0] < MEMORY, found["largest"]
    # Enough of them must get past the first look to have tested anything.
    assert found["read"] > 0.1 * (last - first), found


@LINUX
@pytest.mark.parametrize("kind", ["lists", "settings", "manifests", "videos"])
def test_some_damaged_files(kind: str, tmp_path: Path) -> None:
    check(kind, tmp_path, 0, 80)


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize(
    "kind, count", [("lists", 800), ("settings", 800), ("manifests", 400), ("videos", 600), ("models", 400)]
)
def test_three_thousand_damaged_files(kind: str, count: int, tmp_path: Path) -> None:
    check(kind, tmp_path, 0, count)
