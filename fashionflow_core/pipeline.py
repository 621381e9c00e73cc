"""Photo → video, as named steps over networks, scheduler and conventions: fit, condition, sample, decode.

A plain composition. Networks come from any runtime of `backends`; nothing here knows which.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fashionflow_core import backends
from fashionflow_core.clip import Clip, assemble
from fashionflow_core.conditioning import Conditioner, condition, load_processor
from fashionflow_core.config import MODEL_FILE, GenerateSettings, ModelConfig, ResolvedSettings
from fashionflow_core.contract import ENGINES_FILE, Networks
from fashionflow_core.decoding import decode_latents
from fashionflow_core.denoising import Sampler, memory_explained, sampler
from fashionflow_core.device import resolve_device, resolve_dtype
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, UsageError
from fashionflow_core.first_use import verify_first_use
from fashionflow_core.image import Box, Fitted, Photo, as_pixels, fit
from fashionflow_core.interpolation import Filler, Window, of_latents, plan_passes, predicted, sampled
from fashionflow_core.lora import open_with_lora
from fashionflow_core.plan import Plan, Work, make_plan
from fashionflow_core.sampling import OnStep, counted, item_generator
from fashionflow_core.schedulers import make_scheduler


class FashionFlowPipeline:
    """A model that is ready to generate.

    Args:
        networks: of any runtime.
        processor: CLIP's image processor.
        config: the model's conventions.
        make_scheduler: name → a fresh diffusers scheduler on the model's noise schedule.
    """

    def __init__(
        self, networks: Networks, processor: Any, config: ModelConfig, make_scheduler: Callable[[str], Any]
    ) -> None:
        self.networks, self.config, self.make_scheduler = networks, config, make_scheduler
        self.conditioner = Conditioner(networks, processor, config)

    def resolve(self, settings: GenerateSettings) -> ResolvedSettings:
        """The request with the model's values where it says nothing; refuses what the model cannot do, before any work.

        Raises:
            UsageError: as `GenerateSettings.resolve`; a number of frames its U-Net cannot halve.
        """
        resolved = settings.resolve(self.config)
        if resolved.frames % self.networks.frame_divisor:
            raise UsageError(
                f"--frames: {resolved.frames} is not a multiple of {self.networks.frame_divisor}, which model "
                f"{self.config.name} needs"
            )
        counts = self.networks.frame_counts
        if counts is not None and resolved.frames not in counts:
            taken = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
            raise UsageError(
                f"--frames: these engines of {self.config.name} were built for {taken} frames, not {resolved.frames}",
                hint="export the model again with --frames or --dynamic-frames",
            )
        if resolved.scheduler == "lcm" and not self.config.distilled:
            warnings.warn(
                f"--scheduler: lcm is for distilled models, which {self.config.name} is not: "
                "videos move less, and may lose fine detail",
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
        **changes: Any,
    ) -> Clip:
        """Generate one video from one photo.

        Args:
            photo: a file, a Pillow image, or uint8 (h, w, 3), sRGB, upright; of any size.
            settings: the request.
            item: with the seed it fixes all randomness; number the photos of a batch, or the variations of a photo.
            on_step: called after each denoising step with (steps done, steps in all).
            changes: fields of `GenerateSettings` that take the place of those in `settings`.

        Raises:
            UsageError: settings the model cannot meet.
            FashionFlowError: the photo cannot be read; out of memory, or numbers beyond what the number type holds.
        """
        settings = replace(settings or GenerateSettings(), **changes)
        return self.generate_batch([photo], [settings], [item], on_step)[0]

    def generate_batch(
        self,
        photos: Sequence[Photo | Fitted],
        settings: Sequence[GenerateSettings],
        items: Sequence[int],
        on_step: OnStep | None = None,
    ) -> list[Clip]:
        """Generate one video from each of several photos in the same calls of the networks.

        Each item draws from its own generator, so that neighbours do not change a video: alone and in a batch pixels
        differ by at most 1/255, by rounding. Frames in between are filled in clip by clip.

        Args:
            photos: as for `generate`, or fitted to the model's frame already.
            settings: one request an item. Only seed, fps, fit and decode_chunk may differ between them.
            items, on_step: as for `generate`.

        Raises:
            UsageError, FashionFlowError: as `generate`. OutOfMemory: fewer may fit. ValueError: unlike requests.
        """
        config, requests = self.config, [self.resolve(one) for one in settings]
        request = requests[0]
        if len({replace(one, seed=0, fps=1.0, fit="pad", decode_chunk=1) for one in requests}) != 1:
            raise ValueError("one batch takes one way of sampling: requests differ in more than seed, fps and fit")
        fits = [self._fitted(photo, one) for photo, one in zip(photos, requests, strict=True)]
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

    def _fitted(self, photo: Photo | Fitted, request: ResolvedSettings) -> Fitted:
        if isinstance(photo, Fitted):
            return photo
        return fit(as_pixels(photo), self.config.height, self.config.width, request.fit, self.config.resample)

    def _longer(self, latents: Tensor, request: ResolvedSettings, generator: torch.Generator, tick: OnStep) -> Tensor:
        """A generated clip (1, c, f, h, w) with frames in between."""
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
        """Fill in frames between those of a video (paper 3.3). Given frames come back as they were fitted.

        Args:
            given: uint8 (h, w, 3), sRGB, all of one size; taken as they are needed, a window of them is held.
            count: how many there are, at least 2.
            settings, changes: the request: `interpolate` (2 if it says none), `frames` (length of the windows), seed,
                and how to sample and decode. All frames are fitted as the first one is.
            on_step: as for `generate`.

        Returns:
            (count - 1) * interpolate + 1 frames, uint8 (height, width, 3), made as they are asked for.

        Raises:
            UsageError: a model that was not trained for it, or fewer than two frames; at once.
            FashionFlowError: as `generate`; and if fewer frames are given than `count`.
        """
        asked = replace(settings or GenerateSettings(), **changes)
        request = self.resolve(replace(asked, interpolate=2) if asked.interpolate == 1 else asked)
        if self.config.interpolator and (asked.steps or asked.scheduler or asked.guidance_scale != 1):
            warnings.warn(
                f"--steps, --scheduler, --guidance: change nothing here: {self.config.name} fills in between with a "
                "network of its own",
                FashionFlowWarning,
                stacklevel=2,
            )
        windows = sum(map(len, self._passes(request, count)))
        filler = self._filler(request, counted(on_step, windows * request.interpolate_steps), count)
        return filler.frames(iter(given), request, item_generator(request.seed, 0))

    def count_steps(self, request: ResolvedSettings) -> int:
        """Denoising steps of one `generate`, those that fill in frames included."""
        return request.steps + request.interpolate_steps * sum(map(len, self._passes(request, request.frames)))

    def _passes(self, request: ResolvedSettings, count: int) -> list[list[Window]]:
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
    ) -> Plan:
        """What `generate` or `interpolate` would do with these settings, and what that costs; none of it is done.

        Args:
            settings, changes: as for `generate`.
            photo: as for `generate`; without one the size of the video is that of the model's whole frame.
            measure: also time one call of the U-Net and one of the decoder, each after an untimed one.
            video_frames: of the video that is to be interpolated; 0: a photo is made into a video.

        Raises:
            UsageError: settings the model cannot meet.
            FashionFlowError: the photo cannot be read; with `measure`, out of memory.
        """
        request = self.resolve(replace(settings or GenerateSettings(), **changes))
        size = request.size
        if photo is not None:
            box = fit(as_pixels(photo), *size, request.fit, self.config.resample).box
            size = (box.height, box.width)
        given = video_frames or request.frames
        work = Work(
            generated=not video_frames,
            windows=[window.frames for windows in self._passes(request, given) for window in windows],
            frames=(given - 1) * request.interpolate + 1,
            encoded=max(1, video_frames),
        )
        return make_plan(self.conditioner, self.make_scheduler, request, work, size, measure)

    def decode(self, latents: Tensor, box: Box | None = None, chunk: int = 7) -> Iterator[np.ndarray]:
        """Decode frames in chunks, as they are asked for.

        Args:
            latents: (1, c, f, h, w).
            box: part of the frame to keep; None: all of it.
            chunk: frames decoded at a time; halved for good whenever the device runs out of memory.

        Returns:
            frames, uint8 (height, width, 3).

        Raises:
            FashionFlowError: not even one frame fits into memory, or the VAE gave no numbers; as frames are asked for.
        """
        return decode_latents(self.networks, self.config, latents, box, chunk)


def load(
    folder: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "auto",
    lora: str | Path | None = None,
    allow_unverified: bool = False,
    compile: bool = False,
    low_memory: bool = False,
) -> FashionFlowPipeline:
    """Open a model folder, or an engine folder.

    Args:
        folder: a model folder (DESIGN: `model.json` and one folder a part).
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: auto, fp32, bf16, fp16; engines compute in the type they were exported in.
        backend: as for `backends.load`.
        lora: folder of a LoRA that `fashionflow train` made, fused into the U-Net of PyTorch weights.
        allow_unverified: run engines that failed their verification, or never ran, without a look.
        compile, low_memory: as for `backends.load`.

    Raises:
        FashionFlowError: the folder is not a model, a part is missing or broken, or parts do not belong together;
            engines that do not answer as PyTorch does.
        UsageError: a device or dtype this machine does not have.
    """
    folder = Path(folder)
    config = ModelConfig.load(folder)
    chosen = resolve_device(device)
    number_type = None if dtype == "auto" else resolve_dtype(dtype, chosen)
    networks: Any
    if lora is None:
        networks = backends.load(folder, backend, chosen, number_type, allow_unverified, compile, low_memory)
    elif (folder / ENGINES_FILE).is_file() or backend not in ("auto", "torch"):
        raise UsageError(
            f"--lora: {folder} is to be run as engines, whose weights are fixed",
            hint="fuse it before: fashionflow export --lora, or fashionflow models merge MODEL LORA -o OUT",
        )
    else:
        backends.check_turns(compile, low_memory)
        start = torch.device("cpu") if low_memory else chosen
        networks = open_with_lora(folder, lora, start, number_type or resolve_dtype("auto", chosen))
        networks = backends.finish(networks, chosen, compile, low_memory)
        config = replace(config, name=f"{config.name}+{Path(lora).resolve().name}")
    patch, channels = config.vae_patch_size, len(config.latents_mean)
    known_channels = {"none": 0, "rgb": 3 + 1, "latents": channels + 1}[config.known_content]
    for what, wanted, found in (
        ("latent channels", channels, networks.latent_channels),
        ("U-Net input channels", channels + known_channels, networks.input_channels),
        ("VAE pixel channels", 3 * patch**2, networks.pixel_shape[0]),
        ("a frame size", (config.height, config.width), tuple(patch * side for side in networks.pixel_shape[1:])),
    ):
        if found != wanted:
            raise FashionFlowError(
                f"{folder}: {MODEL_FILE} asks for {what} {wanted}, the networks have {found}",
                hint="import or pull the model again",
            )
    make_scheduler(folder, config.scheduler)  # a broken one should not be found after minutes of work
    pipe = FashionFlowPipeline(networks, load_processor(folder), config, lambda name: make_scheduler(folder, name))
    if not allow_unverified:
        verify_first_use(folder, pipe)
    return pipe
