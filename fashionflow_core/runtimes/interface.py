"""Interface of a runtime: the networks of a model, and a runner of one graph."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Networks(Protocol):
    """The four networks of a model, in any runtime. Inputs and outputs are float32.

    The runtime casts to its own dtype inside. Pixels and latents are those of the networks: ranges, patches and latent
    statistics are applied in `preprocessing`.
    """

    device: "torch.device"
    dtype: "torch.dtype"  # dtype of the computation
    frame_divisor: int
    frame_counts: range | None  # numbers of frames that `denoise` accepts; None: every multiple of the divisor
    decode_batch: int  # frames per call of `decode`, padded if fewer; 1 for runtimes without fixed shapes
    pixel_shape: tuple[int, int, int]  # VAE pixels (c, h, w) for the latent size below
    input_channels: int  # c_in of `denoise`: latent channels plus `KnownFrames.channels`
    latent_channels: int
    latent_height: int
    latent_width: int

    @property
    def weights_bytes(self) -> int:
        """Size of all weights as loaded."""
        ...

    def count_flop(self, frames: int) -> dict[str, int]:
        """Floating-point operations of each function below for one item: a clip for `denoise`, one frame for `decode`.

        Includes `difference` if the model has an interpolator.
        """
        ...

    def encode_image(self, pixels: "Tensor") -> "tuple[Tensor, Tensor]":
        """VAE pixels (b, c, h, w) → mean and log-variance of the latents, each (b, c, h, w)."""
        ...

    def context(self, pixels: "Tensor", latents: "Tensor") -> "Tensor":
        """CLIP pixels (b, 3, h, w) and the photo's latents (b, c, h, w) → context tokens (b, n, d)."""
        ...

    def denoise(self, sample: "Tensor", timestep: "Tensor", context: "Tensor") -> "Tensor":
        """Sample (b, c_in, f, h, w), timestep (b,), context (b, n, d) → prediction (b, c, f, h, w)."""
        ...

    def difference(self, sides: "Tensor") -> "Tensor":
        """`KnownFrames.interpolator_input` (b, 2c + 1, f, h, w) → residual of the clip over the mixture of its given
        latents, (b, c, f, h, w). Only for models with an interpolator (`ModelConfig.interpolator`).
        """
        ...

    def decode(self, latents: "Tensor") -> "Tensor":
        """VAE latents (b, c, h, w) → VAE pixels (b, c, h, w)."""
        ...


class Runner(Protocol):
    """One graph, loaded in a runtime."""

    def __call__(self, inputs: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """Float32 inputs by name, of accepted shapes, on any device → outputs by name, on the runner's."""
        ...
