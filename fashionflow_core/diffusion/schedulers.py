"""Schedulers: diffusers' samplers on a model's noise schedule.

Common contract with the sampling loop: any number of steps from 1 to the schedule's length, decreasing integer
timesteps, noise of deviation 1 (as in training) at the first, and no remaining noise after the last.
"""

import inspect
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

from fashionflow_core.errors import FashionFlowError, SettingError
from fashionflow_core.utils.model_parts import check_scheduler

# Their constructors are wrapped, which hides `config` and the arguments of `set_timesteps` from pyright.
_UniPCBase: Any = UniPCMultistepScheduler
_EulerBase: Any = EulerDiscreteScheduler
_LCMBase: Any = LCMScheduler


class _DDPM(DDPMScheduler):
    """Two corrections of diffusers' arithmetic: coefficients in float64, and no noise in the last step.

    In float32 the differences of numbers near 1 cause an error of 1.6e-4 of a sample at timestep 1 of the published
    schedule. The last step must not add noise (Ho et al. 2020, algorithm 2, line 3): diffusers tests for timestep 0,
    but few steps may end above it, where `fixed_large` leaves noise in the result.
    """

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        super().set_timesteps(*args, **kwargs)
        self.alphas_cumprod = (1 - self.betas.double()).cumprod(0)

    def _get_variance(self, t: int, predicted_variance: Any = None, variance_type: Any = None) -> Tensor:
        variance = super()._get_variance(t, predicted_variance, variance_type)
        return variance if self.previous_timestep(t) >= 0 else torch.zeros_like(variance)


class _UniPC(_UniPCBase):
    """Accepts timesteps like the other schedulers; that of diffusers supports only evenly spaced ones."""

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, timesteps: Sequence[int] | None = None
    ) -> None:
        if timesteps is None:
            super().set_timesteps(num_inference_steps, device=device)
            return
        super().set_timesteps(len(timesteps), device=device)
        found = torch.tensor(timesteps)
        abar = self.alphas_cumprod.cpu()[found]
        self.sigmas = torch.cat(((1 - abar).sqrt() / abar.sqrt(), torch.zeros(1)))
        self.timesteps, self.num_inference_steps = found.to(device), len(timesteps)


class _Euler(_EulerBase):
    """Euler with noise of deviation 1 after input scaling, on integer timesteps.

    diffusers starts from noise of deviation sigma, slightly too weak after scaling, and spaces "linspace" in fractional
    timesteps, which no network was trained on, down to timestep 0, where no noise is left. Here the steps are those of
    the multistep solvers.
    """

    @property
    def init_noise_sigma(self) -> Tensor:
        return (self.sigmas.max() ** 2 + 1) ** 0.5

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, timesteps: Sequence[int] | None = None
    ) -> None:
        if timesteps is None:
            sibling: Any = DPMSolverMultistepScheduler(
                self.config.num_train_timesteps,
                timestep_spacing=self.config.timestep_spacing,
                steps_offset=self.config.steps_offset,
            )
            sibling.set_timesteps(num_inference_steps)
            timesteps = sibling.timesteps.tolist()
        super().set_timesteps(timesteps=timesteps, device=device)
        self.timesteps = self.timesteps.long()

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, **options: Any) -> Any:
        # diffusers mistakes integers for indices and rejects them.
        return super().step(model_output, timestep.float(), sample, **options)


class _LCM(_LCMBase):
    """LCM with steps spaced over the whole noise schedule.

    diffusers allows only a grid of 50 timesteps, that of Stable Diffusion's distilled models.
    """

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, timesteps: Sequence[int] | None = None
    ) -> None:
        super().set_timesteps(
            num_inference_steps, device, self.config.num_train_timesteps, timesteps=list(timesteps or ()) or None
        )


# Name → scheduler class and overrides of the model's noise schedule. DDIM is the first-order DPM-Solver++ (Lu et al.
# 2022, 2211.01095, section 4): diffusers' DDIMScheduler assumes a step of 1000 // steps, so that with an exact denoiser
# 600 steps end with a deviation 32 % too large. Euler's method on sigma is DDIM in other variables (Song et al. 2020,
# 2010.02502, equation 14), available under its common name.
_SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddpm": (_DDPM, {}),
    "ddpm-large": (_DDPM, {"variance_type": "fixed_large"}),  # beta_t, the paper's equation 2
    "ddim": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 1}),
    "dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpm++-sde": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
    "unipc": (_UniPC, {"solver_order": 2}),
    "euler": (_Euler, {}),
    "lcm": (_LCM, {}),
}

_PREDICTIONS = ("epsilon", "sample", "v_prediction")


