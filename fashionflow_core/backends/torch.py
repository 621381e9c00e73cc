"""The PyTorch runtime: networks from safetensors, through diffusers and transformers."""

from pathlib import Path
from typing import Any, Self

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor
from transformers import CLIPVisionModel

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter


class TorchNetworks:
    """`contract.Networks` in PyTorch. Also wraps networks that are in memory already (training previews)."""

    def __init__(
        self, unet: FashionFlowUNet, adapter: ImageContextAdapter, vae: AutoencoderKL, image_encoder: CLIPVisionModel
    ) -> None:
        self.unet, self.adapter, self.vae, self.image_encoder = unet, adapter, vae, image_encoder
        self.frame_divisor = unet.frame_divisor
        self.latent_channels, self.latent_height, self.latent_width = adapter.latent_shape

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        for network in (self.unet, self.adapter, self.vae, self.image_encoder):
            # A Module method that both libraries wrap; their stubs disagree about its arguments.
            torch.nn.Module.to(network, device=device, dtype=dtype)
            network.eval()
        return self

    @torch.inference_mode()
    def encode_image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.vae.encode(pixels.to(self.device, self.dtype), return_dict=False)[0]
        return posterior.mean.float(), posterior.logvar.float()

    @torch.inference_mode()
    def context(self, pixels: Tensor, latents: Tensor) -> Tensor:
        clip = self.image_encoder(pixels.to(self.device, self.dtype)).last_hidden_state
        return self.adapter(clip, latents.to(self.device, self.dtype)).float()

    @torch.inference_mode()
    def denoise(self, sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        timestep = timestep.to(self.device).expand(sample.shape[0])
        return self.unet(sample.to(self.device, self.dtype), timestep, context.to(self.device, self.dtype)).sample.float()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents.to(self.device, self.dtype), return_dict=False)[0].float()


def _open(kind: Any, folder: Path, part: str, dtype: torch.dtype) -> Any:
    """One network of a model folder, from its own `from_pretrained`."""
    if not (folder / part / "config.json").is_file():
        raise FashionFlowError(
            f"{folder / part}: the model folder lacks this part", hint="import or pull the model again"
        )
    try:
        return kind.from_pretrained(
            folder / part, torch_dtype=dtype, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
        )
    except FashionFlowError:
        raise
    except Exception as error:  # safetensors, json and both libraries each raise their own kinds
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FashionFlowError(
            f"{folder / part}: cannot be opened ({first_line})", hint="import or pull the model again"
        ) from error


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> TorchNetworks:
    """Open all four networks of a model folder.

    Raises:
        FashionFlowError: a part is missing or broken.
    """
    return TorchNetworks(
        unet=_open(FashionFlowUNet, folder, "unet", dtype),
        adapter=_open(ImageContextAdapter, folder, "adapter", dtype),
        vae=_open(AutoencoderKL, folder, "vae", dtype),
        image_encoder=_open(CLIPVisionModel, folder, "image_encoder", dtype),
    ).to(device, dtype)
