"""Suite `memory`: memory of each stage, with and without `--low-memory`."""

from typing import Any

from fashionflow_benchmarks import timing
from fashionflow_benchmarks.model_under_test import CHUNK, SEED, BenchRequest, open_subject
from fashionflow_benchmarks.roofline import CallCost, rows
from fashionflow_benchmarks.timing import Timing

WARMUP = 1


def memory(request: BenchRequest) -> dict[str, Any]:
    """Peak memory of encoding, a denoising step and decoding by chunk; and of a whole video, both ways.

    On CUDA it is the maximum of torch's allocator; on Linux CPUs the resident memory of the process, including PyTorch
    and all weights, so that the savings of low memory are not visible there.
    """
    subject = open_subject(request)
    networks, pipeline = subject.networks, subject.pipeline
    one, chunk = subject.inputs(), min(CHUNK, subject.frames)
    many = subject.inputs(batch=chunk)
    photo = subject.photo()

    def generate() -> None:
        for _ in pipeline.generate(photo, steps=2, seed=SEED).frames:
            pass

    calls = {
        "encode": lambda: networks.encode_image(one["pixels"]),
        "context": lambda: networks.context(one["clip_pixels"], one["latents"]),
        "denoise": lambda: networks.denoise(one["sample"], one["timestep"], one["context"]),
        "decode 1": lambda: networks.decode(one["latents"]),
        f"decode {chunk}": lambda: networks.decode(many["latents"]),
        "video": generate,
    }
    timings: dict[str, Timing] = timing.measure(calls, networks.device, 1, WARMUP)
    calls.clear()  # drops references to networks before the second half
    timings["video, low memory"] = _low_memory(pipeline, generate, networks)
    results = rows(timings, {name: CallCost() for name in timings}, None)
    peak = {name: row["peak_memory_bytes"] for name, row in results.items()}
    low, usual = peak["video, low memory"], peak["video"]
    return subject.result(
        "memory",
        "peak memory",
        results,
        1,
        WARMUP,
        ratios={"peak, low memory over usual": low / usual if low and usual else None},
        weights_bytes=networks.weights_bytes,
        notes=[
            f"weights of all networks: {networks.weights_bytes / 2**20:,.0f} MiB",
            "the video has 2 steps; memory does not depend on their number",
        ],
    )


def _low_memory(pipeline: Any, generate: Any, networks: Any) -> Timing:
    """The same generation with offloaded networks; the pipeline's own are restored afterwards."""
    import torch

    from fashionflow_core.runtimes.offload import OffloadedNetworks

    device, dtype = networks.device, networks.dtype
    offloaded = OffloadedNetworks(networks.to(torch.device("cpu"), dtype), device)
    pipeline.networks = pipeline.conditioner.networks = offloaded
    try:
        return timing.measure({"low": generate}, device, 1, WARMUP)["low"]
    finally:
        pipeline.networks = pipeline.conditioner.networks = networks.to(device, dtype)
