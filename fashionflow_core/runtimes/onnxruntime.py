"""onnxruntime sessions with bound buffers and CUDA graphs."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fashionflow_core.errors import FashionFlowError, command, option
from fashionflow_core.runtimes.interface import Runner
from fashionflow_core.store.engine_folder import ENGINES_FILE, GRAPHS, Engines, Graph, NetworkRecord
from fashionflow_core.utils import extras

NAME = "onnxruntime"


def missing(engines: Engines, device: torch.device) -> tuple[str, str]:
    """The reason why this runtime is unavailable, and a hint; empty if it is available."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return "onnxruntime is not installed", extras.install("onnx")
    return "", ""


def open_graphs(folder: Path, engines: Engines, networks: Sequence[str], device: torch.device) -> dict[str, Runner]:
    """Open graphs of an engine folder.

    Raises:
        FashionFlowError: a file is missing, changed or damaged, or the device has no provider.
    """
    opened = {}
    for name in networks:
        path = engines.check_files(folder, name, NAME)
        _check_external_data(folder, path, engines)
        opened[name] = _Session(path, engines.networks[name], GRAPHS[name], device)
    return opened


def _check_external_data(folder: Path, path: Path, engines: Engines) -> None:
    """Raise FashionFlowError unless every weight file of a graph is listed in the folder."""
    import onnx
    from onnx.external_data_helper import uses_external_data

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # raised by protobuf
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise FashionFlowError(f"{path}: not an ONNX file ({reason})", hint="export it again") from None
    tensors = [tensor for graph in (model.graph, *model.functions) for tensor in _tensors(graph)]
    external = [entry for tensor in tensors if uses_external_data(tensor) for entry in tensor.external_data]
    for file in sorted({entry.value for entry in external if entry.key == "location"}):
        if Path(file).name != file or (path.parent / file).relative_to(folder).as_posix() not in engines.files:
            raise FashionFlowError(
                f"{path}: reads weights from {file[:200]!r}, which is not listed in {ENGINES_FILE}",
                hint="it was replaced; export it again",
            )


def _tensors(graph: Any) -> Iterator[Any]:
    """All stored tensors of a graph or function: weights, constants of nodes, and those of nested graphs."""
    yield from getattr(graph, "initializer", ())
    for tensor in getattr(graph, "sparse_initializer", ()):
        yield from (tensor.values, tensor.indices)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inside in (attribute.g, *attribute.graphs):
            yield from _tensors(inside)


class _Session:
    """A graph in a session: on the CPU it reads torch's memory, on CUDA tensors stay on the device."""

    def __init__(self, path: Path, record: NetworkRecord, graph: Graph, device: torch.device) -> None:
        import onnxruntime

        self.graph, self.path, self.device = graph, path, device
        static = all(size != -1 for shape in record.inputs.values() for size in shape)
        self.cuda = device.type == "cuda"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised
        # A memory plan for fixed shapes was not faster, and twice as large (5.5 GB for the published U-Net, not 3.4).
        options.enable_mem_pattern = False
        # By default onnxruntime uses every core and ignores OMP_NUM_THREADS, which torch reads.
        options.intra_op_num_threads = torch.get_num_threads()
        # A captured graph needs fixed shapes, fixed addresses, and no node on the CPU; only the attempt shows whether
        # that holds.
        attempts = (True, False) if self.cuda and static else (False,)
        for captured in attempts:
            try:
                self.session = onnxruntime.InferenceSession(path, options, providers=self._providers(captured))
                break
            except Exception as error:  # many classes of onnxruntime
                if captured:
                    continue
                reason = textwrap.shorten(str(error), 300, placeholder=" ...")
                raise FashionFlowError(
                    f"{path}: onnxruntime cannot load it ({reason})", hint="export it again"
                ) from None
        # Available providers are those compiled in; the session's list shows which are really used.
        if self.cuda and self.session.get_providers()[0] != "CUDAExecutionProvider":
            raise FashionFlowError(
                f"{path}: onnxruntime has no CUDA here (its session got {self.session.get_providers()[0]})",
                hint=f"use {option('device', 'cpu')}, or install the CUDA and cuDNN that onnxruntime-gpu asks for",
            )
        tensors = {**record.inputs, **record.outputs}
        expected = [f"{name} {list(tensors[name])}" for name in (*graph.inputs, *graph.outputs)]
        found = [
            f"{tensor.name} {[size if isinstance(size, int) else -1 for size in tensor.shape]}"
            for tensor in (*self.session.get_inputs(), *self.session.get_outputs())
        ]
        if found != expected:
            raise FashionFlowError(
                f"{path}: tensors are {', '.join(found)}, not {', '.join(expected)}", hint="export it again"
            )
        self.buffers: dict[str, Tensor] = {}
        self.binding: Any = None

    def _providers(self, captured: bool) -> list[Any]:
        if not self.cuda:
            return ["CPUExecutionProvider"]
        # No TF32: its shorter mantissa would exceed the tolerance of the verification.
        settings = {"device_id": str(self.device.index or 0), "enable_cuda_graph": str(int(captured)), "use_tf32": "0"}
        return [("CUDAExecutionProvider", settings), "CPUExecutionProvider"]

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.cuda:
            return self._on_cuda(inputs)
        feed = {name: np.ascontiguousarray(inputs[name].float().cpu().numpy()) for name in self.graph.inputs}
        with self._errors():
            outputs = self.session.run(list(self.graph.outputs), feed)
        return {name: torch.from_numpy(np.asarray(value)) for name, value in zip(self.graph.outputs, outputs)}

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Map its errors to this project's; callers handle out of memory."""
        try:
            yield
        except Exception as error:
            reason = textwrap.shorten(str(error), 300, placeholder=" ...")
            if "alloc" in reason.lower():
                raise torch.OutOfMemoryError(reason) from None
            raise FashionFlowError(f"{self.path}: onnxruntime failed ({reason})", hint=command("verify")) from None

    def _on_cuda(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Bound buffers: inputs are copied to fixed tensors, outputs are written to others."""
        if any(
            name not in self.buffers or self.buffers[name].shape != inputs[name].shape for name in self.graph.inputs
        ):
            self._bind({name: tuple(inputs[name].shape) for name in self.graph.inputs})
        for name in self.graph.inputs:
            self.buffers[name].copy_(inputs[name])
        torch.cuda.current_stream(self.device).synchronize()  # the session runs on its own stream
        with self._errors():
            self.session.run_with_iobinding(self.binding)
            self.binding.synchronize_outputs()
        return {name: self.buffers[name].clone() for name in self.graph.outputs}

    def _bind(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        # All sizes but the number of frames are fixed, which is equal for inputs and outputs.
        frames = shapes["sample"][2] if "sample" in shapes else 0
        for output in self.session.get_outputs():
            fixed = tuple(size if isinstance(size, int) else frames for size in output.shape)
            shapes = {**shapes, output.name: fixed}
        self.binding = self.session.io_binding()
        for name, shape in shapes.items():
            buffer = self.buffers[name] = torch.empty(shape, dtype=torch.float32, device=self.device)
            bind = self.binding.bind_input if name in self.graph.inputs else self.binding.bind_output
            bind(name, "cuda", self.device.index or 0, np.float32, shape, buffer.data_ptr())
