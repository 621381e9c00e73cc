"""Shading of a turning surface under fixed light.

A photo contains the light on each point of a surface. When the point turns, its brightness follows its direction: the
logarithm of luminance is fitted to the surface's normal within each part of the photo, and a turn changes brightness by
the fitted difference. Prints do not depend on the normal, so the fit has a low weight there.
"""

from dataclasses import dataclass

import numpy as np
import torch

from fashionflow_core.images.parts import ARM_LEFT, ARM_RIGHT, HAIR, HEAD, LEGS, LOWER, SHOES, UPPER
from fashionflow_core.motion.handmade import DEPTH_RATIO
from fashionflow_core.motion.layers import Layer
from fashionflow_core.motion.regions import box_mean

_SURE = 0.97  # minimum alpha of pixels that show the figure only
_MOST = 0.5  # maximum change of the logarithm of luminance
_LEAST_PIXELS = 60  # minimum pixels of a part for a fit
_GAMMA = 2.2  # pixel values to luminance
_LIT = (HEAD, ARM_LEFT, ARM_RIGHT, UPPER, LOWER, LEGS)
_NOISE = 0.01  # variance of the logarithm of luminance in any photo
_PRIOR = 10.0  # precision of the prior (light of all parts) for one part
_STEEPEST = 1.5  # maximum slope and curve


@dataclass(frozen=True)
class Shading:
    """Brightness by direction at points (v,) of a figure.

    Attributes:
        normal: sideways component of the unit normal of the front, -1 (left) to 1 (right).
        forward: component towards the camera, 0 to 1.
        slope, curve: coefficients of the sideways component and of its square in the logarithm of luminance.
    """

    normal: torch.Tensor
    forward: torch.Tensor
    slope: torch.Tensor
    curve: torch.Tensor

    def gain(self, b: torch.Tensor) -> torch.Tensor:
        """Change of the logarithm of luminance, (n, v), under depth motion b (n, v)."""
        sine = (b / DEPTH_RATIO).clamp(-0.9, 0.9)
        turned = self.normal * (1 - sine * sine).sqrt() + self.forward * sine
        change = self.slope * (turned - self.normal) + self.curve * (turned * turned - self.normal * self.normal)
        return _MOST * torch.tanh(change / _MOST)


def fit(photo: np.ndarray, alpha: np.ndarray, parts: np.ndarray | None, layers: list[Layer]) -> list[np.ndarray]:
    """Normal and coefficients of each layer, float32 (4, h, w): the fields of `Shading` at every pixel.

    Args:
        photo: photo, uint8 (h, w, 3).
        alpha: matte, (h, w), 0..1.
        parts: labels of `images.parts`, (h, w), or None: the figure is one part.
        layers: result of `layers.split`.
    """
    luma = photo.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    light = _GAMMA * np.log(np.maximum(luma, 8))
    facing = [normals(layer.e) for layer in layers]
    regions, samples = [], []
    for number, layer in enumerate(layers):
        sure = (alpha > _SURE) & layer.seen & (layer.e > 0)
        for label in (0,) if parts is None else _LIT:
            region = sure if parts is None else sure & (parts == label)
            if region.sum() >= _LEAST_PIXELS:
                regions.append((number, region))
                samples.append(_within_rows(light, facing[number][0], region))
    pooled = np.zeros(2)
    for _ in range(4):
        pooled = _solved(samples, pooled, np.zeros(2), 1e-3)
    values = np.zeros((len(layers), 2, *alpha.shape), np.float32)
    known = np.zeros((len(layers), *alpha.shape), np.float32)
    for (number, region), sample in zip(regions, samples, strict=True):
        values[number][:, region] = _solved([sample], pooled, pooled, _PRIOR)[:, None]
        known[number][region] = 1
    if parts is not None:
        known[:, (parts == HAIR) | (parts == SHOES)] = 1  # with no coefficients
    # extended over seams and beyond the outline, so that no step is visible there
    reach = max(2, len(alpha) // 100)
    maps = []
    for number, (normal, forward) in enumerate(facing):
        near = np.maximum(box_mean(known[number], reach), 1e-3)
        slope, curve = (box_mean(values[number, k], reach) / near for k in range(2))
        maps.append(np.stack([normal, forward, slope, curve]).astype(np.float32))
    return maps


def normals(e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Components sideways and towards the camera of the unit normal of a surface of half thickness e (h, w)."""
    square = e.astype(np.float32) ** 2
    down, across = (-0.5 * slope for slope in np.gradient(square))
    length = np.sqrt(square + across**2 + down**2)
    return across / np.maximum(length, 1e-3), e / np.maximum(length, 1e-3)


def _within_rows(light: np.ndarray, normal: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Sideways normal, its square and `light` of a region, float64 (3, n), less their means in each row.

    This excludes sleeves, hems and horizontal stripes from the fit.
    """
    rows, columns = np.nonzero(region)
    count = np.maximum(np.bincount(rows, minlength=len(region)), 1)
    n = normal[rows, columns].astype(np.float64)
    values = np.stack([n, n * n, light[rows, columns].astype(np.float64)])
    return values - np.stack([np.bincount(rows, v, len(region)) / count for v in values])[:, rows]


def _solved(samples: list[np.ndarray], found: np.ndarray, prior: np.ndarray, precision: float) -> np.ndarray:
    """Slope and curve by weighted least squares: parts are weighted by how well `found` explains them.

    So skin and plain cloth have more weight than prints, whose colours are not shading.
    """
    matrix, right = precision * np.eye(2), precision * prior
    for values in samples:
        left = values[2] - found @ values[:2]
        weight = len(left) ** -0.5 / (float(left @ left) / len(left) + _NOISE)  # correlated neighbours: root of n
        matrix = matrix + weight * values[:2] @ values[:2].T
        right = right + weight * values[:2] @ values[2]
    return np.clip(np.linalg.solve(matrix, right), -_STEEPEST, _STEEPEST)
