"""Ten thousand damaged photos: no crash, no hang, no flood of memory, no error but ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mutations
import pytest
from places import ROOT

MEMORY = 500_000_000


def fuzzed(folder: Path, ranges: list[tuple[int, int]]) -> list[dict]:
    """What came of the photos of these numbers, each range in a process of its own, all at once."""
    command = [sys.executable, mutations.__file__, str(folder)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([*command, str(a), str(b)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for a, b in ranges
    ]
    found = []
    for process, (first, _) in zip(running, ranges):
        out, err = process.communicate()
        number = (folder / f"number{first}").read_text()
        assert process.returncode == 0, f"photo {number} ended the process ({process.returncode}): {err[-2000:]}"
        assert err == "", f"something was printed: {err[:2000]}"
        found.append(json.loads(out))
    return found


def check(found: list[dict]) -> None:
    for part in found:
        assert part["wrong"] == []
        assert part["slowest"][0] < mutations.SECONDS, part["slowest"]
        assert part["largest"][0] < MEMORY, part["largest"]
    # Enough of them must get past the first look to have tested anything.
    read, refused = (sum(part[key] for part in found) for key in ("read", "refused"))
    assert 0.1 < read / (read + refused) < 0.9


def test_the_same_number_is_the_same_photo() -> None:
    assert [mutations.mutated(n) for n in range(60)] == [mutations.mutated(n) for n in range(60)]
    assert len({mutations.mutated(n) for n in range(200)}) > 190


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_a_few_hundred_damaged_photos(tmp_path: Path) -> None:
    check(fuzzed(tmp_path, [(0, 200), (200, 400)]))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_ten_thousand_damaged_photos(tmp_path: Path) -> None:
    check(fuzzed(tmp_path, [(0, 5000), (5000, 10_000)]))
