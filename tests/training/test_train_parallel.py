"""Training on two processes: the same run as on one, and only the first of them writes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command import environment
from test_train import flags, losses, place, records, state, train

__all__ = ["place"]  # the fixture


def two_processes(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launcher, "-m", "fashionflow_cli.main", *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_twice_the_batch(place: Path, tmp_path: Path):
    changes: dict[str, Any] = {"max_steps": 6, "batch_size": 4, "checkpoint_steps": 3}
    command = ["train", *flags(place, **changes), "--out", tmp_path / "two", "--device", "cpu"]
    result = two_processes(*command, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'two' / 'model'}\n"  # once
    assert [r["step"] for r in records(tmp_path / "two") if "loss" in r] == [1, 2, 3, 4, 5, 6]
    train(place, tmp_path / "one", **changes)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    two, one = state(tmp_path / "two", 6), state(tmp_path / "one", 6)
    assert two.keys() == one.keys()
    # Adam divides tiny gradients by their own size, so rounding alone may move single weights by a share of the rate,
    # 1e-3: nearly all agree closely, and none is off by half of what six steps can move it.
    gaps = torch.cat([(two[name] - one[name]).flatten().abs() for name in one if name.startswith("weights/")])
    assert float((gaps > 2e-4).float().mean()) < 1e-3
    assert float(gaps.max()) < 3e-3


@pytest.mark.slow
def test_two_processes_go_on_from_a_checkpoint_of_one(place: Path, tmp_path: Path):
    changes: dict[str, Any] = {"max_steps": 4, "batch_size": 4}
    train(place, tmp_path / "one", **changes)
    train(place, tmp_path / "two", max_steps=2, batch_size=4)
    command = ["train", *flags(place, micro_batch_size=1, **changes), "--out", tmp_path / "two", "--resume"]
    result = two_processes(*command, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_out_is_refused(place: Path, tmp_path: Path):
    result = two_processes("train", *flags(place, batch_size=3), "--out", "run", "--device", "cpu", cwd=tmp_path)
    assert result.returncode != 0
    assert "error: data.batch_size: 3 clips cannot be split evenly over 2 processes" in result.stderr
