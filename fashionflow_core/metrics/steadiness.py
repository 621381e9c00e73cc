"""Steadiness of light, background and contrast: flashes, walls that shift, figures that fade."""

from __future__ import annotations

import numpy as np

from fashionflow_core.images.lab import ciede2000, srgb_to_lab

_AROUND = 4  # frames looked at on each side of a flash


def flash(frames: np.ndarray) -> float:
    """The largest passing change of brightness: a frame against the frames before it and those after it.

    Args:
        frames: uint8 `(f, h, w, 3)`.

    Returns:
        grey levels (0..255) of the whole frame's mean luma, the lesser of both differences, where they have one sign; 0
        for a ramp, a step, or fewer than three frames.
    """
    light = np.array([frame.reshape(-1, 3).mean(0) @ (0.2126, 0.7152, 0.0722) for frame in frames])
    found = 0.0
    for index in range(1, len(light) - 1):
        before = light[index] - np.median(light[max(0, index - _AROUND) : index])
        after = light[index] - np.median(light[index + 1 : index + 1 + _AROUND])
        if before * after > 0:
            found = max(found, min(abs(before), abs(after)))
    return float(found)


def wall_shift(frames: np.ndarray) -> float:
    """How far the background's colour goes from the first frame's.

    Args:
        frames: uint8 `(f, h, w, 3)`, a figure before a plain wall that the left and right borders show.

    Returns:
        CIEDE2000, the larger of both borders', exceeded by a tenth of the frames: a flash alone does not count.
    """
    height, width = frames.shape[1:3]
    strip = max(2, width // 40)
    shifts = []
    for side in (slice(0, strip), slice(width - strip, width)):
        # The floor, where shadows move, is left out.
        parts = srgb_to_lab(frames[:, : max(1, int(0.7 * height)), side]).reshape(len(frames), -1, 3)
        wall = np.median(parts, axis=1)
        shifts.append(ciede2000(wall[0], wall))
    return float(np.quantile(np.max(shifts, axis=0), 0.9))


def fade(frames: np.ndarray, figure: np.ndarray) -> float:
    """Contrast that the figure has lost towards the end of a clip.

    Args:
        frames: uint8 `(f, h, w, 3)`.
        figure: bool `(f, h, w)`.

    Returns:
        1 less the ratio of the last third's contrast (root mean square distance from the mean, L*a*b*) to the first
        frame's; 0 where nothing is lost or no figure is seen, at most 1.
    """
    contrasts = []
    for frame, mask in zip(frames, figure, strict=True):
        colours = srgb_to_lab(frame[mask]) if mask.sum() >= 50 else np.zeros((0, 3), np.float32)
        contrasts.append(float(np.sqrt(colours.var(0).sum())) if len(colours) else np.nan)
    last = np.array(contrasts[-max(1, len(contrasts) // 3) :])
    if not contrasts[0] > 0 or np.isnan(last).all():
        return 0.0
    return float(np.clip(1 - np.nanmedian(last) / contrasts[0], 0, 1))
