"""Choice of device and number type. Torch is imported inside, so that the command line can import this file lightly."""

from typing import TYPE_CHECKING

from fashionflow_core.errors import UsageError

if TYPE_CHECKING:
    import torch

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def resolve_device(name: str = "auto") -> "torch.device":
    """The device to run on: `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        UsageError: no such device on this machine.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device: {name!r} is no device", hint="use auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device: {name} asked for, but this torch sees no CUDA device", hint="use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device: {name} asked for, but there are {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"--device: {name} asked for, but this torch has no MPS", hint="use --device cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"--device: {name!r} is not supported", hint="use auto, cpu, cuda, cuda:1 or mps")
    return device


def resolve_dtype(name: str, device: "torch.device") -> "torch.dtype":
    """The number type of the networks: `auto` is bf16 on a GPU that has it, fp16 on other GPUs, fp32 on the CPU.

    Raises:
        UsageError: no such type.
    """
    import torch

    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.float32
    if name not in DTYPES:
        raise UsageError(f"--dtype: {name!r} is no number type", hint=f"use auto, {', '.join(DTYPES)}")
    return getattr(torch, DTYPES[name])


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device ran out of memory. On the CPU torch has no error of its own for that, only a message."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
