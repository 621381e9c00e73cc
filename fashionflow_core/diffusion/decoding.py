"""Decoding of latents to frames, in chunks."""

from collections.abc import Iterator

import numpy as np
from einops import rearrange
from torch import Tensor

from fashionflow_core.config import ModelConfig
from fashionflow_core.diffusion.conditioning import tensor_to_frames
from fashionflow_core.errors import FashionFlowError, OutOfMemory, option
from fashionflow_core.images.fitting import Box
from fashionflow_core.runtimes.interface import Networks
from fashionflow_core.runtimes.preprocessing import denormalize_latents, from_vae_pixels
from fashionflow_core.utils.memory import is_out_of_memory


def decode_latents(
    networks: Networks, config: ModelConfig, latents: Tensor, box: Box | None, chunk: int
) -> Iterator[np.ndarray]:
    """Decode frames in chunks.

    Args:
        latents: (1, c, f, h, w).
        box: part of the frame to keep; None: the whole frame.
        chunk: frames per decoder call; halved permanently when the device runs out of memory.

    Yields:
        Frames, uint8 (height, width, 3).

    Raises:
        FashionFlowError: not even one frame fits into memory, or the VAE returned values that are not finite.
    """
    vae_latents = rearrange(denormalize_latents(latents, config), "1 c f h w -> f c h w")
    start, batch = 0, networks.decode_batch
    chunk = max(chunk // batch, 1) * batch  # engines pad smaller batches
    while start < len(vae_latents):
        try:
            pixels = networks.decode(vae_latents[start : start + chunk])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if chunk == 1:
                raise OutOfMemory(
                    f"{networks.device}: out of memory while decoding one frame",
                    hint=f"use {option('dtype', 'bf16')} or another {option('device')}",
                ) from None
            chunk //= 2
            continue
        check_finite(pixels, "decoding")
        frames = tensor_to_frames(from_vae_pixels(pixels, config))
        start += len(frames)
        for frame in frames:
            yield frame if box is None else box.cut(frame)


def check_finite(values: Tensor, doing: str) -> None:
    """Check for overflow of half precision, which would give black frames without an error.

    Raises:
        FashionFlowError: a value is not finite.
    """
    if not bool(values.isfinite().all()):
        raise FashionFlowError(
            f"{doing} returned values that are not finite",
            hint=f"use {option('dtype', 'fp32')} (or bf16); if it is fp32 already, the model's weights are damaged",
        )
