"""Noise schedules (betas) of diffusion models."""

import math
from collections.abc import Callable


def published_betas(steps: int = 1000) -> list[float]:
    """Noise variances of the 1000 published steps: a cosine-shaped ramp from 1e-4 to 0.02 (published training code).

    It is a ramp of the betas themselves, not the squared-cosine schedule that the paper cites.
    """
    first, last = 1e-4, 0.02
    return [
        first + 0.5 * (last - first) * (1 + math.cos(math.pi * (steps - 1 - i) / (steps - 1))) for i in range(steps)
    ]


def linear_betas(steps: int = 1000) -> list[float]:
    """Betas from 1e-4 to 0.02 in equal steps (Ho et al. 2020, section 4)."""
    return [1e-4 + (0.02 - 1e-4) * i / (steps - 1) for i in range(steps)]


def squared_cosine_betas(steps: int = 1000) -> list[float]:
    """Betas of alphas_cumprod = cos²((t + 0.008) / 1.008 · pi/2), up to 0.999 (Nichol, Dhariwal 2021, eq. 17)."""
    return _betas(lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2, steps, 0.999)


def shifted_cosine_betas(steps: int = 1000, shift: float = 0.3) -> list[float]:
    """Betas of a cosine schedule whose signal-to-noise ratio is multiplied by shift².

    Frames of a clip are redundant: at a noise level where a single image is unrecognizable, the motion of a clip is
    already visible, and a sampler of few steps would decide it in its first step. Therefore more steps are spent at
    high noise (Hoogeboom et al. 2023, "simple diffusion", section 3.1, in reverse).
    """

    def signal(t: float) -> float:
        tangent = math.tan(math.pi / 2 * min(max(t, 1e-4), 1 - 1e-4))
        return 1 / (1 + (tangent / shift) ** 2)

    return _betas(signal, steps, 0.9999)


def linear_log_snr_betas(steps: int = 1000, highest: float = 3.0, lowest: float = -9.0) -> list[float]:
    """Betas of a schedule whose log-SNR falls linearly: log(abar / (1 - abar)) from `highest` to `lowest`.

    Motion is smooth in space and time: much noise is needed before any of it is lost, and little remains to be
    predicted where noise is a twentieth of the signal. The schedule spends its steps between these levels.
    """

    def signal(i: int) -> float:
        return 1 / (1 + math.exp(-(highest + (lowest - highest) * i / (steps - 1))))

    return [1 - signal(0)] + [1 - signal(i) / signal(i - 1) for i in range(1, steps)]


def _betas(alphas_cumprod: Callable[[float], float], steps: int, largest: float) -> list[float]:
    """1 - alphas_cumprod(t + 1) / alphas_cumprod(t), t in [0, 1]."""
    return [min(1 - alphas_cumprod((i + 1) / steps) / alphas_cumprod(i / steps), largest) for i in range(steps)]
