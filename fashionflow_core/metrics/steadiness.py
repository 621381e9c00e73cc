"""Steadiness of light, background and contrast: flashes, walls that shift, figures that fade."""

from __future__ import annotations

import numpy as np

from fashionflow_core.images.lab import ciede2000, srgb_to_lab

_AROUND = 4  # frames looked at on each side of a flash


def flashes(frames: np.ndarray) -> np.ndarray:
    """Passing changes of brightness: each frame against the frames before it and those after it.

    Args:
        frames: uint8 `(f, h, w, 3)`.

    Returns:
        float64 `(f,)`, grey levels (0..255) of the whole frame's mean luma, the lesser of both differences, where they
        have one sign; 0 for a ramp, a step, or fewer than three frames.
    """
    light = np.array([frame.reshape(-1, 3).mean(0) @ (0.2126, 0.7152, 0.0722) for frame in frames])
    found = np.zeros(len(light))
    for index in range(1, len(light) - 1):
        before = light[index] - np.median(light[max(0, index - _AROUND) : index])
        after = light[index] - np.median(light[index + 1 : index + 1 + _AROUND])
        if before * after > 0:
            found[index] = min(abs(before), abs(after))
    return found


def flash(frames: np.ndarray) -> float:
    """The largest of `flashes`, grey levels."""
    return float(flashes(frames).max(initial=0.0))


def wall_shifts(frames: np.ndarray) -> np.ndarray:
    """How far the background's colour is from the first frame's, frame by frame.

    Args:
        frames: uint8 `(f, h, w, 3)`, a figure before a plain wall that the left and right borders show.

    Returns:
        float64 `(f,)`, CIEDE2000, the larger of both borders'.
    """
    height, width = frames.shape[1:3]
    strip = max(2, width // 40)
    shifts = []
    for side in (slice(0, strip), slice(width - strip, width)):
        # The floor, where shadows move, is left out.
        parts = srgb_to_lab(frames[:, : max(1, int(0.7 * height)), side]).reshape(len(frames), -1, 3)
        wall = np.median(parts, axis=1)
        shifts.append(ciede2000(wall[0], wall))
    return np.max(shifts, axis=0)


def wall_shift(frames: np.ndarray) -> float:
    """What a tenth of `wall_shifts` exceed, CIEDE2000: a flash alone does not count."""
    return float(np.quantile(wall_shifts(frames), 0.9))


def contrasts(frames: np.ndarray, figure: np.ndarray) -> np.ndarray:
    """Contrast of the figure, frame by frame.

    Args:
        frames: uint8 `(f, h, w, 3)`.
        figure: bool `(f, h, w)`.

    Returns:
        float64 `(f,)`, root mean square distance from the mean colour, L*a*b*; nan where no figure is seen.
    """
    found = np.full(len(frames), np.nan)
    for index, (frame, mask) in enumerate(zip(frames, figure, strict=True)):
        if mask.sum() >= 50:
            found[index] = np.sqrt(srgb_to_lab(frame[mask]).var(0).sum())
    return found


def fade(frames: np.ndarray, figure: np.ndarray) -> float:
    """Contrast that the figure has lost towards the end of a clip.

    Args:
        frames: uint8 `(f, h, w, 3)`.
        figure: bool `(f, h, w)`.

    Returns:
        1 less the ratio of the last third's median contrast to the first frame's; 0 where nothing is lost or no figure
        is seen, at most 1.
    """
    found = contrasts(frames, figure)
    last = found[-max(1, len(found) // 3) :]
    if not found[0] > 0 or np.isnan(last).all():
        return 0.0
    return float(np.clip(1 - np.nanmedian(last) / found[0], 0, 1))
