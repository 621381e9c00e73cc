"""TensorRT engine builder: ONNX files to engines through Polygraphy, for both flavors.

TensorRT times its kernels, so it builds on the target GPU. TensorRT-RTX compiles ahead for a list of GPUs and finishes
on the actual one, so it builds without a GPU. Both use strongly typed networks, whose dtypes are those of the ONNX
file.
"""

import ctypes
import os
import re
import sys
import textwrap
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.runtimes.tensorrt_flavors import FLAVORS, Flavor
from fashionflow_core.utils import extras
from fashionflow_core.utils.hashing import sha256
from fashionflow_export.settings import EngineSettings

_ITEM_BYTES = {"Half": 2, "Float": 4, "Int32": 4, "Int64": 8, "Bool": 1, "BFloat16": 2, "Int8": 1, "UInt8": 1}


def has_gpu() -> bool:
    """Whether torch finds a CUDA device."""
    import torch

    return torch.cuda.is_available()


def choose_flavor(settings: EngineSettings) -> Flavor:
    """Choose the flavor to build with, after checking that it can build here.

    Raises:
        FashionFlowError: not installed, or a required GPU is missing.
    """
    installed = [flavor for flavor in FLAVORS.values() if find_spec(flavor.module) is not None]
    flavor = FLAVORS.get(settings.flavor)
    if flavor is None:  # auto
        usable = [flavor for flavor in installed if flavor.name == "rtx" or has_gpu()]
        if not usable:
            have = "TensorRT is installed, but needs a GPU to build" if installed else "TensorRT is not installed"
            raise FashionFlowError(
                f"--trt: {have}",
                hint=f"{extras.install('trt-rtx')} builds without a GPU; on a GPU machine: {extras.install('trt')}",
            )
        flavor = usable[0]
    if flavor not in installed:
        raise FashionFlowError(
            f"--trt-flavor {flavor.name}: {flavor.title} is not installed",
            hint=extras.install(flavor.extra),
        )
    if find_spec("polygraphy") is None:
        raise FashionFlowError("--trt: polygraphy is not installed", hint=extras.install(flavor.extra))
    if flavor.name == "tensorrt":
        if settings.capabilities:
            raise UsageError("--compute-capability: only for --trt-flavor rtx (TensorRT builds for this GPU)")
        if not has_gpu():
            raise FashionFlowError(
                "--trt-flavor tensorrt: needs a GPU to build, but there is none",
                hint="use --trt-flavor rtx, which needs none, or export on the GPU machine",
            )
    else:
        for option, wanted in (("--timing-cache", settings.timing_cache), ("--refit", settings.refit)):
            if wanted:
                raise UsageError(f"{option}: unsupported in TensorRT-RTX without GPU", hint="use --trt-flavor tensorrt")
        if "current" in settings.capabilities and not has_gpu():
            raise FashionFlowError(
                "--compute-capability current: no GPU on this machine",
                hint="pass a number such as 8.9, or omit the option",
            )
        _check_capabilities(flavor, settings)
    return flavor


def _check_capabilities(flavor: Flavor, settings: EngineSettings) -> None:
    known = [name for name in dir(flavor.load().ComputeCapability) if re.fullmatch(r"SM\d+", name)]
    for capability in settings.capabilities:
        if capability != "current" and _symbol(capability) not in known:
            listed = ", ".join(sorted(f"{name[2:-1]}.{name[-1]}" for name in known))
            raise UsageError(
                f"--compute-capability: {flavor.title} {_version(flavor)} does not support {capability}",
                hint=f"use one of: {listed}; or omit the option to build for all",
            )


def _symbol(capability: str) -> str:
    return "CURRENT" if capability == "current" else "SM" + capability.replace(".", "")


def _version(flavor: Flavor) -> str:
    return str(flavor.load().__version__)


def cuda_of(flavor: Flavor) -> str:
    """The CUDA major version of the installed package, from its name (tensorrt-rtx-cu13); empty if it contains none."""
    pattern = re.compile(rf"{flavor.module.replace('_', '[-_]')}[-_]cu(\d+)$", re.IGNORECASE)
    found = (pattern.match(distribution.name or "") for distribution in distributions())
    return next((match[1] for match in found if match), "")


