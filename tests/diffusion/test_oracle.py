"""The sampling loop with an exact denoiser in place of a network: the samples' distribution is known beforehand."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from golden.named_weights import named_normal
from schedules import SCHEDULES, generators_of, nothing_known, oracle, scheduler_folder

from fashionflow_core.config import SCHEDULERS
from fashionflow_core.diffusion.sampling import sample
from fashionflow_core.diffusion.schedulers import log_snr_timesteps, make_scheduler

MEAN = torch.tensor([0.7, -1.5, 0.0, 3.0]).reshape(1, 4, 1, 1, 1)
STD = torch.tensor([0.5, 1.0, 2.0, 0.2]).reshape(1, 4, 1, 1, 1)


# Bias of the solver in the deviation, measured against 1: 61 and 600 do not divide 1000.
BIAS = [
    pytest.param("ddpm", 1000, 0.03, marks=pytest.mark.slow),
    pytest.param("ddpm-large", 1000, 0.03, marks=pytest.mark.slow),
    ("ddim", 600, 0.03),
    ("dpm++", 61, 0.06),
    pytest.param("dpm++", 1000, 0.01, marks=pytest.mark.slow),
    ("dpm++-sde", 61, 0.06),
    ("dpm++-sde", 600, 0.01),
    ("unipc", 61, 0.06),
    pytest.param("unipc", 1000, 0.01, marks=pytest.mark.slow),
    ("euler", 600, 0.03),
]


@pytest.mark.parametrize(("name", "steps", "bias"), BIAS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_samples_of_a_known_distribution(tmp_path: Path, schedule: str, name: str, steps: int, bias: float):
    folder, shape = scheduler_folder(tmp_path, schedule), (2, 4, 8, 16, 16)
    found = sample(
        oracle(folder, MEAN, STD),
        make_scheduler(folder, name),
        steps,
        nothing_known(*shape),
        torch.zeros(2, 1, 1),
        generators_of(2),
    )
    count = found[:, 0].numel()  # 4096 values a channel: the noise of their mean and deviation, 4 of its deviations
    error = (found.mean(dim=(0, 2, 3, 4), keepdim=True) - MEAN) / STD
    assert error.abs().max() < 4 / math.sqrt(count) + 0.01
    ratio = found.std(dim=(0, 2, 3, 4), keepdim=True) / STD
    assert (ratio - 1).abs().max() < 4 / math.sqrt(2 * count) + bias


@pytest.mark.parametrize("steps", [1, 2, 5, 61])
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_only_clip_there_is(tmp_path: Path, schedule: str, variance: str, name: str, steps: int):
    """If all data are one point, every sampler ends in it, after any number of steps, and leaves no noise on it.

    The tolerance is for the first step of squared cosine, which divides float32's rounding by 4.9e-5.
    """
    folder, shape = scheduler_folder(tmp_path, schedule, variance_type=variance), (1, 4, 4, 3, 2)
    point = torch.from_numpy(named_normal("point", shape))
    found = sample(
        oracle(folder, point, torch.tensor(0.0)),
        make_scheduler(folder, name),
        steps,
        nothing_known(*shape),
        torch.zeros(1, 1, 1),
        generators_of(1),
    )
    torch.testing.assert_close(found, point, atol=0.01, rtol=0)


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_is_diffusers_own_where_that_is_right(tmp_path: Path, schedule: str, steps: int):
    folder, shape = scheduler_folder(tmp_path, schedule), (1, 4, 4, 3, 2)
    diffusers_own: Any = DDIMScheduler.from_config(make_scheduler(folder, "ddim").config, clip_sample=False)
    ours, theirs = (
        sample(
            oracle(folder, MEAN, STD),
            scheduler,
            steps,
            nothing_known(*shape),
            torch.zeros(1, 1, 1),
            generators_of(1),
        )
        for scheduler in (make_scheduler(folder, "ddim"), diffusers_own)
    )
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace", "log-SNR"])
@pytest.mark.parametrize("steps", [1, 2, 3, 12, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_euler_is_ddim(tmp_path: Path, schedule: str, steps: int, spacing: str):
    """Song et al. 2020, equation 14: two programs of diffusers, one of them in other variables, walk one path."""
    log_snr, shape = (-6.0, 5.0) if spacing == "log-SNR" else (), (1, 4, 4, 3, 2)
    named = {} if log_snr else {"timestep_spacing": spacing}
    folder = scheduler_folder(tmp_path, schedule, **named)
    euler, ddim = (
        sample(
            oracle(folder, MEAN, STD),
            make_scheduler(folder, name),
            steps,
            nothing_known(*shape),
            torch.zeros(1, 1, 1),
            generators_of(1),
            log_snr=log_snr,
        )
        for name in ("euler", "ddim")
    )
    torch.testing.assert_close(euler, ddim, atol=0.01, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 3, 12])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_lcm_with_a_perfectly_distilled_network(tmp_path: Path, schedule: str, steps: int):
    """One step is enough if the network jumps to the end of the path, and more steps do no harm.

    Of a normal distribution the path is known (Song et al. 2020, probability flow): z-scores stay what they are.
    """
    folder, shape = scheduler_folder(tmp_path, schedule), (2, 4, 8, 16, 16)
    found = sample(
        oracle(folder, MEAN, STD, distilled=True),
        make_scheduler(folder, "lcm"),
        steps,
        nothing_known(*shape),
        torch.zeros(2, 1, 1),
        generators_of(2),
    )
    count = found[:, 0].numel()
    error = (found.mean(dim=(0, 2, 3, 4), keepdim=True) - MEAN) / STD
    assert error.abs().max() < 4 / math.sqrt(count) + 0.01
    ratio = found.std(dim=(0, 2, 3, 4), keepdim=True) / STD
    assert (ratio - 1).abs().max() < 4 / math.sqrt(2 * count) + 0.01


@pytest.mark.parametrize("steps", [4, 12, 600])
def test_lcm_without_distillation_loses_detail(tmp_path: Path, steps: int):
    """A third at best, with a network that answers with the mean of what is possible; hence the pipeline's warning."""
    folder, shape = scheduler_folder(tmp_path), (1, 4, 8, 16, 16)
    found = sample(
        oracle(folder, MEAN, STD),
        make_scheduler(folder, "lcm"),
        steps,
        nothing_known(*shape),
        torch.zeros(1, 1, 1),
        generators_of(1),
    )
    assert (found.std(dim=(0, 2, 3, 4)) / STD.flatten()).max() < 0.75


