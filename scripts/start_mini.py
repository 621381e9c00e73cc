"""Create the initial model folder of mini-latent: a VAE initialized as a PCA, and untrained networks.

    fashionflow data synth -o runs/mini-latent/clips --clips 1500 --jobs 4
    python scripts/start_mini.py runs/mini-latent/clips -o runs/mini-latent/start

Next steps (docs/concepts/mini-latent.md): `fashionflow data prepare` and `fashionflow train`, with the presets of
mini-latent.

The VAE is a diffusers AutoencoderKL initialized as an exact PCA of 8x8 patches. From scratch such a network stalls far
below the PCA. Here it equals the PCA before the first step: all residual branches start at zero, and the two nonlinear
operations of AutoencoderKL's main path are cancelled:

- SiLU: `silu(x) - silu(-x) = x`, so every component is a pair of channels of opposite sign;
- GroupNorm: two constant channels of +M and -M, M far above the signal, determine mean and variance, so that the norm
is a division by a known number, and its gain multiplies by it.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from einops import rearrange
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

from fashionflow_core.config import MODEL_FILE, ModelConfig
from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter
from fashionflow_core.models.noise_schedules import shifted_cosine_betas
from fashionflow_core.runtimes.preprocessing import to_vae_pixels
from fashionflow_core.store.folder import atomic_folder, check_target
from fashionflow_core.training.config import VAEConfig
from fashionflow_core.training.vae import read_frames
from fashionflow_core.utils.libraries import quiet_libraries

CONSTANT = 60.0  # M: the signal has deviation 1, so the norm's divisor varies by about 0.1 % between images


@dataclass(frozen=True)
class Recipe:
    """Sizes of mini-latent; training settings are in its preset in `fashionflow_core.training.presets`.

    Attributes:
        height, width, frames, fps: properties of a clip.
        patch: side of the pixel block folded into the VAE's channels; also the VAE's total downsampling.
        latent_channels: number of components of the VAE's initial PCA.
        vae_width: channels of the VAE at latent resolution.
        unet_widths: widths of the U-Net's levels.
        context_dim, clip_size, clip_patch, clip_layers: sizes of the CLIP-style encoder.
    """

    height: int = 320
    width: int = 256
    frames: int = 70
    fps: float = 25.0
    patch: int = 8
    latent_channels: int = 16
    vae_width: int = 128
    unet_widths: tuple[int, ...] = (40, 64, 128)
    context_dim: int = 128
    clip_size: int = 112
    clip_patch: int = 16
    clip_layers: int = 3

    @property
    def latent_size(self) -> tuple[int, int]:
        return self.height // self.patch, self.width // self.patch

    def model_config(self) -> ModelConfig:
        """`model.json`. Training measures the latents' statistics; those of whitened latents are 0 and 1."""
        return ModelConfig(
            name="mini-latent-start",
            purpose="untrained, initial weights of mini-latent: videos are noise",
            height=self.height,
            width=self.width,
            frames=self.frames,
            fps=self.fps,
            latents_mean=(0.0,) * self.latent_channels,
            latents_std=(1.0,) * self.latent_channels,
            vae_patch_size=self.patch,
            known_content="latents",
            mask_fill="nearest",
            scheduler="ddpm",
            steps=12,
            log_snr=(-6.0, 5.0),
        )


# Any below: diffusers' annotations of `encode`, `decode` and `from_pretrained` are too narrow.
def build_vae(recipe: Recipe) -> Any:
    """An AutoencoderKL with random weights: one level, no attention, at latent resolution throughout."""
    channels = 3 * recipe.patch**2
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        latent_channels=recipe.latent_channels,
        block_out_channels=(recipe.vae_width,),
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        layers_per_block=1,
        norm_num_groups=1,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.0,
        sample_size=recipe.latent_size[0],
    )


