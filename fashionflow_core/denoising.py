"""The sampling loop as one request wants it, and what is said when a device is too small for it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fashionflow_core.config import ModelConfig, ResolvedSettings
from fashionflow_core.contract import Networks
from fashionflow_core.decoding import check_finite
from fashionflow_core.device import is_out_of_memory
from fashionflow_core.errors import OutOfMemory
from fashionflow_core.known import KnownFrames
from fashionflow_core.sampling import OnStep, guided, sample

Sampler = Callable[[KnownFrames, Tensor, Sequence[torch.Generator]], Tensor]


def sampler(
    networks: Networks, scheduler: Any, config: ModelConfig, request: ResolvedSettings, on_step: OnStep
) -> Sampler:
    """Given frames, context and one generator an item → latents (b, c, f, h, w).

    Args:
        scheduler: of `schedulers.make_scheduler`.
        request: steps and guidance count.
        on_step: called after each step.
    """
    train_steps = scheduler.config.num_train_timesteps
    denoise = guided(networks.denoise, request.guidance_scale, request.guidance_interval, train_steps)

    def run(known: KnownFrames, context: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        latents = sample(denoise, scheduler, request.steps, known, context, generators, on_step, config.log_snr)
        check_finite(latents, "denoising")
        return latents

    return run


@contextmanager
def memory_explained(device: torch.device, frames: int) -> Iterator[None]:
    """Raises `OutOfMemory`, in one line, for what a runtime raises when memory runs out inside."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"{device}: out of memory while denoising {frames} frames",
            hint="use fewer --frames, --dtype bf16, or another --device",
        ) from None
