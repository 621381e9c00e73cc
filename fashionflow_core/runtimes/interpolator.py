"""Interpolator network, always in PyTorch."""

from typing import Any

import torch
from torch import Tensor

from fashionflow_core.runtimes.flops import count_flop


class Interpolator:
    """Implementation of `interface.Networks.difference`, and its cost.

    Args:
        unet: a `FashionFlowUNet` on its device, in its dtype.
    """

    def __init__(self, unet: Any) -> None:
        self.unet = unet

    @property
    def weights_bytes(self) -> int:
        return sum(weight.numel() * weight.element_size() for weight in self.unet.parameters())

    def count_flop(self, frames: int, height: int, width: int) -> int:
        """Operations of one call on a clip of latents of this size."""
        return count_flop(self.difference, (1, self.unet.config["in_channels"], frames, height, width))

    @torch.inference_mode()
    def difference(self, sides: Tensor) -> Tensor:
        options: dict[str, Any] = {"device": self.unet.device, "dtype": self.unet.dtype}
        # It was trained at one timestep with the null context, for which one token is equivalent to many.
        timestep = torch.zeros(len(sides), device=self.unet.device)
        context = torch.zeros(len(sides), 1, self.unet.config["cross_attention_dim"], **options)
        return self.unet(sides.to(**options), timestep, context).sample.float()
