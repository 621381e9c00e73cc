"""The course of a run: its noise schedule, how far it is, how long the windows of a step are, the learning rate."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from fashionflow_core.betas import linear_betas, published_betas, shifted_cosine_betas, squared_cosine_betas
from fashionflow_core.training.config import TrainConfig


def noise_scheduler(config: TrainConfig, base: Path) -> Any:
    """The noise schedule of a run as diffusers knows it; what the settings leave open is the base model's.

    Args:
        base: a model folder.
    """
    loaded: Any = DDPMScheduler.load_config(base / "scheduler", local_files_only=True)
    values: dict[str, Any] = dict(loaded)
    if config.betas:
        n = config.train_timesteps
        betas = {
            "squared_cosine": lambda: squared_cosine_betas(n),
            "shifted_cosine": lambda: shifted_cosine_betas(n, config.noise_shift),
            "published": lambda: published_betas(n),
            "linear": lambda: linear_betas(n),
        }[config.betas]()
        # Ours start from pure noise in any number of steps ("trailing"), and the variance is the posterior's.
        values = {
            "num_train_timesteps": n,
            "trained_betas": betas,
            "timestep_spacing": "trailing",
            "clip_sample": False,
            "variance_type": "fixed_small",
            "prediction_type": values.get("prediction_type", "epsilon"),
        }
    if config.prediction:
        values["prediction_type"] = config.prediction
    if config.zero_terminal_snr:
        values["rescale_betas_zero_snr"] = True
    return DDPMScheduler.from_config(values)


@dataclass(frozen=True)
class Course:
    """Where a run ends, and what changes on the way.

    Args:
        config: the settings.
        clips: in the cache.
        frames: of the long windows.
    """

    config: TrainConfig
    clips: int
    frames: int

    def part(self, step: int, drawn: int, seconds: float) -> float:
        """How much of the run is over, 0 to 1, after `step` steps, `drawn` clips and this time."""
        config = self.config
        parts = [
            *([step / config.max_steps] if config.max_steps else []),
            *([drawn / (config.max_epochs * self.clips)] if config.max_epochs else []),
            *([seconds / (60 * config.max_minutes)] if config.max_minutes else []),
        ]
        return min(1.0, max(parts))

    def window(self, step: int, part: float) -> tuple[int, int]:
        """(clips, frames) of a step: short windows first, then every second step long ones."""
        short = self.config.short_frames
        if not short or (part >= self.config.short_part and step % 2 == 0):
            return self.config.batch_size, self.frames
        return self.config.batch_size * (self.frames // short), short

    def learning_rate(self, step: int, part: float) -> float:
        """Of the step after `step` steps: linear warm-up, times a cosine that falls to `lr_final`."""
        config = self.config
        warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
        fall = 1.0
        if config.lr_schedule == "cosine":
            fall = config.lr_final + (1 - config.lr_final) * 0.5 * (1 + math.cos(math.pi * part))
        return config.lr * warm * fall
