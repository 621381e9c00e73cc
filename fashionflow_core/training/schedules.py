"""Learning rate and window schedules of a run."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from fashionflow_core.models import noise_schedules
from fashionflow_core.training.config import NoiseConfig, TrainConfig


def noise_scheduler(noise: NoiseConfig, base: Path | None) -> Any:
    """The noise schedule of a run as a diffusers scheduler; unset settings are those of the base model.

    Args:
        base: folder of the base model; None: `noise` sets the schedule.
    """
    values: dict[str, Any] = {}
    if base is not None:
        loaded: Any = DDPMScheduler.load_config(base / "scheduler", local_files_only=True)
        values = dict(loaded)
    if noise.betas:
        n = noise.train_timesteps
        shift = (noise.shift,) if noise.betas == "shifted_cosine" else ()
        betas = getattr(noise_schedules, f"{noise.betas}_betas")(n, *shift)
        # Sampling starts from pure noise at any number of steps ("trailing"); the variance is the posterior's.
        values = {
            "num_train_timesteps": n,
            "trained_betas": betas,
            "timestep_spacing": "trailing",
            "clip_sample": False,
            "variance_type": "fixed_small",
            "prediction_type": values.get("prediction_type", "epsilon"),
        }
    if noise.prediction:
        values["prediction_type"] = noise.prediction
    if noise.zero_terminal_snr:
        values["rescale_betas_zero_snr"] = True
    return DDPMScheduler.from_config(values)


@dataclass(frozen=True)
class RunSchedule:
    """Schedule of a run: its end, window lengths, learning rate.

    Args:
        config: settings of the run.
        clips: number of clips in the cache.
        frames: frames per long window.
    """

    config: TrainConfig
    clips: int
    frames: int

    def part(self, step: int, drawn: int, seconds: float) -> float:
        """Completed share of the run, 0 to 1, after `step` steps, `drawn` clips and this time."""
        ends = self.config.schedule
        done = (step, ends.max_steps), (drawn, ends.max_epochs * self.clips), (seconds, 60 * ends.max_minutes)
        return min(1.0, max(spent / most for spent, most in done if most))

    def window(self, step: int, part: float) -> tuple[int, int]:
        """(clips, frames) of a step: short windows first, then every second step long ones."""
        data, short = self.config.data, self.config.data.short_frames
        if not short or (part >= data.short_part and step % 2 == 0):
            return data.batch_size, self.frames
        return data.batch_size * (self.frames // short), short

    def learning_rate(self, step: int, part: float) -> float:
        """Learning rate after `step` steps: linear warm-up, times a cosine that falls to `lr_final`."""
        schedule = self.config.schedule
        warm = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
        fall = 1.0
        if schedule.lr_schedule == "cosine":
            fall = schedule.lr_final + (1 - schedule.lr_final) * 0.5 * (1 + math.cos(math.pi * part))
        return self.config.optimizer.lr * warm * fall
