"""Runtimes, one file each. The table is lazy: naming a runtime imports nothing but its own file."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from fashionflow_core.config import ModelConfig
from fashionflow_core.contract import ENGINES_FILE, FAILED, GRAPHS, Engines, Networks, Runner, refusal
from fashionflow_core.device import resolve_dtype
from fashionflow_core.errors import FashionFlowError, UsageError

# Here, because the runtime `torch` hides the library of that name once it is imported.
_CPU = torch.device("cpu")
# What runs the graphs of an engine folder, in the order in which `auto` takes what it holds.
RUNTIMES = {
    "tensorrt": "fashionflow_core.backends.tensorrt",
    "onnxruntime": "fashionflow_core.backends.onnxruntime",
    "torch": "fashionflow_core.backends.torch_graphs",
}
# What runs a folder of PyTorch weights.
_PLAIN = "fashionflow_core.backends.torch"
# What a mixture may name: one network, or both halves of the VAE.
_GROUPS = {**{name: (name,) for name in GRAPHS}, "vae": ("vae_encoder", "vae_decoder")}


def parse_backend(text: str) -> dict[str, str]:
    """`onnxruntime`, or `unet=tensorrt,vae=torch` → a runtime, or "auto", for each of `contract.GRAPHS`.

    Raises:
        UsageError: an unknown runtime or network, or a network named twice.
    """
    known = ("auto", *RUNTIMES)
    chosen: dict[str, str] = {}
    for piece in text.split(","):
        names, equals, runtime = piece.strip().rpartition("=")
        if runtime not in known:
            raise UsageError(f"--backend: {runtime!r} is unknown", hint=f"use one of: {', '.join(known)}")
        if not equals and piece.strip() != text.strip():
            raise UsageError(f"--backend: {piece.strip()!r} names no network", hint="such as unet=tensorrt,vae=torch")
        if equals and names not in _GROUPS:
            raise UsageError(f"--backend: no network {names!r}", hint=f"use one of: {', '.join(_GROUPS)}")
        for name in _GROUPS[names] if equals else GRAPHS:
            if name in chosen:
                raise UsageError(f"--backend: {name} is named twice")
            chosen[name] = runtime
    return {name: chosen.get(name, "auto") for name in GRAPHS}


def load(
    folder: Path,
    backend: str,
    device: torch.device,
    dtype: torch.dtype | None = None,
    allow_unverified: bool = False,
    compile: bool = False,
    low_memory: bool = False,
) -> Networks:
    """Open a model's networks in a runtime.

    Args:
        folder: of PyTorch weights, or of engines.
        backend: auto, a runtime of `RUNTIMES`, or a mixture of them by network (`parse_backend`).
        device: to run on.
        dtype: to compute in; None: PyTorch chooses by device, engines have one of their own.
        allow_unverified: open engines that failed their verification all the same.
        compile: compile PyTorch's networks before their first call.
        low_memory: PyTorch's networks take turns on the device, and frames are decoded one by one (`offload`).

    Raises:
        UsageError: no such backend, `compile` or `low_memory` of what is no PyTorch, or both; a dtype that the engines
            are not of.
        FashionFlowError: the folder lacks a network or holds a broken one, or engines that must not or cannot run here.
    """
    wanted = parse_backend(backend)
    if not (folder / ENGINES_FILE).is_file():
        if asked := sorted(set(wanted.values()) - {"auto", "torch"}):
            raise FashionFlowError(
                f"--backend {asked[0]}: {folder} holds PyTorch weights and no engines",
                hint=f"make engines: fashionflow export --{'trt' if 'tensorrt' in asked else 'onnx'} -m {folder}",
            )
        check_turns(compile, low_memory)
        start = _CPU if low_memory else device
        networks = import_module(_PLAIN).load(folder, start, dtype or resolve_dtype("auto", device))
        return finish(networks, device, compile, low_memory)
    if compile:
        raise UsageError("--compile: is for PyTorch's networks; engines are compiled already", hint="leave it out")
    if low_memory:
        raise UsageError("--low-memory: is for PyTorch's networks; engines hold what they need", hint="leave it out")
    return _load_engines(folder, Engines.load(folder), wanted, device, dtype, allow_unverified)


def check_turns(compile: bool, low_memory: bool) -> None:
    """Refuse both at once: what is compiled is tied to where its weights are.

    Raises:
        UsageError: both.
    """
    if compile and low_memory:
        raise UsageError("--compile, --low-memory: only one of them", hint="leave one out")


def finish(networks: Any, device: torch.device, compile: bool, low_memory: bool) -> Any:
    """PyTorch's networks as they are to run; with `low_memory` they are on the CPU, and `device` is where they work."""
    networks.settle(device)
    if low_memory:
        from fashionflow_core.backends.offload import OffloadedNetworks

        return OffloadedNetworks(networks, device)
    return networks.compile() if compile else networks


