"""Training settings as frozen dataclasses.

Nothing heavy is imported here: the command line checks settings before it imports torch.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from fashionflow_core.config import CONDITIONING, KNOWN_CONTENT, MASK_FILLS, SCHEDULERS
from fashionflow_core.errors import UsageError, command

_OF_BASE = ("",)  # an empty value: that of the base model
CHOICES: dict[str, tuple[str, ...]] = {
    "target": ("unet", "image_encoder", "interpolator", "vae", "motion"),
    "save_dtype": ("fp32", "bf16", "fp16"),
    "data.latent_statistics": ("base", "cache"),
    "conditioning.kind": CONDITIONING,
    "conditioning.known_content": (*_OF_BASE, *KNOWN_CONTENT),
    "conditioning.mask_fill": (*_OF_BASE, *MASK_FILLS),
    "noise.betas": (*_OF_BASE, "squared_cosine", "shifted_cosine", "published", "linear", "linear_log_snr"),
    "noise.prediction": (*_OF_BASE, "epsilon", "sample", "v_prediction"),
    "noise.timesteps": ("uniform", "stratified"),
    "loss.weighting": ("none", "min_snr", "velocity"),
    "loss.frame_loss": ("mean", "sum"),
    "loss.given_target": ("zero", "ignore"),
    "loss.channel_weights": ("none", "energy", "pixels"),
    "schedule.lr_schedule": ("constant", "cosine"),
    "sampler.name": (*_OF_BASE, *SCHEDULERS),
    "vae.train": ("decoder", "all"),
}
_ABOVE_ZERO = (
    *("data.batch_size", "optimizer.lr", "checkpoints.keep", "log.every", "noise.shift", "noise.train_timesteps"),
    *("loss.min_snr_gamma", "loss.max_weight", "lora.alpha", "masks.extend_frames", "vae.crop", "vae.frames_per_clip"),
)
_SHARES = (
    *("conditioning.context_dropout", "masks.generate", "masks.interpolate", "masks.extend", "masks.loop"),
    *("data.reverse", "data.short_part", "optimizer.ema_decay", "schedule.lr_final"),
)


@dataclass(frozen=True)
class DataConfig:
    """Training clips and windows cut from them."""

    path: str = ""  # a cache of clips; target vae: a folder of videos; target motion: a folder of motion clips
    split: str = ""  # split of the cache to use; empty: train if there is one, else all; all: every clip
    workers: int = 0  # processes that read the cache; 0: none, read in the training process
    batch_size: int = 1  # clips per step, over all processes and micro-batches
    micro_batch_size: int = 0  # clips per forward pass on one device (gradients accumulate); 0: all of the step
    frames: int = 0  # frames per window; 0: the whole cached clip
    # Use windows of `short_frames` for this part of the run, as many as have the same total of frames; then every
    # second step uses windows of `frames`. 0: none.
    short_frames: int = 0
    short_part: float = 0.0  # share of the run with `short_frames`
    reverse: float = 0.0  # share of windows in reverse order
    latent_statistics: str = "base"  # mean and deviation that normalise latents: of the base model or the cache
    sample_posterior: bool = True  # sample the VAE's posterior instead of using its mean
    motion_augment: bool = True  # motion models: vary mirror, colours and mattes of the clips


@dataclass(frozen=True)
class ConditioningConfig:
    """Conditioning of the network."""

    kind: str = "both"  # both, local (null context), global (no given frame)
    context_dropout: float = 0.0  # share of clips with null context
    known_content: str = ""  # the extra input channels, as in model.json
    mask_fill: str = ""  # content of those channels in frames that are not given, as in model.json


@dataclass(frozen=True)
class MasksConfig:
    """Shares of clips by their given frames."""

    generate: float = 1.0  # the first frame
    interpolate: float = 0.0  # every n-th frame, n one of `interpolate_strides`
    extend: float = 0.0  # the first k frames, at most `extend_frames`: the last of the previous clip
    loop: float = 0.0  # motion models: the first and the last keyframe
    interpolate_strides: tuple[int, ...] = (2,)  # candidates for n of `interpolate`
    extend_frames: int = 8  # largest k of `extend`


@dataclass(frozen=True)
class NoiseConfig:
    """Noise schedule and prediction type."""

    betas: str = ""  # noise schedule; empty: as the base model
    shift: float = 0.3  # shift of shifted_cosine
    train_timesteps: int = 1000  # number of timesteps of the schedule
    zero_terminal_snr: bool = False  # the last timestep is pure noise
    prediction: str = ""  # epsilon, sample or v_prediction; empty: as the base model
    timesteps: str = "uniform"  # or stratified over the clips of a step


@dataclass(frozen=True)
class LossConfig:
    """Loss weights."""

    weighting: str = "none"  # weight by timestep; velocity: 1 + SNR up to `max_weight`
    min_snr_gamma: float = 5.0  # gamma of min_snr (2303.09556)
    max_weight: float = 5.0  # upper limit of the weight of velocity
    frame_loss: str = "mean"  # or the sum over frames (paper)
    given_target: str = "ignore"  # ignore: given frames have no loss; zero: their target is zero (paper)
    channel_weights: str = "none"  # energy: by a channel's effect on the decoded image; pixels: by its square


@dataclass(frozen=True)
class UNetConfig:
    """U-Net architecture, outermost level first; empty or 0: that of the base model."""

    widths: tuple[int, ...] = ()  # channels per level
    heads: int = 0  # heads of self-attention
    head_dim: int = 0  # channels per head
    cross_heads: tuple[int, ...] = ()  # heads of cross-attention per level
    time_dim: int = 0  # channels of the timestep embedding
    gradient_checkpointing: bool = False  # recompute activations instead of storing them


@dataclass(frozen=True)
class LoRAConfig:
    """LoRA, trained instead of the weights."""

    rank: int = 0  # 0: no LoRA
    alpha: float = 16.0  # scale; the update is multiplied by alpha / rank
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out", "to_qkv")  # projections that get a LoRA


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and averaged weights."""

    lr: float = 1e-4  # learning rate
    adam_betas: tuple[float, ...] = (0.9, 0.999)  # decay of the moment estimates
    weight_decay: float = 0.01  # decoupled weight decay
    max_grad_norm: float = 1.0  # gradient clipping; 0: none
    max_skipped_steps: int = 10  # consecutive steps with gradients that are not finite
    ema_decay: float = 0.9999  # decay of the averaged weights, which are saved; 0: save the weights themselves


