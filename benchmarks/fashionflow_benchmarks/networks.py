"""Suites `vae` and `clip`: VAE, and CLIP with the adapter."""

from collections.abc import Callable, Mapping
from typing import Any

from fashionflow_benchmarks import timing
from fashionflow_benchmarks.model_under_test import CHUNK, BenchRequest, Subject, open_subject
from fashionflow_benchmarks.roofline import CallCost, measure_limits, rows

WARMUP = 1


def vae(request: BenchRequest) -> dict[str, Any]:
    """Encode the photo; decode one frame, and a chunk of frames as in generation."""
    subject = open_subject(request)
    chunk = min(CHUNK, subject.frames)
    one, many = subject.inputs(), subject.inputs(batch=chunk)
    networks = subject.networks
    calls = {
        "encode 1": (networks.encode_image, (one["pixels"],)),
        "decode 1": (networks.decode, (one["latents"],)),
        f"decode {chunk}": (networks.decode, (many["latents"],)),
    }
    result = measure_calls("vae", "VAE", subject, calls, request)
    result["input"]["clip_frames"] = subject.frames
    per_frame = {"decode 1": 1, f"decode {chunk}": chunk}
    result["per_frame_s"] = {name: result["results"][name]["median_s"] / frames for name, frames in per_frame.items()}
    seconds = subject.frames * result["per_frame_s"][f"decode {chunk}"]
    result["notes"] = [f"decoding a clip of {subject.frames} frames, {chunk} per call: {seconds:.3g} s (extrapolated)"]
    return result


def clip(request: BenchRequest) -> dict[str, Any]:
    """The photo's context: CLIP's encoder and the adapter."""
    subject = open_subject(request)
    inputs, networks = subject.inputs(), subject.networks
    hidden = inputs["context"].to(networks.dtype)
    latents = inputs["latents"].to(networks.dtype)
    calls = {
        "CLIP and adapter": (networks.context, (inputs["clip_pixels"], inputs["latents"])),
        "adapter": (networks.adapter, (hidden, latents)),
    }
    return measure_calls("clip", "CLIP encoder and adapter", subject, calls, request)


def measure_calls(
    suite: str,
    title: str,
    subject: Subject,
    calls: Mapping[str, tuple[Callable[..., Any], tuple[Any, ...]]],
    request: BenchRequest,
) -> dict[str, Any]:
    """Time calls of networks interleaved, count their operations, and compare with the device's limits.

    Args:
        suite, title: fields of the result.
        subject: model under test.
        calls: name → function and its tensors.
        request: request with the number of repeats.

    Returns:
        A result as `report` describes it.
    """
    import torch

    networks = subject.networks
    with torch.inference_mode():
        thunks = {name: _bound(call, tensors) for name, (call, tensors) in calls.items()}
        timings = timing.measure(thunks, networks.device, request.repeats, WARMUP)
    work = {}
    for name, (call, tensors) in calls.items():
        placed = _placed(call, tensors)
        shapes = [tuple(tensor.shape) for tensor in tensors]
        work[name] = CallCost.of(placed, *shapes)
    limits = measure_limits(networks.device, networks.dtype)
    shapes = {name: [list(tensor.shape) for tensor in tensors] for name, (_, tensors) in calls.items()}
    found = rows(timings, work, limits)
    return subject.result(suite, title, found, request.repeats, WARMUP, limits, input=shapes)


def _bound(call: Callable[..., Any], tensors: tuple[Any, ...]) -> Callable[[], Any]:
    return lambda: call(*tensors)


def _placed(call: Callable[..., Any], tensors: tuple[Any, ...]) -> Callable[..., Any]:
    """The call with arguments moved to the device and dtype of the measured networks."""
    return lambda *arguments: call(*(value.to(like.device, like.dtype) for value, like in zip(arguments, tensors)))
