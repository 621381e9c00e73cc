"""The command line as its users meet it: a process of its own, with its two streams and its exit code."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

COMMAND = (sys.executable, "-m", "fashionflow_cli.main")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, with one thread: these processes are many and short."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", **(extra or {})}


def run(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 120
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


def start(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """Start `fashionflow ARGUMENTS` in `cwd`, interruptible whatever the tests themselves were started with."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def assert_refused(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One line that holds `words`, at most a hint, nothing on stdout, no traceback, the exit code."""
    lines = result.stderr.splitlines()
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert lines[0].startswith("error: ") and len(lines) <= 2, result.stderr
    assert all(line.startswith("hint: ") for line in lines[1:])
    for word in words:
        assert word in lines[0], result.stderr