@pytest.mark.parametrize(
    ("name", "bias"),
    [("ddim", 0.3), ("euler", 0.3), ("dpm++", 0.06), ("unipc", 0.06), ("dpm++-sde", 0.06), ("ddpm", 0.3)],
)
def test_steps_even_in_log_snr_keep_fine_detail(tmp_path: Path, name: str, bias: float):
    """Ten steps on the bundled model's schedule: evenly spaced timesteps lose most of the smallest deviation."""
    scheduler_folder(tmp_path, "bundled model")
    shape, ratios = (1, 4, 8, 16, 16), []
    for log_snr in ((), (-6.0, 6.0)):
        found = sample(
            oracle(tmp_path, MEAN, STD),
            make_scheduler(tmp_path, name),
            10,
            nothing_known(*shape),
            torch.zeros(1, 1, 1),
            generators_of(1),
            log_snr=log_snr,
        )
        ratios.append((found.std(dim=(0, 2, 3, 4)) / STD.flatten())[3].item())
    even, spaced = ratios
    assert abs(spaced - 1) < bias
    assert abs(spaced - 1) < 0.6 * abs(even - 1)


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 61, 999, 1000])
def test_log_snr_timesteps_fall_and_start_in_pure_noise(tmp_path: Path, steps: int):
    scheduler_folder(tmp_path, "bundled model")
    found = log_snr_timesteps(make_scheduler(tmp_path, "ddpm"), steps, (-6, 6))
    assert found[0] == 999
    assert len(found) == steps
    assert all(a > b >= 0 for a, b in itertools.pairwise(found))
