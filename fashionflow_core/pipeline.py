"""Photo → video, as named steps over networks, scheduler and conventions: fit, condition, sample, decode.

A plain composition. Networks come from any runtime of `backends`; nothing here knows which.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from torch import Tensor

from fashionflow_core import backends
from fashionflow_core.conditioning import (
    Conditioner,
    denormalize_latents,
    from_vae_pixels,
    load_processor,
    tensor_to_frames,
)
from fashionflow_core.config import MODEL_FILE, GenerateSettings, ModelConfig
from fashionflow_core.contract import Networks
from fashionflow_core.device import is_out_of_memory, resolve_device, resolve_dtype
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.image import Box, fit
from fashionflow_core.known import KnownFrames
from fashionflow_core.sampling import item_generator, make_scheduler, sample

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Clip:
    """One generated video.

    Attributes:
        frames: iterator of uint8 (height, width, 3), decoded as they are asked for; it can be walked once.
        count, fps, height, width: of the video; the pad bars of the fit are cropped off already.
        latents: what is being decoded, float32 (1, c, count, h, w).
        metadata: what made the video, for the file's own metadata.
    """

    frames: Iterator[np.ndarray]
    count: int
    fps: float
    height: int
    width: int
    latents: Tensor
    metadata: dict[str, str]


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

    def check(self, settings: GenerateSettings) -> None:
        """Refuse what the model cannot do, before any work.

        Raises:
            UsageError: another frame size than the model's, or a number of frames its U-Net cannot halve.
        """
        native = (self.config.height, self.config.width)
        if settings.size is not None and settings.size != native:
            raise UsageError(
                f"--size: {settings.size[0]}x{settings.size[1]} is not possible with model {self.config.name}: "
                f"its adapter is tied to {native[0]}x{native[1]} (height x width)",
                hint="leave --size out, or choose another model",
            )
        frames = settings.frames or self.config.frames
        if frames % self.networks.frame_divisor:
            raise UsageError(
                f"--frames: {frames} is not a multiple of {self.networks.frame_divisor}, which model "
                f"{self.config.name} needs"
            )

    def generate(
        self, photo: np.ndarray, settings: GenerateSettings, item: int = 0, on_step: OnStep | None = None
    ) -> Clip:
        """Generate one video from one photo.

        Args:
            photo: uint8 (h, w, 3), sRGB, upright, any size.
            settings: the request.
            item: with the seed it fixes all randomness; number the photos of a batch, or the variations of a photo.
            on_step: called after each denoising step with (steps done, steps in all).

        Raises:
            UsageError: settings the model cannot meet.
            FashionFlowError: out of memory, or numbers beyond what the number type holds, with what to do.
        """
        config = self.config
        self.check(settings)
        fitted = fit(photo, config.height, config.width, settings.fit or config.fit, config.resample)
        frames = settings.frames or config.frames
        fps = settings.fps or config.fps
        name, steps = settings.scheduler or config.scheduler, settings.steps or config.steps
        generators = [item_generator(settings.seed, item)]
        try:
            latent, context, content = self.conditioner.encode(fitted.pixels[None], generators)
            known = KnownFrames.first(latent, frames, content, config.mask_fill)
            latents = sample(
                self.networks.denoise,
                self.make_scheduler(name),
                steps,
                known,
                context,
                generators,
                on_step,
                config.log_snr,
            )
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise FashionFlowError(
                f"{self.networks.device}: out of memory while denoising {frames} frames",
                hint="use fewer --frames, --dtype bf16, or another --device",
            ) from None
        _check_finite(latents, "denoising")
        return Clip(
            frames=self.decode(latents, fitted.box, settings.decode_chunk),
            count=frames,
            fps=fps,
            height=fitted.box.height,
            width=fitted.box.width,
            latents=latents,
            metadata={
                "title": f"FashionFlow, model {config.name}",
                "fashionflow_model": config.name,
                "fashionflow_seed": str(settings.seed),
                "fashionflow_item": str(item),
                "fashionflow_scheduler": name,
                "fashionflow_steps": str(steps),
                "fashionflow_fit": settings.fit or config.fit,
            },
        )

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
        start = 0
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


def _check_finite(values: Tensor, doing: str) -> None:
    """Half precision may overflow; frames made of that would be black, and nothing would say why."""
    if not bool(values.isfinite().all()):
        raise FashionFlowError(
            f"{doing} gave values that are not finite numbers",
            hint="use --dtype fp32 (or bf16); if it is fp32 already, the model's weights are broken",
        )


def load(folder: str | Path, device: str = "auto", dtype: str = "auto", backend: str = "torch") -> FashionFlowPipeline:
    """Open a model folder.

    Args:
        folder: a model folder (DESIGN: `model.json` and one folder a part).
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: auto, fp32, bf16, fp16.

    Raises:
        FashionFlowError: the folder is not a model, a part is missing or broken, or parts do not belong together.
        UsageError: a device or dtype this machine does not have.
    """
    folder = Path(folder)
    config = ModelConfig.load(folder)
    chosen = resolve_device(device)
    networks = backends.load(folder, backend, chosen, resolve_dtype(dtype, chosen))
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
