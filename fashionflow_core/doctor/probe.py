"""Questions to libraries, each asked in a process of its own: one that crashes or hangs answers with that."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import IO, Any, Self

Answer = dict[str, Any]  # what `inside` returned, or {"failed": why}

# The child looks for modules where we do; -P, since `-c` would put the current folder first, with whatever it holds.
_CODE = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from fashionflow_core.doctor.inside import main; main(sys.argv[2])"
)


def ask(question: str, limit: float, alive: Callable[[subprocess.Popen[Any] | None], bool] = lambda _: True) -> Answer:
    """The answer of `inside` to a question, from a new process that has `limit` seconds.

    Args:
        alive: told of the process when it starts and of None when it has ended; False: do not start.

    Returns:
        The answer; or `failed`: an exception, a signal, or the time limit, as words. Never raises for what the child
        does.
    """
    try:
        return _ask(question, limit, alive)
    except OSError as error:  # no temporary folder, no more processes
        return {"failed": f"could not be asked: {error}"}


def _ask(question: str, limit: float, alive: Callable[[subprocess.Popen[Any] | None], bool]) -> Answer:
    # Its temporary files are in a folder of ours, since a child that is killed leaves them.
    with (
        tempfile.TemporaryDirectory(prefix="fashionflow-doctor-", ignore_cleanup_errors=True) as scratch,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        path = json.dumps([entry for entry in sys.path if os.path.isabs(entry)])
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE, path, question],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=_environment(scratch),
            start_new_session=True,
        )
        if not alive(process):
            stop(process)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return {"failed": f"no answer within {limit:.0f} s"}
        finally:
            stop(process)
            alive(None)
        answer = _last_line(out)
        try:
            return json.loads(answer) | {"seconds": time.monotonic() - start}
        except ValueError:
            return {"failed": _how_it_ended(code, _last_line(err))}


def _environment(scratch: str) -> Mapping[str, str]:
    # Libraries that ask the network while they are imported have no place here.
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**os.environ, **offline, "PYTHONFAULTHANDLER": "", **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), scratch)}


def stop(process: "subprocess.Popen[Any]") -> None:
    """End a child and whatever it started."""
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(stream: IO[bytes]) -> str:
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - (1 << 20)))
    lines = stream.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def _how_it_ended(code: int, said: str) -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"the process died of {name}" + (" (often too little memory)" if name == "SIGKILL" else "")
    return said[:300] or f"the process ended with code {code} and said nothing"


class Probes:
    """Several questions at a time, as many as there are processors; leaving the block ends what still runs."""

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=workers)
        self._lock = threading.Lock()
        self._running: dict[int, subprocess.Popen[Any]] = {}
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def ask(self, question: str, limit: float) -> "Future[Answer]":
        """Put a question in the queue."""
        return self._pool.submit(ask, question, limit, self._note)

    def run(self, function: Callable[[], Any]) -> "Future[Any]":
        """Put a function of our own in the queue."""
        return self._pool.submit(function)

    def _note(self, process: "subprocess.Popen[Any] | None") -> bool:
        with self._lock:
            thread = threading.get_ident()
            if process is None:
                self._running.pop(thread, None)
            else:
                self._running[thread] = process
            return not self._closed

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            running = list(self._running.values())
        for process in running:
            stop(process)
        self._pool.shutdown(cancel_futures=True)
