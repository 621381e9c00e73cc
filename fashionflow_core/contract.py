"""What a runtime must offer. The sampling loop, the pipeline and the exporters know this and nothing of a runtime."""

from typing import Protocol

import torch
from torch import Tensor


class Networks(Protocol):
    """The four networks of a model, in whatever runtime. Tensors come in as float32 and go out as float32.

    The runtime casts to its own number type inside. Pixels and latents are the networks' own: ranges, patches and
    latent statistics are `conditioning`'s business.
    """

    device: torch.device
    dtype: torch.dtype  # what the networks compute in
    frame_divisor: int
    pixel_shape: tuple[int, int, int]  # VAE pixels (c, h, w) that make latents of the size below
    input_channels: int  # c_in of `denoise`: latent channels and those of `KnownFrames.channels`
    latent_channels: int
    latent_height: int
    latent_width: int

    @property
    def weights_bytes(self) -> int:
        """Size of all weights as they are loaded."""
        ...

    def count_flop(self, frames: int) -> dict[str, int]:
        """Floating-point operations of each function below for one item: `denoise` a clip, `decode` one frame of it."""
        ...

    def encode_image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """VAE pixels (b, c, h, w) → mean and log-variance of the latents, each (b, c, h, w)."""
        ...

    def context(self, pixels: Tensor, latents: Tensor) -> Tensor:
        """CLIP pixels (b, 3, h, w) and the photo's latents (b, c, h, w) → context tokens (b, n, d)."""
        ...

    def denoise(self, sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        """Sample (b, c_in, f, h, w), timestep (b,), context (b, n, d) → prediction (b, c, f, h, w)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """VAE latents (b, c, h, w) → VAE pixels (b, c, h, w)."""
        ...
