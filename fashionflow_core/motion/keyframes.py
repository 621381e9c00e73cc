"""Keyframe windows of a clip of any length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fashionflow_core.diffusion.known_frames import KnownFrames

GIVEN = 3  # keyframes of the window before that the next one continues: place, speed and acceleration


@dataclass(frozen=True)
class KeyframeWindow:
    """Keyframes that are denoised at once.

    Attributes:
        frames: how many.
        given: of them the first ones that are known: the photo (1), or the end of the window before.
        closes: the last one is known too: the photo again, where a loop ends.
    """

    frames: int
    given: int
    closes: bool


@dataclass(frozen=True)
class KeyframePlan:
    """Windows that make up a clip.

    Attributes:
        windows: in order.
        spacing: seconds from one keyframe to the next.
        closed: the clip is a loop.
    """

    windows: tuple[KeyframeWindow, ...]
    spacing: float
    closed: bool


class Denoiser(Protocol):
    """The sampling loop as a request wants it (`sampling.Sampler`)."""

    def __call__(self, known: KnownFrames, context: Tensor, generators: Sequence[torch.Generator], /) -> Tensor: ...


def plan_keyframes(seconds: float, keyframes: int, spacing: float, loop: bool, divisor: int = 2) -> KeyframePlan:
    """Cut a clip into windows.

    Args:
        seconds: from its first frame to its last one; of a loop the whole period.
        keyframes: of a window, as the network was trained.
        spacing: seconds from one keyframe to the next, as trained; of a loop it is stretched to fit the period.
        loop: the clip ends where it begins.
        divisor: what the number of keyframes in a window must be a multiple of.
    """
    intervals = max(1, round(seconds / spacing)) if loop else max(1, -(-seconds // spacing))
    needed = int(intervals) + 1
    step = keyframes - GIVEN
    if needed <= keyframes:
        # The length that was trained, unless a loop has to be shorter.
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
        plan: of `plan_keyframes`.
        denoise: known frames, context and generators → latents.
        content: what the network sees of each photo in every frame, (b, k, h, w).
        context: tokens (b, n, d).
        generators: one an item.
        channels: of the latents.

    Returns:
        Normalised latents of all keyframes, (b, c, n, h, w), zero in the first one, and of a loop in the last.
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
