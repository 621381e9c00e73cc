"""Temporary files and folders of killed processes go with the next run; those of running ones stay."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from catalogues import photo
from command import environment, run, started, wait_until

from fashionflow_core.training.config import ScheduleConfig, TrainConfig
from fashionflow_core.training.run_folder import RunFolder
from fashionflow_core.utils import temporary
from fashionflow_core.utils.files import write_text

_WRITES = """
import sys, time
from pathlib import Path
from fashionflow_core.utils.files import atomic_path
from fashionflow_core.utils.temporary import scratch_folder
folder = Path(sys.argv[1])
with atomic_path(folder / "v.mp4"), scratch_folder(folder / "model") as scratch:
    (scratch / "made").mkdir()
    print("ready", flush=True)
    time.sleep(600)
"""
DAY = 24 * 3600
SETTINGS = TrainConfig(schedule=ScheduleConfig(max_steps=1))


@contextmanager
def writing(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the middle of writing `v.mp4` and `model`."""
    command = [sys.executable, "-c", _WRITES, str(folder)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout and process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def as_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "swept", set())


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_what_a_killed_process_left_goes_with_the_next_file(tmp_path: Path) -> None:
    with writing(tmp_path):
        names = hidden(tmp_path)
        assert [name.split(".")[1] for name in names] == ["model", "v"]
        write_text(tmp_path / "index.html", "page")
        assert hidden(tmp_path) == names  # of a process that runs
    temporary.swept.clear()
    write_text(tmp_path / "index.html", "page")
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_files_of_other_machines_go_after_a_day(tmp_path: Path) -> None:
    names = {age: tmp_path / f".v.0123abcd-{age}.abcdefgh.mp4" for age in (60, 2 * DAY)}
    for age, path in names.items():
        path.touch()
        os.utime(path, (time.time() - age, time.time() - age))
    temporary.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [names[60]]


@pytest.mark.parametrize(
    "name", [".v.mp4", ".v.abcdefgh.mp4", ".git", ".v.0123abcd-7.abc.mp4", "v.0123abcd-7.abcdefgh.mp4", ".index.html"]
)
@pytest.mark.parametrize("make", [Path.touch, Path.mkdir], ids=["file", "folder"])
def test_other_hidden_files_stay(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / name)
    os.utime(tmp_path / name, (0, 0))
    temporary.sweep(tmp_path)
    assert (tmp_path / name).exists()


@pytest.mark.parametrize(
    "inside, stays",
    [((), False), (("made",), False), (("replaced",), False), (("made", "replaced"), True), (("kept",), True)],
)
def test_a_folder_that_was_being_replaced_is_not_lost(tmp_path: Path, inside: tuple[str, ...], stays: bool) -> None:
    left = tmp_path / ".model.0123abcd-7.abcdefgh"
    left.mkdir()
    for name in inside:
        (left / name).mkdir()
    os.utime(left, (0, 0))
    temporary.sweep(tmp_path)
    assert left.exists() == stays


def test_a_run_folder_is_freed_of_half_checkpoints(tmp_path: Path) -> None:
    """Also of those of another machine: whoever holds the lock is the only one that writes there."""
    folder = RunFolder(tmp_path / "run")
    folder.checkpoints.mkdir(parents=True)
    half = folder.checkpoints / ".step-000000002.0123abcd-7.abcdefgh.safetensors"
    whole = folder.checkpoints / "step-000000001.safetensors"
    for path in (half, whole):
        path.touch()
    folder.open(SETTINGS, overwrite=False)
    folder.close()
    assert list(folder.checkpoints.iterdir()) == [whole]


def test_a_run_that_was_killed_in_its_first_moment_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    left = tmp_path / "run" / ".config.0123abcd-7.abcdefgh.yaml"
    left.touch()
    os.utime(left, (0, 0))
    RunFolder(tmp_path / "run").check(SETTINGS, resume=False, overwrite=False)


@pytest.mark.slow
def test_a_killed_generate_leaves_nothing_for_long(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    log = tmp_path / "log"
    command = ("generate", "a.jpg", "-o", "a.mp4", "--frames-dir", "frames")
    with started(*command, cwd=tmp_path, log=log) as process:
        wait_until(lambda: any(tmp_path.glob(".frames.*/*")), process, log)
    assert len(hidden(tmp_path)) == 2
    small = ("--frames", "4", "--steps", "1", "--size", "64x48")
    result = run("generate", "a.jpg", "-o", "b.mp4", *small, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "b.mp4", "log"]
