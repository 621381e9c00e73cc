"""The front door of the Python API: models by name."""

from pathlib import Path

from fashionflow_core import pipeline, registry


def load(
    model: str | Path = "mini",
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "auto",
    lora: str | Path | None = None,
    compile: bool = False,
    low_memory: bool = False,
) -> pipeline.FashionFlowPipeline:
    """Open a model.

    Args:
        model: a name of `fashionflow models list`, or a model folder.
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: number type of the networks: auto, fp32, bf16, fp16.
        lora: folder of a LoRA to fuse into the U-Net.
        backend: auto, torch, onnxruntime, tensorrt, or a mixture such as "unet=tensorrt,vae=torch".
        compile: compile PyTorch's networks before their first call; pays off over many runs.
        low_memory: networks take turns on the device and decode one frame at a time: slower, for small GPUs.

    Raises:
        FashionFlowError: no such model, or a part of it is missing or broken.
        UsageError: a device, dtype or backend that this machine does not have.
    """
    return pipeline.load(
        registry.find(str(model)), device, dtype, backend, lora, compile=compile, low_memory=low_memory
    )
