"""ONNX export of graphs through `torch.export`."""

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.store.engine_folder import GRAPHS
from fashionflow_core.utils import extras

# With opset 21 onnxruntime's CPU decomposes GroupNorm; Attention of opset 23 fails in TensorRT-RTX in float32.
OPSET = 20
# Protobuf is limited to 2 GB; writing a file near that needs twice its size in memory.
EXTERNAL_BYTES = 1_500_000_000
FLOAT16_MAX = 65504.0


def check_exporter() -> None:
    """Raise FashionFlowError if onnxscript is not installed."""
    if find_spec("onnxscript") is None:
        raise FashionFlowError("onnxscript is not installed", hint=extras.install("onnx"))


def peak_value(module: nn.Module, inputs: Mapping[str, Tensor]) -> float:
    """The largest magnitude of any layer's output, in float32, to compare with the range of float16."""
    peak = 0.0

    def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal peak
        if isinstance(output, Tensor) and output.is_floating_point():
            peak = max(peak, float(output.abs().max()))

    hooks = [part.register_forward_hook(look) for part in module.modules()]
    try:
        with torch.inference_mode():
            module(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return peak


class _WideNorm(nn.Module):
    """A normalisation in float32 between half-precision layers: sums of squares overflow float16 at 65504."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm.float()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.float()).to(x.dtype)


def half(module: nn.Module) -> nn.Module:
    """A copy of a graph in float16, its normalisations in float32.

    GroupNorms of a U-Net are unchanged: runtimes implement them as one operation with float32 sums, and casts to
    float32 around it would cost a quarter more memory traffic.
    """
    module = copy.deepcopy(module).half()
    for path, parent in list(module.named_modules()):
        kinds = nn.LayerNorm if path.startswith("unet") else (nn.GroupNorm, nn.LayerNorm)
        for name, child in list(parent.named_children()):
            if isinstance(child, kinds):
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
        module: graph from `runtimes.graphs`, in its final dtype.
        network: name in `engine_folder.GRAPHS`.
        inputs: example inputs, float32, by name; they determine the shapes.
        path: output file; above 1.5 GB its weights are next to it as `model.onnx.data`.
        dynamic_frames: minimum and maximum frames of the U-Net; None: those of the example.
    """
    import onnx

    graph = GRAPHS[network]
    shapes: dict[str, Any] | None = None
    if dynamic_frames is not None:
        low, high = dynamic_frames
        half_frames = torch.export.Dim("half_frames", min=low // 2, max=high // 2)
        shapes = {name: {2: 2 * half_frames} if name == "sample" else None for name in graph.inputs}
    with _quiet(), _plain_attention(), torch.no_grad():
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
    # Stack traces of source files: a third of the file, unused by runtimes, and machine-dependent.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    size = sum(weight.numel() * weight.element_size() for weight in module.parameters())
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(path, external_data=size > EXTERNAL_BYTES)
    onnx.checker.check_model(path)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Attention with its softmax in float32. Splitting the scale over both factors keeps products within float16."""
    assert not dropout_p and not is_causal
    root = (query.shape[-1] ** -0.5 if scale is None else scale) ** 0.5
    scores = (query * root) @ (key * root).transpose(-1, -2)
    if attn_mask is not None:
        scores = scores + attn_mask
    return scores.float().softmax(dim=-1).to(value.dtype) @ value


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Replace torch's attention, which its exporter decomposes with a half-precision softmax and mixed layouts."""
    before = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = _attention
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings of missing torchvision and of its own deprecated calls."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.__trace")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