def cache_key(
    onnx: Path, flavor: Flavor, settings: EngineSettings, dtype: str, profile: Mapping[str, Any]
) -> dict[str, Any]:
    """Key of an engine: everything that it depends on."""
    key: dict[str, Any] = {
        "flavor": flavor.name,
        "version": _version(flavor),
        "cuda": cuda_of(flavor),
        "compute_capabilities": list(settings.capabilities) or (["all"] if flavor.name == "rtx" else [_gpu()]),
        "onnx": sha256(onnx),
        "dtype": dtype,
        "profile": {name: [list(shape) for shape in shapes] for name, shapes in profile.items()},
        "workspace_gb": settings.workspace_gb,
        "refit": settings.refit,
    }
    if "current" in settings.capabilities:
        key["compute_capabilities"] = [_gpu()]
    data = onnx.with_name(onnx.name + ".data")
    return key | ({"onnx_data": sha256(data)} if data.is_file() else {})


def _gpu() -> str:
    import torch

    return "{}.{} {}".format(*torch.cuda.get_device_capability(), torch.cuda.get_device_name())


def build_engine(
    onnx: Path, flavor: Flavor, settings: EngineSettings, profile: Mapping[str, Any]
) -> tuple[bytes, dict[str, Any]]:
    """Build one engine.

    Args:
        onnx: graph file, with its data next to it.
        flavor: result of `choose_flavor`.
        settings: build settings.
        profile: input → smallest, usual and largest shape, for inputs with a dynamic number of frames.

    Returns:
        The serialized engine, and information from its builder: `layers`, `scratch_bytes`, and, if all shapes are
        fixed, `activation_traffic_bytes`: bytes that all layers read and write of tensors other than weights.

    Raises:
        FashionFlowError: damaged ONNX file, or the build failed.
    """
    # In its own thread: signals are handled in the main one, where TensorRT would call our logger, and exceptions
    # raised there by a signal are printed and lost.
    stop = threading.Event()
    _trim_memory()
    try:
        with ThreadPoolExecutor(1) as pool:  # its exit waits for the thread
            try:
                return pool.submit(_build, onnx, flavor, settings, profile, stop).result()
            finally:
                stop.set()
    finally:
        _trim_memory()


def _trim_memory() -> None:
    """Return freed memory to the system: glibc keeps half a GB for the thread that freed it."""
    with suppress(AttributeError, OSError):  # only glibc has this call
        ctypes.CDLL(None).malloc_trim(0)


def _build(
    onnx: Path, flavor: Flavor, settings: EngineSettings, profile: Mapping[str, Any], stop: threading.Event
) -> tuple[bytes, dict[str, Any]]:
    _select(flavor)
    name = f"{onnx.parent.name}/{onnx.name}"  # the folder is still temporary
    trt = flavor.load()
    polygraphy = import_module("polygraphy.backend.trt")

    logger = _listener(trt)
    builder = trt.Builder(logger)
    flags = trt.NetworkDefinitionCreationFlag
    typed = 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise FashionFlowError(
            f"{name}: {flavor.title} cannot read it ({textwrap.shorten('; '.join(reasons), 300)})",
            hint="export the model again",
        )
    profiles = [polygraphy.Profile()] if profile else []
    for tensor, (low, usual, high) in profile.items():
        profiles[0].add(tensor, min=low, opt=usual, max=high)
    pools = {}
    if settings.workspace_gb is not None:
        pools = {trt.MemoryPoolType.WORKSPACE: int(settings.workspace_gb * 2**30)}
    config = _config(trt, flavor, settings, builder, network, profiles or None, pools or None)
    config.progress_monitor = monitor = _monitor(trt, stop)
    try:
        cache = str(settings.timing_cache) if settings.timing_cache else None
        plan = polygraphy.EngineBytesFromNetwork((builder, network, parser), config, save_timing_cache=cache)()
    except Exception as error:  # Polygraphy's exception contains its log
        reason = logger.errors[0] if logger.errors else str(error)
        raise FashionFlowError(
            f"{name}: {flavor.title} cannot build it ({textwrap.shorten(reason, 300)})", hint=_build_hint(settings)
        ) from None
    del monitor  # the builder has no reference of its own
    return bytes(plan), describe(logger.layers, logger.scratch)


