"""The U-Net of `mini`, trained together with its adapter and a small CLIP-shaped encoder on encoded clips."""

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.training_utils import EMAModel
from einops import rearrange
from mini_recipe import RECIPE, Paths
from mini_vae import load_vae
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

from fashionflow_core.backends.torch import TorchNetworks
from fashionflow_core.conditioning import clip_pixels, normalize_latents, to_vae_pixels
from fashionflow_core.config import ModelConfig
from fashionflow_core.files import atomic_path, write_text
from fashionflow_core.known import KnownFrames
from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter

NOISE_SHIFT = 0.3
MAX_WEIGHT = 5.0
STATISTICS, STATISTICS_CLIPS = "statistics.json", 100


def shifted_cosine_betas(steps: int = 1000, shift: float = NOISE_SHIFT) -> list[float]:
    """Betas of a cosine schedule whose signal-to-noise ratio is multiplied by shift².

    Seventy frames of one figure tell the same thing seventy times: at the noise where one image is a riddle, a clip's
    motion is already plain, and a sampler of few steps would decide it in its very first one. So more of the steps
    are spent at high noise (Hoogeboom et al. 2023, "simple diffusion", section 3.1, in reverse).
    """
    t = np.arange(steps + 1) / steps
    log_snr = -2 * np.log(np.tan(np.pi / 2 * np.clip(t, 1e-4, 1 - 1e-4))) + 2 * math.log(shift)
    alphas_cumprod = 1 / (1 + np.exp(-log_snr))
    return np.minimum(1 - alphas_cumprod[1:] / alphas_cumprod[:-1], 0.9999).tolist()


def build_scheduler() -> DDPMScheduler:
    return DDPMScheduler(
        num_train_timesteps=1000,
        trained_betas=shifted_cosine_betas(),
        prediction_type="sample",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        variance_type="fixed_small",
    )


def build_processor() -> Any:
    """CLIP's preprocessing without its centre crop, which would cut head and hem off a full-length figure."""
    size = {"height": RECIPE.clip_size, "width": RECIPE.clip_size}
    return CLIPImageProcessorPil(size=size, do_center_crop=False, crop_size=size)


