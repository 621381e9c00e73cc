"""onnxruntime: one session a graph; on CUDA with bound buffers and, where shapes are fixed, CUDA graphs."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fashionflow_core.contract import GRAPHS, Engines, Runner
from fashionflow_core.errors import FashionFlowError

NAME = "onnxruntime"


def missing(engines: Engines, device: torch.device) -> tuple[str, str]:
    """Why this runtime cannot be used here, and what to do; empty if it can."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return "onnxruntime is not installed", "pip install 'fashionflow[onnx]'"
    return "", ""


def open_graphs(folder: Path, engines: Engines, networks: Sequence[str], device: torch.device) -> dict[str, Runner]:
    """Open graphs of an engine folder.

    Raises:
        FashionFlowError: a file is missing, changed or broken, or the device has no provider.
    """
    return {name: _Session(engines.check_files(folder, name, NAME), name, device) for name in networks}


class _Session:
    """A graph in a session. On the CPU it reads and writes numpy views of torch's own memory."""

    def __init__(self, path: Path, network: str, device: torch.device) -> None:
        import onnxruntime

        self.device, self.graph = device, GRAPHS[network]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Left to itself it takes every core, whatever OMP_NUM_THREADS says; torch asks there.
        options.intra_op_num_threads = torch.get_num_threads()
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.type == "cuda":
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # of its own kinds, one for each way a file can be wrong
            reason = textwrap.shorten(str(error), 300, placeholder=" ...")
            raise FashionFlowError(f"{path}: onnxruntime cannot open it ({reason})", hint="export it again") from None
        # The list of available providers names those that were compiled in: only the session knows what it got.
        if device.type == "cuda" and self.session.get_providers()[0] != "CUDAExecutionProvider":
            raise FashionFlowError(
                f"{path}: onnxruntime has no CUDA here (its session got {self.session.get_providers()[0]})",
                hint="use --device cpu, or install the CUDA and cuDNN that onnxruntime-gpu asks for",
            )
        expected = (list(self.graph.inputs), list(self.graph.outputs))
        found = ([x.name for x in self.session.get_inputs()], [x.name for x in self.session.get_outputs()])
        if found != expected:
            raise FashionFlowError(f"{path}: has tensors {found}, not {expected}", hint="export it again")

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        feed = {name: np.ascontiguousarray(inputs[name].float().cpu().numpy()) for name in self.graph.inputs}
        outputs = self.session.run(list(self.graph.outputs), feed)
        return {name: torch.from_numpy(np.asarray(value)) for name, value in zip(self.graph.outputs, outputs)}
