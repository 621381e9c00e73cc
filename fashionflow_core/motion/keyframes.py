"""Keyframe windows for clips of any length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fashionflow_core.diffusion.known_frames import KnownFrames

GIVEN = 3  # keyframes of the previous window that the next one continues: position, speed and acceleration


@dataclass(frozen=True)
class KeyframeWindow:
    """Keyframes that are denoised together.

    Attributes:
        frames: number of keyframes.
        given: number of known first ones: the photo (1), or the end of the previous window.
        closes: whether the last one is known too: the photo, at the end of a loop.
    """

    frames: int
    given: int
    closes: bool


@dataclass(frozen=True)
class KeyframePlan:
    """Windows of a clip.

    Attributes:
        windows: windows in order.
        spacing: seconds between keyframes.
        closed: whether the clip is a loop.
    """

    windows: tuple[KeyframeWindow, ...]
    spacing: float
    closed: bool


class Denoiser(Protocol):
    """The sampling loop with the settings of a request (`sampling.Sampler`)."""

    def __call__(self, known: KnownFrames, context: Tensor, generators: Sequence[torch.Generator], /) -> Tensor: ...


def plan_keyframes(seconds: float, keyframes: int, spacing: float, loop: bool, divisor: int = 2) -> KeyframePlan:
    """Split a clip into windows.

    Args:
        seconds: duration from the first to the last frame; the period for a loop.
        keyframes: keyframes per window, as trained.
        spacing: seconds between keyframes, as trained; stretched to fit the period of a loop.
        loop: whether the clip ends where it begins.
        divisor: divisor of the number of keyframes per window.
    """
    intervals = max(1, round(seconds / spacing)) if loop else max(1, -(-seconds // spacing))
    needed = int(intervals) + 1
    step = keyframes - GIVEN
    if needed <= keyframes:
        # The trained length, unless a loop must be shorter.
        length = max(4, -(-needed // divisor) * divisor) if loop else keyframes
        windows = [KeyframeWindow(length, 1, loop)]
    else:
        more = -(-(needed - keyframes) // step)
        windows = [KeyframeWindow(keyframes, 1, False)] + [KeyframeWindow(keyframes, GIVEN, False)] * more
        if loop:
            windows[-1] = KeyframeWindow(keyframes, GIVEN, True)
    total = windows[0].frames + sum(window.frames - window.given for window in windows[1:])
    return KeyframePlan(tuple(windows), seconds / (total - 1) if loop else spacing, loop)


def sample_keyframes(
    plan: KeyframePlan,
    denoise: Denoiser,
    content: Tensor,
    context: Tensor,
    generators: Sequence[torch.Generator],
    channels: int,
) -> Tensor:
    """Denoise the windows of a clip, one after the other.

    Args:
        plan: result of `plan_keyframes`.
        denoise: function from known frames, context and generators to latents.
        content: photo channels, input of the network in every frame, (b, k, h, w).
        context: context tokens, (b, n, d).
        generators: one generator per item.
        channels: number of channels of the latents.

    Returns:
        Normalised latents of all keyframes, (b, c, n, h, w), zero in the first one, and in the last one of a loop.
    """
    batch, _, height, width = content.shape
    made = content.new_zeros(batch, channels, 1, height, width)
    for window in plan.windows:
        mask = content.new_zeros(batch, window.frames)
        mask[:, : window.given] = 1
        mask[:, -1:] += float(window.closes)
        latents = content.new_zeros(batch, channels, window.frames, height, width)
        latents[:, :, : window.given] = made[:, :, -window.given :]
        shown = content[:, :, None].expand(-1, -1, window.frames, -1, -1)
        known = KnownFrames.from_clip(latents, mask, shown, fill="nearest")
        found = denoise(known, context, generators).to(made)
        made = torch.cat([made, found[:, :, window.given :]], dim=2)
    return made
