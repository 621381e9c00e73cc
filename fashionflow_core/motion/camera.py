"""Camera motion (slow zoom), for photos without a reliable figure."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

_ZOOM = 0.07  # of the photo's size, at the end of the push
_SECONDS = 2.8  # duration of a push; longer videos return


def camera_frames(photo: np.ndarray, times: np.ndarray, seed: int, period: float = 0.0) -> Iterator[np.ndarray]:
    """Slow zoom towards the photo's middle.

    Args:
        photo: uint8 (h, w, 3).
        times: time of each frame in seconds, (n,), from 0.
        seed: random seed of the zoom's target near the middle.
        period: seconds after which the video repeats (a loop); 0: no loop.

    Returns:
        Frames, uint8 (h, w, 3); the photo itself while the camera has not moved.
    """
    height, width, _ = photo.shape
    aim_x, aim_y = np.random.default_rng([seed, 21]).uniform(-0.25, 0.25, 2)
    texture = torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1)[None].float()
    x = (torch.arange(width) + 0.5) / width * 2 - 1
    y = (torch.arange(height) + 0.5) / height * 2 - 1
    span = period / max(1, round(period / (2 * _SECONDS))) / 2 if period else _SECONDS
    for time in times:
        # Forth and back as a cosine: smooth start, end and reversal.
        scale = 1 / (1 + _ZOOM * (0.5 - 0.5 * np.cos(np.pi * time / span)))
        if scale == 1:
            yield photo.copy()
            continue
        grid = torch.stack(
            [
                (x * scale + aim_x * (1 - scale)).expand(height, width),
                (y * scale + aim_y * (1 - scale))[:, None].expand(height, width),
            ],
            dim=-1,
        )
        moved = F.grid_sample(texture, grid[None].float(), mode="bicubic", padding_mode="border", align_corners=False)
        yield moved[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
