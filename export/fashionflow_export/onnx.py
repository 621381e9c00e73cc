"""Graphs as ONNX files, through `torch.export`."""

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fashionflow_core.contract import GRAPHS
from fashionflow_core.errors import FashionFlowError

# 21 makes onnxruntime's CPU take GroupNorm apart, 23's Attention breaks TensorRT-RTX in float32.
OPSET = 20
# Protobuf ends at 2 GB; a file near that needs twice its size to be written.
EXTERNAL_BYTES = 1_500_000_000


class _WideNorm(nn.Module):
    """A normalisation in float32 around half-precision neighbours: sums of squares overflow float16 at 65504."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm.float()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.float()).to(x.dtype)


def half(module: nn.Module) -> nn.Module:
    """A copy of a graph in float16, its normalisations in float32."""
    module = copy.deepcopy(module).half()
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm | nn.LayerNorm) and not isinstance(parent, _WideNorm):
                setattr(parent, name, _WideNorm(child))
    return module


def export_onnx(
    module: nn.Module,
    network: str,
    inputs: Mapping[str, Tensor],
    path: Path,
    dynamic_frames: tuple[int, int] | None = None,
) -> None:
    """Write a graph as an ONNX file, checked by `onnx` itself.

    Args:
        module: of `backends.graphs`, in the number type it is to compute in.
        network: its name in `contract.GRAPHS`.
        inputs: examples, float32, by name: their shapes are the graph's.
        path: the file; above 1.5 GB its weights lie beside it as `model.onnx.data`.
        dynamic_frames: fewest and most frames of the U-Net; None: those of the example.

    Raises:
        FashionFlowError: onnxscript is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError:
        raise FashionFlowError("onnxscript is not installed", hint="pip install 'fashionflow[onnx]'") from None

    graph = GRAPHS[network]
    shapes: dict[str, Any] | None = None
    if dynamic_frames is not None:
        low, high = dynamic_frames
        half_frames = torch.export.Dim("half_frames", min=low // 2, max=high // 2)
        shapes = {name: {2: 2 * half_frames} if name == "sample" else None for name in graph.inputs}
    # Plain attention: the fused one of CPUs promises a memory order that its decomposition into ONNX does not keep.
    with _quiet(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        program = torch.onnx.export(
            module,
            tuple(inputs[name] for name in graph.inputs),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    size = sum(weight.numel() * weight.element_size() for weight in module.parameters())
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(path, external_data=size > EXTERNAL_BYTES)
    onnx.checker.check_model(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch's exporter warns of torchvision's absence and of its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)
