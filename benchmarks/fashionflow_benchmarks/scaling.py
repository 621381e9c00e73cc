"""Suites `batch` and `scale`: cost by batch size, frames and resolution."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from fashionflow_benchmarks import timing
from fashionflow_benchmarks.model_under_test import PUBLISHED, SEED, BenchRequest, open_subject
from fashionflow_benchmarks.roofline import CallCost, measure_limits, rows
from fashionflow_core.errors import UsageError
from fashionflow_core.utils.device import dtype_name
from fashionflow_core.utils.memory import is_out_of_memory

BATCHES = (1, 2, 4, 8)
SMALL_BATCHES = (1, 2, 4)
FRAMES, SMALL_FRAMES = (10, 18, 36, 70, 140), (8, 16, 32, 64)
WARMUP = 1


def batch(request: BenchRequest) -> dict[str, Any]:
    """One denoising step of several photos' clips in one call: the gain of batching in a catalogue."""
    subject = open_subject(request)
    networks, notes = subject.networks, list[str]()
    limits = measure_limits(networks.device, networks.dtype)
    sizes = BATCHES if networks.device.type == "cuda" or request.full else SMALL_BATCHES
    calls, work = {}, {}
    for size in sizes:
        inputs = subject.inputs(batch=size)
        arguments = (inputs["sample"], inputs["timestep"], inputs["context"])
        try:
            networks.denoise(*arguments)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            notes.append(f"out of memory with a batch of {size}")
            break
        name = f"batch {size}"
        calls[name] = lambda arguments=arguments: networks.denoise(*arguments)
        shapes = [tuple(tensor.shape) for tensor in arguments]
        work[name] = CallCost.of(networks.denoise, *shapes)
    results = rows(timing.measure(calls, networks.device, request.repeats, 0), work, limits)
    clips = {name: size / results[name]["median_s"] for size, name in zip(sizes, results)}
    faster = {f"clips a second, {name} over batch 1": clips[name] / clips["batch 1"] for name in list(clips)[1:]}
    title = "U-Net step of several photos at once"
    more = {"ratios": faster, "clips_per_s": clips, "notes": notes}
    return subject.result("batch", title, results, request.repeats, WARMUP, limits, **more)


def scale(request: BenchRequest) -> dict[str, Any]:
    """One U-Net pass of the published architecture at growing sizes; seconds ~ size ** exponent.

    Frames, latent pixels and batch are increased separately, from their smallest size. The exponent is the slope of a
    least-squares line through the logarithms. Above 1 the cost grows faster than the video.

    Raises:
        UsageError: a model with a fixed size.
    """
    import torch

    from fashionflow_core.models import FashionFlowUNet
    from fashionflow_core.runtimes.torch import settle

    if request.model != PUBLISHED:
        raise UsageError(
            f"bench scale: needs many sizes, but {request.model} has a fixed one",
            hint=f"omit --model, or pass --model {PUBLISHED}",
        )
    device, dtype = request.place
    large = device.type == "cuda" or request.full
    frames, height, width = request.sizes(device)[0]
    axes: dict[str, list[tuple[int, int, int, int]]] = {  # batch, frames, height, width
        "frames": [(1, f, height, width) for f in (FRAMES if large else SMALL_FRAMES)],
        "pixels": [(1, frames, h, w) for h, w in _pixels(large)],
        "batch": [(b, frames, height, width) for b in BATCHES],
    }
    limits = measure_limits(device, dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        unet = FashionFlowUNet()
    torch.nn.Module.to(unet, device, dtype).eval()
    settle(unet)
    generator = torch.Generator().manual_seed(SEED)
    calls, work, sizes = {}, {}, {}

    def forward(sample: Any, timestep: Any, context: Any) -> Any:
        return unet(sample.to(device, dtype), timestep.to(device), context.to(device, dtype)).sample

    for axis, points in axes.items():
        for point in points:
            count, *clip = point
            shapes = ((count, 4, *clip), (1,), (count, 50, 768))
            name = f"{axis} {'x'.join(map(str, point))}"
            tensors = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
            calls[name] = lambda tensors=tensors: forward(*tensors)
            work[name] = CallCost.of(forward, *shapes)
            sizes[name] = {"frames": clip[0], "pixels": clip[1] * clip[2], "batch": count}[axis]
    with torch.inference_mode():
        results = rows(timing.measure(calls, device, request.repeats, WARMUP), work, limits)
    exponents = {}
    for axis in axes:
        names = [name for name in results if name.startswith(axis)]
        exponents[axis] = {
            what: exponent([sizes[name] for name in names], [results[name][key] for name in names])
            for what, key in (("seconds", "median_s"), ("flop", "flop"), ("traffic", "traffic_bytes"))
        }
    return {
        "suite": "scale",
        "title": "U-Net pass at growing sizes (batch x frames x height x width of the latents)",
        "model": {"name": "published architecture", "weights": f"random, seed {SEED}"},
        "reduced": None if large else "reduced: small sizes on a CPU (--full for the published ones)",
        "input": {"sizes": sizes},
        "repeats": request.repeats,
        "warmup": WARMUP,
        "results": results,
        "ratios": {f"exponent in {axis}": fitted["seconds"] for axis, fitted in exponents.items()},
        "exponents": exponents,
        "limits": limits.as_dict(),
        "hardware": timing.hardware(device, dtype_name(dtype)),
    }


def _pixels(large: bool) -> Sequence[tuple[int, int]]:
    return ((32, 32), (48, 48), (80, 64), (96, 96)) if large else ((16, 16), (32, 16), (32, 32), (64, 48))


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of the least-squares line through (log size, log cost); at least two different sizes, all above 0."""
    return statistics.linear_regression([math.log(size) for size in sizes], [math.log(cost) for cost in costs]).slope
