"""CIE L*a*b* and the CIEDE2000 colour difference."""

from __future__ import annotations

import numpy as np

# IEC 61966-2-1 primaries to CIE XYZ, divided by the D65 white point (2 degree observer), so that white is (1, 1, 1).
_RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_RGB_TO_WHITE = _RGB_TO_XYZ / _RGB_TO_XYZ.sum(axis=1, keepdims=True)


def _linear(value: np.ndarray) -> np.ndarray:
    return np.where(value <= 0.04045, value / 12.92, ((np.maximum(value, 0.04045) + 0.055) / 1.055) ** 2.4)


_CHUNK = 1 << 14  # pixels converted at once: their planes stay in the processor's cache
_LINEAR_OF_BYTE = _linear(np.arange(256) / 255).astype(np.float32)


def srgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of sRGB colours.

    Args:
        rgb: `(..., 3)`, uint8 0..255 or floating point 0..1.

    Returns:
        float32 `(..., 3)` for uint8, the input's precision otherwise: L* 0..100, a* and b* about -110..110.
    """
    rgb = np.asarray(rgb)
    if rgb.shape[-1:] != (3,):
        raise ValueError(f"expected colours in the last axis of length 3, got shape {rgb.shape}")
    pixels = rgb.reshape(-1, 3)
    lab = np.empty(pixels.shape, np.float32 if rgb.dtype == np.uint8 else np.result_type(rgb, np.float16))
    for start in range(0, len(pixels), _CHUNK):
        _to_lab(pixels[start : start + _CHUNK], lab[start : start + _CHUNK])
    return lab.reshape(rgb.shape)


def _to_lab(rgb: np.ndarray, lab: np.ndarray) -> None:
    # Planes instead of pixels: on three channels in a row numpy's loops are several times slower.
    planes = np.ascontiguousarray(rgb.T)
    linear = _LINEAR_OF_BYTE[planes] if rgb.dtype == np.uint8 else _linear(planes)
    xyz = _RGB_TO_WHITE.astype(linear.dtype) @ linear
    # CIE 15: cube root above (6/29)^3, its tangent below.
    f, dark = np.cbrt(xyz), xyz <= (6 / 29) ** 3
    if dark.any():
        f[dark] = xyz[dark] * ((29 / 6) ** 2 / 3) + 4 / 29
    x, y, z = f
    lab[:, 0], lab[:, 1], lab[:, 2] = 116 * y - 16, 500 * (x - y), 200 * (y - z)


def ciede2000(lab1: np.ndarray, lab2: np.ndarray) -> np.ndarray:
    """The CIEDE2000 colour difference, kL = kC = kH = 1.

    Follows Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula: implementation notes, supplementary test
    data, and mathematical observations" (Color Research and Application 30(1), 2005), equations 2 to 22.

    Args:
        lab1, lab2: `(..., 3)` L*a*b* colours, broadcast against each other.

    Returns:
        float64 `(...)`, 0 and up; about 1 is just noticeable, above 10 two colours look different at a glance.
    """
    lab1, lab2 = np.asarray(lab1, np.float64), np.asarray(lab2, np.float64)
    l1, a1, b1 = lab1[..., 0], lab1[..., 1], lab1[..., 2]
    l2, a2, b2 = lab2[..., 0], lab2[..., 1], lab2[..., 2]
    mean_c7 = (0.5 * (np.hypot(a1, b1) + np.hypot(a2, b2))) ** 7
    g = 0.5 * (1 - np.sqrt(mean_c7 / (mean_c7 + 25.0**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360
    grey = c1 * c2 == 0

    delta_l, delta_c = l2 - l1, c2 - c1
    turn = h2 - h1
    turn = np.where(turn > 180, turn - 360, np.where(turn < -180, turn + 360, turn))
    turn = np.where(grey, 0.0, turn)
    delta_h = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn) / 2)

    mean_l, mean_c = 0.5 * (l1 + l2), 0.5 * (c1 + c2)
    total = h1 + h2
    far = np.abs(h1 - h2) > 180
    mean_h = np.where(far, np.where(total < 360, 0.5 * (total + 360), 0.5 * (total - 360)), 0.5 * total)
    mean_h = np.where(grey, total, mean_h)

    t = (
        1
        - 0.17 * np.cos(np.radians(mean_h - 30))
        + 0.24 * np.cos(np.radians(2 * mean_h))
        + 0.32 * np.cos(np.radians(3 * mean_h + 6))
        - 0.20 * np.cos(np.radians(4 * mean_h - 63))
    )
    theta = 30 * np.exp(-(((mean_h - 275) / 25) ** 2))
    mean_c7 = mean_c**7
    rotation = -2 * np.sqrt(mean_c7 / (mean_c7 + 25.0**7)) * np.sin(np.radians(2 * theta))
    scale_l = 1 + 0.015 * (mean_l - 50) ** 2 / np.sqrt(20 + (mean_l - 50) ** 2)
    scale_c, scale_h = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * t
    l_term, c_term, h_term = delta_l / scale_l, delta_c / scale_c, delta_h / scale_h
    # The rotation term is negative for some pairs, and rounding may carry equal colours just below zero.
    return np.sqrt(np.maximum(l_term**2 + c_term**2 + h_term**2 + rotation * c_term * h_term, 0))


_XYZ_TO_RGB = np.linalg.inv(_RGB_TO_WHITE)
_LINEAR_STEPS = 1 << 15
_BYTE_OF_LINEAR = np.rint(
    255
    * np.where(
        (_x := np.arange(_LINEAR_STEPS + 1) / _LINEAR_STEPS) <= 0.0031308,
        _x * 12.92,
        1.055 * np.maximum(_x, 1e-9) ** (1 / 2.4) - 0.055,
    )
).astype(np.uint8)


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """sRGB bytes of CIE L*a*b* colours (D65); what sRGB does not hold is clipped channel by channel.

    Args:
        lab: `(..., 3)` floating point.

    Returns:
        uint8 `(..., 3)`; `srgb_to_lab` of bytes comes back to within 1 (from a table of linear light).
    """
    lab = np.asarray(lab, np.float32)
    pixels = lab.reshape(-1, 3)
    rgb = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), _CHUNK):
        _to_srgb(pixels[start : start + _CHUNK], rgb[start : start + _CHUNK])
    return rgb.reshape(lab.shape)


def _to_srgb(lab: np.ndarray, rgb: np.ndarray) -> None:
    f = np.empty((3, len(lab)), np.float32)
    f[1] = (lab[:, 0] + np.float32(16)) * np.float32(1 / 116)
    f[0] = f[1] + lab[:, 1] * np.float32(1 / 500)
    f[2] = f[1] - lab[:, 2] * np.float32(1 / 200)
    xyz, dark = f * f * f, f <= 6 / 29
    if dark.any():
        xyz[dark] = (f[dark] - np.float32(4 / 29)) * np.float32(3 * (6 / 29) ** 2)
    linear = _XYZ_TO_RGB.astype(np.float32) @ xyz
    np.clip(linear, 0, 1, out=linear)
    linear *= np.float32(_LINEAR_STEPS)
    linear += np.float32(0.5)
    rgb[:] = _BYTE_OF_LINEAR[linear.astype(np.int32)].T
