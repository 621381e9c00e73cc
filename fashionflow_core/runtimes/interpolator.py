"""Interpolator network, always in PyTorch."""

from typing import Any

import torch
from torch import Tensor

from fashionflow_core.runtimes.flops import count_flop


class Interpolator:
    """What `interface.Networks.difference` asks, and what that costs.

    Args:
        unet: a `FashionFlowUNet`, on its device and in its number type.
    """

    def __init__(self, unet: Any) -> None:
        self.unet = unet

    @property
    def weights_bytes(self) -> int:
        return sum(weight.numel() * weight.element_size() for weight in self.unet.parameters())

    def count_flop(self, frames: int, height: int, width: int) -> int:
        """Of one call on a clip of latents of this size."""
        return count_flop(self.difference, (1, self.unet.config["in_channels"], frames, height, width))

    @torch.inference_mode()
    def difference(self, sides: Tensor) -> Tensor:
        options: dict[str, Any] = {"device": self.unet.device, "dtype": self.unet.dtype}
        # It was trained at one timestep and with the null context, of which one token says as much as many.
        timestep = torch.zeros(len(sides), device=self.unet.device)
        context = torch.zeros(len(sides), 1, self.unet.config["cross_attention_dim"], **options)
        return self.unet(sides.to(**options), timestep, context).sample.float()
