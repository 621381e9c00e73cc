"""What a training run is told: one frozen dataclass, validated once. `settings` reads it, `presets` fills it.

Nothing heavy is imported here: the command line checks settings before it imports torch.
"""

import dataclasses
import math
from dataclasses import dataclass

from fashionflow_core.config import CONDITIONING, KNOWN_CONTENT, MASK_FILLS, SCHEDULERS
from fashionflow_core.errors import UsageError

_OF_BASE = ("",)  # an empty value: as the base model has it
CHOICES: dict[str, tuple[str, ...]] = {
    "target": ("unet", "image_encoder", "interpolator", "vae"),
    "betas": (*_OF_BASE, "squared_cosine", "shifted_cosine", "published", "linear"),
    "prediction": (*_OF_BASE, "epsilon", "sample", "v_prediction"),
    "timesteps": ("uniform", "stratified"),
    "weighting": ("none", "min_snr", "velocity"),
    "frame_loss": ("mean", "sum"),
    "given_target": ("zero", "ignore"),
    "channel_weights": ("none", "energy", "pixels"),
    "conditioning": CONDITIONING,
    "known_content": (*_OF_BASE, *KNOWN_CONTENT),
    "latent_statistics": ("base", "cache"),
    "mask_fill": (*_OF_BASE, *MASK_FILLS),
    "sampler": (*_OF_BASE, *SCHEDULERS),
    "lr_schedule": ("constant", "cosine"),
    "save_dtype": ("fp32", "bf16", "fp16"),
    "vae_train": ("decoder", "all"),
}
_ABOVE_ZERO = (
    *("batch_size", "lr", "keep_checkpoints", "log_every", "noise_shift", "train_timesteps", "min_snr_gamma"),
    *("max_weight", "lora_alpha", "extend_frames", "vae_crop", "vae_frames_per_clip"),
)
_SHARES = (
    *("context_dropout", "mask_generate", "mask_interpolate", "mask_extend", "reverse", "short_part", "ema_decay"),
    "lr_final",
)


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Every field is a key of the YAML file and of `--set`; docs/training.md says more of each.

    Attributes:
        name, purpose: of the result in its model.json; empty: the run folder's name, and a line that says so.
        target: what learns: unet (with its adapter), image_encoder (with the adapter, the U-Net frozen), interpolator
            (a U-Net beside the other for the frames between given ones, which changes nothing else), vae.
        data: the cache of `fashionflow data prepare`; for the target vae a folder of videos.
        split: only clips of this split of the cache; empty: train where there is one, else all; all: all.
        base: the model that gives VAE, image encoder and conventions; a name or a folder.
        init_from: also start from this model's U-Net and adapter; empty: from random weights.
        seed: with the step it fixes all randomness.
        max_steps, max_epochs, max_minutes: where to stop, whichever comes first; 0: no such limit.
        batch_size: clips a step, over all processes and micro-batches together.
        micro_batch_size: clips at once on one device, gradients of the others are accumulated; 0: all of them.
        frames: length of the windows cut from cached clips; 0: the whole cached clip.
        short_frames, short_part: windows of `short_frames` for this part of the run, as many as make up the same
            number of frames; from then on every second step is on windows of `frames`. 0: none.
        reverse: share of windows that run backwards.
        workers: processes that read the cache; 0: the training process itself.
        train_timesteps, betas, noise_shift, zero_terminal_snr: the noise schedule; `noise_shift` of shifted_cosine.
        prediction: what the network predicts.
        timesteps: uniform, or stratified over the clips of a step.
        weighting, min_snr_gamma, max_weight: of the loss by timestep; velocity is 1 + SNR up to `max_weight`.
        frame_loss: mean, or the sum over frames (paper).
        given_target: zero (paper), or ignore given frames in the loss.
        channel_weights: energy weighs each latent channel by how far it moves the decoded picture, pixels by the
            square of that: as its error counts in PSNR.
        conditioning: both, local (the context is null), global (no frame is given).
        context_dropout: share of clips whose context is null.
        mask_generate, mask_interpolate, mask_extend: shares of clips in which the first frame, every n-th frame, or
            the first k frames (the last of the clip before) are given.
        interpolate_strides, extend_frames: the n, and the largest k.
        known_content, mask_fill: the extra input channels, as in model.json.
        latent_statistics: mean and deviation that latents are normalised by: the base model's, or the cache's own.
        sample_posterior: draw fresh samples of the VAE's posterior instead of its mean.
        train_image_encoder: the image encoder learns with the U-Net, from the photo itself.
        unet_widths, unet_heads, unet_head_dim, unet_cross_heads, unet_time_dim: of a U-Net from random weights,
            outermost level first; empty or 0: as the base model's.
        lora_rank, lora_alpha, lora_targets: train a LoRA of this rank instead of the weights; 0: no LoRA.
        lr, lr_schedule, lr_final, warmup_steps: learning rate; a cosine falls to `lr_final` of it.
        adam_betas, weight_decay: of AdamW.
        max_grad_norm: gradients are clipped to it; 0: not clipped.
        max_skipped_steps: steps in a row that may be skipped for gradients that are not numbers.
        ema_decay: of the averaged weights, which are what is saved; 0: the weights themselves are saved.
        gradient_checkpointing: compute activations twice instead of keeping them.
        sampler, sampler_steps, sampler_log_snr: what model.json says of sampling; empty or 0: as the base model's.
        save_dtype: of the saved model.
        checkpoint_minutes, checkpoint_steps, keep_checkpoints: when to save, and how many to keep; 0: not by this.
        log_every: steps between two lines of the log.
        tensorboard: also write TensorBoard's events.
        preview_every, preview_photos, preview_count, preview_seed, preview_steps: a video of each photo every so many
            steps; without photos, of the first frames of the first cached clips. 0: none.
        vae_train, vae_clips, vae_frames_per_clip, vae_crop, vae_noise, vae_kl: of the target vae.
    """

    name: str = ""
    purpose: str = ""
    target: str = "unet"
    data: str = ""
    split: str = ""
    base: str = "mini"
    init_from: str = ""
    seed: int = 0
    max_steps: int = 0
    max_epochs: float = 0.0
    max_minutes: float = 0.0
    batch_size: int = 1
    micro_batch_size: int = 0
    frames: int = 0
    short_frames: int = 0
    short_part: float = 0.0
    reverse: float = 0.0
    workers: int = 0
    train_timesteps: int = 1000
    betas: str = ""
    noise_shift: float = 0.3
    zero_terminal_snr: bool = False
    prediction: str = ""
    timesteps: str = "uniform"
    weighting: str = "none"
    min_snr_gamma: float = 5.0
    max_weight: float = 5.0
    frame_loss: str = "mean"
    given_target: str = "ignore"
    channel_weights: str = "none"
    conditioning: str = "both"
    context_dropout: float = 0.0
    mask_generate: float = 1.0
    mask_interpolate: float = 0.0
    mask_extend: float = 0.0
    interpolate_strides: tuple[int, ...] = (2,)
    extend_frames: int = 8
    known_content: str = ""
    mask_fill: str = ""
    sample_posterior: bool = True
    latent_statistics: str = "base"
    train_image_encoder: bool = False
    unet_widths: tuple[int, ...] = ()
    unet_heads: int = 0
    unet_head_dim: int = 0
    unet_cross_heads: tuple[int, ...] = ()
    unet_time_dim: int = 0
    lora_rank: int = 0
    lora_alpha: float = 16.0
    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out", "to_qkv")
    lr: float = 1e-4
    lr_schedule: str = "constant"
    lr_final: float = 0.01
    warmup_steps: int = 0
    adam_betas: tuple[float, ...] = (0.9, 0.999)
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    max_skipped_steps: int = 10
    ema_decay: float = 0.9999
    gradient_checkpointing: bool = False
    sampler: str = ""
    sampler_steps: int = 0
    sampler_log_snr: tuple[float, ...] = ()
    save_dtype: str = "fp32"
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int = 0
    keep_checkpoints: int = 3
    log_every: int = 10
    tensorboard: bool = True
    preview_every: int = 0
    preview_photos: tuple[str, ...] = ()
    preview_count: int = 2
    preview_seed: int = 0
    preview_steps: int = 0
    vae_train: str = "decoder"
    vae_clips: int = 400
    vae_frames_per_clip: int = 8
    vae_crop: int = 160
    vae_noise: float = 0.15
    vae_kl: float = 1e-6

    def __post_init__(self) -> None:
        for key, allowed in CHOICES.items():
            if getattr(self, key) not in allowed:
                shown = ", ".join(choice or '"" (as the base model)' for choice in allowed)
                raise UsageError(f"{key}: {getattr(self, key)!r} is not possible", hint=f"choose one of: {shown}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            for number in numbers:
                if isinstance(number, int | float) and not math.isfinite(number):
                    raise UsageError(f"{field.name}: {number} is no finite number")
                negative = isinstance(number, int | float) and number < 0
                if negative and field.name != "sampler_log_snr":
                    raise UsageError(f"{field.name}: must not be below 0, not {number}")
        for key in _ABOVE_ZERO:
            if not getattr(self, key) > 0:
                raise UsageError(f"{key}: must be above 0, not {getattr(self, key)}")
        for key in _SHARES:
            if getattr(self, key) > 1:
                raise UsageError(f"{key}: must be from 0 to 1, not {getattr(self, key)}")
        if len(self.adam_betas) != 2 or not all(beta < 1 for beta in self.adam_betas):
            raise UsageError(f"adam_betas: must be two numbers below 1, not {self.adam_betas}")
        if not (self.max_steps or self.max_epochs or self.max_minutes):
            raise UsageError("max_steps, max_epochs, max_minutes: one of them must be above 0, or training never ends")
        self._check_objective()

    def _check_objective(self) -> None:
        masks = self.mask_generate + self.mask_interpolate + self.mask_extend
        if abs(masks - 1) > 1e-6:
            raise UsageError(f"mask_generate, mask_interpolate, mask_extend: must add up to 1, not {masks:g}")
        if self.conditioning == "global" and self.mask_generate != 1:
            raise UsageError("conditioning: global gives no frame, so mask_generate must be 1")
        if self.conditioning == "local" and (self.context_dropout or self.train_image_encoder):
            raise UsageError("conditioning: local has no context, so it goes without context_dropout and image encoder")
        if self.conditioning == "local" and self.target == "image_encoder":
            raise UsageError("target: image_encoder learns through the context, which conditioning local leaves out")
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise UsageError(
                "zero_terminal_snr: at the last timestep there is nothing but noise, from which noise teaches nothing",
                hint="set prediction: v_prediction (or sample)",
            )
        if self.weighting == "velocity" and self.prediction not in ("", "sample"):
            raise UsageError("weighting: velocity weighs the error of a predicted clip: set prediction: sample")
        if any(stride < 2 for stride in self.interpolate_strides) or not self.interpolate_strides:
            raise UsageError(f"interpolate_strides: must be numbers from 2 on, not {self.interpolate_strides}")
        for key in ("frames", "short_frames"):
            if getattr(self, key) % 2:
                raise UsageError(f"{key}: the U-Net halves the frames, so {getattr(self, key)} must be even")
        if self.lora_rank and (self.train_image_encoder or self.target != "unet"):
            raise UsageError("lora_rank: a LoRA is of the U-Net alone: set target: unet, train_image_encoder: false")
        if self.target == "interpolator" and (self.conditioning != "local" or self.mask_interpolate != 1):
            raise UsageError(
                "target: an interpolator sees given frames and nothing else: set conditioning: local, "
                "mask_interpolate: 1, mask_generate: 0, mask_extend: 0"
            )
        if self.target == "interpolator" and (self.preview_every or not self.init_from):
            raise UsageError("target: an interpolator starts from the U-Net of init_from, and goes without previews")
        if self.lora_rank and not self.init_from:
            raise UsageError("lora_rank: a LoRA changes a trained model: set init_from to it")
        if self.latent_statistics == "cache" and self.init_from:
            raise UsageError("latent_statistics: weights of init_from rest on their own, so it must be base")


# What a resumed run may be told anew: what its path does not depend on, the end of it, and two that save a run that
# went astray.
CHANGEABLE = frozenset(
    (
        *("max_steps", "max_epochs", "max_minutes", "micro_batch_size", "workers", "gradient_checkpointing"),
        *("max_skipped_steps", "save_dtype", "checkpoint_minutes", "checkpoint_steps", "keep_checkpoints"),
        *("lr", "max_grad_norm", "name", "purpose", "log_every", "tensorboard", "preview_every", "preview_photos"),
        *("preview_count", "preview_seed", "preview_steps", "sampler", "sampler_steps", "sampler_log_snr"),
        *("data", "base", "init_from"),  # folders move
    )
)
