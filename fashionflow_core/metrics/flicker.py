"""Temporal flicker by warping error: each frame against its neighbour, moved by optical flow.

Lai et al., "Learning Blind Video Temporal Consistency" (ECCV 2018), section 4.1: the difference between a frame and the
next one warped to it, where both show the same. Flow is DIS (Kroeger et al., "Fast Optical Flow using Dense Inverse
Search", ECCV 2016) of OpenCV. Pixels that are hidden in one of them, or at a boundary of motion, are excluded by the
tests of Sundaram et al., "Dense Point Trajectories by GPU-accelerated Large Displacement Optical Flow" (ECCV 2010).
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.utils import extras

_SMALLEST = 16  # pixels per side: below that DIS has no level to search


def is_installed() -> bool:
    """Whether OpenCV, which computes the flow, is installed."""
    return find_spec("cv2") is not None


def requirement() -> str:
    """The command that installs OpenCV."""
    return extras.install("lock")


def warping_error(frames: np.ndarray) -> float | None:
    """Flicker: root mean square difference of neighbouring frames after motion compensation, where both are visible.

    Both directions count, so a clip and its reverse have the same value.

    Args:
        frames: uint8 `(f, h, w, 3)`, f at least 2, at least 16 pixels on each side.

    Returns:
        grey levels (0..255): 0 for a still clip, near 0 for motion that flow can follow; brightness that alternates by
        s has about s. None where no pixel of any frame is visible in the next one.

    Raises:
        ValueError: another type or shape, or too few or too small frames.
        FashionFlowError: OpenCV is not installed.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"expected uint8 frames (f, h, w, 3), got {frames.dtype} {frames.shape}")
    if len(frames) < 2 or min(frames.shape[1:3]) < _SMALLEST:
        raise ValueError(f"expected at least 2 frames of {_SMALLEST}x{_SMALLEST}, got {frames.shape[:3]}")
    if not is_installed():
        raise FashionFlowError("flicker by warping error needs OpenCV, which is not installed", hint=requirement())
    cv2: Any = import_module("cv2")  # without types
    cv2.setNumThreads(1)  # results must not depend on the number of processors
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = frames.shape[1:3]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    grid = np.stack([x, y], -1)
    total, count = 0.0, 0
    for one, other in pairwise(frames):
        if np.array_equal(one, other):  # a repeated frame: no flow is needed to know the difference
            count += 2 * 3 * height * width
            continue
        greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (one, other)]
        forth = dis.calc(greys[0], greys[1], None)
        back = dis.calc(greys[1], greys[0], None)
        for here, there, flow, returned in ((one, other, forth, back), (other, one, back, forth)):
            visible = _visible(cv2, grid, flow, returned)
            warped = _remap(cv2, there.astype(np.float32), grid + flow)
            error = (here.astype(np.float32) - warped)[visible]
            total += float(np.sum(error * error, dtype=np.float64))
            count += error.size
    return float(np.sqrt(total / count)) if count else None


def _visible(cv2: Any, grid: np.ndarray, flow: np.ndarray, returned: np.ndarray) -> np.ndarray:
    """Pixels that can be compared with the other frame, bool `(h, w)`.

    Flow leads them to a place inside it, from which its own flow leads back, and their neighbours move as they do.
    """
    height, width = flow.shape[:2]
    places = grid + flow
    inside = ((places >= 0) & (places <= (width - 1, height - 1))).all(axis=-1)
    back = _remap(cv2, returned, places)
    size = np.sum(flow**2, axis=-1)
    # Sundaram et al., equations 5 and 6, with their constants.
    returns = np.sum((flow + back) ** 2, axis=-1) < 0.01 * (size + np.sum(back**2, axis=-1)) + 0.5
    slopes = sum(np.sum(np.gradient(flow, axis=axis) ** 2, axis=-1) for axis in (0, 1))
    return inside & returns & (slopes <= 0.01 * size + 0.002)


def _remap(cv2: Any, image: np.ndarray, places: np.ndarray) -> np.ndarray:
    return cv2.remap(image, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
