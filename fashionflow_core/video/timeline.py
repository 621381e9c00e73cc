"""Timeline of a video for a target: frame rate and length within its limits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from fashionflow_core.config import GenerateSettings, ModelConfig
from fashionflow_core.errors import FashionFlowError, SettingError, option
from fashionflow_core.video.platforms import PlatformLimits

_RATES = (24, 25, 30, 50, 60)  # frames per second for videos without a suitable multiple


@dataclass(frozen=True)
class Timeline:
    """Frames of a video in the order of display.

    Attributes:
        order: numbers of generated frames.
        fps: frames per second.
    """

    order: Sequence[int]
    fps: float


def adapted(
    settings: GenerateSettings, model: ModelConfig, targets: Sequence[PlatformLimits], after: float = 0.0
) -> GenerateSettings:
    """Adapt a request to all targets of one generation; explicit settings are kept.

    A motion model supports any rate and length, and the frames of a generator can be retimed to any rate: the nearest
    ones that all targets support are requested. Other models have one length and one rate, which `timeline` adapts.

    Args:
        settings: as requested.
        model: its conventions.
        targets: of the run.
        after: seconds that follow the generated frames, such as an end card.

    Raises:
        UsageError: a rate that a target does not support, or targets without a common rate.
    """
    rates = [target.fps for target in targets if target.fps]
    low, high = max((one[0] for one in rates), default=0.0), min((one[1] for one in rates), default=math.inf)
    if low > high:
        raise SettingError("for", f"{_names(targets)} have no frame rate in common", hint="run each target by itself")
    if settings.fps is not None and not low - 1e-3 <= settings.fps <= high + 1e-3:
        raise SettingError(
            "fps",
            f"{_names(targets)} take {low:g} to {high:g} frames per second, not {settings.fps:g}",
            hint=f"leave {option('fps')} out",
        )
    if model.latents == "appearance":
        return settings
    fps = settings.fps or model.fps * settings.interpolate
    if not low <= fps <= high:
        fps = _rate_between(fps, low, high)
        settings = replace(settings, fps=fps)
    if model.latents != "motion":
        return settings
    least = max((target.seconds[0] for target in targets if target.seconds), default=0.0) - after
    if settings.frames is None and settings.duration is None and least > model.frames / model.fps:
        # Interpolated frames lie between others only, so the last group is incomplete.
        count = math.ceil(least * fps - 1e-6) + settings.interpolate - 1
        settings = replace(settings, duration=count / fps)
    return settings


def timeline(count: int, fps: float, limits: PlatformLimits | None, loop: bool, after: float = 0.0) -> Timeline:
    """Adapt `count` frames at `fps` to the rate and length of a target.

    For another rate frames are repeated or left out. A video that is too short is repeated if it is a loop, else played
    back and forth.

    Args:
        after: seconds that follow and count for the length.

    Raises:
        FashionFlowError: too long.
    """
    order: Sequence[int] = range(count)
    if limits is None:
        return Timeline(order, fps)
    if limits.fps and not limits.fps[0] - 1e-3 <= fps <= limits.fps[1] + 1e-3:
        rate = _rate_between(fps, *limits.fps)
        shown = max(1, round(count * rate / fps))
        order = [min(count - 1, int(number * fps / rate + 1e-6)) for number in range(shown)]
        fps = rate
    if limits.seconds:
        least, most = (seconds - after for seconds in limits.seconds)
        if len(order) / fps > most + 1e-6:
            raise FashionFlowError(
                f"{limits.name}: videos last at most {limits.seconds[1]:g} s, not {len(order) / fps + after:.2f} s",
                hint=f"use {option('duration', f'{most:g}')} or less"
                if most > 0
                else f"use a shorter end card: {option('end_card_seconds')}",
            )
        order = _lengthened(order, math.ceil(least * fps - 1e-6), int(most * fps + 1e-6), loop)
    return Timeline(order, fps)


def _lengthened(order: Sequence[int], least: int, most: int, loop: bool) -> Sequence[int]:
    """`least` to `most` frames: complete passes, of which the last may be cut."""
    found, back = list(order), False
    while len(found) < least:
        # Frames at turning points are shown once.
        found += order if loop else list(order[-2::-1] if not back else order[1:]) or list(order)
        back = not back
    return found[:most]


def _rate_between(fps: float, low: float, high: float) -> float:
    """The nearest multiple or fraction of a rate within limits, else a common rate, else the nearer limit."""
    if fps < low:
        multiple = fps * math.ceil(low / fps - 1e-6)
        if multiple <= high:
            return multiple
    elif high > 0 and (part := fps / math.ceil(fps / high - 1e-6)) >= low:
        return float(Fraction(part).limit_denominator(1001))
    common = [rate for rate in _RATES if low <= rate <= high]
    return float(min(common, key=lambda rate: abs(rate - fps))) if common else (low if fps < low else high)


def _names(targets: Sequence[PlatformLimits]) -> str:
    return ", ".join(target.name for target in targets if target.fps)
