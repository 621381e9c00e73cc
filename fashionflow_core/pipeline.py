"""Pipeline from photo to video: load a model, fit, condition, sample, decode.

Networks come from any runtime of `runtimes`, behind one interface.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fashionflow_core import runtimes
from fashionflow_core.config import MODEL_FILE, GenerateSettings, LoadOptions, ModelConfig, ResolvedSettings
from fashionflow_core.diffusion.clip import Clip, assemble
from fashionflow_core.diffusion.conditioning import Conditioner, condition, load_processor
from fashionflow_core.diffusion.cost_estimate import RunCost, Workload, make_plan
from fashionflow_core.diffusion.decoding import decode_latents
from fashionflow_core.diffusion.frame_generator import FrameGenerator
from fashionflow_core.diffusion.interpolation import Filler, GapWindow, of_latents, plan_passes, predicted, sampled
from fashionflow_core.diffusion.sampling import OnStep, Sampler, counted, item_generator, sampler
from fashionflow_core.diffusion.schedulers import make_scheduler
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, SettingError, option
from fashionflow_core.generators.config import GeneratorConfig
from fashionflow_core.generators.folder import config_of, source_of
from fashionflow_core.generators.remote_place import is_remote
from fashionflow_core.images.fitting import Box, Fitted, Frame, Photo
from fashionflow_core.motion.conditions import PHOTO_CHANNELS
from fashionflow_core.motion.figure_box import GRID
from fashionflow_core.runtimes.interface import Networks
from fashionflow_core.runtimes.verification import verify_first_use
from fashionflow_core.store import registry
from fashionflow_core.utils.memory import memory_explained

if TYPE_CHECKING:
    from fashionflow_core.motion.generation import MotionGenerator


class FashionFlowPipeline:
    """A loaded model.

    Args:
        networks: of any runtime; for a generator (`GeneratorConfig`) its `FrameSource`.
        processor: CLIP's image processor.
        config: the model's conventions.
        make_scheduler: name → a fresh diffusers scheduler on the model's noise schedule.
    """

    def __init__(
        self, networks: Networks, processor: Any, config: ModelConfig, make_scheduler: Callable[[str], Any]
    ) -> None:
        self.networks, self.config, self.make_scheduler = networks, config, make_scheduler
        self.conditioner = Conditioner(networks, processor, config)
        self.motion: MotionGenerator | None = None
        self.generator: FrameGenerator | None = None
        if config.latents == "motion":
            from fashionflow_core.motion import generation

            self.motion = generation.MotionGenerator(networks, self.conditioner, config, make_scheduler)
        elif isinstance(config, GeneratorConfig):
            source: Any = networks  # a `FrameSource` for a generator
            self.generator = FrameGenerator(source, config)

    def resolve(self, settings: GenerateSettings) -> ResolvedSettings:
        """The request with the model's values for unset fields; refuses unsupported settings before any work.

        Raises:
            UsageError: as `GenerateSettings.resolve`; a number of frames its engines were not built for.
        """
        resolved = settings.resolve(self.config)
        if self.generator is not None:
            return resolved
        counts = self.networks.frame_counts
        # A motion model's U-Net sees keyframes: their number depends on the duration (`MotionGenerator`).
        if resolved.motion is None and counts is not None and resolved.frames not in counts:
            taken = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
            raise SettingError(
                "frames",
                f"these engines of {self.config.name} were built for {taken} frames, not {resolved.frames}",
                hint=f"export the model again with {option('frames')} or {option('dynamic_frames')}",
            )
        if resolved.scheduler == "lcm" and not self.config.distilled:
            warnings.warn(
                f"{option('scheduler')}: lcm is for distilled models; {self.config.name} is not one: "
                "videos move less and may lose fine detail",
                FashionFlowWarning,
                stacklevel=3,
            )
        return resolved

    def generate(
        self,
        photo: Photo,
        settings: GenerateSettings | None = None,
        item: int = 0,
        on_step: OnStep | None = None,
        matte: np.ndarray | None = None,
        **changes: Any,
    ) -> Clip:
        """Generate one video from one photo.

        Args:
            photo: a file, a Pillow image, or uint8 (h, w, 3), sRGB, upright; of any size.
            settings: the request.
            item: determines all randomness, together with the seed; the index of a photo in a batch or of a variation.
            on_step: called after each denoising step with (steps done, steps in all).
            matte: of motion models: matte of the figure, float (h, w) in 0..1 of the photo's size; None: predicted.
            changes: fields of `GenerateSettings` that override those in `settings`.

        Raises:
            UsageError: settings the model does not support.
            FashionFlowError: the photo cannot be read; out of memory, or overflow of the dtype.
        """
        settings = replace(settings or GenerateSettings(), **changes)
        (clip,) = self.generate_batch([photo], [settings], [item], on_step, None if matte is None else [matte])
        for line in clip.warnings:
            warnings.warn(line, FashionFlowWarning, stacklevel=2)
        return clip

    def generate_batch(
        self,
        photos: Sequence[Photo | Fitted],
        settings: Sequence[GenerateSettings],
        items: Sequence[int],
        on_step: OnStep | None = None,
        mattes: Sequence[np.ndarray | None] | None = None,
    ) -> list[Clip]:
        """Generate one video from each of several photos in the same calls of the networks.

        Each item has its own random generator, so a video does not depend on its batch: alone and in a batch pixels
        differ by at most 1/255, by rounding. Interpolation runs clip by clip. Generators that take one photo a call
        (`GeneratorConfig.takes_lists`) make one clip after the other.

        Args:
            photos: as for `generate`, or already fitted to the model's frame.
            settings: one request per item. Only seed, fps, fit and decode_chunk may differ between them; of generators
                all: those that cannot share a call are generated one after the other.
            items, on_step: as for `generate`.
            mattes: as for `generate`, one per photo.

        Raises:
            UsageError, FashionFlowError: as `generate`. OutOfMemory: a smaller batch may fit.
            ValueError: requests differ in other fields.
        """
        config, requests = self.config, [self.resolve(one) for one in settings]
        if self.motion is not None:
            return self.motion.generate_batch(photos, requests, items, on_step, mattes)
        if mattes is not None:
            config.check_matte()
        if self.generator is not None:
            return self.generator.generate_batch(photos, requests, items, on_step)
        request = requests[0]
        if len({replace(one, seed=0, fps=1.0, fit="pad", decode_chunk=1) for one in requests}) != 1:
            raise ValueError("requests of a batch may differ in seed, fps, fit and decode_chunk only")
        fits = [Frame.of(config, one).fitted(photo, warn=True) for photo, one in zip(photos, requests, strict=True)]
        generators = [item_generator(one.seed, item) for one, item in zip(requests, items, strict=True)]
        tick = counted(on_step, request.steps + len(requests) * (self.count_steps(request) - request.steps))
        run = self._sampler(request, tick)
        with memory_explained(self.networks.device, request.frames):
            encoded = self.conditioner.encode(np.stack([fitted.pixels for fitted in fits]), generators)
            known, context = condition(*encoded, request.frames, request.conditioning, config.mask_fill)
            clips: Sequence[Tensor] = run(known, context, generators).split(1)
            if request.interpolate != 1:
                clips = [self._longer(clip, request, one, tick) for clip, one in zip(clips, generators)]
        return [assemble(config, *made, self.decode) for made in zip(requests, fits, clips, items)]

    def _longer(self, latents: Tensor, request: ResolvedSettings, generator: torch.Generator, tick: OnStep) -> Tensor:
        """A generated clip (1, c, f, h, w), interpolated."""
        filler = self._filler(request, tick, request.frames)
        given = of_latents([latents], self.conditioner, self.decode)
        return torch.cat(list(filler.fill(given, generator)), dim=2)

    def interpolate(
        self,
        given: Iterable[np.ndarray],
        count: int,
        settings: GenerateSettings | None = None,
        on_step: OnStep | None = None,
        **changes: Any,
    ) -> Iterator[np.ndarray]:
        """Interpolate a video (paper 3.3). Given frames are returned as fitted.

        Args:
            given: uint8 (h, w, 3), sRGB, all of one size; read lazily, one window in memory.
            count: number of given frames, at least 2.
            settings, changes: the request: `interpolate` (default 2), `frames` (length of the windows), seed, sampling
                and decoding. All frames are fitted like the first.
            on_step: as for `generate`.

        Returns:
            (count - 1) * interpolate + 1 frames, uint8 (height, width, 3), generated lazily.

        Raises:
            UsageError: a model not trained for interpolation, or fewer than two frames; raised at once.
            FashionFlowError: as `generate`; and if fewer frames are given than `count`.
        """
        self.config.check_video()
        asked = replace(settings or GenerateSettings(), **changes)
        request = self.resolve(replace(asked, interpolate=2) if asked.interpolate == 1 else asked)
        if self.config.interpolator and (asked.steps or asked.scheduler or asked.guidance_scale not in (None, 1)):
            warnings.warn(
                f"{option('steps')}, {option('scheduler')}, {option('guidance_scale')}: no effect: "
                f"{self.config.name} interpolates with a separate network",
                FashionFlowWarning,
                stacklevel=2,
            )
        windows = sum(map(len, self._passes(request, count)))
        filler = self._filler(request, counted(on_step, windows * request.interpolate_steps), count)
        return filler.frames(iter(given), request, item_generator(request.seed, 0))

    def count_steps(self, request: ResolvedSettings) -> int:
        """Denoising steps of one `generate`, including interpolation."""
        if self.motion is not None:
            return self.motion.count_steps(request)
        if self.generator is not None:
            return self.generator.count_steps(request)
        return request.steps + request.interpolate_steps * sum(map(len, self._passes(request, request.frames)))

    def _passes(self, request: ResolvedSettings, count: int) -> list[list[GapWindow]]:
        factor, divisor = request.interpolate, self.networks.frame_divisor
        if factor == 1:
            return []
        return plan_passes(count, factor, self.config, request.frames, divisor, self.networks.frame_counts)

    def _sampler(self, request: ResolvedSettings, tick: OnStep) -> Sampler:
        return sampler(self.networks, self.make_scheduler(request.scheduler), self.config, request, tick)

    def _filler(self, request: ResolvedSettings, tick: OnStep, count: int) -> Filler:
        if self.config.interpolator:
            make = predicted(self.networks, tick)
        else:
            null = request.conditioning == "local"
            make = sampled(self.conditioner, self._sampler(request.filling, tick), null)
        return Filler(self.conditioner, self.decode, self._passes(request, count), make)

    def plan(
        self,
        settings: GenerateSettings | None = None,
        photo: Photo | None = None,
        measure: bool = False,
        video_frames: int = 0,
        **changes: Any,
    ) -> RunCost:
        """Plan and estimated cost of `generate` or `interpolate` with these settings, without running it.

        Args:
            settings, changes: as for `generate`.
            photo: as for `generate`; without one the video has the model's frame size.
            measure: also time one call of the U-Net and of the decoder, after one warm-up call each.
            video_frames: number of frames of the video to interpolate; 0: plan `generate`.

        Raises:
            UsageError: settings the model does not support.
            FashionFlowError: the photo cannot be read; with `measure`, out of memory.
        """
        request = self.resolve(replace(settings or GenerateSettings(), **changes))
        if self.motion is not None:
            if video_frames:
                self.config.check_video()
            return self.motion.plan(request, photo, measure)
        if self.generator is not None:
            if video_frames:
                self.config.check_video()
            return self.generator.plan(request, photo)
        size = (self.config.height, self.config.width)
        if photo is not None:
            box = Frame.of(self.config, request).fitted(photo, warn=True).box
            size = (box.height, box.width)
        given = video_frames or request.frames
        work = Workload(
            generated=not video_frames,
            windows=[window.frames for windows in self._passes(request, given) for window in windows],
            frames=(given - 1) * request.interpolate + 1,
            encoded=max(1, video_frames),
        )
        return make_plan(self.conditioner, self.make_scheduler, request, work, size, measure)

    def decode(self, latents: Tensor, box: Box | None = None, chunk: int = 7) -> Iterator[np.ndarray]:
        """Decode frames lazily, in chunks.

        Args:
            latents: (1, c, f, h, w).
            box: part of the frame to keep; None: all of it.
            chunk: frames decoded at a time; halved permanently when the device runs out of memory.

        Returns:
            frames, uint8 (height, width, 3).

        Raises:
            FashionFlowError: one frame does not fit into memory, or the VAE returned NaN; raised while iterating.
        """
        return decode_latents(self.networks, self.config, latents, box, chunk)


def load(model: str | Path = "mini", options: LoadOptions = LoadOptions(), **changes: Any) -> FashionFlowPipeline:
    """Load a model.

    Args:
        model: a name of `list_models()`, a model folder, an engine folder, a folder in diffusers' layout, or the
            address of a remote model; a `Path` is never a name.
        options: see `LoadOptions`.
        changes: fields of `LoadOptions` that override those in `options`, such as device="cuda".

    Raises:
        FashionFlowError: no such model, missing, damaged or mismatched parts, or engines whose outputs differ
            from PyTorch's.
        UsageError: a device, dtype or backend that is not available, or conflicting options.
    """
    options = replace(options, **changes)
    folder = model if isinstance(model, Path) else registry.find(model)
    config = config_of(folder)
    if isinstance(config, GeneratorConfig):
        return _load_generator(folder, config, options)
    networks: Any = runtimes.load(folder, options, config)
    if options.lora is not None:
        config = replace(config, name=f"{config.name}+{Path(options.lora).resolve().name}")
    for what, wanted, found in _expected(config, networks):
        if found != wanted:
            raise FashionFlowError(
                f"{folder}: {MODEL_FILE} asks for {what} {wanted}, the networks have {found}",
                hint="import or pull the model again",
            )
    make_scheduler(folder, config.scheduler)  # fails now rather than after minutes of work
    pipe = FashionFlowPipeline(networks, load_processor(folder), config, lambda name: make_scheduler(folder, name))
    if not options.allow_unverified:
        verify_first_use(folder, pipe)
    if pipe.motion is not None and (parser := registry.pulled_parser()) is not None:
        from fashionflow_core.models.clothes_parser import ClothesParser

        pipe.motion.clothes = ClothesParser.load(parser, pipe.networks.device)
    return pipe


def load_for_planning(model: str | Path, options: LoadOptions = LoadOptions()) -> FashionFlowPipeline:
    """As `load`, but of a generator, which may take minutes and 70 GB to open, only what `plan` needs.

    Raises:
        UsageError, FashionFlowError: as `load`.
    """
    folder = model if isinstance(model, Path) else registry.find(model)
    config = config_of(folder)
    if not isinstance(config, GeneratorConfig):
        return load(folder, options)
    from fashionflow_core.generators.requirements import UnopenedModel

    source: Any = UnopenedModel(folder, config, options)
    return FashionFlowPipeline(source, None, config, lambda name: make_scheduler(folder, name))


def _load_generator(folder: Path, config: GeneratorConfig, options: LoadOptions) -> FashionFlowPipeline:
    """A pipeline of diffusers or a remote model."""
    source: Any
    if is_remote(folder):
        from fashionflow_core.generators.remote_model import RemoteModel

        source = RemoteModel(config, options)
    else:
        from fashionflow_core.generators.diffusers_model import DiffusersModel

        source = DiffusersModel(folder, config, options)
    if options.lora is not None:
        lora = Path(options.lora).absolute()
        repo, commit = source_of(lora.parent)  # of the hub: its file may have any name
        config = replace(config, name=f"{config.name}+{f'{repo}@{commit[:8]}' if repo else lora.stem}")
    return FashionFlowPipeline(source, None, config, lambda name: make_scheduler(folder, name))


def _expected(config: ModelConfig, networks: Any) -> list[tuple[str, Any, Any]]:
    """What model.json and networks must agree about: name, its value in the one, its value in the other."""
    channels = len(config.latents_mean)
    found = [("latent channels", channels, networks.latent_channels)]
    inputs = ("U-Net input channels", networks.input_channels)
    if config.latents == "motion":
        return [
            *found,
            (inputs[0], channels + PHOTO_CHANNELS + 1, inputs[1]),
            ("photo channels", PHOTO_CHANNELS, networks.photo_channels),
            ("a grid of", GRID, (networks.latent_height, networks.latent_width)),
        ]
    patch = config.vae_patch_size
    known_channels = {"none": 0, "rgb": 3 + 1, "latents": channels + 1}[config.known_content]
    sides = tuple(patch * side for side in networks.pixel_shape[1:])
    return [
        *found,
        (inputs[0], channels + known_channels, inputs[1]),
        ("VAE pixel channels", 3 * patch**2, networks.pixel_shape[0]),
        ("a frame size", (config.height, config.width), sides),
    ]
