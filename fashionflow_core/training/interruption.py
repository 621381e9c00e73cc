"""Interruption of training: signals take effect at the end of a step."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from fashionflow_core.utils.signals import STOPS

_GRACE = 1.0  # seconds in which a repeated signal is ignored: `make` and terminals send two


class Interruption:
    """A context that records the first signal; the second one has its usual effect.

    Args:
        notify: called with the name of the first signal.
    """

    def __init__(self, notify: Callable[[str], None]) -> None:
        self.signum = 0
        self._notify = notify
        self._before: dict[int, Any] = {}
        self._last = float("-inf")

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python handles signals in the main thread only
            for signum in STOPS:
                handler = signal.getsignal(signum)
                if handler is not signal.SIG_IGN and handler is not None:
                    self._before[signum] = handler
                    signal.signal(signum, self._remember)
        return self

    def __exit__(self, *_error: object) -> None:
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before.clear()

    def _remember(self, signum: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last < _GRACE:
            return
        self._last = now
        if self.signum:
            self._restore()
            signal.raise_signal(signum)
            return
        self.signum = signum
        self._notify(signal.Signals(signum).name)

    def act(self, signum: int) -> None:
        """Raise the recorded signal again."""
        self._restore()
        signal.raise_signal(signum)