def pca(pixels: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d), the first k components (k, d) and their deviations (k) of VAE pixels (n, d, h, w)."""
    x = rearrange(pixels, "n d h w -> (n h w) d").double()
    mean = x.mean(dim=0)
    values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    return mean.float(), vectors[:, -k:].flip(1).T.float(), values[-k:].flip(0).sqrt().float()


@torch.no_grad()
def start_from_pca(vae: Any, mean: Tensor, components: Tensor, deviation: Tensor) -> None:
    """Set the weights so that encode and decode are exactly the PCA (latents whitened)."""
    k, width = len(components), vae.config["block_out_channels"][0]
    constants = slice(2 * k, 2 * k + 2)  # after the pairs
    ordinary = width - 2 * k - 2
    # Variance over all channels of the one group: pairs and the rest have about 1 each, the constants M² each.
    gain = math.sqrt((2 * CONSTANT**2 + 2 * k + ordinary) / width)

    def carry(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
        """Set `conv` so that the pairs are `weight @ x + bias` and the constants M."""
        assert conv.bias is not None
        conv.weight[: 2 * k + 2] = 0
        conv.bias.zero_()
        conv.weight[:k, :, 1, 1], conv.weight[k : 2 * k, :, 1, 1] = weight, -weight
        conv.bias[:k], conv.bias[k : 2 * k] = bias, -bias
        conv.bias[constants] = torch.tensor([CONSTANT, -CONSTANT])

    def undo(norm: nn.GroupNorm) -> None:
        norm.weight.fill_(gain)
        norm.weight[constants] = 0
        norm.bias.zero_()

    whiten = components / deviation[:, None]
    carry(vae.encoder.conv_in, whiten, -whiten @ mean)
    carry(vae.decoder.conv_in, torch.eye(k), torch.zeros(k))
    for module in vae.modules():
        if type(module).__name__ == "ResnetBlock2D":
            undo(module.norm1)
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
    for part in (vae.encoder, vae.decoder):
        undo(part.conv_norm_out)
        part.conv_out.weight.zero_()
    vae.encoder.conv_out.weight[:k, :k, 1, 1] = torch.eye(k)
    vae.encoder.conv_out.weight[:k, k : 2 * k, 1, 1] = -torch.eye(k)
    vae.encoder.conv_out.bias[:k] = 0
    vae.encoder.conv_out.bias[k:] = -5.0  # posterior deviation 0.08: little noise at the start
    unwhiten = (components * deviation[:, None]).T  # (d, k)
    vae.decoder.conv_out.weight[:, :k, 1, 1] = unwhiten
    vae.decoder.conv_out.weight[:, k : 2 * k, 1, 1] = -unwhiten
    vae.decoder.conv_out.bias.copy_(mean)


def save_start(folder: Path, vae: Any, recipe: Recipe) -> None:
    """Write the VAE and networks with random weights as a model folder."""
    c, (h, w) = recipe.latent_channels, recipe.latent_size
    levels = len(recipe.unet_widths)
    tokens = (recipe.clip_size // recipe.clip_patch) ** 2 + 1
    # CLIP's preprocessing without its centre crop, which would cut head and hem off a full-length figure.
    size = {"height": recipe.clip_size, "width": recipe.clip_size}
    parts: dict[str, Any] = {
        "vae": vae,
        "unet": FashionFlowUNet(
            in_channels=2 * c + 1,
            out_channels=c,
            block_out_channels=recipe.unet_widths,
            num_attention_heads=4,
            attention_head_dim=32,
            down_cross_attention_heads=(1, 1, 2)[:levels],
            up_cross_attention_heads=(2, 1, 1)[-levels:],
            cross_attention_dim=recipe.context_dim,
            time_embedding_dim=4 * recipe.unet_widths[0],
        ),
        "adapter": ImageContextAdapter(c, h, w, tokens, recipe.context_dim),
        "image_encoder": CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=recipe.context_dim,
                intermediate_size=4 * recipe.context_dim,
                num_hidden_layers=recipe.clip_layers,
                num_attention_heads=4,
                image_size=recipe.clip_size,
                patch_size=recipe.clip_patch,
            )
        ),
        "scheduler": DDPMScheduler(
            trained_betas=shifted_cosine_betas(),
            prediction_type="sample",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            clip_sample=False,
            variance_type="fixed_small",
        ),
        "feature_extractor": CLIPImageProcessorPil(size=size, do_center_crop=False, crop_size=size),
    }
    with quiet_libraries(), atomic_folder(folder) as made:
        for name, part in parts.items():
            part.save_pretrained(made / name)
        (made / MODEL_FILE).write_text(recipe.model_config().to_json(), encoding="utf-8")


def make_start(clips: Path, folder: Path, recipe: Recipe, videos: int = 400, per_video: int = 2) -> float:
    """Write the start folder; returns the share of the pixels' variance explained by the PCA."""
    check_target(folder, overwrite=False)
    config = recipe.model_config()
    frames = torch.from_numpy(read_frames(clips, VAEConfig(clips=videos, frames_per_clip=per_video), 0, config))
    pixels = to_vae_pixels(rearrange(frames, "n h w c -> n c h w").float() / 255, config)
    mean, components, deviation = pca(pixels, recipe.latent_channels)
    torch.manual_seed(0)
    vae = build_vae(recipe)
    start_from_pca(vae, mean, components, deviation)
    save_start(folder, vae, recipe)
    total = (rearrange(pixels, "n d h w -> (n h w) d") - mean).square().mean(dim=0).sum()
    return float(deviation.square().sum() / total)


def size(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height), int(width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder of videos")
    parser.add_argument("-o", "--out", type=Path, required=True, help="model folder to create")
    parser.add_argument(
        "--size",
        type=size,
        default=(Recipe.height, Recipe.width),
        metavar="HEIGHTxWIDTH",
        help="size of the clips (default: 320x256)",
    )
    parser.add_argument("--frames", type=int, default=Recipe.frames, help="frames per clip (default: %(default)s)")
    parser.add_argument("--fps", type=float, default=Recipe.fps, help="frames per second (default: %(default)s)")
    args = parser.parse_args()
    recipe = Recipe(*args.size, frames=args.frames, fps=args.fps)
    kept = make_start(args.clips, args.out, recipe)
    print(f"{args.out}: the PCA explains {100 * kept:.2f} % of the variance")


if __name__ == "__main__":
    main()
