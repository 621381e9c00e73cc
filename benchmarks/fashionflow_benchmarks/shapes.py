"""Sizes of the baselines, published and reduced, and networks with random weights."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from fashionflow_benchmarks.reference_unet import LiteralAdapter
from fashionflow_core.runtimes.flops import count_flop

LATENT_CHANNELS = 4
SHRINK = 8  # pixels per latent in each direction
# Stable Diffusion's scaling factor of VAE latents.
LATENT_SCALE = 0.18215


@dataclass(frozen=True, eq=False)  # hashed by identity, so that counts can be cached
class Shape:
    """Sizes of a baseline.

    Attributes:
        label: "published sizes", or a description of reductions.
        frames: frames of the video.
        height, width: size of the latents; multiples of 16.
        unet2d: arguments of diffusers' UNet2DConditionModel (DreamPose).
        unet3d: arguments of `LiteralUNet` and `FashionFlowUNet`.
        vae: arguments of diffusers' AutoencoderKL.
        clip: arguments of transformers' CLIPVisionConfig.
    """

    label: str
    frames: int
    height: int
    width: int
    unet2d: dict[str, Any] = field(repr=False)
    unet3d: dict[str, Any] = field(repr=False)
    vae: dict[str, Any] = field(repr=False)
    clip: dict[str, Any] = field(repr=False)

    @property
    def pixels(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return SHRINK * self.height, SHRINK * self.width

    @property
    def tokens(self) -> int:
        """Context tokens: CLIP's patches and its class token."""
        return (self.clip["image_size"] // self.clip["patch_size"]) ** 2 + 1

    def as_dict(self) -> dict[str, Any]:
        """The shape for results, JSON-serializable."""
        sizes = {"frames": self.frames, "latent_height": self.height, "latent_width": self.width}
        return {"label": self.label, **sizes, "context_tokens": self.tokens}


def _shape(label: str, frames: int, size: tuple[int, int], share: int, clip: dict[str, Any]) -> Shape:
    """All widths divided by `share`; depths, heads and kernels unchanged."""
    widths = [width // share for width in (320, 640, 1280, 1280)]
    dim = clip["hidden_size"]
    return Shape(
        label,
        frames,
        *size,
        # CompVis/stable-diffusion-v1-4, unet/config.json, with the 4 + 5 x 2 input channels of DreamPose: five body
        # poses of two channels (DensePose) around the frame.
        unet2d={
            "in_channels": LATENT_CHANNELS + 5 * 2,
            "out_channels": LATENT_CHANNELS,
            "block_out_channels": tuple(widths),
            "layers_per_block": 2,
            "cross_attention_dim": dim,
            "attention_head_dim": 8,  # the number of heads in that version
            "norm_num_groups": 32 // share or 1,
        },
        unet3d={
            "block_out_channels": tuple(width // share for width in (64, 128, 256, 512)),
            "attention_head_dim": 64 // share,
            "cross_attention_dim": dim,
            "time_embedding_dim": 256 // share,
            "norm_num_groups": 8 // share or 1,
        },
        # CompVis/stable-diffusion-v1-4, vae/config.json.
        vae={
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "block_out_channels": tuple(width // share for width in (128, 256, 512, 512)),
            "layers_per_block": 2,
            "latent_channels": LATENT_CHANNELS,
            "norm_num_groups": 32 // share or 1,
        },
        clip=clip,
    )


# openai/clip-vit-base-patch32, and latents of a video of 640x512.
_VIT_B32 = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
}
FULL = _shape("published sizes", 70, (80, 64), 1, _VIT_B32)
_NARROW = _VIT_B32 | {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 2, "image_size": 64}
REDUCED = _shape("reduced: widths 1/8, 4 frames of 128x128, small CLIP", 4, (16, 16), 8, _NARROW)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """A context in which networks are created on `device` with weights from `seed`; random state is restored."""
    indices = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=indices), device:
        torch.manual_seed(seed)
        yield


def make_vae(shape: Shape) -> Any:
    """AutoencoderKL (Any, since its stubs require types that tensors do not have)."""
    return AutoencoderKL(**shape.vae).eval()


def make_clip(shape: Shape) -> Any:
    """CLIPVisionModel."""
    return CLIPVisionModel(CLIPVisionConfig(**shape.clip)).eval()


def make_adapter(shape: Shape) -> LiteralAdapter:
    """The adapter, from DreamPose (models/unet_dual_encoder.py, `Embedding_Adapter`)."""
    return LiteralAdapter(LATENT_CHANNELS, shape.height, shape.width, shape.tokens, shape.clip["hidden_size"]).eval()


@contextlib.contextmanager
def computing(device: torch.device, dtype: torch.dtype, weights: torch.dtype) -> Iterator[None]:
    """No gradients, and autocast if the weights' dtype differs from that of the computation."""
    if dtype == weights:
        with torch.inference_mode():
            yield
    else:
        # Not inference_mode, where autocast (torch 2.13) casts all weights at every call in spite of its cache.
        with torch.no_grad(), torch.autocast(device.type, dtype):
            yield


def keep_casts(device: torch.device) -> torch.autocast:
    """A context around all timed calls, so that weights are cast only at the first one.

    Autocast clears its cache when its outermost context ends. DreamPose's code has one around a whole frame; a single
    call with its own context would cast 3.4 GB of weights.
    """
    return torch.autocast(device.type, enabled=False)


def count_parameters(**networks: nn.Module) -> dict[str, int]:
    """Weights of each network."""
    return {name: sum(weight.numel() for weight in network.parameters()) for name, network in networks.items()}


@functools.cache
def count_encoders(shape: Shape) -> dict[str, int]:
    """Floating-point operations for one image: `encode` and `decode` of the VAE, `clip` of CLIP and the adapter."""
    side = shape.clip["image_size"]
    latents = (1, LATENT_CHANNELS, shape.height, shape.width)
    with torch.device("meta"):
        vae, clip, adapter = make_vae(shape), make_clip(shape), make_adapter(shape)
        return {
            "encode": count_flop(lambda x: vae.encode(x, return_dict=False)[0].mean, (1, 3, *shape.pixels)),
            "clip": count_flop(lambda x, z: adapter(clip(x).last_hidden_state, z), (1, 3, side, side), latents),
            "decode": count_flop(lambda z: vae.decode(z, return_dict=False)[0], latents),
        }
