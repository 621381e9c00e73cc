"""The command line as its users meet it: a process of its own, with its two streams and its exit code."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

COMMAND = (sys.executable, "-m", "fashionflow_cli.main")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, with one thread: these processes are many and short."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", **(extra or {})}


def run(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run `fashionflow ARGUMENTS` in `cwd` to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Processes started inside react to SIGINT, also where the tests were started with it ignored (in a background)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def started(
    *arguments: str | Path, cwd: Path, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start `fashionflow ARGUMENTS` in `cwd` with both streams in `log`; nothing is left running afterwards."""
    with log.open("wb") as streams, interruptible():
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)], cwd=cwd, env=environment(env), stdout=streams, stderr=streams
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    """Wait until `reached()`; fails if the process ends before, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.005)


def assert_refused(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One line that holds `words`, at most a hint, nothing on stdout, no traceback, the exit code."""
    lines = result.stderr.splitlines()
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert lines[0].startswith("error: ") and len(lines) <= 2, result.stderr
    assert all(line.startswith("hint: ") for line in lines[1:])
    for word in words:
        assert word in lines[0], result.stderr
