"""Table of the benchmark suites."""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

from fashionflow_benchmarks.model_under_test import PUBLISHED, BenchRequest
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
QUICK = ("step", "vae", "clip", "video")  # default suites


# For the published architecture at reduced sizes on two CPU cores: seconds before the first timed call, seconds per
# repeat, peak bytes of memory. The first are estimates, not measured; the others are sums of medians and largest peaks
# in benchmarks/results/bench-cpu.json (`backends`: mini-latent, bench-mini-latent-cpu.json). Seconds of whole videos in
# `dreampose` are extrapolated from calls and take no time.
_COSTS = {
    "step": (30, 0.3, 1.1e9),
    "vae": (40, 3.1, 2.0e9),
    "clip": (30, 0.1, 1.6e9),
    "video": (50, 8, 2.1e9),
    "dreampose": (600, 10, 11.1e9),
    "backends": (60, 1.1, 1.3e9),
    "batch": (30, 0.4, 1.8e9),
    "scale": (60, 1.9, 1.2e9),
    "memory": (60, 9.4, 2.8e9),
}


def expected(name: str, request: BenchRequest) -> str:
    """Expected cost of a suite, in words."""
    own_sizes = request.frames or request.height or request.width or request.steps or request.narrow
    if request.model != PUBLISHED or own_sizes or request.full or request.place[0].type != "cpu":
        return "time and memory depend on the model, the sizes and the device; the bar shows the time left"
    start, one, memory = _COSTS[name]
    minutes = (start + one * (request.repeats + 2)) / 60
    words = "about 1 minute" if minutes < 1.5 else f"about {minutes:,.0f} minutes"
    return f"{words} on two CPU cores, {memory / 1e9:.1f} GB of memory"


def check(names: Sequence[str]) -> None:
    """Check names of suites.

    Raises:
        UsageError: unknown suite.
    """
    if unknown := sorted(set(names) - set(SUITES)):
        raise UsageError(f"bench: unknown suite {unknown[0]!r}", hint=f"use some of: {', '.join(SUITES)}")


def check_model(names: Sequence[str], request: BenchRequest) -> None:
    """Refuse a model that a suite cannot measure, before it is opened.

    Raises:
        UsageError: a pipeline of diffusers in any suite but `video`, or a remote model.
        FashionFlowError: missing or damaged model.
    """
    if request.model == PUBLISHED:
        return
    from fashionflow_core.generators.folder import config_of
    from fashionflow_core.generators.remote_place import is_remote
    from fashionflow_core.store import registry

    if is_remote(request.model):
        raise UsageError("--model: a remote model, but bench measures this machine", hint="name a model folder")
    if config_of(registry.find(request.model)).latents == "frames" and set(names or QUICK) != {"video"}:
        raise UsageError(
            f"--model: {request.model} is a pipeline of diffusers (only the suite video measures it)",
            hint=f"run fashionflow bench video --model {request.model}",
        )


def run(names: Sequence[str], request: BenchRequest, on_suite: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Measure suites, in the order of the table, lazily.

    Args:
        names: names from `SUITES`; empty: the quick ones.
        request: sizes, device, repeats.
        on_suite: called with each name before it is measured.

    Raises:
        UsageError: unknown suite, or settings that it does not support.
        FashionFlowError: missing model, or too little memory.
    """
    from fashionflow_core.utils.memory import is_out_of_memory

    check(names)
    check_model(names, request)
    if request.narrow and set(names) != {"dreampose"}:
        raise UsageError("--narrow: only for the suite dreampose", hint="run fashionflow bench dreampose --narrow")
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
                    hint="use fewer --frames, a smaller --latent-size or --dtype bf16",
                ) from error
