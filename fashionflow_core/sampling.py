"""The one sampling loop. Generation, batches, benchmarks, evaluation and training previews all walk through here."""

import hashlib
import inspect
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor

from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.known import KnownFrames


class _DDPM(DDPMScheduler):
    """Two corrections of diffusers' arithmetic: coefficients in float64, and no noise in the last step.

    In float32 the differences of numbers near 1 cost 1.6e-4 of a sample at timestep 1 of the published schedule. And
    the last step adds no noise (Ho et al. 2020, algorithm 2, line 3): diffusers looks for timestep 0, but few steps may
    end above it, and `fixed_large` then leaves noise in the result.
    """

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        super().set_timesteps(*args, **kwargs)
        self.alphas_cumprod = (1 - self.betas.double()).cumprod(0)

    def _get_variance(self, t: int, predicted_variance: Any = None, variance_type: Any = None) -> Tensor:
        variance = super()._get_variance(t, predicted_variance, variance_type)
        return variance if self.previous_timestep(t) >= 0 else torch.zeros_like(variance)


# name → scheduler class and what it sets above the model's own noise schedule. DDIM is the first-order DPM-Solver++ (Lu
# et al. 2022, 2211.01095, section 4). Diffusers' own DDIMScheduler assumes that steps lie 1000 // steps apart: with an
# exact denoiser, 600 steps of it end with a deviation 32 % too large.
_SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddpm": (_DDPM, {}),
    "ddim": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 1}),
    "dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
}

_PREDICTIONS = ("epsilon", "sample", "v_prediction")

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]


def make_scheduler(folder: Path, name: str) -> Any:
    """A diffusers scheduler of kind `name` on the noise schedule of a model folder's `scheduler/`.

    The folder fixes betas, prediction type, timestep spacing and variance (`fixed_small` is the posterior variance of
    the published code, `fixed_large` the paper's equation 2); the kind fixes the solver.

    Raises:
        UsageError: no such scheduler.
        FashionFlowError: `scheduler/` is missing or broken.
    """
    if name not in _SCHEDULERS:
        raise UsageError(f"--scheduler: {name!r} is unknown", hint=f"use one of: {', '.join(_SCHEDULERS)}")
    kind, extra = _SCHEDULERS[name]
    if not (folder / "scheduler" / "scheduler_config.json").is_file():
        raise FashionFlowError(
            f"{folder / 'scheduler'}: the model folder lacks this part", hint="import or pull the model again"
        )
    accepted = inspect.signature(kind.__init__).parameters
    try:
        loaded: Any = DDPMScheduler.load_config(folder / "scheduler", local_files_only=True)
        config: dict[str, Any] = dict(loaded)
        if config.get("prediction_type", "epsilon") not in _PREDICTIONS:
            raise ValueError(f"prediction_type {config['prediction_type']!r} is none of {', '.join(_PREDICTIONS)}")
        return kind.from_config({k: v for k, v in config.items() if k in accepted}, **extra)
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise FashionFlowError(
            f"{folder / 'scheduler'}: cannot be opened ({textwrap.shorten(str(error), 300)})",
            hint="import or pull the model again",
        ) from None


def item_generator(seed: int, item: int) -> torch.Generator:
    """The CPU generator of one item: its stream depends on (seed, item) and on nothing else.

    It is drawn from in this order, always float32: local posterior noise, global posterior noise (both only for models
    with `vae_sample`), the initial noise of the whole clip, then the noise of each denoising step that needs some.
    """
    # Torch's CPU generator keeps 32 bits of its seed. So the item is enciphered under the seed, one to one: no two
    # items of a seed share their noise, where a hash of the pair would let two of some 80,000 do so.
    key = hashlib.sha256(str(seed).encode()).digest()
    low, high = int.from_bytes(key[:4]), int.from_bytes(key[4:8])
    return torch.Generator("cpu").manual_seed(_mix(_mix((item + low) % 2**32) ^ high))


def _mix(x: int) -> int:
    """MurmurHash3's finaliser: a permutation of the 32-bit numbers that spreads neighbours."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = ((x ^ (x >> shift)) * factor) % 2**32
    return x ^ (x >> 16)


def log_snr_timesteps(scheduler: Any, steps: int, log_snr: Sequence[float]) -> list[int]:
    """Timesteps spaced evenly in the logarithm of the signal-to-noise ratio, falling.

    Even timesteps of a schedule that lingers at high noise leave the last of few steps far from clean: at 10 steps an
    exact denoiser then loses two thirds of the deviation of fine detail (0.2 of the data's), and spaced so under 1 %.

    Args:
        scheduler: with `alphas_cumprod`.
        steps: how many; the first is always the schedule's last timestep, where sampling starts from pure noise.
        log_snr: from where to where the other steps go, lowest first: log(abar / (1 - abar)).
    """
    alphas_cumprod = scheduler.alphas_cumprod.double().clamp(min=2**-24)
    ladder = torch.log(alphas_cumprod) - torch.log1p(-alphas_cumprod)
    last = len(ladder) - 1
    aims = torch.linspace(*log_snr, steps=max(steps - 1, 0), dtype=torch.float64)
    found = [last] + [int((ladder - aim).abs().argmin()) for aim in aims]
    # Many steps would meet on one timestep: each keeps below the one before, and leaves room for those that follow.
    for i in range(1, steps):
        found[i] = max(min(found[i], found[i - 1] - 1), steps - 1 - i)
    return found


def _set_timesteps(scheduler: Any, steps: int, device: torch.device, log_snr: Sequence[float]) -> None:
    if log_snr:
        scheduler.set_timesteps(timesteps=log_snr_timesteps(scheduler, steps, log_snr), device=device)
        return
    scheduler.set_timesteps(steps, device=device)
    train_steps, found = scheduler.config.num_train_timesteps, scheduler.timesteps
    if len(found) != steps or len(found.unique()) != steps or found.min() < 0:
        # Diffusers 0.42 counts "trailing" in floats and for some numbers of steps (61, 103, ...) goes on to timestep
        # -1, which is pure noise; "leading" gives DPM-Solver++ nothing but zeros at all 1000. These are the evenly
        # spaced ones ("Common Diffusion Noise Schedules and Sample Steps Are Flawed", 2305.08891, table 2, trailing).
        even = [round(train_steps * (steps - i) / steps) - 1 for i in range(steps)]
        scheduler.set_timesteps(timesteps=even, device=device)


def sample(
    denoise: Denoise,
    scheduler: Any,
    steps: int,
    known: KnownFrames,
    context: Tensor,
    generators: Sequence[torch.Generator],
    callback: Callable[[int, int], None] | None = None,
    log_snr: Sequence[float] = (),
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
        log_snr: `ModelConfig.log_snr`: space the steps evenly between these two; empty: as the scheduler does.

    Returns:
        latents (b, c, f, h, w), given frames exactly as given.

    Raises:
        UsageError: more steps than the noise schedule has.
    """
    train_steps = scheduler.config.num_train_timesteps
    if steps > train_steps:
        raise UsageError(f"--steps: {steps} are more than the {train_steps} of the model's noise schedule")
    device = known.latents.device
    _set_timesteps(scheduler, steps, device, log_snr)
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
