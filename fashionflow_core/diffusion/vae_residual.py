"""VAE residual of given frames, added to interpolated frames.

A decoded frame is softer than a given one, so a video of both would pulse. Changes between two given frames are small:
the VAE loses the same detail in the frames between, and where the two agree nothing moves.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

# Difference of given frames, in levels of 255, near a pixel: still up to half of this, moving from 1.5 times this. The
# best of 6, 12 and 24 on three rendered figures with an early version of `mini-latent`.
STANDSTILL = 24
NEAR = 5  # pixels


def restore_detail(
    decoded: Iterator[np.ndarray], factor: int, given: Iterator[np.ndarray] | None = None, mixture: float = 0.0
) -> Iterator[np.ndarray]:
    """Restore given frames, and add their lost detail to the frames between.

    A frame between gets the mixture, by distance in time, of the detail that the two given frames lost in the VAE;
    where these two hardly differ, it is replaced by their mixture.

    Args:
        decoded: uint8 (h, w, 3), as decoded; every `factor`-th is a given one, including the first.
        given: original given frames, uint8 (h, w, 3); None: unknown.
        mixture: share of the mixture in moving areas (`ModelConfig.interpolate_mixture`).

    Yields:
        The same number of frames, uint8 (h, w, 3); given ones unchanged.
    """
    between: list[np.ndarray] = []
    last: tuple[np.ndarray, np.ndarray] | None = None  # the previous given frame, original and decoded
    for number, frame in enumerate(decoded):
        if number % factor:
            between.append(frame)
            continue
        original = frame if given is None else next(given)
        if last is not None:
            yield from _restored(between, last, (original, frame), mixture)
        yield original
        between, last = [], (original, frame)


def _restored(
    between: Sequence[np.ndarray],
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
    mixture: float,
) -> Iterator[np.ndarray]:
    (first, first_lost), (second, second_lost) = ((_pixels(a), _pixels(a) - _pixels(b)) for a, b in (before, after))
    mixed = _standstill(first, second).clamp(min=mixture)
    for number, frame in enumerate(between, start=1):
        part = number / (len(between) + 1)
        moving = _pixels(frame) + torch.lerp(first_lost, second_lost, part)
        made = torch.lerp(moving, torch.lerp(first, second, part), mixed)
        yield rearrange(made.clamp(0, 255).round().to(torch.uint8), "c h w -> h w c").numpy()


def _pixels(frame: np.ndarray) -> Tensor:
    return rearrange(torch.from_numpy(frame), "h w c -> c h w").float()


def _standstill(first: Tensor, second: Tensor) -> Tensor:
    """1 where two frames, (c, h, w), agree and 0 where something moved, (1, h, w), with a smooth transition."""
    apart = (second - first).abs().amax(dim=0, keepdim=True)[None]  # (1, 1, h, w)
    apart = F.max_pool2d(apart, NEAR, stride=1, padding=NEAR // 2)
    apart = F.avg_pool2d(apart, NEAR, stride=1, padding=NEAR // 2, count_include_pad=False)
    return (1.5 - apart[0] / STANDSTILL).clamp(0, 1)
