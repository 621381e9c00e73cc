"""Photo → video, as named steps over networks, scheduler and conventions: fit, condition, sample, decode.

A plain composition. Networks come from any runtime of `backends`; nothing here knows which.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from PIL import Image, ImageOps
from torch import Tensor

from fashionflow_core import backends, video
from fashionflow_core.conditioning import Conditioner, condition, load_processor, tensor_to_frames
from fashionflow_core.config import MODEL_FILE, GenerateSettings, ModelConfig, ResolvedSettings
from fashionflow_core.contract import Networks
from fashionflow_core.conventions import denormalize_latents, from_vae_pixels
from fashionflow_core.device import is_out_of_memory, resolve_device, resolve_dtype
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, UsageError
from fashionflow_core.foreground import warn_if_no_figure
from fashionflow_core.image import Box, fit
from fashionflow_core.photo import load_photo
from fashionflow_core.plan import Plan, make_plan
from fashionflow_core.sampling import guided, item_generator, sample
from fashionflow_core.schedulers import make_scheduler
from fashionflow_core.srgb import to_srgb

OnStep = Callable[[int, int], None]
Photo = str | Path | np.ndarray | Image.Image


@dataclass(frozen=True)
class Clip:
    """One generated video: its latents, decoded whenever frames are asked for.

    Attributes:
        count, fps, height, width: of the video; the pad bars of the fit are cropped off already.
        latents: float32 (1, c, count, h, w).
        metadata: what made the video, for the file's own metadata.
        decode: latents → a fresh iterator of frames.
    """

    count: int
    fps: float
    height: int
    width: int
    latents: Tensor = field(repr=False)
    metadata: dict[str, str]
    decode: Callable[[], Iterator[np.ndarray]] = field(repr=False)

    @property
    def frames(self) -> Iterator[np.ndarray]:
        """The frames, uint8 (height, width, 3), decoded as they are asked for; every time from the first one on."""
        return self.decode()

    def save(self, path: str | Path, **options: Any) -> video.VideoInfo:
        """Write the video; its suffix chooses the format. An existing file is replaced once the new one is whole.

        Args:
            path: the file.
            options: of `video.write`.

        Raises:
            FashionFlowError: as `video.write`, and as decoding.
        """
        return video.write(self.frames, path, fps=self.fps, count=self.count, metadata=self.metadata, **options)


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
            FashionFlowError: the photo cannot be read; out of memory, or numbers beyond what the number type holds,
                with what to do.
        """
        config = self.config
        request = self.resolve(replace(settings or GenerateSettings(), **changes))
        fitted = fit(as_pixels(photo), config.height, config.width, request.fit, config.resample)
        generators = [item_generator(request.seed, item)]
        scheduler = self.make_scheduler(request.scheduler)
        denoise = guided(
            self.networks.denoise,
            request.guidance_scale,
            request.guidance_interval,
            scheduler.config.num_train_timesteps,
        )
        try:
            encoded = self.conditioner.encode(fitted.pixels[None], generators)
            known, context = condition(*encoded, request.frames, request.conditioning, config.mask_fill)
            latents = sample(denoise, scheduler, request.steps, known, context, generators, on_step, config.log_snr)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise FashionFlowError(
                f"{self.networks.device}: out of memory while denoising {request.frames} frames",
                hint="use fewer --frames, --dtype bf16, or another --device",
            ) from None
        _check_finite(latents, "denoising")
        guidance = {
            "fashionflow_guidance": f"{request.guidance_scale:g}",
            "fashionflow_guidance_interval": "{:g} {:g}".format(*request.guidance_interval),
        }
        return Clip(
            count=request.frames,
            fps=request.fps,
            height=fitted.box.height,
            width=fitted.box.width,
            latents=latents,
            metadata={
                "title": f"FashionFlow, model {config.name}",
                "fashionflow_model": config.name,
                "fashionflow_seed": str(request.seed),
                "fashionflow_item": str(item),
                "fashionflow_scheduler": request.scheduler,
                "fashionflow_steps": str(request.steps),
                "fashionflow_fit": request.fit,
                "fashionflow_conditioning": request.conditioning,
            }
            | (guidance if request.guidance_scale != 1 else {}),
            decode=lambda: self.decode(latents, fitted.box, request.decode_chunk),
        )

    def plan(
        self,
        settings: GenerateSettings | None = None,
        photo: Photo | None = None,
        measure: bool = False,
        **changes: Any,
    ) -> Plan:
        """What `generate` would do with these settings, and what that costs; none of it is done.

        Args:
            settings, changes: as for `generate`.
            photo: as for `generate`; without one the size of the video is that of the model's whole frame.
            measure: also time one call of the U-Net and one of the decoder, each after an untimed one.

        Raises:
            UsageError: settings the model cannot meet.
            FashionFlowError: the photo cannot be read; with `measure`, out of memory.
        """
        request = self.resolve(replace(settings or GenerateSettings(), **changes))
        size = request.size
        if photo is not None:
            box = fit(as_pixels(photo), *size, request.fit, self.config.resample).box
            size = (box.height, box.width)
        return make_plan(self.conditioner, self.make_scheduler(request.scheduler), request, size, measure)

    def decode(self, latents: Tensor, box: Box | None = None, chunk: int = 7) -> Iterator[np.ndarray]:
        """Decode frames in chunks, as they are asked for.

        Args:
            latents: (1, c, f, h, w).
            box: part of the frame to keep; None: all of it.
            chunk: frames decoded at a time; halved for good whenever the device runs out of memory.

        Yields:
            uint8 (height, width, 3).

        Raises:
            FashionFlowError: not even one frame fits into memory, or the VAE gave no numbers.
        """
        vae_latents = rearrange(denormalize_latents(latents, self.config), "1 c f h w -> f c h w")
        start, batch = 0, self.networks.decode_batch
        chunk = max(chunk // batch, 1) * batch  # engines fill up what is less
        while start < len(vae_latents):
            try:
                pixels = self.networks.decode(vae_latents[start : start + chunk])
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if chunk == 1:
                    raise FashionFlowError(
                        f"{self.networks.device}: out of memory while decoding one frame",
                        hint="use --dtype bf16 or another --device",
                    ) from None
                chunk //= 2
                continue
            _check_finite(pixels, "decoding")
            frames = tensor_to_frames(from_vae_pixels(pixels, self.config))
            start += len(frames)
            for frame in frames:
                if box is not None:
                    frame = frame[box.top : box.top + box.height, box.left : box.left + box.width]
                yield frame


def as_pixels(photo: Photo) -> np.ndarray:
    """A photo as uint8 (h, w, 3): of a file or a Pillow image (upright, on white, in sRGB), or such an array itself.

    Raises:
        FashionFlowError: the file is no photo that `load_photo` can read; the image holds samples of unknown range.
    """
    if isinstance(photo, str | Path):
        pixels = load_photo(photo)
        warn_if_no_figure(pixels, str(photo))
        return pixels
    if isinstance(photo, np.ndarray):
        return photo  # `fit` looks at it closely
    if not isinstance(photo, Image.Image):
        raise FashionFlowError(
            f"photo: is of type {type(photo).__name__}", hint="give a path, a Pillow image, or a uint8 array (h, w, 3)"
        )
    notes: list[str] = []
    try:
        pixels = to_srgb(ImageOps.exif_transpose(photo), (255, 255, 255), notes)
    except ValueError as error:
        raise FashionFlowError(f"photo: {error}", hint='convert it first: image.convert("RGB")') from None
    for note in notes:
        warnings.warn(f"photo: {note}", FashionFlowWarning, stacklevel=3)
    return pixels


def _check_finite(values: Tensor, doing: str) -> None:
    """Half precision may overflow; frames made of that would be black, and nothing would say why."""
    if not bool(values.isfinite().all()):
        raise FashionFlowError(
            f"{doing} gave values that are not finite numbers",
            hint="use --dtype fp32 (or bf16); if it is fp32 already, the model's weights are broken",
        )


def load(
    folder: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "auto",
    allow_unverified: bool = False,
    compile: bool = False,
) -> FashionFlowPipeline:
    """Open a model folder, or an engine folder.

    Args:
        folder: a model folder (DESIGN: `model.json` and one folder a part).
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: auto, fp32, bf16, fp16; engines compute in the type they were exported in.
        backend: as for `backends.load`.
        allow_unverified, compile: as for `backends.load`.

    Raises:
        FashionFlowError: the folder is not a model, a part is missing or broken, or parts do not belong together.
        UsageError: a device or dtype this machine does not have.
    """
    folder = Path(folder)
    config = ModelConfig.load(folder)
    chosen = resolve_device(device)
    number_type = None if dtype == "auto" else resolve_dtype(dtype, chosen)
    networks = backends.load(folder, backend, chosen, number_type, allow_unverified, compile)
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
    return FashionFlowPipeline(networks, load_processor(folder), config, lambda name: make_scheduler(folder, name))
