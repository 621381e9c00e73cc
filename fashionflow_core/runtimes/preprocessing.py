"""Pre- and postprocessing: pixel ranges, patches, latent statistics."""

import torch
from einops import rearrange
from torch import Tensor

from fashionflow_core.config import ModelConfig


def to_vae_pixels(frames: Tensor, config: ModelConfig) -> Tensor:
    """Frames in [0, 1], (b, 3, h, w) → the VAE's range and patches, (b, 3 p², h/p, w/p)."""
    if config.vae_range == "minus_one_one":
        frames = frames * 2 - 1
    p = config.vae_patch_size
    return rearrange(frames, "b c (h p1) (w p2) -> b (c p1 p2) h w", p1=p, p2=p)


def from_vae_pixels(pixels: Tensor, config: ModelConfig) -> Tensor:
    """The inverse of `to_vae_pixels`, clamped to [0, 1]."""
    p = config.vae_patch_size
    frames = rearrange(pixels, "b (c p1 p2) h w -> b c (h p1) (w p2)", p1=p, p2=p)
    if config.vae_range == "minus_one_one":
        frames = (frames + 1) / 2
    return frames.clamp(0, 1)


def _statistics(config: ModelConfig, like: Tensor) -> tuple[Tensor, Tensor]:
    shape = (1, -1) + (1,) * (like.ndim - 2)
    mean = torch.tensor(config.latents_mean, device=like.device).view(shape)
    return mean, torch.tensor(config.latents_std, device=like.device).view(shape)


def normalize_latents(vae_latents: Tensor, config: ModelConfig) -> Tensor:
    """(latents - mean) / deviation per channel; channels are axis 1."""
    mean, std = _statistics(config, vae_latents)
    return (vae_latents - mean) / std


def denormalize_latents(latents: Tensor, config: ModelConfig) -> Tensor:
    """The inverse of `normalize_latents`."""
    mean, std = _statistics(config, latents)
    return latents * std + mean