def _load_engines(
    folder: Path,
    engines: Engines,
    wanted: dict[str, str],
    device: torch.device,
    dtype: torch.dtype | None,
    allow_unverified: bool,
) -> Networks:
    from fashionflow_core.backends.engine_networks import TORCH_DTYPES, EngineNetworks
    from fashionflow_core.backends.interpolator import Interpolator

    if device.type not in ("cpu", "cuda"):
        device = _CPU
    if lacking := [name for name in GRAPHS if name not in engines.networks]:
        raise FashionFlowError(
            f"{folder}: holds no {lacking[0]}, only {', '.join(engines.networks)}",
            hint="it was exported with --networks: export all of them to generate",
        )
    lacks = cache(partial(missing, engines, device=device))  # PyTorch hashes gigabytes to answer
    chosen = {name: _choose(folder, engines, name, runtime, lacks) for name, runtime in wanted.items()}
    for runtime in sorted(set(chosen.values()) & set(engines.runtimes)):
        if engines.runtimes[runtime].state == FAILED and not allow_unverified:
            raise refusal(folder, runtime, engines.runtimes[runtime])
    own = engines.networks["unet"].dtype
    if dtype is not None and dtype != TORCH_DTYPES[own]:
        raise UsageError(
            f"--dtype: the engines in {folder} compute in {own}",
            hint="leave --dtype out, or export the model again with that --dtype",
        )
    runners: dict[str, Any] = {}
    for runtime in sorted(set(chosen.values())):
        names = [name for name in GRAPHS if chosen[name] == runtime]
        runners |= open_runners(folder, engines, runtime, names, device)
    interpolator = None
    if (config := ModelConfig.load(folder)).interpolator:  # no engine: it runs once a window, the U-Net at every step
        number_type = resolve_dtype("auto", device)
        unet = import_module(_PLAIN).open_interpolator(folder, len(config.latents_mean), number_type)
        interpolator = Interpolator(unet.to(device).eval())
    return EngineNetworks(folder, engines, chosen, runners, device, interpolator)


def open_runners(
    folder: Path, engines: Engines, runtime: str, networks: Sequence[str], device: torch.device
) -> dict[str, Runner]:
    """Graphs of an engine folder in one runtime, whatever their state.

    Raises:
        FashionFlowError: the runtime cannot be used here; a file is missing, changed or broken.
    """
    reason, hint = missing(engines, runtime, device)
    if reason:
        raise FashionFlowError(f"{folder}: {runtime} cannot run here: {reason}", hint)
    return import_module(RUNTIMES[runtime]).open_graphs(folder, engines, networks, device)


def missing(engines: Engines, runtime: str, device: torch.device) -> tuple[str, str]:
    """Why a runtime cannot run a folder's engines here, and what to do; empty if it can."""
    return import_module(RUNTIMES[runtime]).missing(engines, device)


def _choose(folder: Path, engines: Engines, network: str, runtime: str, lacks: Callable[[str], tuple[str, str]]) -> str:
    """The runtime of one network; "auto": the first of the table that the folder has a file for and that runs here."""
    files = engines.networks[network].files
    candidates = [name for name in RUNTIMES if name in files] if runtime == "auto" else [runtime]
    # What failed comes last, where there is a choice.
    candidates.sort(key=lambda name: name in engines.runtimes and engines.runtimes[name].state == FAILED)
    reasons = []
    for name in candidates:
        reason, hint = lacks(name)
        if not reason:
            return name
        reasons.append((f"{name}: {reason}", hint))
    if not reasons:
        raise FashionFlowError(f"{folder}: holds no file for {network}", hint="export the model again")
    raise FashionFlowError(
        f"{folder}: cannot be run here ({'; '.join(dict.fromkeys(reason for reason, _ in reasons))})",
        hint=reasons[-1][1],
    )
