"""Procedural motion, without a network.

Used without a motion model: a simple body turns about its vertical axis from side to side, the hips sway, the hem lags
behind, and the head turns less than the body. The seed determines side, tempo and sway.
"""

import numpy as np

from fashionflow_core.config import DEFAULT_TURN
from fashionflow_core.motion.figure_box import GRID, FigureBox

DEPTH_RATIO = 0.75  # ratio of depth to width of a body: a turn moves the front by this times the sine of its angle
_PERIOD = 2.8  # seconds of a turn to one side, to the other and back
_HEAD_SHARE = 0.65  # of the body's turn


def handmade_motion(
    alpha: np.ndarray, box: FigureBox, times: np.ndarray, seed: int, turn: float = DEFAULT_TURN, period: float = 0.0
) -> np.ndarray:
    """Motion channels of a simple body.

    Args:
        alpha: matte, (h, w), 0 to 1.
        box: box of the figure.
        times: time of each frame in seconds, (n,).
        seed: random seed of side, tempo and sway.
        turn: degrees to each side; 0: sway only.
        period: seconds after which the motion repeats (a loop); 0: no loop.

    Returns:
        float32 (4, n, 40, 32): `ax`, `ay`, `b`, `dz`; zeros at time 0.
    """
    rng = np.random.default_rng([seed, 20])
    rows, columns = GRID
    matte = box.resample(alpha, rows, columns, outside=0.0)
    height = box.height / box.figure_height  # height of the box, in figure heights
    y = (np.arange(rows) + 0.5) / rows * height
    v = np.clip(y - (height - 1) / 2, 0, 1)[:, None]  # 0 at the crown, 1 at the soles
    x = (np.arange(columns) + 0.5) / columns * box.width / box.figure_height
    upper = (matte * (v < 0.55)).sum(axis=0)
    axis = float((upper * x).sum() / max(upper.sum(), 1e-6))
    across = (x - axis)[None]  # figure heights from the body's axis

    tempo = _PERIOD * rng.uniform(0.92, 1.12)
    if period:
        tempo = period / max(1, round(period / tempo))
    side = rng.choice((-1.0, 1.0))
    second = rng.uniform(0.0, 0.18)  # second harmonic of the turn: one side is held longer than the other
    sway_by, step_by = rng.uniform(0.005, 0.009), rng.uniform(0.008, 0.014)
    sway_phase = rng.uniform(-0.6, 0.6)

    def angle(t: np.ndarray) -> np.ndarray:
        turned = np.sin(2 * np.pi * t / tempo) + second * (1 - np.cos(4 * np.pi * t / tempo))
        return side * np.radians(turn) * turned / (1 + second)

    t = np.asarray(times, np.float64)[:, None, None]  # (n, 1, 1) against rows and columns
    late = 0.06 * np.clip((v - 0.2) / 0.3, 0, 1) + 0.12 * np.clip((v - 0.4) / 0.3, 0, 1)  # seconds that cloth lags
    yaw = angle(t - late) - angle(-late)
    head = np.clip((0.16 - v) / 0.05, 0, 1)
    yaw = yaw * (1 - (1 - _HEAD_SHARE) * head)
    swing = np.interp(v[:, 0], (0, 0.2, 0.48, 0.75, 1), (0.25, -0.35, 1, 0.4, 0))[:, None]
    wave = np.sin(4 * np.pi * t / tempo + sway_phase) - np.sin(sway_phase)
    step = step_by * (1 - np.cos(2 * np.pi * t / tempo)) * np.clip((1 - v) / 0.3, 0, 1)
    dz = -across * np.sin(yaw)
    channels = np.stack(
        [
            np.broadcast_to(a, (len(t), rows, columns))
            for a in (
                across * (np.cos(yaw) - 1) + sway_by * wave * swing + side * step,
                0.22 * dz * np.clip((v - 0.85) / 0.15, 0, 1),  # feet are seen from above
                DEPTH_RATIO * np.sin(yaw),
                dz,
            )
        ]
    )
    return channels.astype(np.float32)
