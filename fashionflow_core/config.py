"""Settings as frozen dataclasses: `model.json` (checked), generation, loading, encoding.

`ModelConfig` is `model.json` of a model folder. `GenerateSettings` is one request; a field left at None takes the
model's value, so the order is flag > environment > model > default. `LoadOptions` and `EncodeOptions` are taken
whole by everything that opens a model or writes a video.
"""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Self

from fashionflow_core.errors import FashionFlowError, SettingError, command, option
from fashionflow_core.utils.frame_sizes import FrameSizes
from fashionflow_core.utils.typed_files import build, read_object

FIT_MODES = ("pad", "crop", "stretch")
RESAMPLING = ("bilinear", "bicubic", "lanczos")
PIXEL_RANGES = ("zero_one", "minus_one_one")
KNOWN_CONTENT = ("none", "rgb", "latents", "photo")
MASK_FILLS = ("zero", "nearest", "linear")
MODES = ("generate", "interpolate", "extend", "loop")
LATENTS = ("appearance", "motion", "frames")
MOTIONS = ("turn", "sway", "simple")
CONDITIONING = ("both", "local", "global")
INTERPOLATION = (1, 2, 4)
SCHEDULERS = ("ddpm", "ddpm-large", "ddim", "dpm++", "dpm++-sde", "unipc", "euler", "lcm")
LOCK_LEVELS = ("off", "colour", "full")
VIDEO_SUFFIXES = (".mp4", ".webm", ".gif", ".webp")
CODECS = ("h264", "hevc", "av1", "vp9")
TARGETS = ("shopify", "google", "amazon", "reels", "tiktok", "web", "gif")  # rows of `video.platforms`
RATIOS = ("1:1", "4:5", "9:16", "16:9")  # width:height
PLACES = ("top-left", "top-right", "bottom-left", "bottom-right")  # of a logo
MODEL_FILE = "model.json"
INDEX_FILE = "model_index.json"  # of a pipeline in diffusers' layout
PHOTO_SIZE = "photo"  # a size: all of the photo's pixels
LONGEST_SIDE = 1280  # pixels of a motion model's video, where no size is asked
DEFAULT_TURN, LARGEST_TURN = 25.0, 35.0  # degrees
MOST_FRAMES = 100_000
_BROKEN_MODEL = "correct the file, or import or pull the model again"
FRAME_DIVISOR = 2  # of appearance models: the innermost level of the U-Net halves the frames


