"""Settings as frozen dataclasses, validated once: what a model's weights depend on, and what one generation asks for.

`ModelConfig` is `model.json` of a model folder. `GenerateSettings` is one request; a field left at None takes the
model's value, so the order is flag > environment > model > default.
"""

import dataclasses
import json
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Self

from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.json_file import build, read_object

FIT_MODES = ("pad", "crop", "stretch")
RESAMPLING = ("bilinear", "bicubic", "lanczos")
PIXEL_RANGES = ("zero_one", "minus_one_one")
KNOWN_CONTENT = ("none", "rgb", "latents")
MASK_FILLS = ("zero", "nearest", "linear")
MODES = ("generate", "interpolate", "extend")
CONDITIONING = ("both", "local", "global")
INTERPOLATION = (1, 2, 4)
SCHEDULERS = ("ddpm", "ddim", "dpm++", "dpm++-sde", "unipc", "euler", "lcm")
VIDEO_SUFFIXES = (".mp4", ".webm", ".gif", ".webp")
CODECS = ("h264", "hevc", "av1", "vp9")
MODEL_FILE = "model.json"


def _one_of(where: str, field: str, value: str, allowed: tuple[str, ...], error: type[FashionFlowError]) -> None:
    if value not in allowed:
        raise error(f"{where}: {field} is {value!r}", hint=f"choose one of: {', '.join(allowed)}")


