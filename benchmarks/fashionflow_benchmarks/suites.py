"""Table of the benchmark suites."""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

from fashionflow_benchmarks.model_under_test import BenchRequest
from fashionflow_core.errors import FashionFlowError, UsageError

_HERE = "fashionflow_benchmarks"
SUITES = {
    "step": f"{_HERE}.step:run",
    "vae": f"{_HERE}.networks:vae",
    "clip": f"{_HERE}.networks:clip",
    "video": f"{_HERE}.video:video",
    "dreampose": f"{_HERE}.dreampose_comparison:dreampose",
    "backends": f"{_HERE}.runtimes:run",
    "batch": f"{_HERE}.scaling:batch",
    "scale": f"{_HERE}.scaling:scale",
    "memory": f"{_HERE}.memory:memory",
}
QUICK = ("step", "vae", "clip", "video")  # what is measured if nothing is named


def check(names: Sequence[str]) -> None:
    """Refuse what is no suite.

    Raises:
        UsageError: naming it.
    """
    if unknown := sorted(set(names) - set(SUITES)):
        raise UsageError(f"bench: no suite {unknown[0]!r}", hint=f"use some of: {', '.join(SUITES)}")


def run(names: Sequence[str], request: BenchRequest, on_suite: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Measure suites, in the order of the table, each when it is asked for.

    Args:
        names: of `SUITES`; none: the quick ones.
        request: sizes, device, repeats.
        on_suite: called with each name before it is measured.

    Raises:
        UsageError: no such suite; what a suite refuses.
        FashionFlowError: no such model; too little memory.
    """
    from fashionflow_core.utils.device import is_out_of_memory

    check(names)
    for name, place in SUITES.items():
        if name in (names or QUICK):
            on_suite(name)
            module, _, function = place.partition(":")
            try:
                yield getattr(import_module(module), function)(request)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise FashionFlowError(
                    f"bench {name}: too little memory on {request.device}",
                    hint="fewer --frames, a smaller --latent-size or --dtype bf16",
                ) from error
