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
from fashionflow_core.utils.device import is_out_of_memory


def decode_latents(
    networks: Networks, config: ModelConfig, latents: Tensor, box: Box | None, chunk: int
) -> Iterator[np.ndarray]:
    """Decode frames in chunks.

    Args:
        latents: (1, c, f, h, w).
        box: part of the frame to keep; None: all of it.
        chunk: frames decoded at a time; halved for good whenever the device runs out of memory.

    Yields:
        uint8 (height, width, 3).

    Raises:
        FashionFlowError: not even one frame fits into memory, or the VAE gave no numbers.
    """
    vae_latents = rearrange(denormalize_latents(latents, config), "1 c f h w -> f c h w")
    start, batch = 0, networks.decode_batch
    chunk = max(chunk // batch, 1) * batch  # engines fill up what is less
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
    """Half precision may overflow; frames made of that would be black, and nothing would say why.

    Raises:
        FashionFlowError: a value is not a finite number.
    """
    if not bool(values.isfinite().all()):
        raise FashionFlowError(
            f"{doing} gave values that are not finite numbers",
            hint=f"use {option('dtype', 'fp32')} (or bf16); if it is fp32 already, the model's weights are broken",
        )
