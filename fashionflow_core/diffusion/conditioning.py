"""Conditioning on a photo: first-frame latent and context tokens.

Two kinds as in the paper (3, Figure 1): *local*, the photo's VAE latent is the given first frame, and *global*, its
CLIP and VAE features condition every level through cross-attention.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from fashionflow_core.config import ModelConfig
from fashionflow_core.diffusion.known_frames import KnownFrames
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.runtimes.interface import Networks
from fashionflow_core.runtimes.preprocessing import normalize_latents, to_vae_pixels
from fashionflow_core.utils.model_parts import check_processor


def load_processor(folder: Path) -> Any:
    """Load CLIP's preprocessing from `feature_extractor/` of a model folder.

    Raises:
        FashionFlowError: missing or damaged part.
    """
    # The Pil variant needs no torchvision; the golden pixel values come from it.
    from transformers import CLIPImageProcessorPil

    if not (folder / "feature_extractor" / "preprocessor_config.json").is_file():
        raise FashionFlowError(
            f"{folder / 'feature_extractor'}: missing part of the model folder", hint="import or pull the model again"
        )
    try:
        check_processor(folder / "feature_extractor")
        return CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor", local_files_only=True)
    except Exception as error:  # from the check, and any kind from the library for damaged files
        raise FashionFlowError(
            f"{folder / 'feature_extractor'}: cannot be loaded ({textwrap.shorten(str(error), 300)})",
            hint="import or pull the model again",
        ) from None


def clip_pixels(photos: np.ndarray, processor: Any, config: ModelConfig) -> Tensor:
    """Input of CLIP.

    Args:
        photos: uint8 (b, h, w, 3), at the model's frame size.
        processor: CLIP's image processor; it rescales by 1/255.
        config: with `clip_rescale_twice` the photo is scaled to [0, 1] before that, as in the published inference code,
            so that the encoder receives almost no contrast.

    Returns:
        float32 (b, 3, size, size), normalised.
    """
    images = [photo.astype(np.float32) / 255 if config.clip_rescale_twice else photo for photo in photos]
    return torch.from_numpy(np.asarray(processor(images=images, return_tensors="np")["pixel_values"]))


def frames_to_tensor(frames: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (b, h, w, 3) → float32 [0, 1] (b, 3, h, w)."""
    return rearrange(torch.from_numpy(frames).to(device), "b h w c -> b c h w").float() / 255


def tensor_to_frames(frames: Tensor) -> np.ndarray:
    """[0, 1] (b, 3, h, w) → uint8 (b, h, w, 3), rounded."""
    return rearrange(frames * 255, "b c h w -> b h w c").round().to(torch.uint8).cpu().numpy()


def known_content(photos: Tensor, latents: Tensor, config: ModelConfig) -> Tensor | None:
    """Content of the extra input channels for a given frame (paper 3.3: its RGB at latent resolution).

    Args:
        photos: [0, 1] (b, 3, h, w).
        latents: latents of the same frames, (b, c, h', w').

    Returns:
        (b, k, h', w'), or None for a model without mask channels. RGB is in [-1, 1].
    """
    if config.known_content == "none":
        return None
    if config.known_content == "latents":
        return latents
    return F.interpolate(photos, size=latents.shape[-2:], mode="area") * 2 - 1


def condition(
    latent: Tensor, context: Tensor, content: Tensor | None, frames: int, mode: str, fill: str
) -> tuple[KnownFrames, Tensor]:
    """Inputs of the sampling loop for one of `config.CONDITIONING` (paper 4.3, table 2).

    Args:
        latent, context, content: results of `Conditioner.encode`.
        frames: frames of the clip.
        mode: both; local: frame 0 is given, null context (zeros); global: context without given frame.
        fill: value of `ModelConfig.mask_fill`.

    Returns:
        Given frames, and context tokens (b, n, d).
    """
    known = (KnownFrames.nothing if mode == "global" else KnownFrames.first)(latent, frames, content, fill)
    return known, torch.zeros_like(context) if mode == "local" else context


class Conditioner:
    """Encoder of photos to the conditioning of the denoiser."""

    def __init__(self, networks: Networks, processor: Any, config: ModelConfig) -> None:
        self.networks, self.processor, self.config = networks, processor, config

    def _latents(self, mean: Tensor, logvar: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        if self.config.vae_sample:
            # One item at a time, from its own generator, so that other items of a batch have no effect.
            noise = torch.cat([torch.randn(mean[:1].shape, generator=g) for g in generators]).to(mean.device)
            mean = mean + noise * torch.exp(0.5 * logvar.clamp(-30, 20))
        return normalize_latents(mean, self.config)

    def encode(self, photos: np.ndarray, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Condition on photos.

        Args:
            photos: uint8 (b, height, width, 3) at the model's frame size.
            generators: one CPU generator per item. With `vae_sample` each is drawn from twice: for the local latent,
                then for the global one (as in the published code).

        Returns:
            First-frame latents (b, c, h, w); context tokens (b, n, d); content of the extra input channels
            (b, k, h, w) or None.
        """
        pixels = frames_to_tensor(photos, self.networks.device)
        mean, logvar = self.networks.encode_image(to_vae_pixels(pixels, self.config))
        local = self._latents(mean, logvar, generators)
        globally = self._latents(mean, logvar, generators) if self.config.vae_sample else local
        return local, self.context(photos, globally), known_content(pixels, local, self.config)

    def context(self, photos: np.ndarray, latents: Tensor) -> Tensor:
        """Context tokens (b, n, d) of photos, uint8 (b, height, width, 3), and their latents (b, c, h, w)."""
        return self.networks.context(clip_pixels(photos, self.processor, self.config), latents)

    def encode_frame(self, frame: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Latents (1, c, h, w) of one frame, uint8 (height, width, 3), and its content of the extra input channels.

        With `vae_sample` the generator is drawn from once.
        """
        pixels = frames_to_tensor(frame[None], self.networks.device)
        mean, logvar = self.networks.encode_image(to_vae_pixels(pixels, self.config))
        latents = self._latents(mean, logvar, [generator])
        return latents, known_content(pixels, latents, self.config)
