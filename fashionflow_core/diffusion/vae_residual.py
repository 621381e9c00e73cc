"""VAE residual of given frames, carried over to interpolated frames.

A decoded frame is softer than a given one, so a video of both would pulse. Between two given frames little happens:
what the VAE lost of them it lost of the frames between, and where they agree nothing moved at all.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

# Levels of 255 by which given frames may differ, near a pixel, for it to stand still: all of it up to half, none of it
# from one and a half times this. The best of 6, 12 and 24 on three rendered figures, with an early state of
# `mini-latent`.
STANDSTILL = 24
NEAR = 5  # pixels


def restore_detail(
    decoded: Iterator[np.ndarray], factor: int, given: Iterator[np.ndarray] | None = None, mixture: float = 0.0
) -> Iterator[np.ndarray]:
    """Put given frames back in their places, and their detail into the frames between.

    A frame between gets the mixture, by distance in time, of what the two given frames lost on their way through the
    VAE; and where these two hardly differ, their own mixture takes its place.

    Args:
        decoded: uint8 (h, w, 3), as the VAE shows them; every `factor`-th is a given one, the first too.
        given: what those were before the VAE, uint8 (h, w, 3); None: nothing else is known of them.
        mixture: share of the mixture where something moves, too (`ModelConfig.interpolate_mixture`).

    Yields:
        as many frames, uint8 (h, w, 3); given ones unchanged.
    """
    between: list[np.ndarray] = []
    last: tuple[np.ndarray, np.ndarray] | None = None  # the given frame before, and its decoded self
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
    """1 where two frames, (c, h, w), agree and 0 where something moved, (1, h, w), smooth between."""
    apart = (second - first).abs().amax(dim=0, keepdim=True)[None]  # (1, 1, h, w)
    apart = F.max_pool2d(apart, NEAR, stride=1, padding=NEAR // 2)
    apart = F.avg_pool2d(apart, NEAR, stride=1, padding=NEAR // 2, count_include_pad=False)
    return (1.5 - apart[0] / STANDSTILL).clamp(0, 1)