class Conditioned(nn.Module):
    """The three networks that learn together, as one module for the optimizer, EMA and checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        c, (h, w) = RECIPE.latent_channels, RECIPE.latent_size
        levels = len(RECIPE.unet_widths)
        self.unet = FashionFlowUNet(
            in_channels=2 * c + 1,
            out_channels=c,
            block_out_channels=RECIPE.unet_widths,
            num_attention_heads=4,
            attention_head_dim=32,
            down_cross_attention_heads=(1, 1, 2)[:levels],
            up_cross_attention_heads=(2, 1, 1)[:levels],
            cross_attention_dim=RECIPE.context_dim,
            time_embedding_dim=4 * RECIPE.unet_widths[0],
        )
        tokens = (RECIPE.clip_size // RECIPE.clip_patch) ** 2 + 1
        self.adapter = ImageContextAdapter(c, h, w, tokens, RECIPE.context_dim)
        self.image_encoder = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=RECIPE.context_dim,
                intermediate_size=4 * RECIPE.context_dim,
                num_hidden_layers=RECIPE.clip_layers,
                num_attention_heads=4,
                image_size=RECIPE.clip_size,
                patch_size=RECIPE.clip_patch,
            )
        )

    def forward(self, network_input: Tensor, timestep: Tensor, clip: Tensor, latents: Tensor) -> Tensor:
        """(b, c_in, f, h, w), (b,), CLIP pixels (b, 3, s, s), first-frame latents (b, c, h, w) → (b, c, f, h, w)."""
        context = self.adapter(self.image_encoder(clip).last_hidden_state, latents)
        return self.unet(network_input, timestep, context).sample


@torch.no_grad()
def encode_clips(paths: Paths, device: str, limit: int | None = None) -> None:
    """Encode every rendered clip that has no latents yet; statistics are written as soon as they can be."""
    vae = load_vae(paths).to(device).eval()
    config = RECIPE.model_config((0.0,), (1.0,))
    paths.latents.mkdir(parents=True, exist_ok=True)
    for done, file in enumerate(sorted(paths.clips.glob("*.npy"))[:limit], start=1):
        target = paths.latents / file.name
        if done == STATISTICS_CLIPS + 1 and not (paths.latents / STATISTICS).exists():
            write_statistics(paths)
        if target.exists():
            continue
        frames = torch.from_numpy(np.load(file)).to(device)
        pixels = to_vae_pixels(rearrange(frames, "f h w c -> f c h w").float() / 255, config)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            latents = vae.encode(pixels).latent_dist.mean
        with atomic_path(target) as temporary:
            np.save(temporary, latents.half().cpu().numpy())
    if not (paths.latents / STATISTICS).exists():
        write_statistics(paths)


def write_statistics(paths: Paths) -> None:
    """Mean and deviation of each latent channel over the first clips; both end up in `model.json`."""
    files = sorted(paths.latents.glob("*.npy"))[:STATISTICS_CLIPS]
    values = np.concatenate([np.load(f).astype(np.float32)[::7] for f in files])
    mean, std = values.mean(axis=(0, 2, 3)), values.std(axis=(0, 2, 3))
    write_text(paths.latents / STATISTICS, json.dumps({"mean": mean.tolist(), "std": std.tolist()}))


def model_config(paths: Paths) -> ModelConfig:
    values = json.loads((paths.latents / STATISTICS).read_text())
    return RECIPE.model_config(tuple(round(v, 5) for v in values["mean"]), tuple(round(v, 5) for v in values["std"]))


class Windows:
    """Random windows of encoded clips, forwards or backwards in time: (latents, CLIP pixels of the first frame)."""

    def __init__(self, paths: Paths, seed: int) -> None:
        self.paths, self.config, self.processor = paths, model_config(paths), build_processor()
        self.rng = np.random.default_rng(seed)
        self.names: list[str] = []
        self.cache: dict[str, np.ndarray] = {}
        self.refresh()

    def refresh(self) -> None:
        """Also take in the clips that were encoded since."""
        self.names = [f.name for f in sorted(self.paths.latents.glob("*.npy")) if int(f.stem) < RECIPE.validation_seed]

    def batch(self, size: int, frames: int) -> tuple[Tensor, Tensor]:
        """Latents (b, c, f, h, w), normalised, and CLIP pixels (b, 3, s, s)."""
        latents, photos = [], []
        for _ in range(size):
            name = self.names[self.rng.integers(len(self.names))]
            if name not in self.cache:
                self.cache[name] = np.load(self.paths.latents / name)
            clip = self.cache[name]
            start = int(self.rng.integers(len(clip) - frames + 1))
            order = np.arange(start, start + frames)
            if self.rng.random() < 0.5:
                order = order[::-1]
            latents.append(torch.from_numpy(clip[order]).float())
            photos.append(np.load(self.paths.clips / name, mmap_mode="r")[order[0]])
        stacked = rearrange(torch.stack(latents), "b f c h w -> b c f h w")
        return normalize_latents(stacked, self.config), clip_pixels(np.stack(photos), self.processor, self.config)


@dataclass
class Progress:
    """What a resumed run must know; checkpointed by accelerate."""

    seconds: float = 0.0
    step: int = 0
    curve: list[tuple[float, int, float]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "step": self.step, "curve": self.curve}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seconds, self.step, self.curve = state["seconds"], state["step"], state["curve"]


def channel_weights(paths: Paths) -> Tensor:
    """Weight of each latent channel in the loss, (c), mean 1: the deviation that whitening divided it by.

    White latents are all alike to a squared error, but a component that carries a hundredth of the picture's energy
    should not get as much of a small network as the one that carries half of it.
    """
    whiten = load_vae(paths).encoder.conv_in.weight[: RECIPE.latent_channels, :, 1, 1].detach()
    deviation = 1 / whiten.norm(dim=1)
    return deviation / deviation.mean()


def training_loss(
    model: nn.Module,
    latents: Tensor,
    clip: Tensor,
    scheduler: DDPMScheduler,
    weights: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Weighted mean squared error of the clean latents over the frames that are not given.

    The network predicts the clean clip: most of it stands in the given frame, at every noise level alike, and the
    straight path from input to output can copy it. A velocity would need that path scaled by the timestep, which only
    the normalised branches can do: trained so for ten minutes, this network left noise in every pixel. The weight is
    that of the velocity's error, 1 + SNR, clipped so that the last, nearly clean steps do not rule (as min-SNR does).
    """
    b, _, f = latents.shape[:3]
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    # Stratified over the batch: every batch sees the whole range of noise.
    u = (torch.arange(b) + torch.rand(b, generator=generator)) / b
    timestep = (u * 1000).long().clamp(max=999).to(latents.device)
    first = latents[:, :, 0]
    known = KnownFrames.first(first, f, first, fill="nearest")
    noisy = scheduler.add_noise(latents, noise, timestep)  # type: ignore[arg-type]
    prediction = model(known.network_input(noisy), timestep, clip, first)
    square = (prediction.float() - latents)[:, :, 1:].square().mean(dim=(2, 3, 4))  # (b, c)
    error = (square * weights).mean(dim=1)  # (b,)
    alphas_cumprod = scheduler.alphas_cumprod.to(latents.device)[timestep]
    return (error * (1 / (1 - alphas_cumprod)).clamp(max=MAX_WEIGHT)).mean()


