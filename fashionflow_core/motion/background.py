"""Background plate: the photo with the figure removed (inpainting)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from fashionflow_core.motion.regions import box_mean, dilate

FEET = 0.12  # of the figure's height, above its lowest point: feet do not move, so their shadow is kept
SMOOTH = 2.0  # maximum step between pixels, in grey levels, of a floor with a soft shadow
FINE = 4  # radius in pixels of the texture that is mirrored into a hole, at 640 pixels


def without_figure(photo: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Remove the figure from the photo.

    The hole is filled from its border by diffusion over a pyramid; on walls with texture the border's fine detail is
    mirrored into the hole. Shadows on the floor are kept.

    Args:
        photo: uint8 `(h, w, 3)` sRGB.
        alpha: matte, float32 `(h, w)`, 0..1.

    Returns:
        float32 `(h, w, 3)`, 0..255, equal to the photo away from the figure. A photo filled by the figure gives its
        mean colour.

    Raises:
        ValueError: the sizes differ.
    """
    if photo.shape[:2] != alpha.shape:
        raise ValueError(f"photo is {photo.shape[:2]}, alpha is {alpha.shape}")
    scale = max(photo.shape[:2]) / 640
    hole = grown_hole(photo, alpha, scale)
    plate = photo.astype(np.float32)
    if not hole.any():
        return plate
    # Only pixels near the hole matter.
    rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
    margin = round(48 * scale)
    window = (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )
    image, hole = plate[window], hole[window]
    texture = _mirrored_texture(image, hole, max(2, round(FINE * scale)))
    plate[window] = np.clip(diffuse(image, ~hole) + texture, 0, 255)
    return plate


def grown_hole(photo: np.ndarray, alpha: np.ndarray, scale: float) -> np.ndarray:
    """Area without any trace of the figure and its blurred outline: the matte dilated by about 6 pixels of 640.

    On a smooth floor it is dilated by only one of them next to the feet, where filling would make a pale ring in their
    shadow.
    """
    figure = alpha > 0.02
    hole = dilate(figure, max(2, round(6 * scale)))
    rows = np.flatnonzero((alpha > 0.5).any(axis=1))
    if len(rows):
        low = slice(rows[-1] + 1 - round(FEET * (rows[-1] + 1 - rows[0])), None)
        tight = dilate(figure, max(1, round(scale)))
        step = np.abs(np.diff(photo.mean(axis=2, dtype=np.float32), axis=1, append=0))
        ring = (hole & ~tight)[low, :-1]
        if ring.any() and step[low, :-1][ring].mean() < SMOOTH:
            hole[low] = tight[low]
    return hole


def diffuse(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill unknown pixels with averages of known ones, coarse to fine.

    Args:
        image: float32 `(h, w, c)`.
        known: bool `(h, w)`.

    Returns:
        float32 `(h, w, c)`, equal to the image where it is known.
    """
    weight = torch.from_numpy(known.astype(np.float32))[None, None]
    if not known.any():
        return np.broadcast_to(image.mean(axis=(0, 1)), image.shape).astype(np.float32)
    value = torch.from_numpy(image).permute(2, 0, 1)[None] * weight
    levels = []
    while weight.min() <= 0 and min(weight.shape[-2:]) > 1:
        levels.append((value, weight))
        value, weight = (F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False) for x in (value, weight))
    filled = value / weight.clamp(min=1e-6)
    if weight.min() <= 0:
        mean = value.sum(dim=(-2, -1), keepdim=True) / weight.sum()
        filled = torch.where(weight > 0, filled, mean)
    for value, weight in reversed(levels):
        up = F.interpolate(filled, size=value.shape[-2:], mode="bilinear", align_corners=False)
        # With few known pixels in a cell the coarser level is mixed in, to avoid blocks at the hole's border.
        share = (2 * weight).clamp(max=1)
        filled = share * value / weight.clamp(min=1e-6) + (1 - share) * up
        for _ in range(4 if max(value.shape[-2:]) <= 320 else 1):
            filled.lerp_(_softened(filled), 1 - share)
    return filled[0].permute(1, 2, 0).numpy().copy()


def _softened(image: torch.Tensor) -> torch.Tensor:
    """(b, c, h, w) filtered with 1-2-1 both ways."""
    for axis in (-2, -1):
        length = image.shape[axis]
        if length < 2:
            continue
        ends = [image.narrow(axis, 0, 1), image, image.narrow(axis, length - 1, 1)]
        wide = torch.cat(ends, dim=axis)
        image = (wide.narrow(axis, 0, length) + wide.narrow(axis, 2, length)).mul_(0.25).add_(image, alpha=0.5)
    return image


def _mirrored_texture(image: np.ndarray, hole: np.ndarray, radius: int) -> np.ndarray:
    """Fine detail for a hole, mirrored row by row at its nearer border; zero outside the hole."""
    height, width = hole.shape
    known = (~hole).astype(np.float32)
    near = box_mean(known, radius)[..., None]
    fine = image - box_mean(image * known[..., None], radius) / np.maximum(near, 1e-3)
    fine *= (known * (near[..., 0] > 0.3))[..., None]
    x = np.broadcast_to(np.arange(width), (height, width))
    left = np.maximum.accumulate(np.where(hole, -1, x), axis=1)  # last known column at or before each pixel
    right = np.minimum.accumulate(np.where(hole, width, x)[:, ::-1], axis=1)[:, ::-1]
    from_left, from_right = 2 * left + 1 - x, 2 * right - 1 - x
    far_left = np.where((left >= 0) & (from_left >= 0), x - left, 2 * width)
    far_right = np.where((right < width) & (from_right < width), right - x, 2 * width)
    source = np.where(far_left <= far_right, from_left, from_right)
    usable = hole & (np.minimum(far_left, far_right) < 2 * width)
    source = np.clip(source, 0, width - 1)
    texture = np.take_along_axis(fine, source[..., None], axis=1)
    return texture * usable[..., None]
