"""Cost estimate of a generation before it runs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fashionflow_core.config import ResolvedSettings
from fashionflow_core.diffusion.conditioning import Conditioner
from fashionflow_core.diffusion.sampling import is_guided, item_generator
from fashionflow_core.diffusion.schedulers import set_timesteps
from fashionflow_core.errors import FashionFlowError, option
from fashionflow_core.generators.requirements import Requirements
from fashionflow_core.utils.device import dtype_name
from fashionflow_core.utils.memory import is_out_of_memory


@dataclass(frozen=True)
class Workload:
    """Work of a run.

    Attributes:
        generated: whether a clip is generated from a photo.
        windows: frames of each clip whose gaps are interpolated.
        frames: frames of the video.
        encoded: images that the VAE encodes.
    """

    generated: bool
    windows: list[int]
    frames: int
    encoded: int


@dataclass(frozen=True)
class RunCost:
    """Estimated cost of a run; JSON-serializable through `dataclasses.asdict`.

    Attributes:
        model: name of the model.
        device, dtype: device and dtype of the networks.
        frames, height, width, fps: properties of the video; without a photo the size of the model's full frame.
        fit, scheduler, seed, conditioning: resolved settings of request and model.
        steps: denoising steps per clip.
        interpolate: frames per input frame; 1: no interpolation.
        clips: number of denoised clips, including interpolation.
        timesteps: noise schedule timesteps, one per step, from noise to clean; for an interpolator its fixed one.
        guidance_scale: scale of guidance; 1: none.
        guided_steps: steps inside the guidance interval; each has a second call of the U-Net.
        unet_calls: sum of steps and guided steps.
        decode_calls: calls of the VAE's decoder, unless memory runs out.
        tflop: 1e12 floating-point operations by part (unet, vae, context) and `total`; a multiply-add counts as two.
        weights_bytes: size of all networks as loaded. Working memory depends on the device's libraries and is not
            estimated.
        seconds: estimated time of denoising and decoding, from timed calls of both; None: not timed.
        requirements: needs of a pipeline of diffusers that is not open yet.
    """

    model: str
    device: str
    dtype: str
    frames: int
    height: int
    width: int
    fps: float
    fit: str
    scheduler: str
    seed: int
    conditioning: str
    steps: int
    interpolate: int
    clips: int
    timesteps: tuple[int, ...]
    guidance_scale: float
    guided_steps: int
    unet_calls: int
    decode_calls: int
    tflop: dict[str, float]
    weights_bytes: int
    seconds: float | None
    requirements: Requirements | None = None

    @classmethod
    def of(
        cls,
        model: str,
        networks: Any,
        request: ResolvedSettings,
        size: tuple[int, int],
        tflop: dict[str, float],
        **counts: Any,
    ) -> "RunCost":
        """The cost of a request, with the fields that every kind of model fills alike.

        Args:
            networks: the model's networks, or a generator's frame source.
            size: height and width of the video.
            tflop: by part, without `total`; empty: unknown.
            counts: the other fields, and those that differ from the request's.
        """
        fields = {
            "model": model,
            "device": str(networks.device),
            "dtype": dtype_name(networks.dtype),
            "height": size[0],
            "width": size[1],
            "tflop": tflop and {**tflop, "total": sum(tflop.values())},
            "weights_bytes": networks.weights_bytes,
        }
        names = ("fps", "fit", "scheduler", "seed", "conditioning", "steps", "interpolate", "guidance_scale")
        return cls(**{name: getattr(request, name) for name in names} | fields | counts)


def make_plan(
    conditioner: Conditioner,
    make_scheduler: Callable[[str], Any],
    request: ResolvedSettings,
    work: Workload,
    size: tuple[int, int],
    measure: bool,
) -> RunCost:
    """Estimate the cost of a run.

    Args:
        conditioner: conditioner with networks and model.json.
        make_scheduler: function from a name to a scheduler.
        request: resolved request.
        work: work of this run.
        size: height and width of the video.
        measure: whether to time calls of the U-Net and the decoder.

    Raises:
        UsageError: more steps than the noise schedule has.
        FashionFlowError: with `measure`, out of memory.
    """
    networks, config = conditioner.networks, conditioner.config
    main = request if work.generated else request.filling
    filling = ([0], 0) if config.interpolator else timesteps_of(make_scheduler, request.filling, config.log_snr)
    timesteps, guided_steps = timesteps_of(make_scheduler, main, config.log_snr) if work.generated else filling
    # frames and U-Net calls of every clip
    clips = [(request.frames, len(timesteps) + guided_steps)] if work.generated else []
    between = [(frames, len(filling[0]) + filling[1]) for frames in work.windows]
    one = {frames: networks.count_flop(frames) for frames, _ in {*clips, *between}}
    flop = {"unet": sum(calls * one[frames]["denoise"] for frames, calls in clips)}
    of_them = "difference" if config.interpolator else "denoise"
    flop["unet"] += sum(calls * one[frames][of_them] for frames, calls in between)
    clips += between
    any_length = one[clips[0][0]]
    flop |= {
        "vae": work.encoded * any_length["encode_image"] + work.frames * any_length["decode"],
        "context": len(clips) * any_length["context"],
    }
    return RunCost.of(
        config.name,
        networks,
        request,
        size,
        {part: count / 1e12 for part, count in flop.items()},
        frames=work.frames,
        scheduler=main.scheduler,
        steps=main.steps,
        clips=len(clips),
        timesteps=tuple(timesteps),
        guided_steps=guided_steps,
        unet_calls=sum(calls for _, calls in clips),
        decode_calls=-(-work.frames // request.decode_chunk),
        seconds=_seconds(conditioner, request, work.frames, clips) if measure else None,
    )


def timesteps_of(
    make_scheduler: Callable[[str], Any], request: ResolvedSettings, log_snr: Sequence[float]
) -> tuple[list[int], int]:
    """Timesteps of a clip, spaced by `ModelConfig.log_snr`, and the number of guided ones."""
    scheduler = make_scheduler(request.scheduler)
    timesteps = set_timesteps(scheduler, request.steps, torch.device("cpu"), log_snr)
    train_steps = scheduler.config.num_train_timesteps
    inside = sum(is_guided(timestep, request.guidance_interval, train_steps) for timestep in timesteps)
    return timesteps, inside if request.guidance_scale != 1 else 0


def _seconds(conditioner: Conditioner, request: ResolvedSettings, frames: int, clips: list[tuple[int, int]]) -> float:
    """Seconds of denoising and decoding, from one call of each on noise of the run's shape."""
    networks = conditioner.networks
    size = (networks.latent_height, networks.latent_width)
    length, chunk = max(clips)[0], min(request.decode_chunk, frames)
    generator = item_generator(0, 0)
    blank = np.zeros((1, conditioner.config.height, conditioner.config.width, 3), np.uint8)
    _, context, _ = conditioner.encode(blank, [generator])
    clip = torch.randn(1, networks.input_channels, length, *size, generator=generator)
    latents = torch.randn(chunk, networks.latent_channels, *size, generator=generator)
    timestep = torch.tensor(0)
    try:
        denoise = _time(lambda: networks.denoise(clip, timestep, context))
        decode = _time(lambda: networks.decode(latents))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise FashionFlowError(
            f"{networks.device}: out of memory with {length} frames, {chunk} per decoder call",
            hint=f"use fewer {option('frames')}, a smaller {option('decode_chunk')}, "
            f"{option('dtype', 'bf16')}, or another {option('device')}",
        ) from None
    return sum(calls * count for count, calls in clips) / length * denoise + frames / chunk * decode


def _time(call: Callable[[], torch.Tensor]) -> float:
    """Seconds of the second call; the first one is warm-up."""
    call().cpu()
    start = time.perf_counter()
    call().cpu()  # waits for the device
    return time.perf_counter() - start
