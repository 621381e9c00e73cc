"""Process priority."""

import os
import sys
import threading
from contextlib import suppress

# Linux gives a thread of 10 about a tenth of what one of 0 gets while both want the same processor.
NICENESS = 10


def give_way() -> None:
    """Let this thread, and those it starts from now on, wait for others; on Linux, where threads have priorities.

    What is done beside networks must not hold them up: on a CPU each operation ends when its slowest thread does, so
    that whatever interrupts one thread delays all.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # a sandbox may forbid it, which is no reason not to work
            os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
