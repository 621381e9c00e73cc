"""Runtimes: torch, onnxruntime, TensorRT; one module each, imported lazily."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from fashionflow_core.config import MODEL_FILE, LoadOptions, ModelConfig
from fashionflow_core.errors import FashionFlowError, SettingError, command, option
from fashionflow_core.runtimes.interface import Networks, Runner
from fashionflow_core.store.engine_folder import ENGINES_FILE, FAILED, GRAPHS, GRAPHS_OF, Engines, refusal
from fashionflow_core.utils.device import resolve_device, resolve_dtype, short_name

# Imported here, because the submodule `torch` shadows the library once it is imported.
_CPU, _FP32 = torch.device("cpu"), torch.float32
# Runtimes of engine folders, in the order that `auto` prefers.
RUNTIMES = {
    "tensorrt": "fashionflow_core.runtimes.tensorrt",
    "onnxruntime": "fashionflow_core.runtimes.onnxruntime",
    "torch": "fashionflow_core.runtimes.torch_graphs",
}
# Runtime of a folder of PyTorch weights, by the kind of its latents.
_PLAIN = "fashionflow_core.runtimes.torch"
_WEIGHTS = {"appearance": _PLAIN, "motion": "fashionflow_core.runtimes.motion"}
# Names in a mixture of runtimes: one network, or both parts of the VAE.
_GROUPS = {**{name: (name,) for name in GRAPHS}, "vae": ("vae_encoder", "vae_decoder")}


def parse_backend(text: str, graphs: Sequence[str] = tuple(GRAPHS)) -> dict[str, str]:
    """`onnxruntime`, or `unet=tensorrt,vae=torch` → a runtime, or "auto", for each network.

    Args:
        text: value of the option.
        graphs: networks of the model, from `engine_folder.GRAPHS`.

    Raises:
        UsageError: an unknown runtime or network, or a network named twice.
    """
    known = ("auto", *RUNTIMES)
    groups = {name: parts for name, parts in _GROUPS.items() if set(parts) <= set(graphs)}
    chosen: dict[str, str] = {}
    for piece in text.split(","):
        names, equals, runtime = piece.strip().rpartition("=")
        if runtime not in known:
            raise SettingError("backend", f"unknown runtime {runtime!r}", hint=f"use one of: {', '.join(known)}")
        if not equals and piece.strip() != text.strip():
            raise SettingError("backend", f"no network in {piece.strip()!r}", hint="write unet=tensorrt,vae=torch")
        if equals and names not in groups:
            raise SettingError("backend", f"unknown network {names!r}", hint=f"use one of: {', '.join(groups)}")
        for name in groups[names] if equals else graphs:
            if name in chosen:
                raise SettingError("backend", f"{name} is given twice")
            chosen[name] = runtime
    return {name: chosen.get(name, "auto") for name in graphs}


def open_weights(folder: Path, device: torch.device, dtype: torch.dtype, config: ModelConfig | None = None) -> Any:
    """The networks of a folder of PyTorch weights: `TorchNetworks`, or `MotionNetworks` for a motion model.

    Args:
        config: model.json of the folder, if already read.

    Raises:
        FashionFlowError: a part is missing or damaged, or the parts do not match.
    """
    config = config or ModelConfig.load(folder)
    return import_module(_WEIGHTS[config.latents]).load(folder, device, dtype, config)


def load(folder: Path, options: LoadOptions = LoadOptions(), config: ModelConfig | None = None) -> Networks:
    """Open a model's networks in a runtime.

    Args:
        folder: folder of PyTorch weights or engines.
        options: load options; dtype "auto" depends on the device for PyTorch, and is fixed for engines.
        config: as in `open_weights`.

    Raises:
        UsageError: unknown device, dtype or backend; `compile`, `low_memory` or `lora` with engines; a dtype other than
            that of the engines.
        FashionFlowError: a missing or damaged network, or engines that must not or cannot run here.
    """
    config = config or ModelConfig.load(folder)
    options.check(config)
    device = resolve_device(options.device)
    dtype = None if options.dtype == "auto" else resolve_dtype(options.dtype, device)
    wanted = parse_backend(options.backend, GRAPHS_OF[config.latents])
    is_engines = (folder / ENGINES_FILE).is_file()
    if options.lora is not None and (is_engines or options.backend not in ("auto", "torch")):
        raise SettingError(
            "lora",
            f"{folder} contains engines, whose weights are fixed",
            hint=f"fuse it first: {command('export', lora=True)}, or "
            f"{command('models merge', 'MODEL', 'LORA', out='OUT')}",
        )
    if is_engines:
        if options.compile:
            raise SettingError("compile", "is for PyTorch only; engines are already compiled", hint="omit it")
        if options.low_memory:
            raise SettingError("low_memory", "is for PyTorch only; the memory of engines is fixed", hint="omit it")
        return _load_engines(folder, config, wanted, device, dtype, options.allow_unverified)
    if asked := sorted(set(wanted.values()) - {"auto", "torch"}):
        kind = "trt" if "tensorrt" in asked else "onnx"
        raise FashionFlowError(
            f"{option('backend', asked[0])}: {folder} contains PyTorch weights, not engines",
            hint=f"export engines: {command('export', **{kind: True}, model=folder)}",
        )
    return _load_weights(folder, config, device, dtype or resolve_dtype("auto", device), options)


def _load_weights(
    folder: Path, config: ModelConfig, device: torch.device, dtype: torch.dtype, options: LoadOptions
) -> Any:
    """PyTorch networks ready to run; with `low_memory` they stay on the CPU and take turns on `device`."""
    start = _CPU if options.low_memory else device
    if options.lora is None:
        networks = open_weights(folder, start, dtype, config)
    else:
        from fashionflow_core.runtimes.lora import fuse_lora

        networks = open_weights(folder, _CPU, _FP32, config)  # so that the fused weights are rounded once
        fuse_lora(networks.unet, options.lora)
        networks.to(start, dtype)
    networks.settle(device)
    if options.low_memory:
        from fashionflow_core.runtimes.offload import OffloadedNetworks

        return OffloadedNetworks(networks, device)
    return networks.compile() if options.compile else networks


def _load_engines(
    folder: Path,
    config: ModelConfig,
    wanted: dict[str, str],
    device: torch.device,
    dtype: torch.dtype | None,
    allow_unverified: bool,
) -> Networks:
    from fashionflow_core.runtimes.engine_networks import EngineNetworks, MotionEngineNetworks
    from fashionflow_core.runtimes.interpolator import Interpolator

    engines = Engines.load(folder)
    if engines.latents != config.latents:
        raise FashionFlowError(
            f"{folder}: engines are for {engines.latents}, {MODEL_FILE} for {config.latents}",
            hint="export the model again",
        )
    if device.type not in ("cpu", "cuda"):
        device = _CPU
    if lacking := [name for name in engines.graphs if name not in engines.networks]:
        raise FashionFlowError(
            f"{folder}: no {lacking[0]} (only {', '.join(engines.networks)})",
            hint=f"export it again without {option('networks')} to generate",
        )
    lacks = cache(partial(missing, engines, device=device))  # slow for PyTorch, which hashes gigabytes
    chosen = {name: _choose(folder, engines, name, runtime, lacks) for name, runtime in wanted.items()}
    for runtime in sorted(set(chosen.values()) & set(engines.runtimes)):
        if engines.runtimes[runtime].state == FAILED and not allow_unverified:
            raise refusal(folder, runtime, engines.runtimes[runtime])
    own = engines.networks["unet"].dtype
    if dtype is not None and short_name(dtype) != own:
        raise SettingError(
            "dtype",
            f"the engines in {folder} compute in {own}",
            hint=f"omit {option('dtype')}, or export the model again with that {option('dtype')}",
        )
    runners: dict[str, Any] = {}
    for runtime in sorted(set(chosen.values())):
        names = [name for name in engines.graphs if chosen[name] == runtime]
        runners |= open_runners(folder, engines, runtime, names, device)
    interpolator = None
    if config.interpolator:  # not exported: it runs once per window, the U-Net at every step
        number_type = resolve_dtype("auto", device)
        unet = import_module(_PLAIN).open_interpolator(folder, len(config.latents_mean), number_type)
        interpolator = Interpolator(unet.to(device).eval())
    kind: Any = MotionEngineNetworks if engines.latents == "motion" else EngineNetworks
    return kind(folder, engines, chosen, runners, device, interpolator)


def open_runners(
    folder: Path, engines: Engines, runtime: str, networks: Sequence[str], device: torch.device
) -> dict[str, Runner]:
    """Graphs of an engine folder in one runtime, regardless of their verification state.

    Raises:
        FashionFlowError: the runtime is unavailable; a file is missing, changed or damaged.
    """
    reason, hint = missing(engines, runtime, device)
    if reason:
        raise FashionFlowError(f"{folder}: {runtime} cannot run here: {reason}", hint)
    return import_module(RUNTIMES[runtime]).open_graphs(folder, engines, networks, device)


def missing(engines: Engines, runtime: str, device: torch.device) -> tuple[str, str]:
    """The reason why a runtime cannot run a folder's engines here, and a hint; empty if it can."""
    return import_module(RUNTIMES[runtime]).missing(engines, device)


def _choose(folder: Path, engines: Engines, network: str, runtime: str, lacks: Callable[[str], tuple[str, str]]) -> str:
    """The runtime of one network; "auto": the first one with a file in the folder that runs here."""
    files = engines.networks[network].files
    candidates = [name for name in RUNTIMES if name in files] if runtime == "auto" else [runtime]
    # Runtimes that failed verification come last.
    candidates.sort(key=lambda name: name in engines.runtimes and engines.runtimes[name].state == FAILED)
    reasons = []
    for name in candidates:
        reason, hint = lacks(name)
        if not reason:
            return name
        reasons.append((f"{name}: {reason}", hint))
    if not reasons:
        raise FashionFlowError(f"{folder}: no file for {network}", hint="export the model again")
    raise FashionFlowError(
        f"{folder}: cannot be run here ({'; '.join(dict.fromkeys(reason for reason, _ in reasons))})",
        hint=reasons[-1][1],
    )