def _one_of(where: str, field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise FashionFlowError(f"{where}: {field} is {value!r}", hint=f"choose one of: {', '.join(allowed)}")


# Fields of a model with one or several values of a list.
_CHOICES = {
    "lock": LOCK_LEVELS,
    "latents": LATENTS,
    "motion": MOTIONS,
    "fit": FIT_MODES,
    "resample": RESAMPLING,
    "vae_range": PIXEL_RANGES,
    "known_content": KNOWN_CONTENT,
    "mask_fill": MASK_FILLS,
    "scheduler": SCHEDULERS,
    "modes": MODES,
    "conditioning": CONDITIONING,
}
# Far above any model's, so that a damaged or hostile model.json is refused before memory is taken.
_LIMITS = {
    "height": 8192,
    "width": 8192,
    "frames": 10_000,
    "fps": 1000,
    "vae_patch_size": 64,
    "steps": 10_000,
    "interpolate_steps": 10_000,
    "interpolate_strides": 1000,
    "keyframes": 1000,
    "keyframe_seconds": 3600,
    "shift_gain": 10,
}


@dataclass(frozen=True)
class ModelConfig:
    """Conventions that a model's weights depend on, stored in model.json (docs/concepts/paper-vs-code.md).

    Attributes:
        name: name of the model.
        purpose: one line on what the model is for, printed at every run.
        height, width: native frame size in pixels; the adapter's weights depend on it.
        frames, fps: frames of a clip and frames per second.
        fit, resample: how a photo is resized to the frame size.
        vae_range: pixel range of the VAE's input and output: [0, 1] (published) or [-1, 1] (Stable Diffusion).
        vae_patch_size: side of the pixel block folded into channels before the VAE (1: none).
        vae_sample: draw the latent from the posterior (published) instead of taking its mean.
        latents_mean, latents_std: per latent channel; latents = (vae latents - mean) / std.
        clip_rescale_twice: divide pixels by 255 twice before CLIP, as the published inference does.
        known_content: extra input channels that hold given frames: none, their RGB at latent resolution (paper 3.3), or
            their latents; each comes with one mask channel.
        mask_fill: content of those channels in frames that are not given: zeros (paper), the nearest given frame, or
            the linear mixture of the given frames before and after.
        scheduler, steps: default sampler and number of denoising steps.
        log_snr: range of log(signal-to-noise), lowest first, over which steps are evenly spaced; empty: timesteps as in
            `scheduler/`.
        modes: tasks the model was trained for: generate, interpolate, extend.
        interpolate_strides: for the mode interpolate: distances between given frames in training (paper 3.3: 2).
        interpolate_scheduler, interpolate_steps: default sampling of interpolated frames; empty and 0: as other frames.
        interpolate_mixture: weight of the linear mixture of given frames in interpolated frames. The errors of a small
            network and of the mixture are of similar size and differ, so their mean has a smaller error.
        interpolator: whether a second U-Net, `interpolator/`, predicts interpolated frames. Its input is the given
            latents before and after each frame; it predicts the difference to their linear mixture in one call.
            Sampling settings then apply to the first U-Net only.
        latents: meaning of the U-Net's latents: appearance (a VAE decodes them into pixels) or motion (they move the
            photo's own pixels; height and width are then those of the figure's box that the networks see). `frames` is
            reserved for `generators.config.GeneratorConfig` (models that return frames) and invalid in model.json.
        keyframes, keyframe_seconds: of motion models: latent frames per clip, and the time between them.
        motion: of motion models: default motion, one of `MOTIONS`.
        shift_gain: of motion models: factor on the sideways motion of the whole figure, whose deviation the network
            underestimates; measured by scripts/measure_shift.py.
        conditioning: kinds of conditioning it was trained for, the default first: both, local (the pinned first frame;
            the context is null), global (the context; no frame is pinned). Paper 4.3, table 2.
        context_dropout: share of training clips with null context; guidance requires a value above 0.
        distilled: whether it was trained to predict the clean clip in one step, as the scheduler lcm requires.
        lock: default level of the photo lock, one of `LOCK_LEVELS`; off for models that move the photo's pixels.
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
    latents: str = "appearance"
    keyframes: int = 0
    keyframe_seconds: float = 0.0
    motion: str = "turn"
    shift_gain: float = 1.0
    lock: str = "off"

    def __post_init__(self) -> None:
        where = f"{MODEL_FILE} of {self.name}"
        for field, allowed in _CHOICES.items():
            value = getattr(self, field)
            for one in value if isinstance(value, tuple) else (value,):
                _one_of(where, field, one, allowed)
        if self.interpolate_scheduler:
            _one_of(where, "interpolate_scheduler", self.interpolate_scheduler, SCHEDULERS)
        if problem := next(self._problems(), ""):
            raise FashionFlowError(f"{where}: {problem}", hint=_BROKEN_MODEL)

    def _problems(self) -> Iterator[str]:
        """Numbers out of range, and fields that contradict each other."""
        for field, limit in _LIMITS.items():
            value = getattr(self, field)
            if max(value if isinstance(value, tuple) else (value,), default=0) > limit:
                yield f"{field} must be at most {limit:,}"
        for field in ("height", "width", "frames", "fps", "vae_patch_size", "steps", "shift_gain"):
            if not getattr(self, field) > 0:
                yield f"{field} must be above 0, not {getattr(self, field)!r}"
        if self.latents == "motion" and not (self.keyframes >= 4 and self.keyframe_seconds > 0):
            yield "a motion model needs keyframes (at least 4) and keyframe_seconds"
        if (self.known_content == "photo") != (self.latents == "motion"):
            yield "known_content photo and latents motion require each other"
        if self.interpolate_steps < 0 or not 0 <= self.interpolate_mixture < 1:
            yield "interpolate_steps or interpolate_mixture is out of range"
        if not self.interpolate_strides or min(self.interpolate_strides) < 2:
            yield "interpolate_strides must be at least 2"
        if not self.conditioning:
            yield f"conditioning needs at least one of: {', '.join(CONDITIONING)}"
        if not 0 <= self.context_dropout <= 1:
            yield f"context_dropout must be from 0 to 1, not {self.context_dropout}"
        if self.log_snr and not (len(self.log_snr) == 2 and self.log_snr[0] < self.log_snr[1]):
            yield f"log_snr must be empty or two numbers, lowest first, not {self.log_snr}"
        if len(self.latents_mean) != len(self.latents_std) or not all(s > 0 for s in self.latents_std):
            yield "latents_mean and latents_std need one value per channel, deviations above 0"

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
            if (path.parent / INDEX_FILE).is_file():
                raise FashionFlowError(
                    f"{folder}: a pipeline of diffusers; training, export and interpolation are for FashionFlow models",
                    hint=f"choose one: {command('models list')}",
                ) from None
            raise FashionFlowError(
                f"{folder}: not a model folder (no {MODEL_FILE})",
                hint=f"list the models: {command('models list')}",
            ) from None
        return build(cls, values, path)

    def check_matte(self) -> None:
        """Refuse a matte for a model without one.

        Raises:
            UsageError: not a motion model.
        """
        if self.latents != "motion":
            raise SettingError("matte", f"model {self.name} generates the whole frame", hint=f"omit {option('matte')}")

    def check_video(self) -> None:
        """Refuse a video as input of a model that takes photos only.

        Raises:
            UsageError: a motion model or a generator.
        """
        if self.latents != "appearance":
            what = "moves photos" if self.latents == "motion" else "makes videos of photos"
            raise SettingError(
                "model",
                f"{self.name} {what} and cannot interpolate a finished video",
                hint=f"use {option('model', 'mini-latent')}; "
                f"generate {option('interpolate', 2)} interpolates a new video",
            )

    def resolve_frames(self, asked: "GenerateSettings") -> "ResolvedSettings":
        """Resolve a request to a model that returns frames; implemented by `generators.config.GeneratorConfig`."""
        raise FashionFlowError(f"{MODEL_FILE} of {self.name}: latents is 'frames'", hint=_BROKEN_MODEL)

    def to_json(self) -> str:
        """The text of `model.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


@dataclass(frozen=True)
class LoadOptions:
    """Options for loading a model.

    Attributes:
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: dtype of the networks: auto, fp32, bf16, fp16; engines use the dtype of their export.
        backend: auto, torch, onnxruntime, tensorrt, or a mixture such as "unet=tensorrt,vae=torch".
        lora: folder of a LoRA that is fused into the U-Net of PyTorch weights.
        allow_unverified: run engines that failed verification, and skip verification at first use.
        compile: compile PyTorch's networks before their first call; pays off over many runs.
        low_memory: load PyTorch's networks onto the device one at a time and decode single frames: slower, for small
            GPUs.

    Raises:
        UsageError: `compile` with `low_memory`: compiled networks cannot change their device.
    """

    device: str = "auto"
    dtype: str = "auto"
    backend: str = "auto"
    lora: str | Path | None = None
    allow_unverified: bool = False
    compile: bool = False
    low_memory: bool = False

    def __post_init__(self) -> None:
        if self.compile and self.low_memory:
            raise SettingError("compile, low_memory", "mutually exclusive", hint="omit one")

    def check(self, model: ModelConfig) -> None:
        """Refuse options that do not apply to a model.

        Raises:
            UsageError: `low_memory` of a motion model.
        """
        if self.low_memory and model.latents == "motion":
            raise SettingError("low_memory", "a motion model has only a few megabytes of weights", hint="omit it")


@dataclass(frozen=True)
class SigningOptions:
    """Certificate and key that sign videos and posters (`video.signing`).

    Attributes:
        cert: file of the certificate chain in PEM, the signer's first.
        key: file of its private key in PEM.
        sources: files that a video is made from, which its manifest names with their hashes.
    """

    cert: str
    key: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class EncodeOptions:
    """Options for encoding a video; valid combinations depend on the file's suffix (`video.check_options`).

    Attributes:
        crf: constant rate factor, lower is better and larger; None: the codec's default, visually lossless. Not for GIF
            and WebP.
        codec: one of `CODECS` that the container supports; None: its default.
        encoder: software, hardware (the first working hardware encoder of the codec), or FFmpeg's name.
        mark: mark the video as generated by IPTC DigitalSourceType (`video.marking`).
        streaming: True: closed GOPs and, in MP4, no edit list, as some platforms require.
        max_bytes: refuse a larger file (`video.writing.TooLarge`).
        sign: sign with C2PA; signatures, and so the bytes, differ between runs.
    """

    crf: int | None = None
    codec: str | None = None
    encoder: str = "software"
    mark: bool = True
    streaming: bool | None = None
    max_bytes: int | None = None
    sign: SigningOptions | None = None


@dataclass(frozen=True)
class GenerateSettings:
    """Settings of one video; None: the model's value.

    Attributes:
        seed: determines all randomness, together with the item's number.
        frames: number of frames; a multiple of the U-Net's frame divisor (published: 2).
        fps: frames per second of the file, above 0.
        steps: denoising steps, at least 1.
        scheduler: one of `SCHEDULERS`.
        fit: pad, crop or stretch.
        size: (height, width) in pixels, or "photo": the photo's own. An appearance model has one size; a motion model
            renders any, by default the photo's own up to `LONGEST_SIDE` pixels.
        decode_chunk: frames decoded by the VAE at a time.
        guidance_scale: classifier-free guidance, at least 1; 1 is none (one U-Net call per step instead of two). None:
            1; generators: the model's own.
        guidance_interval: the part of the noise schedule with guidance, as two fractions of its timesteps, lower first:
            0 is clean, 1 is pure noise. Elsewhere the step is unguided ("Applying Guidance in a Limited Interval",
            2404.07724).
        conditioning: both, local or global; one that the model was trained for.
        interpolate: factor of interpolation (paper 3.3): 1 (none), 2 or 4. The duration is unchanged unless `fps` is
            given.
        motion: of motion models: turn; sway, with little turning; or simple, a hand-made motion without the network.
        motion_amount: of motion models: largest turn to a side in degrees, 0 to 35.
        loop: of motion models: the last frame leads back to the first, for seamless repetition.
        duration: of motion models: seconds; longer than the model's by continuation. Of generators: seconds; frames are
            retimed.
        prompt, negative_prompt: of generators: text prompts; `{caption}` is replaced by the photo's caption. None:
            texts for garments.
        megapixels: of generators: height times width of a frame, in millions of pixels.
        lock: level of the photo lock: off, colour or full (`lock.photo_lock`). Not of motion models, which move the
            photo's own pixels.
    """

    seed: int = 0
    frames: int | None = None
    fps: float | None = None
    steps: int | None = None
    scheduler: str | None = None
    fit: str | None = None
    size: tuple[int, int] | str | None = None
    decode_chunk: int = 7
    guidance_scale: float | None = None
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    conditioning: str | None = None
    interpolate: int = 1
    motion: str | None = None
    motion_amount: float | None = None
    loop: bool = False
    duration: float | None = None
    lock: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    megapixels: float | None = None

    def __post_init__(self) -> None:
        for field, allowed in (
            ("scheduler", SCHEDULERS),
            ("fit", FIT_MODES),
            ("motion", MOTIONS),
            ("lock", LOCK_LEVELS),
            ("conditioning", CONDITIONING),
        ):
            value = getattr(self, field)
            if value is not None and value not in allowed:
                raise SettingError(field, f"invalid value {value!r}", hint=f"choose one of: {', '.join(allowed)}")
        for field in ("seed", "frames", "steps", "decode_chunk"):
            value = getattr(self, field)
            if value is not None and (not isinstance(value, Integral) or isinstance(value, bool)):
                raise SettingError(field, f"must be a whole number, not {value!r}")
        if self.motion_amount is not None and not 0 <= self.motion_amount <= LARGEST_TURN:
            raise SettingError(
                "motion_amount",
                f"must be from 0 to {LARGEST_TURN:g} degrees, not {self.motion_amount:g}",
                hint="a photo does not show enough of the sides for a larger turn",
            )
        if isinstance(self.size, str) and self.size != PHOTO_SIZE:
            raise SettingError("size", f"must be HEIGHTxWIDTH or {PHOTO_SIZE}, not {self.size!r}")
        if self.duration is not None and self.frames is not None:
            raise SettingError("frames, duration", "mutually exclusive", hint="omit one")
        for field in ("frames", "fps", "steps", "decode_chunk", "duration", "megapixels"):
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise SettingError(field, f"must be above 0, not {value}")
        if self.interpolate not in INTERPOLATION:
            raise SettingError("interpolate", f"must be 2 or 4 (or 1: none), not {self.interpolate!r}")
        if self.guidance_scale is not None and not 1 <= self.guidance_scale <= 100:
            raise SettingError("guidance_scale", f"must be from 1 (none) to 100, not {self.guidance_scale}")
        ends = tuple(self.guidance_interval)
        if len(ends) != 2 or not 0 <= ends[0] < ends[1] <= 1:
            raise SettingError(
                "guidance_interval", f"must be two fractions from 0 to 1, lower first, not {self.guidance_interval}"
            )
        if not 0 <= self.seed < 2**63:
            raise SettingError("seed", f"must be from 0 to 2^63 - 1, not {self.seed}")

    def resolve(self, model: ModelConfig) -> "ResolvedSettings":
        """The request with the model's values for unset fields.

        Raises:
            UsageError: a setting the model does not support: frame size, conditioning or interpolation it was not
                trained for, or guidance without dropped context or under local conditioning.
        """
        if model.latents == "frames":
            return model.resolve_frames(self)
        for field in ("prompt", "negative_prompt", "megapixels"):
            if getattr(self, field) is not None:
                raise SettingError(
                    field,
                    f"not supported by model {model.name}",
                    hint=f"omit {option(field)}, or choose a diffusers pipeline with {option('model')}",
                )
        if model.latents == "motion":
            return self._resolve_motion(model)
        asked = (("motion", self.motion), ("motion_amount", self.motion_amount), ("loop", self.loop or None))
        for field, value in asked:
            if value is not None:
                hint = f"omit it, or use a motion model: {option('model', 'mini')}"
                raise SettingError(field, f"model {model.name} does not move the photo", hint)
        if self.duration is not None:
            raise SettingError(
                "duration",
                f"model {model.name} has a fixed number of frames",
                hint=f"use {option('frames')} and {option('fps')}",
            )
        native = (model.height, model.width)
        if isinstance(self.size, str):
            raise SettingError("size", f"model {model.name} has a fixed size", hint=f"omit {option('size')}")
        if self.size is not None and tuple(self.size) != native:
            raise SettingError(
                "size",
                f"{self.size[0]}x{self.size[1]} is not possible with model {model.name}: "
                f"its adapter is tied to {native[0]}x{native[1]} (height x width)",
                hint=f"omit {option('size')}, or choose another model",
            )
        conditioning = self.conditioning or model.conditioning[0]
        if conditioning not in model.conditioning:
            raise SettingError(
                "conditioning",
                f"model {model.name} was not trained for {conditioning!r}",
                hint=f"it was trained for: {', '.join(model.conditioning)}",
            )
        self._check_guidance(model)
        if self._guidance != 1 and conditioning == "local":
            raise SettingError(
                "guidance_scale",
                "local conditioning has no context, which guidance requires",
                hint=f"omit {option('guidance_scale')}, or use {option('conditioning', 'both')} or global",
            )
        if self.interpolate != 1:
            _check_interpolation(model, conditioning)
        frames = int(self.frames or model.frames)
        if frames % FRAME_DIVISOR:
            near = [str(number) for number in (frames - 1, frames + 1) if number > 0]
            raise SettingError(
                "frames",
                f"{frames} is not a multiple of {FRAME_DIVISOR}, which model {model.name} needs",
                hint=f"use {option('frames', ' or '.join(near))}",
            )
        return ResolvedSettings(
            **self._sampling(model),
            frames=frames,
            size=native,
            conditioning=conditioning,
            # An interpolator takes one step and has no scheduler: these settings apply to the U-Net.
            interpolate_steps=1 if model.interpolator else int(self.steps or model.interpolate_steps or model.steps),
            interpolate_scheduler="interpolator"
            if model.interpolator
            else self.scheduler or model.interpolate_scheduler or model.scheduler,
            lock=self.lock or model.lock,
        )

    @property
    def _guidance(self) -> float:
        return 1.0 if self.guidance_scale is None else self.guidance_scale

    def _check_guidance(self, model: ModelConfig) -> None:
        if self._guidance != 1 and not model.context_dropout:
            raise SettingError(
                "guidance_scale",
                f"model {model.name} was trained without dropped context, which guidance requires",
                hint=f"omit {option('guidance_scale')}, or choose a model trained with dropped context",
            )

    def _sampling(self, model: ModelConfig) -> dict[str, Any]:
        """Fields of `ResolvedSettings` that appearance and motion models have in common."""
        low, high = self.guidance_interval
        # Convert NumPy numbers to Python's: a uint8 of steps would overflow in the first product.
        return {
            "seed": int(self.seed),
            "fps": float(self.fps or model.fps * self.interpolate),
            "steps": int(self.steps or model.steps),
            "scheduler": self.scheduler or model.scheduler,
            "fit": self.fit or model.fit,
            "decode_chunk": int(self.decode_chunk),
            "guidance_scale": float(self._guidance),
            "guidance_interval": (float(low), float(high)),
            "interpolate": int(self.interpolate),
        }

    def _resolve_motion(self, model: ModelConfig) -> "ResolvedSettings":
        """As `resolve`, for motion models."""
        if self.conditioning not in (None, "both"):
            raise SettingError(
                "conditioning",
                f"model {model.name} moves the photo itself, so conditioning cannot be changed",
                hint=f"for the paper's ablation use an appearance model: {option('model', 'mini-latent')}",
            )
        self._check_guidance(model)
        if self.lock not in (None, "off"):
            raise SettingError(
                "lock",
                f"model {model.name} moves the photo's own pixels and needs no lock",
                hint="omit it",
            )
        sampling = self._sampling(model)
        # `frames` counts those before interpolation, as for every model.
        rate = sampling["fps"] / self.interpolate
        seconds = self.duration or model.frames / model.fps
        frames = int(self.frames or max(2, round(seconds * rate)))
        if frames > MOST_FRAMES:
            raise SettingError(
                "duration", f"{seconds:g} s at {rate:g} frames per second are more than {MOST_FRAMES} frames"
            )
        motion = self.motion or model.motion
        return ResolvedSettings(
            **sampling,
            frames=frames,
            size=None if self.size is None or isinstance(self.size, str) else (int(self.size[0]), int(self.size[1])),
            conditioning="both",
            interpolate_steps=0,
            interpolate_scheduler="motion",
            motion=ResolvedMotion(
                kind=motion,
                turn=float(DEFAULT_TURN if self.motion_amount is None else self.motion_amount),
                loop=bool(self.loop),
                longest_side=0 if self.size == PHOTO_SIZE else LONGEST_SIDE,
            ),
        )


def _check_interpolation(model: ModelConfig, conditioning: str) -> None:
    if "interpolate" not in model.modes:
        raise SettingError(
            "interpolate",
            f"model {model.name} was not trained for interpolation",
            hint=f"{command('models show', 'NAME')} lists a model's modes; train one with masks.interpolate",
        )
    if conditioning == "global":
        raise SettingError(
            "interpolate",
            "global conditioning has no given frames to interpolate",
            hint=f"omit {option('interpolate')}, or use {option('conditioning', 'both')} or local",
        )


@dataclass(frozen=True)
class ResolvedMotion:
    """Resolved settings of a motion model.

    Attributes:
        kind: one of `MOTIONS`.
        turn: largest turn to a side, degrees.
        loop: whether the last frame leads back to the first.
        longest_side: limit of the longer side in pixels if no size is given; 0: none.
    """

    kind: str
    turn: float
    loop: bool
    longest_side: int


@dataclass(frozen=True)
class ResolvedGenerator:
    """Resolved settings of a generator.

    Attributes:
        prompt, negative_prompt: text prompts; empty if unsupported.
        guidance: guidance scale; None if unsupported.
        sizes: supported frame sizes.
        model_fps: frame rate of the frames that it generates.
        video_frames: frames of the video, after retiming.
        slowdown: playback slowdown relative to the generated frames; 1: none.
        duration: requested seconds; None: as many as the frames take.
    """

    prompt: str
    negative_prompt: str
    guidance: float | None
    sizes: FrameSizes
    model_fps: float
    video_frames: int
    slowdown: float
    duration: float | None = None


@dataclass(frozen=True)
class ResolvedSettings:
    """`GenerateSettings` with all values set; `size` None: a motion model uses the photo's own."""

    seed: int
    frames: int
    fps: float
    steps: int
    scheduler: str
    fit: str
    size: tuple[int, int] | None
    decode_chunk: int
    guidance_scale: float
    guidance_interval: tuple[float, float]
    conditioning: str
    interpolate: int
    interpolate_steps: int
    interpolate_scheduler: str
    motion: ResolvedMotion | None = None
    lock: str = "off"
    generator: ResolvedGenerator | None = None

    @property
    def video_frames(self) -> int:
        """Frames of a generated video, including interpolated ones."""
        if self.generator is not None:
            return self.generator.video_frames
        if self.motion is not None and self.motion.loop:  # also between the last frame and the first
            return self.frames * self.interpolate
        return (self.frames - 1) * self.interpolate + 1

    @property
    def filling(self) -> "ResolvedSettings":
        """The settings for sampling interpolated frames."""
        return dataclasses.replace(self, steps=self.interpolate_steps, scheduler=self.interpolate_scheduler)
