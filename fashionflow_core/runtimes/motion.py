"""PyTorch runtime of motion models."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionModel

from fashionflow_core.config import ModelConfig
from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter
from fashionflow_core.models.parser import HEIGHT, WIDTH, FigureParser
from fashionflow_core.runtimes.flops import count_flop
from fashionflow_core.runtimes.torch import TorchNetworks, check_belonging, open_network, settle
from fashionflow_core.store.folder import PARSER


class MotionNetworks(TorchNetworks):
    """The networks of a motion model: without a VAE, with a parser. Also wraps networks in memory.

    Args:
        unet: U-Net over motion channels.
        adapter: adapter of image encoder and photo channels to the context.
        image_encoder: CLIP-style image encoder.
        parser: network from photo to matte and parts.
    """

    def __init__(
        self,
        unet: FashionFlowUNet,
        adapter: ImageContextAdapter,
        image_encoder: CLIPVisionModel,
        parser: FigureParser,
    ) -> None:
        self.unet, self.adapter, self.image_encoder, self.parser = unet, adapter, image_encoder, parser
        self.interpolator = None
        self.frame_divisor = unet.frame_divisor
        self.frame_counts = None
        self.decode_batch = 1
        self.compiled = False
        self.input_channels = unet.config["in_channels"]
        self.latent_channels = unet.config["out_channels"]
        self.photo_channels, self.latent_height, self.latent_width = adapter.latent_shape
        self.pixel_shape = (3, HEIGHT, WIDTH)

    @property
    def parts(self) -> list[Any]:
        return [self.unet, self.adapter, self.image_encoder, self.parser]

    def settle(self, device: torch.device) -> "MotionNetworks":
        settle(self.unet)
        return self

    def compile(self) -> "MotionNetworks":
        torch.nn.Module.compile(self.unet, dynamic=False)
        self.compiled = True
        return self

    def count_flop(self, frames: int) -> dict[str, int]:
        grid = (self.latent_height, self.latent_width)
        tokens, width = self.adapter.config["clip_tokens"], self.adapter.config["clip_dim"]
        side: Any = self.image_encoder.config.image_size
        return {
            "parse": count_flop(self.parse, (1, *self.pixel_shape)),
            "context": count_flop(self.context, (1, 3, side, side), (1, self.photo_channels, *grid)),
            "denoise": count_flop(self.denoise, (1, self.input_channels, frames, *grid), (1,), (1, tokens, width)),
        }

    @torch.inference_mode()
    def parse(self, pixels: Tensor) -> Tensor:
        """Photos (b, 3, height, width) in [0, 1] → logits of the matte and of each part, (b, 1 + parts, h, w)."""
        return self.parser(pixels.to(self.device, self.dtype)).float()


def load(folder: Path, device: torch.device, dtype: torch.dtype, _config: ModelConfig | None = None) -> MotionNetworks:
    """Open the networks of a motion model's folder.

    Raises:
        FashionFlowError: a part is missing or damaged, or the parts do not match.
    """
    unet = open_network(FashionFlowUNet, folder, "unet", dtype)
    adapter = open_network(ImageContextAdapter, folder, "adapter", dtype)
    image_encoder = open_network(CLIPVisionModel, folder, "image_encoder", dtype)
    parser = open_network(FigureParser, folder, PARSER, dtype)
    check_belonging(folder, unet, adapter, image_encoder)
    return MotionNetworks(unet, adapter, image_encoder, parser).to(device, dtype)
