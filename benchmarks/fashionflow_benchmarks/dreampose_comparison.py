"""Suite `dreampose`: the paper's speed-up over DreamPose (section 4.5), in four variants.

(a) sampling frame by frame, as in DreamPose; (b) FashionFlow as published; (c) this project; (d) variant (a) with all
optimizations of (c), so that the ratio of (d) to (c) compares the methods, not the implementations.
"""

import contextlib
import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fashionflow_benchmarks import timing
from fashionflow_benchmarks.model_under_test import PUBLISHED, STEPS, BenchRequest
from fashionflow_benchmarks.roofline import CallCost, measure_limits, rows
from fashionflow_benchmarks.timing import Timing
from fashionflow_core.errors import UsageError
from fashionflow_core.utils.device import dtype_name

if TYPE_CHECKING:
    from fashionflow_benchmarks.shapes import Shape

PAPER = 9.3  # times, for 70 frames; hardware and steps are not specified
WARMUP = 2
FEW = 20  # consecutive calls to test constancy on a CPU; on a GPU all of a video
ALL_STEPS = 1000


def dreampose(request: BenchRequest, architectures: "Shape | None" = None) -> dict[str, Any]:
    """Time single calls of all four, interleaved, and extrapolate; with `--full` generate whole videos instead.

    Args:
        request: sizes, steps of (c), device.
        architectures: networks and their sizes; None: as wide as published or narrow, at the sizes of the request.

    Raises:
        UsageError: a model is given: only architectures are compared.
        FashionFlowError: sizes that a U-Net cannot halve.
    """
    import torch

    from fashionflow_benchmarks import dreampose as frame_by_frame
    from fashionflow_benchmarks import dreampose_figures, fashionflow_baseline, published, shapes
    from fashionflow_core.models import FashionFlowUNet

    if request.model != PUBLISHED:
        raise UsageError(
            "bench dreampose: compares architectures, with random weights", hint=f"omit --model {request.model}"
        )
    device, dtype = request.place
    on_gpu = device.type == "cuda"
    (frames, height, width), reduced = request.sizes(device)
    if request.narrow and architectures is None:
        label = f"reduced: widths 1/8, small CLIP, latents {frames}x{height}x{width}"
        architectures = dataclasses.replace(shapes.REDUCED, label=label, frames=frames, height=height, width=width)
    shape = architectures or dataclasses.replace(shapes.FULL, frames=frames, height=height, width=width)
    with torch.device("meta"):  # checked before allocating 4 GB
        FashionFlowUNet(**shape.unet3d).check_shape(shape.frames, shape.height, shape.width)
    few = request.steps or STEPS
    how = dataclasses.replace(frame_by_frame.OPTIMISED, compiled=on_gpu)
    with contextlib.ExitStack() as stack:
        opened = {
            "a": stack.enter_context(frame_by_frame.open_dreampose(shape, device, dtype)),
            "b": stack.enter_context(published.open_published(shape, device, dtype)),
            "c": stack.enter_context(fashionflow_baseline.open_fashionflow(shape, device, dtype, few, compiled=on_gpu)),
            "d": stack.enter_context(frame_by_frame.open_dreampose(shape, device, dtype, how)),
        }
        calls = {f"({key}) {stage}": call for key, one in opened.items() for stage, call in one.stages.items()}
        timings = timing.measure(calls, device, request.repeats, WARMUP)
        constancy = {key: _constancy(one, device, on_gpu) for key, one in opened.items()}
        work = {f"({key}) {stage}": CallCost(flop) for key, one in opened.items() for stage, flop in one.flop.items()}
        videos = _videos(opened, timings, device, request.full)
        names = {key: one.name for key, one in opened.items()}
        work |= {name: CallCost(flop) for name, (_, flop) in videos.items()}
    timings |= {name: Timing(seconds, None, None) for name, (seconds, _) in videos.items()}
    stored = dreampose_figures.stored_bytes(frame_by_frame.count_weights(shapes.FULL))
    limits = measure_limits(device, dtype)
    results = rows(timings, work, limits)
    arithmetic = fashionflow_baseline.arithmetic_ratio(frame_by_frame.count_work(shapes.FULL), shapes.FULL)
    return {
        "suite": "dreampose",
        "title": f"a video of {shape.frames} frames: frame by frame (a, d), and all frames at once (b, c)",
        "model": {"name": "published architectures", "weights": "random, seed 0"},
        "reduced": architectures.label if architectures else reduced,
        "input": shape.as_dict(),
        "repeats": request.repeats,
        "warmup": WARMUP,
        "results": results,
        "ratios": _ratios(results, few),
        "ratio_ranges": _ranges(results, few),
        "paper": PAPER,
        "arithmetic": arithmetic,
        "constancy": constancy,
        "details": {key: dict(one.details) for key, one in opened.items()},
        "limits": limits.as_dict(),
        "notes": [
            *(f"({key}) {name}" for key, name in names.items()),
            f"the paper reports (a) over (b) as {PAPER}; arithmetic at published sizes: {arithmetic:.1f}",
            *_honesty(constancy, request.full, on_gpu),
            dreampose_figures.line(),
            f"Weights that DreamPose stores per person: {stored / 2**30:.1f} GiB (counted); FashionFlow: 0.",
        ],
        "hardware": timing.hardware(device, dtype_name(dtype)),
    }


