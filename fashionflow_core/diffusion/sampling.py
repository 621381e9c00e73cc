"""Sampling loop, which pins known frames at every step, and classifier-free guidance."""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fashionflow_core.config import ModelConfig, ResolvedSettings
from fashionflow_core.diffusion.decoding import check_finite
from fashionflow_core.diffusion.known_frames import KnownFrames
from fashionflow_core.diffusion.schedulers import set_timesteps
from fashionflow_core.runtimes.interface import Networks

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]
OnStep = Callable[[int, int], None]
Sampler = Callable[[KnownFrames, Tensor, Sequence[torch.Generator]], Tensor]


def item_generator(seed: int, item: int) -> torch.Generator:
    """The CPU generator of one item: its stream depends only on (seed, item).

    Order of draws, always float32: local posterior noise, global posterior noise (both only for models
    with `vae_sample`), the initial noise of the whole clip, then the noise of each denoising step that needs some.
    """
    # torch's CPU generator uses 32 bits of its seed. The item is encrypted under the seed, a bijection, so that no two
    # items of a seed share their noise; with a hash two of some 80,000 would collide.
    key = hashlib.sha256(str(seed).encode()).digest()
    low, high = int.from_bytes(key[:4]), int.from_bytes(key[4:8])
    return torch.Generator("cpu").manual_seed(_mix(_mix((item + low) % 2**32) ^ high))


def _mix(x: int) -> int:
    """MurmurHash3's finaliser: a permutation of the 32-bit numbers that spreads neighbours."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = ((x ^ (x >> shift)) * factor) % 2**32
    return x ^ (x >> 16)


def is_guided(timestep: int, interval: tuple[float, float], train_steps: int) -> bool:
    """Whether a step is in the guidance interval, inclusive (`GenerateSettings.guidance_interval`)."""
    # Fractions of the last timestep: 0 is the cleanest one, 1 the noisiest.
    return interval[0] <= timestep / max(train_steps - 1, 1) <= interval[1]


def guided(denoise: Denoise, scale: float, interval: tuple[float, float], train_steps: int) -> Denoise:
    """`denoise` with classifier-free guidance (Ho and Salimans 2022, 2207.12598, equation 6 with w = scale - 1).

    prediction = null + scale (conditioned - null). The null context is zeros, as in training with dropped context and
    under `local` conditioning. The prediction type does not matter: at a given sample and timestep, noise, clean clip
    and velocity are affine maps of each other, which commute with a mixture whose weights sum to 1.

    Args:
        denoise: function of (sample, timestep, context).
        scale: guidance scale; 1: none, returns `denoise` itself, so that results are bit-identical.
        interval: part of the noise schedule with guidance; elsewhere there is one call, bit-identical.
        train_steps: number of timesteps of the noise schedule.
    """
    if scale == 1:
        return denoise

    def guide(sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        conditioned = denoise(sample, timestep, context)
        if not is_guided(int(timestep), interval, train_steps):
            return conditioned
        # A second call, not a doubled batch: engines have a fixed batch, and one clip fills a device.
        null = denoise(sample, timestep, torch.zeros_like(context))
        return null + scale * (conditioned - null)

    return guide


def sample(
    denoise: Denoise,
    scheduler: Any,
    steps: int,
    known: KnownFrames,
    context: Tensor,
    generators: Sequence[torch.Generator],
    callback: OnStep | None = None,
    log_snr: Sequence[float] = (),
) -> Tensor:
    """Denoise clips from noise, with given frames pinned in the network's input at every call.

    The sample and the scheduler's arithmetic are float32 for any dtype of the networks.

    Args:
        denoise: `interface.Networks.denoise`, or `guided` of it: one call per step on full clips.
        scheduler: result of `schedulers.make_scheduler`; its timesteps are set here.
        steps: number of denoising steps.
        known: given frames; their latents also determine shape (b, c, f, h, w) and device.
        context: context tokens (b, n, d); zeros are the null context.
        generators: one CPU generator per item.
        callback: called after each step with (steps done, total steps).
        log_snr: `ModelConfig.log_snr`: range in which steps are evenly spaced; empty: spacing of the scheduler.

    Returns:
        Latents (b, c, f, h, w), with given frames unchanged.

    Raises:
        UsageError: more steps than the noise schedule has.
    """
    device = known.latents.device
    set_timesteps(scheduler, steps, device, log_snr)
    noise = [torch.randn(known.latents[:1].shape, generator=generator) for generator in generators]
    latents = torch.cat(noise).to(device) * scheduler.init_noise_sigma
    # Only stochastic schedulers take a generator.
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    options = {"generator": list(generators)} if takes_generator else {}
    for done, timestep in enumerate(scheduler.timesteps, start=1):
        network_input = known.network_input(scheduler.scale_model_input(latents, timestep))  # (b, c_in, f, h, w)
        prediction = denoise(network_input, timestep, context)  # (b, c, f, h, w)
        latents = scheduler.step(prediction, timestep, latents, **options, return_dict=False)[0]
        if callback is not None:
            callback(done, len(scheduler.timesteps))
    return known.pin(latents)


def counted(on_step: OnStep | None, total: int) -> OnStep:
    """A callback of the sampling loop that counts steps over several clips."""
    done = 0

    def tick(_done: int, _steps: int) -> None:
        nonlocal done
        done += 1
        if on_step is not None:
            on_step(done, total)

    return tick


def sampler(
    networks: Networks, scheduler: Any, config: ModelConfig, request: ResolvedSettings, on_step: OnStep
) -> Sampler:
    """A function of given frames, context and one generator per item that returns latents (b, c, f, h, w).

    Args:
        scheduler: result of `schedulers.make_scheduler`.
        request: request with steps and guidance.
        on_step: called after each step.
    """
    train_steps = scheduler.config.num_train_timesteps
    denoise = guided(networks.denoise, request.guidance_scale, request.guidance_interval, train_steps)

    def run(known: KnownFrames, context: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        latents = sample(denoise, scheduler, request.steps, known, context, generators, on_step, config.log_snr)
        check_finite(latents, "denoising")
        return latents

    return run
