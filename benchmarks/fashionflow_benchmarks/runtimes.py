"""Suite `backends`: one model in several runtimes, timed interleaved."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fashionflow_benchmarks import timing
from fashionflow_benchmarks.model_under_test import PUBLISHED, SEED, BenchRequest, open_subject
from fashionflow_benchmarks.roofline import CallCost, rows
from fashionflow_core import pipeline, runtimes
from fashionflow_core.config import LoadOptions
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.store import registry
from fashionflow_core.store.engine_folder import ENGINES_FILE, Engines
from fashionflow_core.utils.device import dtype_name, resolve_device

TORCH, COMPILED = "torch", "compiled"  # eager PyTorch, and PyTorch with --compile
WARMUP = 2  # the first call compiles, the second captures graphs


def run(request: BenchRequest) -> dict[str, Any]:
    """Time `denoise` of a whole clip and `decode` of one batch of frames in each runtime, interleaved.

    Runtimes are those of `runtimes.load`, or "compiled"; the others are compared with the first one. For a folder of
    engines PyTorch runs the model that they were exported from.

    Raises:
        UsageError: a runtime given twice; a size for a model with a fixed size.
        FashionFlowError: as `pipeline.load`; the weights that engines were exported from are missing or changed.
    """
    names = request.backends or (TORCH, COMPILED)
    if len(set(names)) != len(names):
        raise UsageError("--backend: a runtime is given twice")
    opened, frames = _open(request, names)
    first = opened[names[0]]
    inputs = _inputs(first, frames, max(networks.decode_batch for networks in opened.values()))
    clip = (inputs["sample"], inputs["timestep"], inputs["context"])
    expected = first.denoise(*clip).cpu()
    difference = {}
    for name in names[1:]:
        error = opened[name].denoise(*clip).cpu() - expected
        difference[name] = {"max_abs": error.abs().max().item(), "rms": error.square().mean().sqrt().item()}
    notes = [
        f"{name}: largest difference from {names[0]} {found['max_abs']:.2e} (rms {found['rms']:.2e})"
        for name, found in difference.items()
    ]
    calls: dict[str, Callable[[], Any]] = {}
    for name, networks in opened.items():
        calls[f"denoise, {name}"] = lambda networks=networks: networks.denoise(*clip)
        calls[f"decode, {name}"] = lambda networks=networks: networks.decode(inputs["latents"])
    results = rows(timing.measure(calls, first.device, request.repeats, WARMUP), _work(opened, frames, inputs), None)
    ratios = {
        f"{call}, {names[0]} over {name}": _median(results, call, names[0]) / _median(results, call, name)
        for call in ("denoise", "decode")
        for name in names[1:]
    }
    published = request.model == PUBLISHED
    return {
        "suite": "backends",
        "title": "runtimes",
        "model": {
            "name": "published architecture" if published else request.model,
            "weights": f"random, seed {SEED}" if published else "from the folder",
        },
        "reduced": request.sizes(first.device)[1] if published else None,
        "dtypes": {name: dtype_name(networks.dtype) for name, networks in opened.items()},
        "input": {name: list(tensor.shape) for name, tensor in inputs.items()},
        "repeats": request.repeats,
        "warmup": WARMUP,
        "results": results,
        "ratios": ratios,
        "difference": difference,
        "notes": notes,
        "hardware": timing.hardware(first.device, dtype_name(first.dtype)),
    }


def _open(request: BenchRequest, names: tuple[str, ...]) -> tuple[dict[str, Any], int]:
    """Networks by runtime, and the frames of a clip."""
    if request.model == PUBLISHED:
        if others := sorted(set(names) - {TORCH, COMPILED}):
            raise UsageError(
                f"--backend {others[0]}: the published architecture has no engines",
                hint="pass --model DIR, a folder written by fashionflow export",
            )
        opened = {name: open_subject(request).networks for name in names}
        frames = request.sizes(opened[names[0]].device)[0][0]
        return {name: _compiled(networks, name) for name, networks in opened.items()}, frames
    if request.frames is not None or request.height is not None:
        raise UsageError("bench backends: --frames and --latent-size are not supported (fixed by the model)")
    folder, device = registry.find(request.model), resolve_device(request.device)
    engines = Engines.load(folder) if (folder / ENGINES_FILE).is_file() else None
    opened = {}
    for name in names:
        plain, place = name in (TORCH, COMPILED), folder
        if engines is not None and plain:
            reason, hint = runtimes.missing(engines, TORCH, device)
            if reason:
                raise FashionFlowError(f"{folder}: {name} cannot run here: {reason}", hint)
            # Eager and compiled PyTorch run the networks directly, without the casts of an engine's graphs.
            place = Path(engines.source)
        dtype, backend = (request.dtype, TORCH) if plain else ("auto", name)
        loaded = pipeline.load(place, LoadOptions(str(device), dtype, backend))
        opened[name] = _compiled(loaded.networks, name)
    return opened, engines.frames[1] if engines is not None else _frames(folder)


def _compiled(networks: Any, name: str) -> Any:
    return networks.compile() if name == COMPILED else networks


def _frames(folder: Path) -> int:
    from fashionflow_core.config import ModelConfig

    return ModelConfig.load(folder).frames


def _inputs(networks: Any, frames: int, batch: int) -> dict[str, Any]:
    """Seeded noise: a clip, its timestep and context, and latents for one decoder call."""
    import torch

    generator = torch.Generator().manual_seed(SEED)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(networks.device)

    if hasattr(networks, "engines"):
        context = tuple(networks.engines.networks["unet"].inputs["context"])
    else:
        context = (1, networks.adapter.config["clip_tokens"], networks.adapter.config["clip_dim"])
    size = (networks.latent_height, networks.latent_width)
    return {
        "sample": noise(1, networks.input_channels, frames, *size),
        "timestep": torch.tensor([500], device=networks.device),
        "context": noise(*context),
        "latents": noise(batch, networks.latent_channels, *size),
    }


def _work(opened: Mapping[str, Any], frames: int, inputs: Mapping[str, Any]) -> dict[str, CallCost]:
    """Operations, equal in every runtime, counted on one that is not compiled."""
    plain = next((networks for name, networks in opened.items() if name != COMPILED), None)
    if plain is None:
        return {}
    flop = plain.count_flop(frames)
    each = {"denoise": flop["denoise"], "decode": len(inputs["latents"]) * flop["decode"]}
    return {f"{call}, {name}": CallCost(each[call]) for name in opened for call in each}


def _median(results: Mapping[str, Any], call: str, name: str) -> float:
    return results[f"{call}, {name}"]["median_s"]