@dataclass(frozen=True)
class ScheduleConfig:
    """End of the run, at the first limit reached (0: no limit), and learning-rate schedule."""

    max_steps: int = 0  # optimizer steps
    max_epochs: float = 0.0  # passes over the cached clips
    max_minutes: float = 0.0  # wall time
    lr_schedule: str = "constant"  # or a cosine that falls to `lr_final` of the learning rate
    lr_final: float = 0.01  # final learning rate of the cosine, relative to `lr`
    warmup_steps: int = 0  # linear warm-up of the learning rate


@dataclass(frozen=True)
class SamplerConfig:
    """Sampling settings for model.json; empty or 0: those of the base model."""

    name: str = ""  # scheduler
    steps: int = 0  # denoising steps
    log_snr: tuple[float, ...] = ()  # range of log-SNR over which steps are spaced evenly


@dataclass(frozen=True)
class CheckpointsConfig:
    """Interval between checkpoints (0: off), and number of checkpoints to keep."""

    minutes: float = 10.0  # save every N minutes
    steps: int = 0  # save every N steps
    keep: int = 3  # number of checkpoints kept


@dataclass(frozen=True)
class LogConfig:
    """Interval of log lines in steps, and TensorBoard events."""

    every: int = 10  # steps per log line
    tensorboard: bool = True  # also write TensorBoard events


@dataclass(frozen=True)
class PreviewsConfig:
    """Preview videos of photos every N steps (0: none); without photos, of first frames of cached clips."""

    every: int = 0  # steps between previews; 0: none
    photos: tuple[str, ...] = ()  # photo files
    count: int = 2  # number of cached clips used without `photos`
    seed: int = 0  # seed of every preview
    steps: int = 0  # denoising steps; 0: as the model