def make_scheduler(folder: Path, name: str) -> Any:
    """A diffusers scheduler of kind `name` on the noise schedule of a model folder's `scheduler/`.

    The folder determines betas, prediction type, timestep spacing and variance (`fixed_small` is the posterior variance
    of the published code, `fixed_large` the paper's equation 2); the kind determines the solver. `ddpm-large` is DDPM
    with `fixed_large`, whatever the folder contains.

    Raises:
        UsageError: no such scheduler.
        FashionFlowError: `scheduler/` is missing or damaged.
    """
    if name not in _SCHEDULERS:
        raise SettingError("scheduler", f"unknown scheduler {name!r}", hint=f"use one of: {', '.join(_SCHEDULERS)}")
    kind, extra = _SCHEDULERS[name]
    if not (folder / "scheduler" / "scheduler_config.json").is_file():
        raise FashionFlowError(
            f"{folder / 'scheduler'}: missing part of the model folder", hint="import or pull the model again"
        )
    check_scheduler(folder / "scheduler")
    accepted = inspect.signature(kind.__init__).parameters
    try:
        loaded: Any = DDPMScheduler.load_config(folder / "scheduler", local_files_only=True)
        config: dict[str, Any] = dict(loaded)
        if config.get("prediction_type", "epsilon") not in _PREDICTIONS:
            raise ValueError(f"prediction_type {config['prediction_type']!r} is not one of {', '.join(_PREDICTIONS)}")
        return kind.from_config({k: v for k, v in config.items() if k in accepted}, **extra)
    # NotImplementedError: raised by diffusers for an unknown beta schedule.
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise FashionFlowError(
            f"{folder / 'scheduler'}: cannot be loaded ({textwrap.shorten(str(error), 300)})",
            hint="import or pull the model again",
        ) from None


def log_snr_timesteps(scheduler: Any, steps: int, log_snr: Sequence[float]) -> list[int]:
    """Decreasing timesteps, evenly spaced in log-SNR.

    On a schedule that dwells at high noise, few evenly spaced timesteps end far from clean: at 10 steps an exact
    denoiser loses two thirds of the deviation of fine detail (0.2 of the data's), with log-SNR spacing under 1 %.

    Args:
        scheduler: scheduler with `alphas_cumprod`.
        steps: number of steps; the first is always the last timestep of the schedule, pure noise.
        log_snr: range of the other steps, lowest first: log(abar / (1 - abar)).
    """
    alphas_cumprod = scheduler.alphas_cumprod.double().clamp(min=2**-24)
    ladder = torch.log(alphas_cumprod) - torch.log1p(-alphas_cumprod)
    last = len(ladder) - 1
    aims = torch.linspace(*log_snr, steps=max(steps - 1, 0), dtype=torch.float64)
    found = [last] + [int((ladder - aim).abs().argmin()) for aim in aims]
    # Steps may round to the same timestep: keep each below the one before, with room for the following ones.
    for i in range(1, steps):
        found[i] = max(min(found[i], found[i - 1] - 1), steps - 1 - i)
    return found


def set_timesteps(scheduler: Any, steps: int, device: torch.device, log_snr: Sequence[float] = ()) -> list[int]:
    """Set the timesteps of a scheduler of `make_scheduler`, and return them: decreasing integers.

    Args:
        steps: number of steps.
        log_snr: `ModelConfig.log_snr`: range in which steps are evenly spaced; empty: spacing of the scheduler.

    Raises:
        UsageError: more steps than the noise schedule has.
    """
    train_steps = scheduler.config.num_train_timesteps
    if steps > train_steps:
        raise SettingError("steps", f"{steps} exceeds the {train_steps} of the model's noise schedule")
    if log_snr:
        scheduler.set_timesteps(timesteps=log_snr_timesteps(scheduler, steps, log_snr), device=device)
        return scheduler.timesteps.tolist()
    scheduler.set_timesteps(steps, device=device)
    found = scheduler.timesteps
    if len(found) != steps or len(found.unique()) != steps or found.min() < 0 or found.max() == 0:
        # diffusers 0.42 computes "trailing" in floats and for some numbers of steps (61, 103, ...) continues to
        # timestep -1, which is pure noise; "leading" gives the multistep solvers only zeros at all 1000, and a single
        # step only the clean end. These are evenly spaced ("Common Diffusion Noise Schedules and Sample Steps Are
        # Flawed", 2305.08891, table 2, trailing).
        even = [round(train_steps * (steps - i) / steps) - 1 for i in range(steps)]
        scheduler.set_timesteps(timesteps=even, device=device)
    return scheduler.timesteps.tolist()
