"""Training of the VAE: frames, target, loss."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.data import Dataset

from fashionflow_core import video
from fashionflow_core.config import VIDEO_SUFFIXES, ModelConfig
from fashionflow_core.diffusion.conditioning import load_processor
from fashionflow_core.errors import FashionFlowError, UsageError, command
from fashionflow_core.images.fitting import fit
from fashionflow_core.runtimes.preprocessing import to_vae_pixels
from fashionflow_core.runtimes.torch import load
from fashionflow_core.training.config import NoiseConfig, TrainConfig, VAEConfig
from fashionflow_core.training.data import Batched, Draw
from fashionflow_core.training.randomness import stream, uniform, whole
from fashionflow_core.training.schedules import noise_scheduler


@dataclass
class FrameBatch(Batched):
    """`pixels`: input of the VAE, (b, c, h, w); `noise`: noise for its latents, (b, c, h', w')."""

    pixels: Tensor
    noise: Tensor


def read_frames(folder: Path, vae: VAEConfig, seed: int, model: ModelConfig) -> np.ndarray:
    """Sample frames of the first videos of a folder, fitted like photos: uint8 (n, height, width, 3)."""
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in VIDEO_SUFFIXES)[: vae.clips]
    if not files:
        raise FashionFlowError(
            f"{folder}: contains no videos for the target vae", hint=f"create some: {command('data synth')}"
        )
    chosen = []
    for number, path in enumerate(files):
        frames = list(video.iter_frames(path))
        count = min(vae.frames_per_clip, len(frames))
        order = torch.randperm(len(frames), generator=stream(seed, "frames", number))[:count]
        for index in order.sort().values.tolist():
            chosen.append(fit(frames[index], model.height, model.width, model.fit, model.resample).pixels)
    return np.stack(chosen)


class FrameExamples(Dataset[FrameBatch]):
    """One `Draw` → a random crop of one frame, mirrored with probability 0.5."""

    def __init__(self, frames: np.ndarray, config: TrainConfig, model: ModelConfig, shrink: int, channels: int) -> None:
        self.frames, self.config, self.model = torch.from_numpy(frames), config, model
        self.shrink, self.channels = shrink, channels

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: Any) -> FrameBatch:
        draw: Draw = index
        random = stream(self.config.seed, "frame", draw.step, draw.slot)
        frame = self.frames[draw.item]  # (h, w, 3)
        height, width = (min(self.config.vae.crop, side) for side in frame.shape[:2])
        unit = self.shrink
        height, width = height - height % unit, width - width % unit
        top = unit * whole(random, (frame.shape[0] - height) // unit + 1)
        left = unit * whole(random, (frame.shape[1] - width) // unit + 1)
        crop = frame[top : top + height, left : left + width]
        crop = crop.flip(1) if uniform(random) < 0.5 else crop
        pixels = to_vae_pixels(rearrange(crop, "h w c -> 1 c h w").float() / 255, self.model)
        return FrameBatch(pixels, torch.randn(1, self.channels, height // unit, width // unit, generator=random))


class Reconstruction(nn.Module):
    """VAE pixels, and noise for the latents → pixels again, and each item's KL divergence from the prior."""

    def __init__(self, vae: Any, config: VAEConfig) -> None:
        super().__init__()
        self.vae, self.config = vae, config

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.vae.encode(pixels, return_dict=False)[0]
        if self.config.train == "all":
            latents, divergence = posterior.mean + posterior.std * noise, posterior.kl()
        else:  # the encoder is frozen: noise trains the decoder to tolerate errors of the denoiser
            latents, divergence = posterior.mean + self.config.noise * noise, pixels.new_zeros(len(pixels))
        return self.vae.decode(latents, return_dict=False)[0], divergence


class VAETarget:
    """`Target` of vae. Everything else of the base model is unchanged.

    With a frozen encoder (`vae.train: decoder`) the latents are unchanged, so trained U-Nets remain valid.
    """

    def __init__(self, config: TrainConfig, base: Path, name: str) -> None:
        of_base = ModelConfig.load(base)
        self.config = config
        self.model = replace(of_base, name=config.name or name, purpose=config.purpose or of_base.purpose)
        if config.init_from:
            raise UsageError("init_from: the target vae always starts from the base model: set base")
        self.networks = load(base, torch.device("cpu"), torch.float32)
        self.processor, self.scheduler = load_processor(base), noise_scheduler(NoiseConfig(), base)
        vae: Any = self.networks.vae
        for network in (self.networks.unet, self.networks.adapter, self.networks.image_encoder):
            network.requires_grad_(False)
        if config.vae.train == "decoder":
            vae.requires_grad_(False)
            vae.decoder.requires_grad_(True)
            if vae.post_quant_conv is not None:
                vae.post_quant_conv.requires_grad_(True)
        shrink = self.model.height // self.networks.latent_height
        self.module = Reconstruction(vae, config.vae)
        self.module.train()
        self.frames = 1
        frames = read_frames(Path(config.data.path), config.vae, config.seed, self.model)
        self.examples = FrameExamples(frames, config, self.model, shrink, self.networks.latent_channels)

    def place(self, device: torch.device) -> None:
        """Nothing to do: all parts are in the module, and move with it."""

    def prepare(self, batch: FrameBatch) -> FrameBatch:
        return batch

    def losses(self, module: nn.Module, batch: FrameBatch) -> Tensor:
        """L1 preserves edges, the squared error preserves PSNR."""
        redrawn, divergence = module(batch.pixels, batch.noise)
        difference = batch.pixels - redrawn.float()
        plain = difference.abs().mean(dim=(1, 2, 3)) + 2 * difference.square().mean(dim=(1, 2, 3))
        return plain + self.config.vae.kl * divergence

    def noise_levels(self, batch: FrameBatch) -> None:
        return None
