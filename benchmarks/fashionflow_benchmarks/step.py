"""Suite `step`: one denoising step against the reference U-Net."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionflow_benchmarks import timing
from fashionflow_benchmarks.model_under_test import FULL, PUBLISHED, BenchRequest, reduction
from fashionflow_benchmarks.roofline import CallCost, measure_limits, rows
from fashionflow_core.errors import FashionFlowError, UsageError, first_line
from fashionflow_core.utils.device import dtype_name, resolve_device, resolve_dtype

if TYPE_CHECKING:
    import torch

    from fashionflow_benchmarks.reference_unet import LiteralUNet
    from fashionflow_core.models import FashionFlowUNet

SEED = 0
REDUCED = (8, 32, 32)  # on a CPU; below that call overhead exceeds arithmetic
WARMUP = 2
TIMESTEP = 500
PUBLISHED_TOKENS = 50


def run(request: BenchRequest) -> dict[str, Any]:
    """Suite `step` of `fashionflow bench`."""
    device, _ = request.place
    published = request.model == PUBLISHED
    size = request.sizes(device, REDUCED)[0] if published else (request.frames, request.height, request.width)
    return bench_step(
        None if published else request.model,
        **dict(zip(("frames", "height", "width"), size)),
        dtype=request.dtype,
        device=str(device),
        repeats=request.repeats,
    )


def bench_step(
    model: Path | str | None,
    *,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    dtype: str = "fp32",
    device: str = "auto",
    repeats: int = 5,
) -> dict[str, Any]:
    """One denoising step, batch 1: the U-Net against the reference formulation with the same weights, interleaved.

    Args:
        model: model folder, name for `registry.find`, or None for the published architecture with seeded
            random weights.
        frames, height, width: size of the latents; by default the model's own.
        dtype: one of auto, fp32, bf16 or fp16.
        device: such as auto, cpu, cuda.
        repeats: timed passes of each formulation.

    Returns:
        A result as `report` describes it: rows "ours" and "literal".

    Raises:
        UsageError: an unknown dtype or device, or a number of repeats below 1.
        FashionFlowError: no such model, or a size that the network cannot halve.
    """
    import torch

    from fashionflow_core.runtimes.torch import settle

    if repeats < 1:
        raise UsageError(f"--repeats: must be at least 1, not {repeats}")
    target = resolve_device(device)
    number = resolve_dtype(dtype, target)
    unet, name, weights, native, tokens = _open(model)
    wanted = tuple(given if given is not None else own for given, own in zip((frames, height, width), native))
    size = (wanted[0], wanted[1], wanted[2])
    unet.check_shape(*size)
    config = _arguments(unet)
    channels, context_dim = config["in_channels"], config["cross_attention_dim"]
    literal = literal_twin(unet)
    torch.nn.Module.to(unet, target, number).eval()
    settle(unet)
    literal.to(target, number).eval()
    generator = torch.Generator().manual_seed(SEED)
    sample = torch.randn((1, channels, *size), generator=generator).to(target, number)
    context = torch.randn((1, tokens, context_dim), generator=generator).to(target, number)
    timestep = torch.tensor([TIMESTEP], device=target)

    def ours() -> torch.Tensor:
        return unet(sample, timestep, context).sample

    def reference() -> torch.Tensor:
        return literal(sample, timestep, context)

    with torch.inference_mode():
        expected = reference().float()
        difference = ours().float() - expected
        agreement = {
            "max_abs": difference.abs().max().item(),
            "rms": difference.square().mean().sqrt().item(),
            "output_std": expected.std().item(),
        }
        del expected, difference
        timings = timing.measure({"ours": ours, "literal": reference}, target, repeats, WARMUP)
    shapes = ((1, channels, *size), (1,), (1, tokens, context_dim))
    work = {name: count_work(network, shapes, number) for name, network in (("ours", unet), ("literal", literal))}
    limits = measure_limits(target, number)
    results = rows(timings, work, limits)
    return {
        "suite": "step",
        "title": "U-Net step, this project and the reference formulation",
        "reduced": reduction(size) if model is None else None,
        "model": {
            "name": name,
            "weights": weights,
            "parameters": sum(parameter.numel() for parameter in unet.parameters()),
            "config": {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()},
        },
        "input": {
            "batch": 1,
            "channels": channels,
            **dict(zip(("frames", "height", "width"), size)),
            "context_tokens": tokens,
            "context_dim": context_dim,
        },
        "repeats": repeats,
        "warmup": WARMUP,
        "results": results,
        "ratios": {
            "time": _ratio(results, "median_s"),
            "flop": _ratio(results, "flop"),
            "traffic": _ratio(results, "traffic_bytes"),
            "call_memory": _ratio(results, "call_memory_bytes"),
        },
        "difference": agreement,
        "notes": [
            f"largest difference of the outputs {agreement['max_abs']:.2e} (rms {agreement['rms']:.2e}, "
            f"standard deviation of the output {agreement['output_std']:.3f})"
        ],
        "limits": limits.as_dict(),
        "hardware": timing.hardware(target, dtype_name(number)),
    }


def _arguments(unet: "FashionFlowUNet") -> dict[str, Any]:
    """Constructor arguments of the network."""
    return {key: value for key, value in unet.config.items() if not key.startswith("_")}


def literal_twin(unet: "FashionFlowUNet") -> "LiteralUNet":
    """The reference formulation of the same config and weights, sharing memory where shapes allow."""
    import torch

    from fashionflow_benchmarks.reference_unet import LiteralUNet
    from fashionflow_core.store.published import ours_to_published

    config = _arguments(unet)
    with torch.device("meta"):
        literal = LiteralUNet(**config)
    weights = {name: weight.contiguous() for name, weight in ours_to_published(unet.state_dict()).items()}
    literal.load_state_dict(weights, strict=True, assign=True)
    return literal


def _open(model: Path | str | None) -> tuple["FashionFlowUNet", str, str, tuple[int, int, int], int]:
    """(U-Net, its name, origin of its weights, native (frames, height, width) of the latents, context tokens)."""
    import torch

    from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter

    if model is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            unet = FashionFlowUNet()
        return unet, "published architecture", f"random, seed {SEED}", FULL, PUBLISHED_TOKENS
    from fashionflow_core.config import MODEL_FILE, ModelConfig

    folder = Path(model)
    if not (folder / MODEL_FILE).is_file():
        from fashionflow_core.store import registry

        folder = registry.find(str(model))
    conventions = ModelConfig.load(folder)
    try:
        unet = FashionFlowUNet.from_pretrained(
            folder / "unet", use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
        )
        adapter: Any = ImageContextAdapter.load_config(folder / "adapter", local_files_only=True)
        latents = (conventions.frames, adapter["latent_height"], adapter["latent_width"])
        tokens = adapter["clip_tokens"]
    except Exception as error:  # safetensors, json and diffusers raise various kinds
        raise FashionFlowError(
            f"{folder}: U-Net or adapter cannot be loaded ({first_line(error)})",
            hint="pass a model folder of safetensors",
        ) from error
    return unet, conventions.name, "from the model folder", latents, tokens


def count_work(network: Any, shapes: tuple[tuple[int, ...], ...], dtype: "torch.dtype") -> CallCost:
    """Work of one pass of a U-Net, with inputs in the network's dtype."""

    def forward(sample: "torch.Tensor", timestep: "torch.Tensor", context: "torch.Tensor") -> object:
        device = next(network.parameters()).device
        return network(sample.to(device, dtype), timestep.to(device), context.to(device, dtype))

    return CallCost.of(forward, *shapes)


def _ratio(results: dict[str, dict[str, Any]], key: str) -> float | None:
    """Ratio of "literal" to "ours"; None if either is unknown or "ours" is 0."""
    literal, ours = results["literal"][key], results["ours"][key]
    return literal / ours if literal is not None and ours else None
