"""Colour transfer between two Gaussians by a linear map (Monge-Kantorovich), and what of a difference is corrected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_EVIDENCE = 2.0  # L*a*b* difference in hue from which on a difference in light is the model's, too
_UNEXPLAINED = 7.0  # times the light of a turn, added to it without such evidence


@dataclass(frozen=True, eq=False)
class ColourGaussian:
    """Gaussian of a region's colours, L*a*b*: mean float64 `(3,)` and covariance `(3, 3)`."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, sample: np.ndarray) -> ColourGaussian | None:
        """Fit to colours `(n, 3)` without their outermost twentieth; None for fewer than 30."""
        if len(sample) < 30:
            return None
        sample = sample[:: max(1, len(sample) // 4000)].astype(np.float64)
        off = np.linalg.norm(sample - np.median(sample, axis=0), axis=1)
        sample = sample[off <= max(float(np.quantile(off, 0.95)), 1e-3)]
        # One unit of variance keeps the covariance of a plain region invertible.
        return cls(sample.mean(0), np.cov(sample.T) + np.eye(3))

    def mixed(self, other: ColourGaussian, mean: float, covariance: float) -> ColourGaussian:
        """A mixture with `other`, by the given weights of mean and covariance."""
        return ColourGaussian(
            self.mean + mean * (other.mean - self.mean),
            self.covariance + covariance * (other.covariance - self.covariance),
        )


def transfer_matrix(source: np.ndarray, target: np.ndarray, least: float, most: float) -> np.ndarray:
    """The Monge-Kantorovich map between two covariances, its gains bounded.

    The only symmetric positive definite A with A source A = target (Pitié and Kokaram, "The linear Monge-Kantorovitch
    linear colour mapping for example-based colour transfer", CVMP 2007).

    Args:
        source, target: `(3, 3)`, symmetric positive definite.
        least, most: bounds of A's eigenvalues.
    """
    root = _root(source)
    inverse = np.linalg.inv(root)
    matrix = inverse @ _root(root @ target @ root) @ inverse
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.clip(values, least, most)) @ vectors.T


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 1e-6))) @ vectors.T


def light_change(wanted: np.ndarray, photo_wall: np.ndarray, wall: np.ndarray, faded: float) -> float:
    """Change along the direction of light that the scene explains, L*: by the wall's light, and by fading.

    Args:
        wanted: mean colour of a region in the photo, L*a*b* `(3,)`.
        photo_wall, wall: mean colours of the wall in the photo and in the video, L*a*b* `(3,)`.
        faded: share by which the video has faded towards the wall, 0 to 1.
    """
    bright = max(float(np.linalg.norm(wanted)), 1.0)
    light = wanted / bright
    return bright * (1 - float(wall[0] / max(photo_wall[0], 1.0))) + faded * float((wanted - photo_wall) @ light)


def offset(wanted: np.ndarray, now: np.ndarray, explained: float | None, turn: float, least: float) -> np.ndarray:
    """Correction of a region's mean, L*a*b* `(3,)`.

    A turn changes the light on a garment, but hardly its hue. A difference along the direction of light is therefore
    corrected as far as the scene explains it, and mostly kept beyond that unless the hue changed, too.

    Args:
        wanted, now: mean in the photo and in the video.
        explained: change along the direction of light that the scene explains (`light_change`); None: all of it.
        turn: L*a*b* that a turn usually changes the light by; smaller differences are mostly kept.
        least: likewise, of hue.
    """
    off = wanted - now
    light = wanted / max(float(np.linalg.norm(wanted)), 1.0)
    shade = float(off @ light)
    across = off - shade * light
    size = float(across @ across)
    known = shade if explained is None else float(np.clip(explained, min(shade, 0), max(shade, 0)))
    rest = shade - known
    unsure = turn * (1 + _UNEXPLAINED * (1 - size / (size + _EVIDENCE**2 + (shade / 2) ** 2)))
    shade = known**3 / (known**2 + turn**2) + rest**3 / (rest**2 + unsure**2)
    return across * size / (size + least**2) + light * shade
