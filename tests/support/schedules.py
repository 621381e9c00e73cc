"""Noise schedules as scheduler folders, and an exact denoiser, for the tests of the sampling loop."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from fashionflow_core.diffusion.known_frames import KnownFrames
from fashionflow_core.diffusion.sampling import item_generator
from fashionflow_core.models.noise_schedules import shifted_cosine_betas
from fashionflow_core.store.published import published_betas

TRAIN_STEPS = 1000

SCHEDULES: dict[str, dict[str, Any]] = {
    "published": {"trained_betas": published_betas()},
    "published, velocity": {"trained_betas": published_betas(), "prediction_type": "v_prediction"},
    "squared cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "zero terminal SNR": {
        "trained_betas": shifted_cosine_betas(),
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
    },
    "bundled model": {
        "trained_betas": shifted_cosine_betas(),
        "prediction_type": "sample",
        "rescale_betas_zero_snr": True,
    },
}


def scheduler_folder(tmp_path: Path, schedule: str = "published", **overrides: Any) -> Path:
    """A model folder that holds a scheduler."""
    config = {"clip_sample": False, "timestep_spacing": "trailing"} | SCHEDULES[schedule] | overrides
    DDPMScheduler(**config).save_pretrained(tmp_path / "scheduler")
    return tmp_path


def _ddpm(folder: Path) -> Any:
    return DDPMScheduler.from_pretrained(folder / "scheduler")


def kept_variance(folder: Path) -> Tensor:
    """Share of the signal's variance left at each timestep, float64."""
    return _ddpm(folder).alphas_cumprod.double()


def generators_of(count: int, seed: int = 0) -> list[torch.Generator]:
    return [item_generator(seed, item) for item in range(count)]


def nothing_known(*shape: int) -> KnownFrames:
    return KnownFrames(torch.zeros(shape[0], shape[2]), torch.zeros(shape))


def oracle(
    folder: Path, mean: Tensor, std: Tensor, distilled: bool = False
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """What a perfect network answers if data are N(mean, std²), independent in every element.

    Or, distilled, where the probability flow from x ends.
    """
    kept, predicted = kept_variance(folder), _ddpm(folder).config.prediction_type

    def denoise(x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        x = x[:, :4].double()
        a, s = kept[int(timestep)].sqrt(), (1 - kept[int(timestep)]).sqrt()
        variance = a**2 * std**2 + s**2
        slope = std / variance.sqrt() if distilled else std**2 * a / variance
        data = mean + slope * (x - a * mean)  # E[data | x], or the end of the path through x
        eps = (x - a * data) / s
        return {"epsilon": eps, "v_prediction": a * eps - s * data, "sample": data}[predicted].float()

    return denoise
