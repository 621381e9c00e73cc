"""Training targets: which networks are trained, on what, with which loss."""

import warnings
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fashionflow_core.config import MODEL_FILE, ModelConfig
from fashionflow_core.dataset.cache import LatentCache
from fashionflow_core.diffusion.conditioning import clip_pixels, load_processor, tensor_to_frames
from fashionflow_core.diffusion.known_frames import KnownFrames, between_given
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, UsageError, command
from fashionflow_core.runtimes.preprocessing import denormalize_latents, from_vae_pixels
from fashionflow_core.runtimes.torch import TorchNetworks, load
from fashionflow_core.store.folder import INTERPOLATOR, NETWORKS
from fashionflow_core.training import build
from fashionflow_core.training.config import NoiseConfig, TrainConfig
from fashionflow_core.training.data import Batch, ClipExamples
from fashionflow_core.training.losses import add_noise, clip_losses, levels_of, target_of, timestep_weights
from fashionflow_core.training.schedules import noise_scheduler


class Target(Protocol):
    """Interface of a training target for the loop.

    Attributes:
        module: trained module, called through `forward`; frozen parameters do not require gradients.
        examples: data set that maps a draw to a batch of one clip.
        frames: frames per long window.
        model: model.json of the result.
        networks: networks for previews; None: no previews.
        processor: CLIP's image processor.
        scheduler: noise schedule, saved in the run folder for previews.
    """

    module: Any
    examples: Any
    frames: int
    model: ModelConfig
    networks: TorchNetworks
    processor: Any
    scheduler: Any

    def place(self, device: torch.device) -> None:
        """Move frozen parts to the device, and precompute what depends on it."""
        ...

    def prepare(self, batch: Any) -> Any:
        """Complete a batch on the device."""
        ...

    def losses(self, module: nn.Module, batch: Any) -> Tensor:
        """The loss of each clip of a micro-batch, (b,), through `module`, which wraps the target's own."""
        ...

    def noise_levels(self, batch: Any) -> Tensor | None:
        """The noise level of each clip, (b,) long below `NOISE_LEVELS`; None for targets without timesteps."""
        ...


class Conditioned(nn.Module):
    """U-Net, adapter and, if trained, image encoder as one module for optimizer, EMA and wrappers.

    Args:
        image_encoder: the image encoder; None: hidden states come from the cache.
        null: whether the context is zero (local conditioning) and the adapter is not called.
    """

    def __init__(self, unet: nn.Module, adapter: nn.Module, image_encoder: nn.Module | None, null: bool) -> None:
        super().__init__()
        self.unet, self.adapter, self.null = unet, adapter, null
        self.image_encoder = image_encoder

    def forward(self, network_input: Tensor, timestep: Tensor, clip: Tensor, latents: Tensor, keep: Tensor) -> Tensor:
        """(b, c_in, f, h, w), (b,), hidden states (b, n, d) or CLIP pixels, (b, c, h, w), (b,) → (b, c, f, h, w)."""
        hidden = clip if self.image_encoder is None else self.image_encoder(clip).last_hidden_state
        context = torch.zeros_like(hidden) if self.null else self.adapter(hidden, latents) * keep[:, None, None]
        return self.unet(network_input, timestep, context).sample


def open_cache(config: TrainConfig) -> LatentCache:
    """The training clips of a run.

    Raises:
        FashionFlowError: no cache, no such split, or no clips.
    """
    path = config.data.path
    cache = LatentCache(path)
    splits = {clip["split"] for clip in cache.index["clips"]}
    split = config.data.split or ("train" if "train" in splits else "all")
    if split != "all":
        if split not in splits:
            known = ", ".join(sorted(str(s) for s in splits if s)) or "none"
            raise FashionFlowError(f"{path}: no split {split!r}", hint=f"use one of: {known}; or data.split: all")
        cache = LatentCache(path, split)
    if not len(cache):
        raise FashionFlowError(f"{path}: contains no clips", hint=f"prepare some: {command('data prepare')}")
    return cache


