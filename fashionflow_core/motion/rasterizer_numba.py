"""Rasterizer loops for CPUs, compiled by numba."""

import math
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

Draw = Callable[..., None]


@cache
def compiled() -> Draw | None:
    """The drawing function, compiled at its first call and cached on disk; None without numba.

    It takes positions x, y, z (3, t) relative to the box, corners (3, t), attributes (a, v), a value of each triangle
    (t,) or (0,), zeroed results (rows, height * width), the width, depth offset, depth steps and barycentric slack.
    """
    if find_spec("numba") is None:
        return None
    import numba  # pyright: ignore[reportMissingImports]

    def jitted(function: Any) -> Any:
        # No fast math: comparisons of depth and edges must match torch.
        try:
            return numba.njit(cache=True, nogil=True)(function)
        except RuntimeError:  # no folder for the cache of compiled code
            return numba.njit(nogil=True)(function)

    return jitted(draw)


def draw(
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    corners: np.ndarray,
    attributes: np.ndarray,
    per_triangle: np.ndarray,
    result: np.ndarray,
    width: int,
    depth_offset: float,
    depth_steps: float,
    edge: float,
) -> None:
    """Compiled by numba: restricted to its subset of Python."""
    one, half = np.float32(1.0), np.float32(0.5)
    count, size = attributes.shape[0], result.shape[1]
    height = size // width
    level_of = np.full(size, -1, np.int32)
    owner = np.zeros(size, np.int32)
    for t in range(x.shape[1]):
        x0, x1, x2 = x[0, t], x[1, t], x[2, t]
        y0, y1, y2 = y[0, t], y[1, t], y[2, t]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if not (area > 0 or area < 0):
            continue
        left = max(0, math.ceil(min(x0, x1, x2) - half))
        right = min(width - 1, math.floor(max(x0, x1, x2) - half))
        top = max(0, math.ceil(min(y0, y1, y2) - half))
        bottom = min(height - 1, math.floor(max(y0, y1, y2) - half))
        if right < left or bottom < top:
            continue
        # barycentric weights of the second and the third corner: planes over the image
        w1x, w1y = (y2 - y0) / area, (x0 - x2) / area
        w2x, w2y = (y0 - y1) / area, (x1 - x0) / area
        dx, dy = np.float32(left) + half - x0, np.float32(top) + half - y0
        w1_first, w2_first = dx * w1x + dy * w1y, dx * w2x + dy * w2y
        z0, z1, z2 = z[0, t], z[1, t] - z[0, t], z[2, t] - z[0, t]
        for row in range(bottom - top + 1):
            w1_row = w1_first + np.float32(row) * w1y
            w2_row = w2_first + np.float32(row) * w2y
            start = (top + row) * width + left
            for column in range(right - left + 1):
                w1 = w1_row + np.float32(column) * w1x
                w2 = w2_row + np.float32(column) * w2x
                if min(w1, w2, one - w1 - w2) < edge:
                    continue
                depth = (z0 + z1 * w1 + z2 * w2 + depth_offset) * depth_steps
                level = np.int32(min(max(depth, np.float32(0.0)), np.float32(2.0**30)))
                at = start + column
                # of equal depths the later triangle wins
                if level >= level_of[at]:
                    level_of[at] = level
                    owner[at] = t
    planes = np.empty((x.shape[1], 3 * count), np.float32)
    known = np.zeros(x.shape[1], np.bool_)
    for at in range(size):
        if level_of[at] < 0:
            continue
        t = owner[at]
        if not known[t]:
            # an attribute is a plane over the image too: its value at the window's corner, and its slopes
            known[t] = True
            x0, y0 = x[0, t], y[0, t]
            area = (x[1, t] - x0) * (y[2, t] - y0) - (x[2, t] - x0) * (y[1, t] - y0)
            w1x, w1y = (y[2, t] - y0) / area, (x0 - x[2, t]) / area
            w2x, w2y = (y0 - y[1, t]) / area, (x[1, t] - x0) / area
            for k in range(count):
                a = attributes[k, corners[0, t]]
                b = attributes[k, corners[1, t]] - a
                c = attributes[k, corners[2, t]] - a
                across, down = b * w1x + c * w2x, b * w1y + c * w2y
                planes[t, 3 * k] = a - across * x0 - down * y0
                planes[t, 3 * k + 1] = across
                planes[t, 3 * k + 2] = down
        row = at // width
        px, py = np.float32(at - row * width) + half, np.float32(row) + half
        for k in range(count):
            result[k, at] = planes[t, 3 * k] + planes[t, 3 * k + 1] * px + planes[t, 3 * k + 2] * py
        result[count, at] = one
        if per_triangle.shape[0]:
            result[count + 1, at] = per_triangle[t]
