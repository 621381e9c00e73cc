"""Process priority."""

import os
import sys
import threading
from contextlib import suppress

# At nice 10 a thread gets about a tenth of the processor time of one at nice 0.
NICENESS = 10


def give_way() -> None:
    """Lower the priority of this thread and of those it starts; only on Linux, where threads have priorities.

    For work next to networks: on a CPU each operation ends when its slowest thread does, so that an interruption of one
    thread delays all.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
