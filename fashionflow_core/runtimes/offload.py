"""Offloading for small GPUs (low memory).

Idle weights stay in CPU memory. A clip needs each network once, so each is moved once; only the U-Net stays for all its
steps. Values equal those of `TorchNetworks` (frames of a batch are independent).
"""

from typing import Any

import torch
from torch import Tensor

from fashionflow_core.runtimes.torch import TorchNetworks


class OffloadedNetworks(TorchNetworks):
    """`interface.Networks` with parts that take turns on the device.

    Args:
        networks: PyTorch networks, on the CPU.
        device: device of the computation.
    """

    def __init__(self, networks: TorchNetworks, device: torch.device) -> None:
        super().__init__(*networks.parts)
        self._device = device

    @property
    def device(self) -> torch.device:
        return self._device

    def _bring(self, *wanted: Any) -> None:
        for network in self.parts:
            if network not in wanted and network.device != torch.device("cpu"):
                torch.nn.Module.to(network, "cpu")
        for network in wanted:
            torch.nn.Module.to(network, self._device)

    def encode_image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        self._bring(self.vae)
        return super().encode_image(pixels)

    def context(self, pixels: Tensor, latents: Tensor) -> Tensor:
        self._bring(self.image_encoder, self.adapter)
        return super().context(pixels, latents)

    def denoise(self, sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        self._bring(self.unet)
        return super().denoise(sample, timestep, context)

    def difference(self, sides: Tensor) -> Tensor:
        self._bring(self.interpolator)
        return super().difference(sides)

    def decode(self, latents: Tensor) -> Tensor:
        self._bring(self.vae)
        decode = super().decode
        return torch.cat([decode(latent) for latent in latents.split(1)])
