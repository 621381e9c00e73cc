"""The recipe of the bundled model `mini`: every number that training depends on, in one place.

Written out in docs/bundled-model.md. The stages are `python scripts/train_mini.py render|vae|latents|unet|pack`.
"""

from dataclasses import dataclass
from pathlib import Path

from fashionflow_core.config import ModelConfig


@dataclass(frozen=True)
class Recipe:
    """Everything but the time budgets, which are the machine's.

    Attributes:
        height, width, frames, fps: of a clip.
        patch: side of the pixel block folded into the VAE's channels; also the VAE's whole downsampling.
        latent_channels: the VAE starts from a PCA of this many components.
        vae_width: channels of the VAE at latent resolution.
        unet_widths: of the U-Net's levels.
        context_dim, clip_size, clip_patch, clip_layers: of the CLIP-shaped encoder.
        validation_seed: seeds from here on are never trained on.
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
    validation_seed: int = 1_000_000

    @property
    def latent_size(self) -> tuple[int, int]:
        return self.height // self.patch, self.width // self.patch

    def model_config(self, mean: tuple[float, ...], std: tuple[float, ...]) -> ModelConfig:
        """`model.json` of the result."""
        return ModelConfig(
            name="mini",
            purpose="mini shows the whole method on any laptop; it was trained on rendered figures only: "
            "photo-real results need trained or imported weights (fashionflow models import)",
            height=self.height,
            width=self.width,
            frames=self.frames,
            fps=self.fps,
            latents_mean=mean,
            latents_std=std,
            fit="pad",
            resample="lanczos",
            vae_range="minus_one_one",
            vae_patch_size=self.patch,
            known_content="latents",
            mask_fill="nearest",
            scheduler="ddpm",
            steps=12,
            log_snr=(-6.0, 5.0),
        )


RECIPE = Recipe()


@dataclass(frozen=True)
class Paths:
    """Where a training run keeps its files, below one work folder that git ignores."""

    work: Path

    @property
    def clips(self) -> Path:
        """One `SEED.npy` a clip: uint8 (f, h, w, 3)."""
        return self.work / "clips"

    @property
    def latents(self) -> Path:
        """One `SEED.npz` a clip: float16 latents (f, c, h, w) and CLIP-sized frames uint8 (f, s, s, 3)."""
        return self.work / "latents"

    @property
    def vae(self) -> Path:
        return self.work / "vae"

    @property
    def unet(self) -> Path:
        return self.work / "unet"
