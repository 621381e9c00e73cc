"""Doctor: checks of what this machine can run.

Every library is probed in its own process with a time limit, so that one that crashes, hangs or conflicts with another
affects one line of the report only. This package imports none of them.
"""

import os
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from subprocess import Popen
from typing import Any

from fashionflow_core.doctor import findings
from fashionflow_core.doctor.findings import NOTE, OK, PROBLEM, Check
from fashionflow_core.doctor.probe import HUB_LIMIT, Answer, ask, stop

__all__ = ["NOTE", "OK", "PROBLEM", "SCHEMA", "Check", "can_run", "examine", "report"]

SCHEMA = 1
# Seconds for a probe. On two free cores torch takes two and the default job six; on a busy machine both took ten times
# as long, which must not be reported as a failure.
LIMIT, JOB_LIMIT = 60.0, 120.0
_TENSORRT = {
    "tensorrt:tensorrt": "trt",
    "tensorrt:tensorrt_rtx": "trt-rtx",
    "version:polygraphy": "trt",
}  # and its extra


def examine(variables: Iterable[str] = ()) -> Generator[Check]:
    """Run all checks; yields each in order as soon as it is finished.

    Args:
        variables: environment variables that the program reads; other `FASHIONFLOW_*` are reported.
    """
    # The default job first: it takes longest.
    questions = ("job", "torch", "torchvision", "onnxruntime", "encoders", "photos", *_TENSORRT)
    limits = dict.fromkeys(questions, LIMIT) | {"job": JOB_LIMIT}
    limits |= {} if findings.offline() else {"hub": HUB_LIMIT + 2}
    running: list[Popen[str]] = []
    pool = ThreadPoolExecutor(max(2, min(4, os.cpu_count() or 2)))
    futures = {question: pool.submit(ask, question, limit, running) for question, limit in limits.items()}
    driver = pool.submit(findings.nvidia_smi)

    def answer(question: str) -> Answer:
        return futures[question].result()

    sections: dict[str, Callable[[], Check | Iterable[Check]]] = {
        "python": findings.python,
        "packages": findings.packages,
        "processors": findings.processors,
        "memory": findings.memory,
        "disk": findings.disks,
        "variables": lambda: findings.variables(frozenset(variables)),
        "models": findings.models,
        "photos": lambda: findings.photos(answer("photos")),
        "encoders": lambda: findings.encoders(answer("encoders")),
        "torchvision": lambda: findings.torchvision(answer("torchvision")),
        "torch": lambda: findings.torch(answer("torch"), driver.result()),
        "onnxruntime": lambda: findings.onnxruntime(answer("onnxruntime")),
        "tensorrt": lambda: (findings.tensorrt(q.partition(":")[2], x, answer(q)) for q, x in _TENSORRT.items()),
        "hub": lambda: findings.hub(answer("hub") if "hub" in futures else None),
        "default job": lambda: findings.job(answer("job")),
    }
    try:
        for name, section in sections.items():
            try:
                found = section()
                yield from (found,) if isinstance(found, Check) else found
            except Exception as error:  # a failing check must not hide the other lines
                text = f"the check itself failed: {type(error).__name__}: {error}"
                yield Check(name, NOTE, text, "report it: this is a bug in fashionflow")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in futures.values()):  # a child may just be starting
            for process in list(running):
                stop(process)
            time.sleep(0.01)


def can_run(checks: Iterable[Check]) -> bool:
    """Whether the default job (bundled model, CPU, MP4) runs here."""
    return not any(check.blocks for check in checks)


def report(checks: list[Check]) -> dict[str, Any]:
    """The findings as JSON; docs/reference/doctor.md describes it."""
    counts = {level: sum(check.level == level for check in checks) for level in (OK, NOTE, PROBLEM)}
    return {
        "schema": SCHEMA,
        "can_run": can_run(checks),
        "counts": counts,
        "checks": [asdict(check) for check in checks],
    }
