"""The one sampling loop. Generation, batches, benchmarks, evaluation and training previews all walk through here."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor

from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.known import KnownFrames

# name → scheduler class and what it sets above the model's own noise schedule
_SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddpm": (DDPMScheduler, {}),
    "ddim": (DDIMScheduler, {"set_alpha_to_one": True}),
    "dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
}

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]


def make_scheduler(folder: Path, name: str) -> Any:
    """A diffusers scheduler of kind `name` on the noise schedule of a model folder's `scheduler/`.

    The folder fixes betas, prediction type, timestep spacing and variance (`fixed_small` is the posterior variance of
    the published code, `fixed_large` the paper's equation 2); the kind fixes the solver.

    Raises:
        UsageError: no such scheduler.
        FashionFlowError: the folder lacks `scheduler/`.
    """
    if name not in _SCHEDULERS:
        raise UsageError(f"--scheduler: {name!r} is unknown", hint=f"use one of: {', '.join(_SCHEDULERS)}")
    kind, extra = _SCHEDULERS[name]
    try:
        config = dict(DDPMScheduler.load_config(folder / "scheduler", local_files_only=True))
    except (OSError, ValueError):
        raise FashionFlowError(
            f"{folder / 'scheduler'}: cannot be opened", hint="import or pull the model again"
        ) from None
    accepted = inspect.signature(kind.__init__).parameters
    return kind.from_config({k: v for k, v in config.items() if k in accepted}, **extra)


def item_generator(seed: int, item: int) -> torch.Generator:
    """The CPU generator of one item: its stream depends on (seed, item) and on nothing else.

    It is drawn from in this order, always float32: local posterior noise, global posterior noise (both only for models
    with `vae_sample`), the initial noise of the whole clip, then the noise of each denoising step that needs some.
    """
    # SplitMix64's finaliser spreads neighbouring (seed, item) pairs over the whole 64-bit range.
    mixed = (seed * 0x9E3779B97F4A7C15 + item * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) % 2**64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) % 2**64
    mixed ^= mixed >> 31
    return torch.Generator("cpu").manual_seed(mixed - 2**63)


def sample(
    denoise: Denoise,
    scheduler: Any,
    steps: int,
    known: KnownFrames,
    context: Tensor,
    generators: Sequence[torch.Generator],
    callback: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Denoise clips from noise, given frames pinned in the network's input at every call.

    The sample and the scheduler's arithmetic stay in float32 whatever the networks compute in.

    Args:
        denoise: `contract.Networks.denoise`: one call a step on the whole clips.
        scheduler: a diffusers scheduler; its timesteps are set here.
        steps: number of denoising steps.
        known: given frames; their latents also fix shape (b, c, f, h, w) and device.
        context: context tokens (b, n, d).
        generators: one CPU generator an item.
        callback: called after each step with (steps done, steps in all).

    Returns:
        latents (b, c, f, h, w), given frames exactly as given.

    Raises:
        UsageError: more steps than the noise schedule has.
    """
    train_steps = scheduler.config.num_train_timesteps
    if steps > train_steps:
        raise UsageError(f"--steps: {steps} are more than the {train_steps} of the model's noise schedule")
    device = known.latents.device
    scheduler.set_timesteps(steps, device=device)
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