@dataclass(frozen=True)
class ModelConfig:
    """Conventions that a model's weights depend on (reference README, "Conventions of the published inference").

    Attributes:
        name: what the model is called.
        purpose: one line, printed at every run: what the model is for and what it is not.
        height, width: native frame size in pixels; the adapter ties the weights to it.
        frames, fps: frames of a clip and frames per second.
        fit, resample: how a photo is brought to the frame size.
        vae_range: range of the pixels the VAE reads and writes: [0, 1] (published) or [-1, 1] (Stable Diffusion's own).
        vae_patch_size: side of the pixel block folded into channels before the VAE (1: none).
        vae_sample: draw the latent from the posterior (published) instead of taking its mean.
        latents_mean, latents_std: per latent channel; latents = (vae latents - mean) / std.
        clip_rescale_twice: divide pixels by 255 twice before CLIP, as the published inference does.
        known_content: extra input channels that hold given frames: none, their RGB at latent resolution (paper 3.3), or
            their latents; each comes with one mask channel.
        mask_fill: what those channels hold in frames that are not given: zeros (paper), the nearest given frame, or the
            linear mixture of the given frames before and after.
        scheduler, steps: default sampler and number of denoising steps.
        log_snr: steps are spaced evenly in log(signal-to-noise) between these two, lowest first; empty: as `scheduler/`
            says.
        modes: what the model was trained for: generate, interpolate, extend.
        interpolate_strides: for the mode interpolate: every how many-th frame was given (paper 3.3: every second).
        interpolate_scheduler, interpolate_steps: how frames in between are sampled by default; empty and 0: as others.
        interpolate_mixture: share of the linear mixture of given frames in the frames between them. A small network
            errs about as far as the mixture does, and elsewhere: the mean of both is nearer than either. Measured.
        interpolator: whether frames in between have a U-Net of their own, `interpolator/`. It sees the given latents
            before and after each frame, and says in one call what the clip has beyond their linear mixture: one that
            says zero blends. Sampling settings are then the other U-Net's alone.
        conditioning: which conditioning it was trained for, its default first: both, local (the pinned first frame; the
            context is null), global (the context; no frame is pinned). Paper 4.3, table 2.
        context_dropout: share of training clips whose context was null; guidance needs it above 0.
        distilled: whether it was trained to jump to the clean clip in one step, as the scheduler lcm expects.
    """

    name: str
    purpose: str
    height: int
    width: int
    frames: int
    fps: float
    latents_mean: tuple[float, ...]
    latents_std: tuple[float, ...]
    fit: str = "pad"
    resample: str = "lanczos"
    vae_range: str = "minus_one_one"
    vae_patch_size: int = 1
    vae_sample: bool = False
    clip_rescale_twice: bool = False
    known_content: str = "none"
    mask_fill: str = "zero"
    scheduler: str = "ddim"
    steps: int = 50
    log_snr: tuple[float, ...] = ()
    modes: tuple[str, ...] = ("generate",)
    interpolate_strides: tuple[int, ...] = (2,)
    interpolate_scheduler: str = ""
    interpolate_steps: int = 0
    interpolate_mixture: float = 0.0
    interpolator: bool = False
    conditioning: tuple[str, ...] = ("both",)
    context_dropout: float = 0.0
    distilled: bool = False

    def __post_init__(self) -> None:
        where = f"{MODEL_FILE} of {self.name}"
        _one_of(where, "fit", self.fit, FIT_MODES, FashionFlowError)
        _one_of(where, "resample", self.resample, RESAMPLING, FashionFlowError)
        _one_of(where, "vae_range", self.vae_range, PIXEL_RANGES, FashionFlowError)
        _one_of(where, "known_content", self.known_content, KNOWN_CONTENT, FashionFlowError)
        _one_of(where, "mask_fill", self.mask_fill, MASK_FILLS, FashionFlowError)
        _one_of(where, "scheduler", self.scheduler, SCHEDULERS, FashionFlowError)
        for mode in self.modes:
            _one_of(where, "modes", mode, MODES, FashionFlowError)
        if self.interpolate_scheduler:
            _one_of(where, "interpolate_scheduler", self.interpolate_scheduler, SCHEDULERS, FashionFlowError)
        if self.interpolate_steps < 0 or not 0 <= self.interpolate_mixture < 1:
            raise FashionFlowError(f"{where}: interpolate_steps or interpolate_mixture is out of range")
        if not self.interpolate_strides or min(self.interpolate_strides) < 2:
            raise FashionFlowError(f"{where}: interpolate_strides must be numbers from 2 on")
        if not self.conditioning:
            raise FashionFlowError(f"{where}: conditioning needs at least one of: {', '.join(CONDITIONING)}")
        for conditioning in self.conditioning:
            _one_of(where, "conditioning", conditioning, CONDITIONING, FashionFlowError)
        if not 0 <= self.context_dropout <= 1:
            raise FashionFlowError(f"{where}: context_dropout must be from 0 to 1, not {self.context_dropout}")
        for field in ("height", "width", "frames", "fps", "vae_patch_size", "steps"):
            if not getattr(self, field) > 0:
                raise FashionFlowError(f"{where}: {field} must be above 0, not {getattr(self, field)!r}")
        if self.log_snr and not (len(self.log_snr) == 2 and self.log_snr[0] < self.log_snr[1]):
            raise FashionFlowError(f"{where}: log_snr must be empty or two numbers, lowest first, not {self.log_snr}")
        if len(self.latents_mean) != len(self.latents_std) or not all(s > 0 for s in self.latents_std):
            raise FashionFlowError(
                f"{where}: latents_mean and latents_std need one value a channel, deviations above 0"
            )

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read `model.json` of a model folder.

        Raises:
            FashionFlowError: no such file, not JSON, an unknown or missing field, or a value of the wrong kind
                or out of range.
        """
        path = Path(folder) / MODEL_FILE
        try:
            values = read_object(path)
        except (FileNotFoundError, NotADirectoryError):
            raise FashionFlowError(
                f"{folder}: is not a model folder (no {MODEL_FILE})", hint="see the known ones: fashionflow models list"
            ) from None
        return build(cls, values, path)

    def to_json(self) -> str:
        """The text of `model.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


@dataclass(frozen=True)
class GenerateSettings:
    """One request for a video; None means: as the model says.

    Attributes:
        seed: with the item's number it fixes all randomness.
        frames: number of frames; a multiple of what the U-Net needs (2 for the published one).
        fps: frames per second of the file, above 0.
        steps: denoising steps, at least 1.
        scheduler: one of `SCHEDULERS`.
        fit: pad, crop or stretch.
        size: (height, width) in pixels; only the model's native size is possible, other sizes are an error.
        decode_chunk: frames decoded by the VAE at a time.
        guidance_scale: classifier-free guidance, at least 1; 1 is none (one U-Net call a step instead of two).
        guidance_interval: the part of the noise schedule with guidance, as two fractions of its timesteps, lower first:
            0 is clean, 1 is pure noise. Elsewhere the step is unguided ("Applying Guidance in a Limited Interval",
            2404.07724).
        conditioning: both, local or global; one that the model was trained for.
        interpolate: make this many frames of each by filling in between (paper 3.3): 1 (none), 2 or 4. The video keeps
            its duration unless `fps` says otherwise.
    """

    seed: int = 0
    frames: int | None = None
    fps: float | None = None
    steps: int | None = None
    scheduler: str | None = None
    fit: str | None = None
    size: tuple[int, int] | None = None
    decode_chunk: int = 7
    guidance_scale: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    conditioning: str | None = None
    interpolate: int = 1

    def __post_init__(self) -> None:
        if self.scheduler is not None:
            _one_of("--scheduler", "the value", self.scheduler, SCHEDULERS, UsageError)
        if self.fit is not None:
            _one_of("--fit", "the value", self.fit, FIT_MODES, UsageError)
        for field in ("seed", "frames", "steps", "decode_chunk"):
            value = getattr(self, field)
            if value is not None and (not isinstance(value, Integral) or isinstance(value, bool)):
                raise UsageError(f"--{field.replace('_', '-')}: must be a whole number, not {value!r}")
        for field in ("frames", "fps", "steps", "decode_chunk"):
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise UsageError(f"--{field.replace('_', '-')}: must be above 0, not {value}")
        if self.conditioning is not None:
            _one_of("--conditioning", "the value", self.conditioning, CONDITIONING, UsageError)
        if self.interpolate not in INTERPOLATION:
            raise UsageError(f"--interpolate: must be 2 or 4 (or 1: none), not {self.interpolate!r}")
        if not 1 <= self.guidance_scale <= 100:
            raise UsageError(f"--guidance: must be from 1 (none) to 100, not {self.guidance_scale}")
        ends = tuple(self.guidance_interval)
        if len(ends) != 2 or not 0 <= ends[0] < ends[1] <= 1:
            raise UsageError(
                f"--guidance-interval: must be two fractions from 0 to 1, lower first, not {self.guidance_interval}"
            )
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"--seed: must be from 0 to 2^63 - 1, not {self.seed}")

    def resolve(self, model: ModelConfig) -> "ResolvedSettings":
        """The request with the model's values where it says nothing.

        Raises:
            UsageError: another frame size than the model's, a conditioning or interpolation it was not trained for, or
                guidance of a model, or under a conditioning, that has nothing to be guided away from.
        """
        native = (model.height, model.width)
        if self.size is not None and tuple(self.size) != native:
            raise UsageError(
                f"--size: {self.size[0]}x{self.size[1]} is not possible with model {model.name}: "
                f"its adapter is tied to {native[0]}x{native[1]} (height x width)",
                hint="leave --size out, or choose another model",
            )
        conditioning = self.conditioning or model.conditioning[0]
        if conditioning not in model.conditioning:
            raise UsageError(
                f"--conditioning: model {model.name} was not trained for {conditioning!r}",
                hint=f"it was trained for: {', '.join(model.conditioning)}",
            )
        if self.guidance_scale != 1 and not model.context_dropout:
            raise UsageError(
                f"--guidance: model {model.name} was trained without dropped context, "
                "so there is nothing to guide away from",
                hint="leave --guidance out, or choose a model trained with dropped context",
            )
        if self.guidance_scale != 1 and conditioning == "local":
            raise UsageError(
                "--guidance: local conditioning leaves the context out, so there is nothing to guide towards",
                hint="leave --guidance out, or use --conditioning both or global",
            )
        if self.interpolate != 1:
            _check_interpolation(model, conditioning)
        low, high = self.guidance_interval
        # Numbers of NumPy become Python's own: a uint8 of steps would overflow in the first product.
        return ResolvedSettings(
            seed=int(self.seed),
            frames=int(self.frames or model.frames),
            fps=float(self.fps or model.fps * self.interpolate),
            steps=int(self.steps or model.steps),
            scheduler=self.scheduler or model.scheduler,
            fit=self.fit or model.fit,
            size=native,
            decode_chunk=int(self.decode_chunk),
            guidance_scale=float(self.guidance_scale),
            guidance_interval=(float(low), float(high)),
            conditioning=conditioning,
            interpolate=int(self.interpolate),
            # An interpolator knows one way: what is asked for is the U-Net's.
            interpolate_steps=1 if model.interpolator else int(self.steps or model.interpolate_steps or model.steps),
            interpolate_scheduler="interpolator"
            if model.interpolator
            else self.scheduler or model.interpolate_scheduler or model.scheduler,
        )


def _check_interpolation(model: ModelConfig, conditioning: str) -> None:
    if "interpolate" not in model.modes:
        raise UsageError(
            f"--interpolate: model {model.name} was not trained to fill in between frames",
            hint="use a model that was: fashionflow models show NAME lists its modes, mask_interpolate trains it",
        )
    if conditioning == "global":
        raise UsageError(
            "--interpolate: global conditioning gives no frames to fill in between",
            hint="leave --interpolate out, or use --conditioning both or local",
        )


@dataclass(frozen=True)
class ResolvedSettings:
    """`GenerateSettings` of which nothing is left open."""

    seed: int
    frames: int
    fps: float
    steps: int
    scheduler: str
    fit: str
    size: tuple[int, int]
    decode_chunk: int
    guidance_scale: float
    guidance_interval: tuple[float, float]
    conditioning: str
    interpolate: int
    interpolate_steps: int
    interpolate_scheduler: str

    @property
    def filling(self) -> "ResolvedSettings":
        """The same, as frames in between are sampled."""
        return dataclasses.replace(self, steps=self.interpolate_steps, scheduler=self.interpolate_scheduler)