def _constancy(baseline: Any, device: Any, on_gpu: bool) -> dict[str, Any]:
    from fashionflow_benchmarks.baseline import constancy

    return constancy(baseline, device, count=max(6, baseline.walk if on_gpu else min(FEW, baseline.walk)))


def _videos(
    opened: Mapping[str, Any], timings: Mapping[str, Timing], device: Any, full: bool
) -> dict[str, tuple[tuple[float, ...], int]]:
    """Row → seconds of whole videos, and their arithmetic: generated if `full`, else extrapolated repeat by repeat."""
    wanted = [("a", None), ("b", None), ("c", ALL_STEPS), ("c", None), ("d", None)]
    videos = {}
    for key, steps in wanted:
        baseline = opened[key]
        calls = dict(baseline.calls) | ({"denoise": steps} if steps else {})
        name = f"({key}) video" + (f", {calls['denoise']} steps" if key == "c" else "")
        flop = sum(count * baseline.flop[stage] for stage, count in calls.items())
        if full:
            make = partial(baseline.run, **({"steps": calls["denoise"]} if key == "c" else {}))
            seconds: tuple[float, ...] = (timing.seconds(make, device),)
        else:
            each = zip(*(timings[f"({key}) {stage}"].seconds for stage in calls))
            seconds = tuple(sum(n * s for n, s in zip(calls.values(), repeat)) for repeat in each)
        videos[name] = (seconds, flop)
    return videos


def _pairs(few: int) -> dict[str, tuple[str, str]]:
    """Ratio → the rows of results above and below the line."""
    slow, quick = f"(c) video, {ALL_STEPS} steps", f"(c) video, {few} steps"
    return {
        "(a) over (b): the paper's claim": ("(a) video", "(b) video"),
        f"(d) over (c), {ALL_STEPS} steps": ("(d) video", slow),
        f"(d) over (c), {few} steps": ("(d) video", quick),
        f"(a) over (c), {ALL_STEPS} steps": ("(a) video", slow),
        f"(a) over (c), {few} steps": ("(a) video", quick),
        "(b) over (c), one denoising step": ("(b) denoise", "(c) denoise"),
    }


def _ratios(results: Mapping[str, Any], few: int) -> dict[str, float]:
    """Ratios of the medians."""
    return {name: results[a]["median_s"] / results[b]["median_s"] for name, (a, b) in _pairs(few).items()}


def _ranges(results: Mapping[str, Any], few: int) -> dict[str, list[float]]:
    """Lowest and highest ratio over the repeats, each of which runs all calls; empty for a single one."""
    ranges = {}
    for name, (above, below) in _pairs(few).items():
        each = [a / b for a, b in zip(results[above]["seconds"], results[below]["seconds"])]
        if len(each) > 1:
            ranges[name] = [min(each), max(each)]
    return ranges


def _honesty(constancy: Mapping[str, Any], full: bool, on_gpu: bool) -> list[str]:
    """Notes on how the seconds of whole videos were obtained."""
    ratios = ", ".join(f"({key}) {found['ratio']:.2f} over {found['count']}" for key, found in constancy.items())
    lines = [f"ratio of the last to the first denoising calls of a video: {ratios} calls"]
    how = "whole videos were generated once" if full else "seconds of whole videos: extrapolated from single calls"
    lines.append(how)
    if not on_gpu:
        lines.append("on a CPU neither (c) nor (d) is compiled")
    return lines