def train_unet(
    paths: Paths, seconds: float, *, batch: int, lr: float, short_frames: int, short_part: float, ema_decay: float
) -> None:
    """Train for a time, resuming from the last checkpoint; saves EMA weights to `paths.unet`.

    Args:
        seconds: training time in all, that of earlier runs included; the learning rate's cosine ends with it.
        batch: whole clips a step; windows of `short_frames` come in as many as make up the same number of frames.
        short_part: part of the time spent on short windows alone, which show more figures and noise levels for the same
            arithmetic; from then on every second step is on whole clips.
    """
    accelerator = Accelerator(mixed_precision="bf16")
    torch.manual_seed(0)
    model = Conditioned()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    ema = EMAModel(model.parameters(), decay=ema_decay)
    ema.to(accelerator.device)
    model, optimizer = accelerator.prepare(model, optimizer)
    progress = Progress()
    accelerator.register_for_checkpointing(ema, progress)
    state = paths.unet / "state"
    if state.is_dir():
        accelerator.load_state(str(state))
        print(f"unet: resumed after {progress.seconds:.0f} s, step {progress.step}", flush=True)
    scheduler = build_scheduler()
    weights = channel_weights(paths).to(accelerator.device)
    windows = Windows(paths, seed=progress.step)
    generator = torch.Generator().manual_seed(progress.step)
    clock, running, saved, printed = time.monotonic(), [], progress.seconds, progress.seconds
    while progress.seconds < seconds:
        part = progress.seconds / seconds
        for group in optimizer.param_groups:
            warm = min(1.0, (progress.step + 1) / 200)
            group["lr"] = lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))
        whole = part >= short_part and progress.step % 2 == 0
        frames = RECIPE.frames if whole else short_frames
        latents, clip = windows.batch(batch * (RECIPE.frames // frames), frames)
        with accelerator.autocast():
            loss = training_loss(
                model, latents.to(accelerator.device), clip.to(accelerator.device), scheduler, weights, generator
            )
        optimizer.zero_grad()
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), 1.0)
        # oneDNN's bfloat16 weight gradient of a temporal convolution over two frames is now and then not a number
        # (torch 2.13, AVX-512); one such step would poison every weight.
        if torch.as_tensor(norm).isfinite():
            optimizer.step()
            ema.step(model.parameters())
            running.append(loss.item())
            progress.step += 1
        now = time.monotonic()
        progress.seconds, clock = progress.seconds + now - clock, now
        if progress.seconds - printed > 60:
            printed = progress.seconds
            mean = float(np.mean(running)) if running else math.nan
            progress.curve.append((progress.seconds, progress.step, mean))
            print(
                f"unet: {progress.seconds:6.0f} s, step {progress.step}, loss {mean:.4f}, {len(windows.names)} clips",
                flush=True,
            )
            running = []
            windows.refresh()
        if progress.seconds - saved > 300:
            saved = progress.seconds
            accelerator.save_state(str(state))
            save_averaged(accelerator.unwrap_model(model), ema, paths, progress)
    accelerator.save_state(str(state))
    save_averaged(accelerator.unwrap_model(model), ema, paths, progress)


def save_averaged(model: Conditioned, ema: EMAModel, paths: Paths, progress: Progress) -> None:
    """The EMA weights, each network in its own folder, and how far the run is."""
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    for name in ("unet", "adapter", "image_encoder"):
        getattr(model, name).save_pretrained(paths.unet / name)
    ema.restore(model.parameters())
    write_text(paths.unet / "progress.json", json.dumps(progress.state_dict()))


def pack(paths: Paths, target: Path) -> None:
    """Put the trained parts together as a model folder in half precision."""
    config = model_config(paths)
    for name, kind in (("unet", FashionFlowUNet), ("adapter", ImageContextAdapter), ("image_encoder", CLIPVisionModel)):
        kind.from_pretrained(paths.unet / name).half().save_pretrained(target / name)
    load_vae(paths).half().save_pretrained(target / "vae")
    build_scheduler().save_pretrained(target / "scheduler")
    build_processor().save_pretrained(target / "feature_extractor")
    write_text(target / "model.json", config.to_json())
    for file in target.rglob("*.safetensors"):
        file.chmod(0o644)  # both libraries write 0600, and a wheel would carry that on


def networks_of(paths: Paths) -> TorchNetworks:
    """The averaged networks of a run in progress, for previews."""
    return TorchNetworks(
        FashionFlowUNet.from_pretrained(paths.unet / "unet"),
        ImageContextAdapter.from_pretrained(paths.unet / "adapter"),
        load_vae(paths),
        CLIPVisionModel.from_pretrained(paths.unet / "image_encoder"),
    )
