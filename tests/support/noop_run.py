"""python noop_run.py OUT MODEL COUNT: a run over COUNT photos that nobody looks at; prints its growth in kilobytes."""

import re
import sys
from pathlib import Path

from fashionflow_core.catalogue import run
from fashionflow_core.catalogue.inputs import read_inputs
from fashionflow_core.catalogue.jobs import RunSpec


def resident() -> int:
    """Kilobytes of this process in memory now, from Linux's /proc."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def main() -> None:
    out, model, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    listed = "".join(f"/photos/{number // 1000}/{number}.jpg\n" for number in range(count)).encode()
    entries = read_inputs(["-"], Path(out), lambda: listed).entries
    seen = 0
    early = 0

    def recorded(_record: object) -> None:
        nonlocal seen, early
        seen += 1
        if seen == count // 10:
            early = resident()

    watcher = run.Watcher(recorded=recorded)
    request = run.Request(entries, RunSpec(model=model, out=out, scratch="", scores=False), module="noop_worker")
    summary = run.run(request, watcher, page=False)
    assert summary.made == count, summary
    print(resident() - early)


if __name__ == "__main__":
    main()
