"""Inter-process messages: pickled tuples over pipes.

Processes are spawned, not forked: CUDA cannot be used after a fork. `multiprocessing` would run the user's script again
in each of them.
"""

import contextlib
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from fashionflow_core.errors import Wording
from fashionflow_core.utils.signals import STOPS

_LENGTH = struct.Struct("<Q")


def send(stream: IO[bytes], message: Any) -> None:
    """Write one message.

    Raises:
        OSError: the reader is gone.
    """
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one message.

    Raises:
        EOFError: the writer is gone, possibly within a message.
    """
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)


class Child:
    """Child process that runs the `main` of a module, with two pipes.

    Args:
        module: to run.
        log: receives its output; None: discarded.
        environment: variables in addition to those of this process.
    """

    def __init__(self, module: str, log: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
        sink: Any = subprocess.DEVNULL if log is None else log.open("wb")
        try:
            self.process = subprocess.Popen(
                # -P: files in the current folder are not modules. Not -m: classes of `__main__` cannot be pickled.
                [sys.executable, "-P", "-c", f"from {module} import main; main()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env={
                    **os.environ,
                    **(environment or {}),
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                },
            )
        finally:
            if log is not None:
                sink.close()
        assert self.process.stdin is not None and self.process.stdout is not None
        self._to, self._from = self.process.stdin, self.process.stdout
        self._sending = threading.Lock()
        self.send(Wording.current)

    def send(self, message: Any) -> bool:
        """Send a message; False if the process is gone."""
        try:
            with self._sending:
                send(self._to, message)
        except (OSError, ValueError):
            return False
        return True

    def receive(self) -> Any:
        """Wait for a message.

        Raises:
            EOFError: the process is gone.
        """
        return receive(self._from)

    def kill(self) -> int:
        """Kill it; returns the exit code, negative for a signal."""
        self.process.kill()
        return self.wait()

    def wait(self) -> int:
        """Close the pipes, at which it ends, and wait; returns the exit code."""
        for stream in (self._to, self._from):
            with contextlib.suppress(OSError):
                stream.close()
        return self.process.wait()

    def end(self, patience: float) -> None:
        """Close its pipe and kill it if it does not end within `patience` seconds."""
        with contextlib.suppress(OSError):
            self._to.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        self.kill()


def streams() -> tuple[IO[bytes], IO[bytes]]:
    """In a child: its pipes. Output of libraries goes to the log, and stop signals are left to the parent."""
    for signum in STOPS:
        signal.signal(signum, signal.SIG_IGN)
    incoming = os.fdopen(os.dup(0), "rb")
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    Wording.current = receive(incoming)
    return incoming, outgoing
