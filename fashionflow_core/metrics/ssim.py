"""Structural similarity (SSIM) of two clips."""

import numpy as np
import torch
import torch.nn.functional as F

_SIDE, _SIGMA = 11, 1.5


@torch.inference_mode()
def ssim(frames: np.ndarray, truth: np.ndarray) -> float:
    """Mean SSIM over frames and colour channels: Wang et al., "Image Quality Assessment" (IEEE TIP 13(4), 2004).

    Gaussian window of 11x11 with a deviation of 1.5, K1 = 0.01, K2 = 0.03, only where the window lies inside.

    Args:
        frames, truth: uint8 `(f, h, w, 3)` of one shape, at least 11x11.

    Returns:
        -1 to 1; 1 for equal clips.

    Raises:
        ValueError: the shapes differ, or the frames are smaller than the window.
    """
    if frames.shape != truth.shape or frames.ndim != 4:
        raise ValueError(f"clips differ in shape: {frames.shape} and {truth.shape}")
    if min(frames.shape[1:3]) < _SIDE:
        raise ValueError(f"SSIM needs frames of at least {_SIDE}x{_SIDE}, not {frames.shape[1]}x{frames.shape[2]}")
    place = torch.arange(_SIDE, dtype=torch.float64) - _SIDE // 2
    window = torch.exp(-(place**2) / (2 * _SIGMA**2))
    window = window / window.sum()

    def blur(x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(x, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))

    c1, c2 = 0.01**2, 0.03**2
    values = []
    for one, other in zip(frames, truth, strict=True):
        x, y = (torch.from_numpy(f.transpose(2, 0, 1)[:, None].astype(np.float64) / 255) for f in (one, other))
        mx, my = blur(x), blur(y)  # 3 1 h-10 w-10
        vx, vy, covariance = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
        similar = (2 * mx * my + c1) * (2 * covariance + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
        values.append(float(similar.mean()))
    return float(np.mean(values))
