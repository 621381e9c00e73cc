"""Batch size from the free memory of a GPU."""

import gc
from typing import Any

MOST = 8  # saturates a GPU; a larger batch loses more items to an error
_SPARE = 0.15  # share of the free memory for fragmentation


def batch_that_fits(free: int, used: int) -> int:
    """Batch size, at least 1.

    Args:
        free: free bytes after the model was opened.
        used: peak bytes of one photo in addition to the model.
    """
    return max(1, min(MOST, int(free * (1 - _SPARE) / max(used, 1))))


def free_memory(device: Any) -> int | None:
    """Free bytes of a GPU, whose peak counter is reset; None for other devices, where batches gain nothing."""
    if getattr(device, "type", None) != "cuda":
        return None
    import torch

    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.mem_get_info(device)[0]


def used_memory(device: Any) -> int:
    """Peak bytes since `free_memory`, without what is still in use."""
    import torch

    return torch.cuda.max_memory_reserved(device) - torch.cuda.memory_allocated(device)


def release_memory() -> None:
    """Release cached memory of the allocator."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