class UNetTarget:
    """`Target` of unet, image_encoder and interpolator; `base` is the folder of the base model."""

    def __init__(self, config: TrainConfig, clips: LatentCache, base: Path, name: str) -> None:
        self.config = config
        of_base = ModelConfig.load(base)
        learns_image = config.train_image_encoder or config.target == "image_encoder"
        fills = config.target == "interpolator"
        # Cached hidden states are used only with a frozen image encoder and a context.
        clips.check(of_base, None if learns_image or fills else base)
        statistics = clips.statistics() if config.data.latent_statistics == "cache" else None
        self.model = build.model_config(config, of_base, name, statistics)
        self.scheduler = noise_scheduler(config.noise, base)
        self.prediction: str = self.scheduler.config.prediction_type
        self._check_prediction(noise_scheduler(NoiseConfig(), base).config.prediction_type)
        loaded = load(base, torch.device("cpu"), torch.float32)
        self.networks = build.start(config, loaded, self.model)
        self.processor = load_processor(base)
        adapter, encoder = self.networks.adapter, self.networks.image_encoder
        unet: Any = self.networks.interpolator if fills else self.networks.unet
        self.networks.vae.requires_grad_(False)
        unet.requires_grad_(config.target in ("unet", "interpolator"))
        adapter.requires_grad_(config.conditioning.kind != "local" and not config.lora.rank)
        encoder.requires_grad_(learns_image)
        build.prepare_learning(config, unet, encoder)
        null = config.conditioning.kind == "local"
        self.module = Conditioned(unet, adapter, encoder if learns_image else None, null)
        self.module.train()
        self.frames = config.data.frames or clips[0].latents_mean.shape[0]
        self._check_frames(clips)
        seen = self.processor if learns_image else None
        self.examples = ClipExamples(clips, config, self.model, seen, self.scheduler.config.num_train_timesteps)
        self.alphas_cumprod: Tensor = self.scheduler.alphas_cumprod
        self.channels: Tensor | None = None
        self.clips = clips

    def _check_prediction(self, of_base: str) -> None:
        if self.config.init_from and self.prediction != of_base:
            warnings.warn(
                f"noise.prediction: {self.prediction}, but the model of init_from predicts {of_base}: it must be "
                "trained again",
                FashionFlowWarning,
                stacklevel=2,
            )
        last = float(self.scheduler.alphas_cumprod[-1])
        if last == 0 and self.prediction == "epsilon":
            raise UsageError(
                "noise.zero_terminal_snr: the base model predicts noise; set noise.prediction: v_prediction or sample"
            )
        self.config.check_weighting(self.prediction)

    def _check_frames(self, clips: LatentCache) -> None:
        cached = clips[0].latents_mean.shape[0]
        for key, frames in (("data.frames", self.frames), ("data.short_frames", self.config.data.short_frames)):
            if frames > cached or frames % self.networks.frame_divisor:
                raise UsageError(
                    f"{key}: windows of {frames} frames are longer than cached clips of {cached}: "
                    f"use an even number up to that"
                )
        if self.config.data.short_frames > self.frames:
            raise UsageError(
                f"data.short_frames: {self.config.data.short_frames} exceed the {self.frames} of whole windows"
            )

    def place(self, device: torch.device) -> None:
        self.alphas_cumprod = self.alphas_cumprod.to(device)
        for network in (self.networks.vae, self.networks.image_encoder):
            torch.nn.Module.to(network, device)
        if self.config.loss.channel_weights != "none":
            some = [self.clips[i].latents_mean[:1].float() for i in range(min(4, len(self.clips)))]
            power = 2 if self.config.loss.channel_weights == "pixels" else 1
            latents = torch.cat(some).to(device)
            self.channels = channel_energy(self.networks.vae, latents, self.model.latents_std, power)

    @torch.no_grad()
    def prepare(self, batch: Batch) -> Batch:
        """Decode the photo of a window that begins inside a cached clip from its first latents."""
        inside = batch.at_start == 0
        if self.module.image_encoder is not None and bool(inside.any()):
            vae: Any = self.networks.vae
            decoded = vae.decode(denormalize_latents(batch.photo_latents[inside], self.model), return_dict=False)[0]
            photos = tensor_to_frames(from_vae_pixels(decoded.float(), self.model))
            pixels = batch.clip_pixels.clone()
            pixels[inside] = clip_pixels(photos, self.processor, self.model).to(pixels)
            batch.clip_pixels = pixels
        return batch

    def losses(self, module: nn.Module, batch: Batch) -> Tensor:
        abar = self.alphas_cumprod[batch.timestep]  # (b,)
        content = {"none": None, "rgb": batch.rgb, "latents": batch.latents}[self.model.known_content]
        known = KnownFrames.from_clip(batch.latents, batch.given, content, self.model.mask_fill)
        noisy = add_noise(batch.latents, batch.noise, abar)
        clip = batch.clip_hidden_states if self.module.image_encoder is None else batch.clip_pixels
        if self.config.target == "interpolator":
            shown, timestep = known.interpolator_input(), torch.zeros_like(batch.timestep)
            target = batch.latents - known.mixed(known.latents)
            uncounted = (between_given(batch.given)[2] == 0).to(batch.given)  # includes frames after the last given one
        else:
            shown, timestep = known.network_input(noisy), batch.timestep
            target, uncounted = target_of(batch.latents, batch.noise, abar, self.prediction), batch.given
        prediction = module(shown, timestep, clip, batch.photo_latents, batch.keep)
        weights = timestep_weights(abar, self.prediction, self.config.loss)
        return clip_losses(prediction, target, uncounted, weights, self.channels, self.config.loss)

    def noise_levels(self, batch: Batch) -> Tensor | None:
        return None if self.config.target == "interpolator" else levels_of(batch.timestep, len(self.alphas_cumprod))


@torch.no_grad()
def channel_energy(vae: Any, latents: Tensor, std: tuple[float, ...], power: int = 1) -> Tensor:
    """Loss weight of each latent channel, (c), mean 1: effect of its deviation on the decoded image.

    With whitened latents a squared error weighs all channels equally, but a channel with a hundredth of the image's
    energy should not take as much of a small network's capacity as one with half of it. For a PCA as VAE the weight is
    the deviation of the component.

    Args:
        latents: latents of the VAE before normalisation, (n, c, h, w).
        std: standard deviation of each channel.
        power: exponent of the effect; 2 for the share of the squared error.
    """
    decoded = vae.decode(latents, return_dict=False)[0]
    moved = []
    for channel, deviation in enumerate(std):
        step = torch.zeros_like(latents)
        step[:, channel] = deviation
        moved.append((vae.decode(latents + step, return_dict=False)[0] - decoded).square().mean().sqrt())
    energy = torch.stack(moved) ** power
    return energy / energy.mean()


def write_model(target: Target, folder: Path, dtype: torch.dtype, parts: tuple[str, ...] = NETWORKS) -> None:
    """All parts of a model folder, with the current weights."""
    for name in (*parts, *([INTERPOLATOR] if target.model.interpolator else [])):
        build.unwrapped_copy(getattr(target.networks, name)).to("cpu", dtype).save_pretrained(folder / name)
    target.scheduler.save_pretrained(folder / "scheduler")
    target.processor.save_pretrained(folder / "feature_extractor")
    (folder / MODEL_FILE).write_text(target.model.to_json(), encoding="utf-8")