def _select(flavor: Flavor) -> None:
    """Select the TensorRT of Polygraphy, which reads it from the environment on import."""
    os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1" if flavor.name == "rtx" else "0"
    if "polygraphy.config" in sys.modules:
        chosen = sys.modules["polygraphy.config"].USE_TENSORRT_RTX
        if chosen != (flavor.name == "rtx"):
            raise FashionFlowError(
                "polygraphy already uses the other flavor of TensorRT in this process", hint="build in a new process"
            )
    logger = import_module("polygraphy.logger").G_LOGGER
    logger.module_severity = logger.CRITICAL + 1  # its errors are raised as one line


def _build_hint(settings: EngineSettings) -> str:
    tries = ["the other --dtype"]
    if settings.workspace_gb is not None:
        tries.insert(0, "a larger --workspace-gb")
    if settings.capabilities:
        tries.insert(0, "another --compute-capability")
    return f"try {', or '.join(tries)}"


def _monitor(trt: Any, stop: threading.Event) -> Any:
    """Progress monitor that cancels a build when `stop` is set."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None: ...

        def phase_finish(self, phase: str) -> None: ...

        def step_complete(self, phase: str, step: int) -> bool:
            return not stop.is_set()

    return Monitor()


def _config(
    trt: Any, flavor: Flavor, settings: EngineSettings, builder: Any, network: Any, profiles: Any, pools: Any
) -> Any:
    shared = {
        "profiles": profiles,
        "memory_pool_limits": pools,
        "profiling_verbosity": trt.ProfilingVerbosity.DETAILED,
    }
    if flavor.name == "tensorrt":
        cache = settings.timing_cache if settings.timing_cache and settings.timing_cache.is_file() else None
        create = import_module("polygraphy.backend.trt").CreateConfig
        return create(**shared, refittable=settings.refit, load_timing_cache=cache and str(cache))(builder, network)
    config = import_module("polygraphy.backend.tensorrt_rtx").CreateConfigRTX(**shared)(builder, network)
    # No TF32, which would exceed the tolerance (Polygraphy disables it for the other flavor).
    config.clear_flag(trt.BuilderFlag.TF32)
    config.num_compute_capabilities = len(settings.capabilities)  # first: the next call indexes within it
    for index, capability in enumerate(settings.capabilities):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, _symbol(capability)), index):
            raise FashionFlowError(
                f"--compute-capability: {flavor.title} rejects {capability}", hint="omit it to build for all"
            )
    return config


def _listener(trt: Any) -> Any:
    """A logger that keeps errors, and the verbose lines about the engine's layers."""

    class Listener(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.layers = ""
            self.scratch = 0

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)
            elif message.startswith("Layers:"):
                self.layers = message
            elif match := re.match(r"Total Activation Memory: (\d+)", message):
                self.scratch = int(match[1])

    return Listener()


def describe(layers: str, scratch: int) -> dict[str, Any]:
    """Numbers from the builder's list of layers; see `build_engine`."""
    count, traffic, fixed = 0, 0, True
    for line in layers.splitlines():
        if "LayerType:" not in line:
            continue
        count += 1
        # Constants are weights; all other tensors of the line are read or written.
        read = line.partition("Inputs: [")[2].partition("Constants: [")[0]
        written = line.partition("Outputs: [")[2].partition("TacticName")[0]
        for sizes, kind in re.findall(r"Dimensions: \[([-\d,]*)\].*?Datatype: (\w+)", read + written):
            bytes_ = _ITEM_BYTES.get(kind, 1)
            for size in filter(None, sizes.split(",")):
                fixed &= int(size) >= 0
                bytes_ *= int(size)
            traffic += bytes_
    known = {"layers": count, "scratch_bytes": scratch}
    return known | ({"activation_traffic_bytes": traffic} if fixed and count else {})
