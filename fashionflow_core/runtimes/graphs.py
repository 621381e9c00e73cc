"""Graphs of a model as modules, for export and comparison.

Each contains one network and the conventions of its model, with float32 inputs and outputs.
"""

from typing import Any

import torch
from torch import Tensor, nn

from fashionflow_core.config import ModelConfig
from fashionflow_core.runtimes.preprocessing import (
    denormalize_latents,
    from_vae_pixels,
    normalize_latents,
    to_vae_pixels,
)


class UNetGraph(nn.Module):
    """`denoise`."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        dtype = _dtype(self)
        return self.unet(sample.to(dtype), timestep, context.to(dtype)).sample.float()


class EncoderGraph(nn.Module):
    """`encode_image`: an image in [0, 1] → mean and log-variance of its *normalised* latents."""

    def __init__(self, vae: nn.Module, config: ModelConfig) -> None:
        super().__init__()
        self.vae, self.config = vae, config

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        vae: Any = self.vae
        posterior = vae.encode(to_vae_pixels(image, self.config).to(_dtype(self)), return_dict=False)[0]
        std = torch.tensor(self.config.latents_std, device=image.device).view(1, -1, 1, 1)
        return normalize_latents(posterior.mean.float(), self.config), posterior.logvar.float() - 2 * std.log()


class DecoderGraph(nn.Module):
    """`decode`: normalised latents of frames → frames in [0, 1]."""

    def __init__(self, vae: nn.Module, config: ModelConfig) -> None:
        super().__init__()
        self.vae, self.config = vae, config

    def forward(self, latents: Tensor) -> Tensor:
        vae: Any = self.vae
        pixels = vae.decode(denormalize_latents(latents, self.config).to(_dtype(self)), return_dict=False)[0]
        return from_vae_pixels(pixels.float(), self.config)


class ContextGraph(nn.Module):
    """`context`: CLIP's pixels and the photo's normalised latents, or its channels → context tokens."""

    def __init__(self, image_encoder: nn.Module, adapter: nn.Module) -> None:
        super().__init__()
        self.image_encoder, self.adapter = image_encoder, adapter

    def forward(self, pixels: Tensor, latents: Tensor) -> Tensor:
        dtype = _dtype(self)
        clip = self.image_encoder(pixels.to(dtype)).last_hidden_state
        return self.adapter(clip, latents.to(dtype)).float()


class ParserGraph(nn.Module):
    """`parse`: photos in [0, 1] → logits of the matte and of each part."""

    def __init__(self, parser: nn.Module) -> None:
        super().__init__()
        self.parser = parser

    def forward(self, photo: Tensor) -> Tensor:
        return self.parser(photo.to(_dtype(self))).float()


def make_graphs(networks: Any, config: ModelConfig) -> dict[str, nn.Module]:
    """The graphs of a model in PyTorch, by the names of `engine_folder.GRAPHS`."""
    graphs: dict[str, nn.Module] = {
        "unet": UNetGraph(networks.unet),
        "image_encoder": ContextGraph(networks.image_encoder, networks.adapter),
    }
    if config.latents == "motion":
        graphs["parser"] = ParserGraph(networks.parser)
    else:
        graphs |= {"vae_decoder": DecoderGraph(networks.vae, config), "vae_encoder": EncoderGraph(networks.vae, config)}
    return {name: graph.eval() for name, graph in graphs.items()}


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype
