"""Photo → video, as named steps over networks, scheduler and conventions: fit, condition, sample, decode.

A plain composition. Networks come from any runtime of `backends`; nothing here knows which.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
from fashionflow_core.config import GenerateSettings, ModelConfig
from fashionflow_core.contract import Networks
from fashionflow_core.device import resolve_device, resolve_dtype
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
            FashionFlowError: out of memory, with what to do.
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
                self.networks.denoise, self.make_scheduler(name), steps, known, context, generators, on_step
            )
        except torch.OutOfMemoryError:
            raise FashionFlowError(
                f"{self.networks.device}: out of memory while denoising {frames} frames",
                hint="use fewer --frames, --dtype bf16, or another --device",
            ) from None
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
            FashionFlowError: not even one frame fits into memory.
        """
        vae_latents = rearrange(denormalize_latents(latents, self.config), "1 c f h w -> f c h w")
        start = 0
        while start < len(vae_latents):
            try:
                pixels = self.networks.decode(vae_latents[start : start + chunk])
            except torch.OutOfMemoryError:
                if chunk == 1:
                    raise FashionFlowError(
                        f"{self.networks.device}: out of memory while decoding one frame",
                        hint="use --dtype bf16 or another --device",
                    ) from None
                chunk //= 2
                continue
            frames = tensor_to_frames(from_vae_pixels(pixels, self.config))
            start += len(frames)
            for frame in frames:
                if box is not None:
                    frame = frame[box.top : box.top + box.height, box.left : box.left + box.width]
                yield frame


def load(
    folder: str | Path, device: str = "auto", dtype: str = "auto", backend: str = "torch"
) -> FashionFlowPipeline:
    """Open a model folder.

    Args:
        folder: a model folder (DESIGN: `model.json` and one folder a part).
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: auto, fp32, bf16, fp16.

    Raises:
        FashionFlowError: the folder is not a model, or a part is missing or broken.
        UsageError: a device or dtype this machine does not have.
    """
    folder = Path(folder)
    config = ModelConfig.load(folder)
    chosen = resolve_device(device)
    networks = backends.load(folder, backend, chosen, resolve_dtype(dtype, chosen))
    if len(config.latents_mean) != networks.latent_channels:
        raise FashionFlowError(
            f"{folder}: model.json has {len(config.latents_mean)} latent channels, the networks have "
            f"{networks.latent_channels}"
        )
    return FashionFlowPipeline(
        networks, load_processor(folder), config, lambda name: make_scheduler(folder, name)
    )
