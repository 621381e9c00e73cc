"""Out-of-memory errors of devices and of the machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fashionflow_core.errors import OutOfMemory, option

if TYPE_CHECKING:
    import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; for host memory torch raises a plain RuntimeError with a message."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


@contextmanager
def memory_explained(device: "torch.device", frames: int) -> Iterator[None]:
    """Convert out-of-memory errors of a runtime to `OutOfMemory`, in one line."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"{device}: out of memory while denoising {frames} frames",
            hint=f"use fewer {option('frames')}, {option('dtype', 'bf16')}, or another {option('device')}",
        ) from None
