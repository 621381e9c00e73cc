"""One model in several runtimes, timed side by side through the contract that the sampling loop uses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fashionflow_benchmarks import timing
from fashionflow_core import backends, pipeline, registry
from fashionflow_core.contract import ENGINES_FILE, Engines
from fashionflow_core.device import resolve_device
from fashionflow_core.errors import FashionFlowError, UsageError

SCHEMA = 1
COMPILED = "compiled"  # PyTorch after --compile


def bench_runtimes(
    model: Path | str,
    names: Sequence[str],
    *,
    device: str = "auto",
    dtype: str = "auto",
    repeats: int = 5,
) -> dict[str, Any]:
    """Time `denoise` of a whole clip and `decode` of one batch of frames in each runtime, interleaved.

    Args:
        model: a name or folder, of engines where a runtime needs them. PyTorch then runs what they were exported from.
        names: of `backends.load`, or "compiled"; the first one is what the others are compared with.
        device, dtype: as for generate; the dtype is PyTorch's, engines have their own.
        repeats: timed calls of each.

    Returns:
        JSON-able: `denoise` and `decode`, each runtime → seconds, quartiles, memory; `difference`: of each runtime's
        denoised clip, largest and root mean square, to the first one's; `input`, `hardware`.

    Raises:
        UsageError: no runtime, one named twice, or fewer than one repeat.
        FashionFlowError: as `pipeline.load`; the weights that engines were exported from are gone or others.
    """
    import torch

    if repeats < 1:
        raise UsageError(f"--repeats: must be at least 1, not {repeats}")
    if not names or len(set(names)) != len(names):
        raise UsageError("--backend: name each runtime once, and at least one")
    folder, target = registry.find(str(model)), resolve_device(device)
    engines = Engines.load(folder) if (folder / ENGINES_FILE).is_file() else None
    opened: dict[str, Any] = {}
    for name in names:
        runtime, place = "torch" if name == COMPILED else name, folder
        if engines is not None and runtime == "torch":
            reason, hint = backends.missing(engines, runtime, target)
            if reason:
                raise FashionFlowError(f"{folder}: {name} cannot run here: {reason}", hint)
            # Eager and compiled PyTorch alike run the networks as they are, without the border of an engine's graphs.
            place = Path(engines.source)
        opened[name] = pipeline.load(
            place, device, dtype if runtime == "torch" else "auto", runtime, compile=name == COMPILED
        ).networks
    first = opened[names[0]]
    frames = engines.frames[1] if engines is not None else _frames(folder)
    batch = max(networks.decode_batch for networks in opened.values())
    generator = torch.Generator().manual_seed(0)
    size = (first.latent_height, first.latent_width)
    sample = torch.randn((1, first.input_channels, frames, *size), generator=generator).to(target)
    latents = torch.randn((batch, first.latent_channels, *size), generator=generator).to(target)
    context = _context(first, generator).to(target)
    timestep = torch.tensor([500], device=target)

    def denoise(name: str) -> Any:
        return lambda: opened[name].denoise(sample, timestep, context)

    def decode(name: str) -> Any:
        return lambda: opened[name].decode(latents)

    expected = denoise(names[0])().cpu()
    difference = {}
    for name in names[1:]:
        error = denoise(name)().cpu() - expected
        difference[name] = {"max_abs": error.abs().max().item(), "rms": error.square().mean().sqrt().item()}
    times = {
        call: {
            name: timing_.as_dict()
            for name, timing_ in timing.measure({name: make(name) for name in names}, target, repeats, 2).items()
        }
        for call, make in (("denoise", denoise), ("decode", decode))
    }
    return {
        "schema": SCHEMA,
        "suite": "runtimes",
        "model": str(model),
        "dtypes": {name: str(networks.dtype).removeprefix("torch.") for name, networks in opened.items()},
        "input": {"sample": list(sample.shape), "latents": list(latents.shape)},
        "repeats": repeats,
        **times,
        "difference": difference,
        "hardware": timing.hardware(target, str(first.dtype).removeprefix("torch.")),
    }


def _frames(folder: Path) -> int:
    from fashionflow_core.config import ModelConfig

    return ModelConfig.load(folder).frames


def _context(networks: Any, generator: Any) -> Any:
    """Context tokens of the shape that a runtime's own encoder gives."""
    import torch

    if hasattr(networks, "engines"):
        return torch.randn(networks.engines.networks["unet"].inputs["context"], generator=generator)
    config = networks.adapter.config
    return torch.randn((1, config["clip_tokens"], config["clip_dim"]), generator=generator)


def table(result: dict[str, Any]) -> str:
    """A row for each runtime: median seconds of both calls, and the difference to the first."""
    machine = result["hardware"]
    where = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} threads"
    rows = [("", "dtype", "denoise s", "decode s", "largest difference")]
    for name, row in result["denoise"].items():
        difference = result["difference"].get(name)
        rows.append(
            (
                name,
                result["dtypes"][name],
                f"{row['median_s']:.4f}",
                f"{result['decode'][name]['median_s']:.4f}",
                f"{difference['max_abs']:.2e}" if difference else "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    sample = "x".join(map(str, result["input"]["sample"][1:]))
    return "\n".join([f"{result['model']}, latents {sample}; {where}", "", *lines])
