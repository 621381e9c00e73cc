"""Schedulers: diffusers' samplers on a model's noise schedule.

All of them keep one agreement with the loop: any number of steps from 1 to the schedule's length, whole timesteps that
fall, pure noise of deviation 1 (as the network saw it in training) at the first, no noise left behind by the last.
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

# Their constructors are wrapped, and pyright then sees neither `config` nor the arguments of `set_timesteps`.
_UniPCBase: Any = UniPCMultistepScheduler
_EulerBase: Any = EulerDiscreteScheduler
_LCMBase: Any = LCMScheduler


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


class _UniPC(_UniPCBase):
    """Takes timesteps, as its siblings do: diffusers' own knows only evenly spaced ones."""

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
    """Starts from noise of deviation 1 after its input scaling, on whole timesteps.

    Diffusers starts from noise of deviation sigma, which reaches the network a little too faint. And it spaces
    "linspace" in fractions of timesteps, on which no network was trained, down to timestep 0, where nothing is left to
    do: here the steps are those of its siblings, the multistep solvers.
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
        # It takes whole numbers for indices by mistake, and refuses them.
        return super().step(model_output, timestep.float(), sample, **options)


class _LCM(_LCMBase):
    """Spaces its steps over the whole noise schedule.

    Diffusers allows only timesteps of a grid of 50, on which Stable Diffusion's distilled models were trained.
    """

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, timesteps: Sequence[int] | None = None
    ) -> None:
        super().set_timesteps(
            num_inference_steps, device, self.config.num_train_timesteps, timesteps=list(timesteps or ()) or None
        )


# name → scheduler class and what it sets above the model's own noise schedule. DDIM is the first-order DPM-Solver++ (Lu
# et al. 2022, 2211.01095, section 4). Diffusers' own DDIMScheduler assumes that steps lie 1000 // steps apart: with an
# exact denoiser, 600 steps of it end with a deviation 32 % too large. Euler's method on sigma is DDIM in other
# variables (Song et al. 2020, 2010.02502, equation 14): it is here under the name that others know it by.
_SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddpm": (_DDPM, {}),
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

    The folder fixes betas, prediction type, timestep spacing and variance (`fixed_small` is the posterior variance of
    the published code, `fixed_large` the paper's equation 2); the kind fixes the solver.

    Raises:
        UsageError: no such scheduler.
        FashionFlowError: `scheduler/` is missing or broken.
    """
    if name not in _SCHEDULERS:
        raise SettingError("scheduler", f"{name!r} is unknown", hint=f"use one of: {', '.join(_SCHEDULERS)}")
    kind, extra = _SCHEDULERS[name]
    if not (folder / "scheduler" / "scheduler_config.json").is_file():
        raise FashionFlowError(
            f"{folder / 'scheduler'}: the model folder lacks this part", hint="import or pull the model again"
        )
    check_scheduler(folder / "scheduler")
    accepted = inspect.signature(kind.__init__).parameters
    try:
        loaded: Any = DDPMScheduler.load_config(folder / "scheduler", local_files_only=True)
        config: dict[str, Any] = dict(loaded)
        if config.get("prediction_type", "epsilon") not in _PREDICTIONS:
            raise ValueError(f"prediction_type {config['prediction_type']!r} is none of {', '.join(_PREDICTIONS)}")
        return kind.from_config({k: v for k, v in config.items() if k in accepted}, **extra)
    # NotImplementedError: diffusers, of an unknown beta schedule.
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise FashionFlowError(
            f"{folder / 'scheduler'}: cannot be opened ({textwrap.shorten(str(error), 300)})",
            hint="import or pull the model again",
        ) from None


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


def set_timesteps(scheduler: Any, steps: int, device: torch.device, log_snr: Sequence[float] = ()) -> list[int]:
    """Set the timesteps that a scheduler of `make_scheduler` walks, and return them: whole numbers that fall.

    Args:
        steps: how many.
        log_snr: `ModelConfig.log_snr`: space the steps evenly between these two; empty: as the scheduler does.

    Raises:
        UsageError: more steps than the noise schedule has.
    """
    train_steps = scheduler.config.num_train_timesteps
    if steps > train_steps:
        raise SettingError("steps", f"{steps} are more than the {train_steps} of the model's noise schedule")
    if log_snr:
        scheduler.set_timesteps(timesteps=log_snr_timesteps(scheduler, steps, log_snr), device=device)
        return scheduler.timesteps.tolist()
    scheduler.set_timesteps(steps, device=device)
    found = scheduler.timesteps
    if len(found) != steps or len(found.unique()) != steps or found.min() < 0 or found.max() == 0:
        # Diffusers 0.42 counts "trailing" in floats and for some numbers of steps (61, 103, ...) goes on to timestep
        # -1, which is pure noise; "leading" gives the multistep solvers nothing but zeros at all 1000, and a single
        # step nothing but the clean end. These are the evenly spaced ones ("Common Diffusion Noise Schedules and
        # Sample Steps Are Flawed", 2305.08891, table 2, trailing).
        even = [round(train_steps * (steps - i) / steps) - 1 for i in range(steps)]
        scheduler.set_timesteps(timesteps=even, device=device)
    return scheduler.timesteps.tolist()
