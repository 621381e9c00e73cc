"""Interface of a runtime: the networks of a model, and a runner of one graph."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Networks(Protocol):
    """The four networks of a model, in whatever runtime. Tensors come in as float32 and go out as float32.

    The runtime casts to its own number type inside. Pixels and latents are the networks' own: ranges, patches and
    latent statistics are `conventions`' business.
    """

    device: "torch.device"
    dtype: "torch.dtype"  # what the networks compute in
    frame_divisor: int
    frame_counts: range | None  # numbers of frames that `denoise` takes; None: every multiple of the divisor
    decode_batch: int  # frames that `decode` computes at a time, however few it is given; 1 for runtimes that take any
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
        """Floating-point operations of each function below for one item: `denoise` a clip, `decode` one frame of it.

        Of `difference`, too, where the model has an interpolator.
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
        """`KnownFrames.interpolator_input` (b, 2c + 1, f, h, w) → what the clip has beyond the mixture of its given
        latents, (b, c, f, h, w). Only of models with an interpolator (`ModelConfig.interpolator`).
        """
        ...

    def decode(self, latents: "Tensor") -> "Tensor":
        """VAE latents (b, c, h, w) → VAE pixels (b, c, h, w)."""
        ...


class Runner(Protocol):
    """One graph, ready to run in some runtime."""

    def __call__(self, inputs: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """Float32 inputs by name, of shapes that the graph takes, on any device → outputs by name, on the runner's."""
        ...
