"""Selection of device and dtype."""

from pathlib import Path
from typing import TYPE_CHECKING

from fashionflow_core.errors import SettingError, option

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
        raise SettingError("device", f"unknown device {name!r}", hint="use auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SettingError("device", f"{name}: torch finds no CUDA device", hint=f"use {option('device', 'cpu')}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingError("device", f"{name}: only {torch.cuda.device_count()} CUDA devices are present")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SettingError("device", f"{name}: this build of torch has no MPS", hint=f"use {option('device', 'cpu')}")
    if device.type not in ("cpu", "cuda", "mps"):
        raise SettingError("device", f"unsupported device {name!r}", hint="use auto, cpu, cuda, cuda:1 or mps")
    return device


def resolve_dtype(name: str, device: "torch.device") -> "torch.dtype":
    """The dtype of the networks: `auto` is bf16 on a GPU that has it, fp16 on other GPUs, fp32 on the CPU.

    Raises:
        UsageError: unknown dtype.
    """
    import torch

    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.float32
    if name not in DTYPES:
        raise SettingError("dtype", f"unknown dtype {name!r}", hint=f"use auto, {', '.join(DTYPES)}")
    return getattr(torch, DTYPES[name])


def autocast_dtype(name: str, device: "torch.device") -> "torch.dtype | None":
    """The dtype of arithmetic in training, whose weights stay in float32; None is float32.

    Args:
        name: auto (bf16 on a GPU that has it, else fp32), fp32 or bf16.

    Raises:
        UsageError: any other dtype.
    """
    import torch

    if name not in ("auto", "fp32", "bf16"):
        raise SettingError("dtype", f"{name!r} is not supported in training", hint="use auto, fp32 or bf16")
    half = device.type == "cuda" and torch.cuda.is_bf16_supported() if name == "auto" else name == "bf16"
    return torch.bfloat16 if half else None


def free_memory(device: "torch.device") -> int | None:
    """Free bytes of a GPU, or of the machine for the CPU; None where that is unknown."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def dtype_name(dtype: "torch.dtype") -> str:
    """`float32`: name of a dtype in results."""
    return str(dtype).removeprefix("torch.")


def short_name(dtype: "torch.dtype") -> str:
    """`fp32`: name of a dtype in options and recipes."""
    return next(name for name, full in DTYPES.items() if full == dtype_name(dtype))
