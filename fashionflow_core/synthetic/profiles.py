"""Body proportions by height."""

from __future__ import annotations

import numpy as np

# Cross-sections of an adult woman's trunk: height, half-width, half-depth, and offset of the centre to the front.
TRUNK = np.array(
    [
        (0.110, 0.026, 0.028, -0.012), (0.148, 0.027, 0.029, -0.010), (0.160, 0.036, 0.034, -0.008),
        (0.168, 0.056, 0.040, -0.006), (0.180, 0.080, 0.046, -0.004), (0.200, 0.092, 0.053, -0.002),
        (0.240, 0.086, 0.061, 0.002), (0.270, 0.087, 0.064, 0.006), (0.320, 0.077, 0.055, 0.004),
        (0.375, 0.068, 0.049, 0.001), (0.430, 0.082, 0.057, -0.002), (0.480, 0.094, 0.067, -0.008),
        (0.510, 0.088, 0.058, -0.008), (0.545, 0.045, 0.034, -0.006), (0.560, 0.020, 0.015, -0.006),
    ]
)  # fmt: skip
LEG = np.array(
    [
        (0.46, 0.047), (0.53, 0.049), (0.60, 0.044), (0.66, 0.037), (0.73, 0.030),
        (0.76, 0.030), (0.80, 0.0325), (0.86, 0.027), (0.92, 0.0185), (0.965, 0.0175),
    ]
)  # fmt: skip
ARM = np.array(
    [
        (0.168, 0.006), (0.175, 0.0165), (0.188, 0.0225), (0.22, 0.0245), (0.28, 0.021), (0.35, 0.0180),
        (0.40, 0.0175), (0.48, 0.0125), (0.50, 0.0135), (0.53, 0.0160), (0.555, 0.011), (0.565, 0.005),
    ]
)  # fmt: skip
SKULL = np.array(
    [
        (0.0, 0.0), (0.03, 0.37), (0.08, 0.59), (0.16, 0.79), (0.28, 0.95), (0.42, 1.0), (0.56, 0.985),
        (0.68, 0.92), (0.80, 0.79), (0.89, 0.63), (0.955, 0.43), (1.0, 0.12),
    ]
)  # fmt: skip
WAIST = 0.38


def smooth(values: np.ndarray, passes: int = 2) -> np.ndarray:
    for _ in range(passes):
        padded = np.concatenate([2 * values[:1] - values[1:2], values, 2 * values[-1:] - values[-2:-1]])
        values = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    return values


def profile(table: np.ndarray, v: np.ndarray, column: int = 1) -> np.ndarray:
    return smooth(np.interp(v, table[:, 0], table[:, column]), 3)
