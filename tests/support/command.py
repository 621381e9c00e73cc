"""The command line as users meet it, with two streams and an exit code: in this process or in one of its own."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

COMMAND = (sys.executable, "-m", "fashionflow_cli.main")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, with one thread: these processes are many and short."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", **(extra or {})}


def run(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """Run `fashionflow ARGUMENTS` in `cwd` to its end, in this process: nothing is imported again.

    Settings that libraries read while they are imported (`HF_...`) need `run_process`.
    """
    from fashionflow_cli.main import main

    assert not any(name.startswith(("HF_", "PYTHON")) for name in env or {}), "needs a process of its own"
    words = [str(word) for word in arguments]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, _state_restored():
        os.chdir(cwd)
        os.environ.update({"COLUMNS": "100", **(env or {})})
        sys.argv = [COMMAND[-1], *words]
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
        with _redirected(1, out, "stdout"), _redirected(2, err, "stderr"):
            try:
                main()
            except SystemExit as end:
                code = end.code
        texts = [_text(file) for file in (out, err)]
    assert isinstance(code, int)
    return subprocess.CompletedProcess([*COMMAND, *words], code, *texts)


@contextlib.contextmanager
def _state_restored() -> Iterator[None]:
    """What a command line changes of its process is afterwards as it was."""
    from fashionflow_core.errors import Wording

    folder, variables, wording = Path.cwd(), dict(os.environ), Wording.current
    argv, stdin = sys.argv, sys.stdin
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)
        Wording.current, sys.argv, sys.stdin = wording, argv, stdin
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def _redirected(descriptor: int, file: IO[bytes], name: str) -> Iterator[None]:
    """`sys.NAME` and its descriptor, which libraries and child processes write to, go into `file`."""
    before, saved = getattr(sys, name), os.dup(descriptor)
    before.flush()
    os.dup2(file.fileno(), descriptor)
    stream = open(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    setattr(sys, name, stream)
    try:
        yield
    finally:
        stream.flush()
        setattr(sys, name, before)
        os.dup2(saved, descriptor)
        os.close(saved)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape").read()


def run_process(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run `fashionflow ARGUMENTS` in `cwd` to its end, as a process of its own."""
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
