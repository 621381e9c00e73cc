"""TensorRT and TensorRT-RTX engines: contexts, buffers, CUDA graphs."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fashionflow_core.errors import FashionFlowError, command, option
from fashionflow_core.runtimes.interface import Runner
from fashionflow_core.runtimes.tensorrt_flavors import FLAVORS
from fashionflow_core.store.engine_folder import GRAPHS, Engines
from fashionflow_core.utils import extras
from fashionflow_core.utils.files import atomic_path
from fashionflow_core.utils.paths import NoHome, cache_home

NAME = "tensorrt"
# Calls before a CUDA graph is captured: the first ones compile kernels and choose algorithms.
_WARM_UP = 2


def missing(engines: Engines, device: torch.device) -> tuple[str, str]:
    """The reason why these engines are unusable here, and a hint; empty if usable.

    Engines depend on the version that built them and on the GPU; both are checked before loading.
    """
    record = engines.runtimes.get(NAME)
    if record is None:
        return "no engines in the folder", f"export them: {command('export', trt=True)}"
    name = record.build.get("flavor")
    flavor = FLAVORS.get(str(name))
    if flavor is None:
        return f"unknown flavor {name!r} of TensorRT", "export the model again"
    title, install = flavor.title, extras.install(flavor.extra)
    if find_spec(flavor.module) is None:
        return f"{title} is not installed", install
    try:
        built, found = str(record.build.get("version")), str(flavor.load().__version__)
    except FashionFlowError as error:
        return error.message, error.hint or ""
    if built != found:
        return (
            f"engines were built by {title} {built}, but {found} is installed",
            f"export the model again here, or {install} in the version that built them",
        )
    if device.type != "cuda":
        return (
            f"{title} needs an NVIDIA GPU, but the device is {device}",
            f"use {option('backend', 'onnxruntime')} or torch",
        )
    return "", ""


def open_graphs(folder: Path, engines: Engines, networks: Sequence[str], device: torch.device) -> dict[str, Runner]:
    """Open engines of a folder; all of them share the working memory.

    Raises:
        FashionFlowError: an engine is missing, changed, or refused by the runtime.
    """
    trt = FLAVORS[engines.runtimes[NAME].build["flavor"]].load()
    opened = {}
    for name in networks:
        path = engines.check_files(folder, name, NAME)
        opened[name] = _Engine(trt, path, name, engines, device)
    # Networks run one after the other, so the maximum of their needs suffices.
    size = max((engine.scratch_bytes for engine in opened.values()), default=0)
    scratch = torch.empty(max(size, 1), dtype=torch.uint8, device=device)
    for engine in opened.values():
        engine.use(scratch)
    return opened


class _Engine:
    """One engine and its context. CUDA graphs: TensorRT's in the RTX flavor, torch's in the other."""

    def __init__(self, trt: Any, path: Path, network: str, engines: Engines, device: torch.device) -> None:
        self.trt, self.device, self.graph = trt, device, GRAPHS[network]
        self.rtx = trt.__name__ == "tensorrt_rtx"
        self.static = all(size != -1 for shape in engines.networks[network].inputs.values() for size in shape)
        self.logger = trt.Logger(trt.Logger.ERROR)
        self.runtime = trt.Runtime(self.logger)
        with torch.cuda.device(device):
            self.engine = self.runtime.deserialize_cuda_engine(path.read_bytes())
            if self.engine is None:
                raise FashionFlowError(
                    f"{path}: rejected by {trt.__name__} {trt.__version__} on {torch.cuda.get_device_name(device)}",
                    hint=f"it was built for other GPUs: export the model again, here or with "
                    f"{option('compute_capability')}",
                )
            self.cache_file = _cache_file(path, trt, device) if self.rtx else None
            self.context = self._context()
        self.scratch_bytes = int(self.engine.device_memory_size_v2)
        self.buffers: dict[str, Tensor] = {}
        self.calls = 0
        self.captured: torch.cuda.CUDAGraph | None = None
        self.stream = torch.cuda.Stream(device)

    def _context(self) -> Any:
        managed = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self.rtx:
            return self.engine.create_execution_context(managed)
        config = self.engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(managed)
        # Kernels are compiled for this GPU on first use, and cached on disk for later processes.
        # The reference must outlive the context, or the process crashes.
        self.kernels = config.create_runtime_cache()
        if self.cache_file is not None and self.cache_file.is_file():
            self.kernels.deserialize(self.cache_file.read_bytes())  # rejects caches of other machines
        config.set_runtime_cache(self.kernels)
        if self.static:
            config.cuda_graph_strategy = self.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return self.engine.create_execution_context(config)

    def use(self, scratch: Tensor) -> None:
        """Set the engine's working memory."""
        self.scratch = scratch
        self.context.set_device_memory(scratch.data_ptr(), scratch.numel())

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.cuda.device(self.device):
            self._fill(inputs)
            self.stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self.stream):
                self._run()
                # Copies: the buffers are overwritten by the next call.
                outputs = {name: self.buffers[name].clone() for name in self.graph.outputs}
            torch.cuda.current_stream(self.device).wait_stream(self.stream)
            for value in outputs.values():
                value.record_stream(torch.cuda.current_stream(self.device))
        if self.calls == 1:
            self._keep_kernels()
        return outputs

    def _fill(self, inputs: Mapping[str, Tensor]) -> None:
        """Copy inputs to buffers whose addresses are fixed while shapes are unchanged."""
        changed = False
        for name in self.graph.inputs:
            value = inputs[name]
            buffer = self.buffers.get(name)
            if buffer is None or buffer.shape != value.shape:
                buffer = self.buffers[name] = torch.empty(value.shape, dtype=torch.float32, device=self.device)
                self.context.set_input_shape(name, tuple(value.shape))
                self.context.set_tensor_address(name, buffer.data_ptr())
                changed = True
            buffer.copy_(value)
        if changed:
            self.captured, self.calls = None, 0
            for name in self.graph.outputs:
                shape = tuple(self.context.get_tensor_shape(name))
                self.buffers[name] = torch.empty(shape, dtype=torch.float32, device=self.device)
                self.context.set_tensor_address(name, self.buffers[name].data_ptr())

    def _run(self) -> None:
        self.calls += 1
        if self.captured is not None:
            self.captured.replay()
            return
        if not self.rtx and self.static and self.calls > _WARM_UP:
            self.stream.synchronize()
            self.captured = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.captured, stream=self.stream):
                self._execute()
            self.captured.replay()
            return
        self._execute()

    def _execute(self) -> None:
        if not self.context.execute_async_v3(torch.cuda.current_stream(self.device).cuda_stream):
            raise FashionFlowError(
                f"{self.trt.__name__}: an engine failed on {self.device}",
                hint=f"close other programs on the GPU; {command('doctor')} lists what it can run",
            )

    def _keep_kernels(self) -> None:
        """Write compiled kernels; with a read-only home the next process compiles again."""
        if self.cache_file is None or self.cache_file.is_file():
            return
        with suppress(OSError):
            self.cache_file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(self.cache_file) as temporary:
                temporary.write_bytes(bytes(self.kernels.serialize()))


def _cache_file(engine: Path, trt: Any, device: torch.device) -> Path | None:
    """Path of the kernel cache of one engine on one GPU: in the user's cache, not in the engine folder."""
    key = f"{engine.absolute()} {engine.stat().st_mtime_ns} {trt.__version__} {torch.cuda.get_device_name(device)}"
    name = hashlib.sha256(key.encode()).hexdigest()[:24]
    try:
        return cache_home() / "kernels" / f"{name}.bin"
    except NoHome:
        return None
