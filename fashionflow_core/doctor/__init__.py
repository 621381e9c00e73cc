"""`fashionflow doctor`: what this machine can run, tried and not assumed; each problem with what mends it.

Every library is asked in a process of its own with a time limit, so that one that crashes, hangs or fights with another
costs a line of the report and nothing else. This package imports none of them.
"""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

from fashionflow_core.doctor import findings, machine, network
from fashionflow_core.doctor.check import NOTE, OK, PROBLEM, Check
from fashionflow_core.doctor.probe import Answer, Probes

__all__ = ["NOTE", "OK", "PROBLEM", "SCHEMA", "Check", "can_run", "examine", "report"]

SCHEMA = 1
# Seconds a library has for its answer. The job takes six on two processors; a limit it could meet where others work at
# the same time would be a false alarm.
QUICK, SLOW, JOB = 10.0, 20.0, 60.0


def examine(variables: Iterable[str] = ()) -> Generator[Check]:
    """Look at everything; yields each line as soon as it and those before it are known.

    Args:
        variables: the environment variables that the program reads; others named `FASHIONFLOW_*` are noted.
    """
    with Probes(workers=max(2, min(4, os.cpu_count() or 2))) as probes:
        answers = {
            "job": probes.ask("job", JOB),
            "torch": probes.ask("torch", SLOW),
            "torchvision": probes.ask("torchvision", SLOW),
            "onnxruntime": probes.ask("onnxruntime", QUICK),
            "encoders": probes.ask("encoders", SLOW),
            "photos": probes.ask("photos", QUICK),
            "tensorrt": probes.ask("tensorrt:tensorrt", QUICK),
            "tensorrt_rtx": probes.ask("tensorrt:tensorrt_rtx", QUICK),
            "polygraphy": probes.ask("version:polygraphy", QUICK),
        }
        driver: Future[findings.Driver] = probes.run(findings.nvidia_smi)
        hub = None if network.offline() else probes.ask("hub", network.LIMIT + 2)

        def answer(name: str) -> Answer:
            return answers[name].result()

        sections: dict[str, Callable[[], Iterator[Check]]] = {
            "python": lambda: iter([machine.python()]),
            "packages": lambda: iter([machine.packages()]),
            "processors": lambda: iter([machine.processors()]),
            "memory": lambda: iter([machine.memory()]),
            "disk": machine.disks,
            "variables": lambda: iter([machine.variables(frozenset(variables))]),
            "models": machine.models,
            "photos": lambda: iter([findings.photos(answer("photos"))]),
            "encoders": lambda: iter([findings.encoders(answer("encoders"))]),
            "torchvision": lambda: iter([findings.torchvision(answer("torchvision"))]),
            "torch": lambda: findings.torch(answer("torch"), driver.result()),
            "onnxruntime": lambda: findings.onnxruntime(answer("onnxruntime")),
            "tensorrt": lambda: iter([findings.tensorrt("tensorrt", "trt", answer("tensorrt"))]),
            "tensorrt_rtx": lambda: iter([findings.tensorrt("tensorrt_rtx", "trt-rtx", answer("tensorrt_rtx"))]),
            "polygraphy": lambda: iter([findings.tensorrt("polygraphy", "trt", answer("polygraphy"))]),
            "hub": lambda: iter([network.hub(hub and hub.result())]),
            "default job": lambda: iter([findings.job(answer("job"))]),
        }
        for name, section in sections.items():
            try:
                yield from section()
            except Exception as error:  # a machine stranger than we thought must not hide the other lines
                text = f"this check failed itself: {type(error).__name__}: {error}"
                yield Check(name, NOTE, text, "tell the authors: it is a bug in fashionflow")


def can_run(checks: Iterable[Check]) -> bool:
    """Whether the default job (bundled model, CPU, MP4) runs here."""
    return not any(check.blocks for check in checks)


def report(checks: list[Check]) -> dict[str, Any]:
    """The JSON of `fashionflow doctor --json`; docs/doctor.md describes it."""
    counts = {level: sum(check.level == level for check in checks) for level in (OK, NOTE, PROBLEM)}
    return {
        "schema": SCHEMA,
        "can_run": can_run(checks),
        "counts": counts,
        "checks": [asdict(check) for check in checks],
    }
