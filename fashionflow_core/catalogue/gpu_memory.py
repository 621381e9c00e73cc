"""Batch size from the free memory of a GPU."""

import gc
from typing import Any

MOST = 8  # from there on a GPU is busy, and more in one call only makes its losses larger
_SPARE = 0.15  # of the free memory, for what allocators cannot hand out again


def batch_that_fits(free: int, used: int) -> int:
    """Photos at a time, at least 1.

    Args:
        free: bytes that were free once the model was open.
        used: most bytes that one photo took beyond the model.
    """
    return max(1, min(MOST, int(free * (1 - _SPARE) / max(used, 1))))


def free_memory(device: Any) -> int | None:
    """Free bytes of a GPU, from which on the most is counted; None for other devices, where batches gain nothing."""
    if getattr(device, "type", None) != "cuda":
        return None
    import torch

    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.mem_get_info(device)[0]


def used_memory(device: Any) -> int:
    """Most bytes that were in use above what still is, since `free_memory`."""
    import torch

    return torch.cuda.max_memory_reserved(device) - torch.cuda.memory_allocated(device)


def release_memory() -> None:
    """Give back what is held for reuse."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
