"""Soft edges of a matte (alpha matting in a trimap)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from fashionflow_core.motion.background import diffuse
from fashionflow_core.motion.regions import box_mean, dilate, erode

RIM = 2.5  # half-width in pixels of the undecided band, for a photo 640 pixels high
CONTRAST = 150.0  # squared distance of both sides' sRGB colours at which colour and mask have equal weight


def soft_alpha(photo: np.ndarray, mask: np.ndarray, doubtful: np.ndarray | None = None) -> np.ndarray:
    """Compute alpha of a figure with a known rough outline.

    In a band around the outline `photo = alpha * figure + (1 - alpha) * wall` is solved for alpha, with both colours
    extended from outside the band. Where they are similar, the smoothed mask is used instead.

    Args:
        photo: photo, uint8 `(h, w, 3)` sRGB.
        mask: rough mask, bool `(h, w)`.
        doubtful: additional pixels to solve for, such as slits between arm and body, bool `(h, w)`.

    Returns:
        float32 `(h, w)`, 0..1; exactly 0 and 1 away from the outline.
    """
    scale = max(mask.shape) / 640
    radius = max(2, round(RIM * scale))
    sure, never = erode(mask, radius), ~dilate(mask, radius)
    if doubtful is not None:
        sure, never = sure & ~doubtful, never & ~doubtful
    band = ~sure & ~never
    # Thin limbs have no certain core: their middle line is used instead.
    core = sure | (mask & ~dilate(sure, 2 * radius) & erode(mask, max(1, radius // 2)))
    if not core.any() or not never.any():
        return mask.astype(np.float32)
    rows, columns = np.flatnonzero(band.any(axis=1)), np.flatnonzero(band.any(axis=0))
    margin = 8 * radius
    window = (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )
    image = photo[window].astype(np.float32)
    figure, wall = diffuse(image, core[window]), diffuse(image, never[window])
    apart = figure - wall
    contrast = (apart * apart).sum(axis=-1)
    solved = ((image - wall) * apart).sum(axis=-1) / np.maximum(contrast, 1.0)
    smooth = box_mean(mask[window].astype(np.float32), max(1, radius // 2))
    trust = contrast / (contrast + CONTRAST)
    alpha = trust * np.clip(1.1 * solved - 0.05, 0, 1) + (1 - trust) * smooth
    result = sure.astype(np.float32)
    result[window] = np.where(band[window], alpha, result[window])
    return result


def guided(photo: np.ndarray, planes: np.ndarray, radius: int, slack: float = 2e-4, step: int = 1) -> np.ndarray:
    """Guided filter (He et al., 2010): planes follow the photo's edges as linear functions of its colours.

    Args:
        photo: photo, uint8 `(h, w, 3)` sRGB.
        planes: planes to filter, float32 `(n, h, w)`.
        radius: radius in pixels of the windows with one linear function.
        slack: variance of a colour, in 0..1 squared, that counts as an edge.
        step: step in pixels between the fitted ones (the fast guided filter, He and Sun, 2015).

    Returns:
        float32 `(n, h, w)`.
    """
    full = photo.astype(np.float32) / 255
    image, planes, radius = full[::step, ::step], planes[:, ::step, ::step], max(1, round(radius / step))
    mean = box_mean(image, radius)
    products = (image[..., :, None] * image[..., None, :]).reshape(*image.shape[:2], 9)[..., [0, 1, 2, 4, 5, 8]]
    products = box_mean(products, radius)
    covariance = np.empty((*image.shape[:2], 3, 3), np.float32)
    for entry, (row, column) in enumerate(((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))):
        value = products[..., entry] - mean[..., row] * mean[..., column]
        covariance[..., row, column] = covariance[..., column, row] = value
    covariance[..., range(3), range(3)] += slack
    inverse = np.linalg.inv(covariance)
    result = np.empty((len(planes), *photo.shape[:2]), np.float32)
    for index, plane in enumerate(planes):
        plane_mean = box_mean(plane, radius)
        common = box_mean(image * plane[..., None], radius) - mean * plane_mean[..., None]
        slope = (inverse @ common[..., None])[..., 0]
        offset = plane_mean - (slope * mean).sum(axis=-1)
        slope, offset = box_mean(slope, radius), box_mean(offset, radius)
        if step > 1:
            stack = torch.from_numpy(np.concatenate([slope, offset[..., None]], axis=-1)).permute(2, 0, 1)[None]
            stack = F.interpolate(stack, size=photo.shape[:2], mode="bilinear", align_corners=False)[0].numpy()
            slope, offset = stack[:3].transpose(1, 2, 0), stack[3]
        result[index] = (slope * full).sum(axis=-1) + offset
    return result
