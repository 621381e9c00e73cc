"""Offload ladder: where a pipeline's weights are while it runs, from fastest to smallest."""

from collections.abc import Mapping
from typing import Any

RUNGS = NONE, MODEL, GROUP, SEQUENTIAL = "none", "model", "group", "sequential"
# Of the weights: what a run takes beside them. A rule of thumb, not a measurement; too small a guess only costs a
# second attempt on the next rung.
_BESIDE = 1.25


def expected_rung(weights: Mapping[str, int], free: int | None) -> str:
    """The first rung that should fit, by bytes of each network on the device and free bytes of that.

    Args:
        weights: bytes by component.
        free: None: the device is the CPU, where nothing is offloaded.
    """
    if free is None or sum(weights.values()) * _BESIDE <= free:
        return NONE
    return MODEL if max(weights.values(), default=0) * _BESIDE <= free else GROUP


def next_rung(rung: str) -> str | None:
    """The rung that takes less memory; None below the last one."""
    position = RUNGS.index(rung) + 1
    return RUNGS[position] if position < len(RUNGS) else None


def place(pipe: Any, rung: str, device: Any) -> None:
    """Bring a pipeline that was opened on the CPU to a device.

    Args:
        pipe: of diffusers, freshly opened: hooks of another rung are not taken off.
        rung: of `RUNGS`.
        device: torch device.
    """
    if rung == NONE:
        pipe.to(device)
    elif rung == MODEL:
        pipe.enable_model_cpu_offload(device=device)
    elif rung == GROUP:
        pipe.enable_group_offload(onload_device=device, offload_type="leaf_level", use_stream=device.type == "cuda")
    else:
        pipe.enable_sequential_cpu_offload(device=device)
