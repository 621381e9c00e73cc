"""Keyframe interpolation: splines from keyframes to frame times.

Between keyframes motion is a Catmull-Rom spline, so frames in between are cubics of the motion, not mixtures of images.
"""

import numpy as np
import torch
from torch import Tensor

KEYFRAMES = 12
SECONDS = 69 / 25  # from the first keyframe to the last: the frames 0 to 69 of the default clip
SPACING = SECONDS / (KEYFRAMES - 1)


def at_times(keys: Tensor, times: np.ndarray, spacing: float = SPACING, closed: bool = False) -> Tensor:
    """Motion at given times.

    Args:
        keys: keyframes, (c, k, h, w), at 0, `spacing`, 2 `spacing` etc.
        times: time of each frame in seconds, (n,); before the first and after the last key motion is constant.
        spacing: seconds between keys.
        closed: whether the last key equals the first one (a loop), for a smooth spline there.

    Returns:
        (c, n, h, w).
    """
    count = keys.shape[1]
    place = np.clip(np.asarray(times, np.float64) / spacing, 0, count - 1)
    first = np.minimum(place.astype(int), max(count - 2, 0))
    u = torch.from_numpy((place - first).astype(np.float32)).to(keys)[None, :, None, None]

    def key(offset: int) -> Tensor:
        index = first + offset
        index = index % (count - 1) if closed else np.clip(index, 0, count - 1)
        return keys[:, torch.from_numpy(index).to(keys.device)]

    before, start, end, after = key(-1), key(0), key(1), key(2)
    return 0.5 * (
        2 * start
        + (end - before) * u
        + (2 * before - 5 * start + 4 * end - after) * u**2
        + (3 * start - before - 3 * end + after) * u**3
    )
