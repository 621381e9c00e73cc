"""Colour transfer between two Gaussians by a linear map (Monge-Kantorovich)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
