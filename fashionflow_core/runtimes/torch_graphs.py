"""PyTorch as a runtime of engine folders."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import option
from fashionflow_core.runtimes import open_weights
from fashionflow_core.runtimes.graphs import make_graphs
from fashionflow_core.runtimes.interface import Runner
from fashionflow_core.store.engine_folder import GRAPHS, Engines
from fashionflow_core.utils.device import resolve_dtype
from fashionflow_core.utils.hashing import sha256


def missing(engines: Engines, device: torch.device) -> tuple[str, str]:
    """The reason why PyTorch cannot be used, and a hint; empty if it can."""
    if engines.lora:
        return "a LoRA is fused into the engines", "merge it into a model first, then export that"
    for file, expected in engines.source_files.items():
        path = Path(engines.source) / file
        if not path.is_file():
            return (
                f"the exported weights are missing ({path})",
                f"use {option('backend', 'onnxruntime')} or tensorrt",
            )
        if sha256(path) != expected:
            return f"{path} has changed since the export", "export the model again"
    return "", ""


def open_graphs(folder: Path, engines: Engines, networks: Sequence[str], device: torch.device) -> dict[str, Runner]:
    """Graphs in PyTorch, in the default dtype of the device.

    Raises:
        FashionFlowError: damaged model folder.
    """
    source = Path(engines.source)
    model = open_weights(source, device, resolve_dtype("auto", device)).settle(device)
    graphs = make_graphs(model, ModelConfig.load(source))
    return {name: _TorchGraph(graphs[name], name, device) for name in networks}


class _TorchGraph:
    def __init__(self, module: nn.Module, network: str, device: torch.device) -> None:
        self.module, self.graph, self.device = module, GRAPHS[network], device

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = self.module(*(inputs[name].to(self.device) for name in self.graph.inputs))
        values = found if isinstance(found, tuple) else (found,)
        return dict(zip(self.graph.outputs, values, strict=True))
