"""Status of a run, reported after every step: step, epoch, loss by noise level, speed, time left."""

from collections.abc import Sequence
from dataclasses import dataclass

# Parts of equal length of the noise schedule, least noise first: with 1000 timesteps 0-249, 250-499, 500-749, 750-999.
NOISE_LEVELS = 4


@dataclass(frozen=True)
class TrainingStatus:
    """Status of a run after a step.

    Attributes:
        part: completed share of the run, 0 to 1.
        step, epoch: steps done, and passes over the clips.
        loss: mean loss of the steps since the last line of the log.
        by_noise: the latest mean loss at each of the `NOISE_LEVELS`, least noise first; None: not measured yet. Empty
            for targets without timesteps.
        learning_rate: learning rate of the step.
        clips_per_second: since the last line of the log; None: no time was measured.
        hours_left: estimated from the time so far; None: no time was measured.
    """

    part: float
    step: int
    epoch: float
    loss: float
    by_noise: tuple[float | None, ...]
    learning_rate: float
    clips_per_second: float | None
    hours_left: float | None


def level_means(sums: Sequence[float], clips: Sequence[int]) -> list[float | None]:
    """Mean loss at each noise level; None without clips."""
    return [total / count if count else None for total, count in zip(sums, clips)]


def hours_left(part: float, seconds: float) -> float | None:
    """Hours until the end of a run that completed `part` of its course in `seconds`."""
    return seconds * (1 - part) / part / 3600 if part and seconds else None


def status_line(status: TrainingStatus, width: int = 0) -> str:
    """One line for a terminal, at most `width` characters (0: any length); what does not fit is omitted at the end."""
    fields = [f"{status.part:4.0%}  step {status.step}", f"epoch {status.epoch:.2f}", f"loss {number(status.loss)}"]
    if any(value is not None for value in status.by_noise):
        fields[-1] += f" (by noise {' '.join(number(value) for value in status.by_noise)})"
    if status.hours_left is not None:
        fields.append(f"{duration(status.hours_left)} left")
    if status.clips_per_second is not None:
        fields.append(f"{status.clips_per_second:.3g} clips/s")
    fields.append(f"lr {status.learning_rate:.1e}")
    while width and len(fields) > 1 and len("  ".join(fields)) > width:
        fields.pop()
    return "  ".join(fields)


def number(value: float | None) -> str:
    """Three digits, `-` for an unknown number."""
    return "-" if value is None else f"{value:.3g}"


def duration(hours: float) -> str:
    """`40 s`, `12 min`, `3.4 h`, `5.2 days`."""
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