@dataclass(frozen=True)
class VAEConfig:
    """Training of the target vae; docs/guides/training.md, "The VAE"."""

    train: str = "decoder"  # decoder, or all (encoder too)
    clips: int = 400  # number of videos held in memory
    frames_per_clip: int = 8  # frames taken from each
    crop: int = 160  # side of the training crops, pixels
    noise: float = 0.15  # deviation of the noise added to latents
    kl: float = 1e-6  # weight of the KL divergence to the prior, of all


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Fields and groups are the keys of its YAML file; docs/guides/training.md describes each.

    Attributes:
        name, purpose: fields of the result's model.json; empty: the run folder's name, and a default text.
        target: trained networks: unet (with its adapter), image_encoder (with the adapter, the U-Net frozen),
            interpolator (a second U-Net for frames between given ones; the rest is unchanged), vae, motion (U-Net,
            adapter and image encoder of a motion model).
        train_image_encoder: whether the image encoder is trained with the U-Net, from photos.
        base: model that provides VAE, image encoder and conventions; a name or a folder.
        init_from: model whose U-Net and adapter are the initial weights; empty: random weights.
        seed: random seed; (seed, step) determines all randomness.
        save_dtype: dtype of the saved model.
    """

    name: str = ""
    purpose: str = ""
    target: str = "unet"
    train_image_encoder: bool = False
    base: str = "mini-latent"
    init_from: str = ""
    seed: int = 0
    save_dtype: str = "fp32"
    data: DataConfig = DataConfig()
    conditioning: ConditioningConfig = ConditioningConfig()
    masks: MasksConfig = MasksConfig()
    noise: NoiseConfig = NoiseConfig()
    loss: LossConfig = LossConfig()
    unet: UNetConfig = UNetConfig()
    lora: LoRAConfig = LoRAConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    sampler: SamplerConfig = SamplerConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    log: LogConfig = LogConfig()
    previews: PreviewsConfig = PreviewsConfig()
    vae: VAEConfig = VAEConfig()

    def __post_init__(self) -> None:
        values = self.values()
        for key, allowed in CHOICES.items():
            if values[key] not in allowed:
                shown = ", ".join(choice or '"" (as the base model)' for choice in allowed)
                raise UsageError(f"{key}: invalid value {values[key]!r}", hint=f"choose one of: {shown}")
        for key, value in values.items():
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and not math.isfinite(number):
                    raise UsageError(f"{key}: not a finite number: {number}")
                if isinstance(number, int | float) and number < 0 and key != "sampler.log_snr":
                    raise UsageError(f"{key}: must not be below 0, not {number}")
        for key in _ABOVE_ZERO:
            if not values[key] > 0:
                raise UsageError(f"{key}: must be above 0, not {values[key]}")
        for key in _SHARES:
            if values[key] > 1:
                raise UsageError(f"{key}: must be from 0 to 1, not {values[key]}")
        betas, schedule = self.optimizer.adam_betas, self.schedule
        if len(betas) != 2 or not all(beta < 1 for beta in betas):
            raise UsageError(f"optimizer.adam_betas: must be two numbers below 1, not {betas}")
        if not (schedule.max_steps or schedule.max_epochs or schedule.max_minutes):
            raise UsageError("schedule.max_steps, max_epochs, max_minutes: one of them must be above 0")
        self._check_objective()

    def values(self) -> dict[str, Any]:
        """All settings by name: `seed`, `optimizer.lr`."""
        return {name: self.value(name) for name in FIELDS}

    def value(self, name: str) -> Any:
        """The setting of this name."""
        group, _, key = name.rpartition(".")
        return getattr(getattr(self, group) if group else self, key)

    def _check_objective(self) -> None:
        masks, conditioning = self.masks, self.conditioning
        total = masks.generate + masks.interpolate + masks.extend + masks.loop
        if abs(total - 1) > 1e-6:
            raise UsageError(f"masks.generate, masks.interpolate, masks.extend: must add up to 1, not {total:g}")
        self._check_motion()
        if conditioning.kind == "global" and masks.generate != 1:
            raise UsageError("conditioning.kind: global has no given frames, so masks.generate must be 1")
        if conditioning.kind == "local" and (conditioning.context_dropout or self.train_image_encoder):
            raise UsageError("conditioning.kind: local has no context: omit context_dropout and train_image_encoder")
        if conditioning.kind == "local" and self.target == "image_encoder":
            raise UsageError("target: image_encoder is trained through the context, which conditioning local omits")
        if self.noise.zero_terminal_snr and self.noise.prediction == "epsilon":
            raise UsageError(
                "noise.zero_terminal_snr: the last timestep is pure noise, where predicting noise trains nothing",
                hint="set noise.prediction: v_prediction (or sample)",
            )
        if self.noise.prediction:
            self.check_weighting(self.noise.prediction)
        if any(stride < 2 for stride in masks.interpolate_strides) or not masks.interpolate_strides:
            raise UsageError(f"masks.interpolate_strides: must be numbers from 2 on, not {masks.interpolate_strides}")
        for key in ("data.frames", "data.short_frames"):
            if self.value(key) % 2:
                raise UsageError(f"{key}: must be even (the U-Net halves the frames), not {self.value(key)}")
        if self.lora.rank and self.target != "motion" and (self.train_image_encoder or self.target != "unet"):
            raise UsageError("lora.rank: LoRA is for the U-Net only: set target: unet, train_image_encoder: false")
        if self.target == "interpolator" and (conditioning.kind != "local" or masks.interpolate != 1):
            raise UsageError(
                "target: an interpolator is conditioned on given frames only: set conditioning.kind: local, "
                "masks.interpolate: 1, masks.generate: 0, masks.extend: 0"
            )
        if self.target == "interpolator" and (self.previews.every or not self.init_from):
            raise UsageError("target: an interpolator needs init_from, and previews must be off")
        if self.lora.rank and not self.init_from:
            raise UsageError("lora.rank: a LoRA needs a trained model: set init_from")
        if self.data.latent_statistics == "cache" and self.init_from:
            raise UsageError("data.latent_statistics: must be base with init_from")

    def _check_motion(self) -> None:
        if self.target != "motion":
            if self.masks.loop:
                raise UsageError("masks.loop: only for motion models: set preset: mini-motion")
            return
        if self.masks.interpolate or self.conditioning.kind != "both":
            raise UsageError("target: a motion model needs conditioning both, without masks.interpolate")
        if self.previews.every:
            raise UsageError(f"previews.every: a motion model has no previews: use {command('generate')} on its model/")
        if self.data.short_frames or self.data.reverse:
            raise UsageError("data.short_frames, data.reverse: not for motion models, whose windows begin at the photo")

    def check_weighting(self, prediction: str) -> None:
        """Reject a weighting that does not match the prediction type.

        Raises:
            UsageError: velocity with another prediction than sample.
        """
        if self.loss.weighting == "velocity" and prediction != "sample":
            raise UsageError("loss.weighting: velocity is for predicted samples: set noise.prediction: sample")


GROUPS: dict[str, Any] = {f.name: f.type for f in dataclasses.fields(TrainConfig) if dataclasses.is_dataclass(f.type)}
# Type of every setting, by `field` or `group.field`.
FIELDS: dict[str, Any] = {f.name: f.type for f in dataclasses.fields(TrainConfig) if f.name not in GROUPS} | {
    f"{group}.{f.name}": f.type for group, kind in GROUPS.items() for f in dataclasses.fields(kind)
}
# Settings and groups that a resumed run may change: those that its path does not depend on, its end, and two that
# rescue a diverging run.
CHANGEABLE = frozenset(
    (
        *("schedule.max_steps", "schedule.max_epochs", "schedule.max_minutes", "data.micro_batch_size", "data.workers"),
        *("unet.gradient_checkpointing", "save_dtype", "checkpoints", "log", "previews", "sampler", "name", "purpose"),
        *("optimizer.lr", "optimizer.max_grad_norm", "optimizer.max_skipped_steps"),
        *("data.path", "base", "init_from"),  # folders may be moved
    )
)
