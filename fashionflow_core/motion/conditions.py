"""Condition channels of the motion network."""

import numpy as np

from fashionflow_core.images.parts import PARTS
from fashionflow_core.motion.figure_box import GRID, FigureBox
from fashionflow_core.motion.layers import visible_e

# In order: red, green, blue; matte; inflation; arms; head with hair; row, column.
PHOTO_CHANNELS = 9
INFLATION_SCALE = 8.0  # scales the inflation of a trunk, about 0.1 figure heights, to about 1
_ARMS = [PARTS.index("arm_left"), PARTS.index("arm_right")]
_HEAD = [PARTS.index("head"), PARTS.index("hair")]


def photo_channels(
    photo: np.ndarray, alpha: np.ndarray, parts: np.ndarray | None, box: FigureBox, e: np.ndarray | None = None
) -> np.ndarray:
    """Condition channels of the motion network.

    Args:
        photo: uint8 (h, w, 3), sRGB.
        alpha: matte, float32 (h, w), 0 to 1.
        parts: uint8 (h, w), indices of `PARTS`; None if unknown: both shares are then 0.
        box: box of the figure.
        e: inflation of the visible layer, (h, w) in pixels; None: computed here.

    Returns:
        float32 (9, 40, 32): red, green, blue in [-1, 1]; matte in [-1, 1]; inflation in figure heights times 8; share
        of arms, share of head and hair, 0 to 1; row and column of the box, -1 to 1.
    """
    rows, columns = GRID
    if e is None:
        e = visible_e(alpha, parts)
    labels = np.zeros(alpha.shape, np.uint8) if parts is None else parts
    rgb = box.resample(photo, rows, columns) / 127.5 - 1
    shares = np.stack([alpha, e, np.isin(labels, _ARMS) * alpha, np.isin(labels, _HEAD) * alpha], axis=-1)
    matte, inflation, arms, head = np.moveaxis(box.resample(shares, rows, columns, outside=0.0), -1, 0)
    y = np.broadcast_to(((np.arange(rows) + 0.5) / rows * 2 - 1)[:, None], GRID)
    x = np.broadcast_to(((np.arange(columns) + 0.5) / columns * 2 - 1)[None], GRID)
    inflation = inflation / box.figure_height * INFLATION_SCALE
    return np.stack([*np.moveaxis(rgb, -1, 0), matte * 2 - 1, inflation, arms, head, y, x]).astype(np.float32)
