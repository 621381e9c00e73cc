"""The Fréchet distance of two sets of features, its noise floor and its interval; and the Inception Score.

Sets are given video by video, as lists of float arrays `(rows, d)`: one row a video for FVD and VFID, one a frame for
FID. What is drawn (halves, bootstrap) are videos, because frames of one video are no independent samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Features = Sequence[np.ndarray]

_BLOCK = 4096  # rows that are turned to float64 at a time


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean `(d,)`, and a factor F `(k, d)` of the unbiased covariance FᵀF, k at most d."""

    mean: np.ndarray
    factor: np.ndarray


def gaussian(features: np.ndarray) -> Gaussian:
    """Mean and covariance of feature rows `(n, d)`.

    Raises:
        ValueError: fewer than two rows, which have no covariance, or numbers that are not finite.
    """
    count, width = features.shape
    if count < 2:
        raise ValueError(f"{count} samples have no covariance; at least 2 are needed")
    mean = np.zeros(width)
    for start in range(0, count, _BLOCK):
        mean += features[start : start + _BLOCK].astype(np.float64).sum(axis=0)
    mean /= count
    if not np.isfinite(mean).all():
        raise ValueError("features are not finite numbers")
    if count <= width:
        return Gaussian(mean, (features.astype(np.float64) - mean) / np.sqrt(count - 1))
    covariance = np.zeros((width, width))
    for start in range(0, count, _BLOCK):
        centred = features[start : start + _BLOCK].astype(np.float64) - mean
        covariance += centred.T @ centred
    values, vectors = np.linalg.eigh(covariance / (count - 1))
    return Gaussian(mean, np.sqrt(np.maximum(values, 0))[:, None] * vectors.T)


def distance(a: Gaussian, b: Gaussian) -> float:
    """Squared difference of the means plus Tr(Σa + Σb − 2 (Σa Σb)^½).

    Paper, equation 4, with a minus between the means.

    The trace of the root is the nuclear norm of Fa Fbᵀ, which holds for singular covariances too and needs no matrix
    root.
    """
    root = np.linalg.svd(a.factor @ b.factor.T, compute_uv=False).sum()
    value = np.sum((a.mean - b.mean) ** 2) + np.sum(a.factor**2) + np.sum(b.factor**2) - 2 * root
    return max(0.0, float(value))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The Fréchet distance of two sets of feature rows, `(n, d)` and `(m, d)`: 0 for the same set, in any order.

    Raises:
        ValueError: a set of fewer than two rows; different widths; numbers that are not finite.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"expected feature rows of one width, got {a.shape} and {b.shape}")
    return distance(gaussian(a), gaussian(b))


def rows(features: Features) -> np.ndarray:
    """All rows of a set, `(n, d)`."""
    return np.concatenate(list(features))


def noise_floor(features: Features, seed: int = 0) -> float | None:
    """The distance of two random halves of one set: what a perfect generator would get from half as many videos.

    Returns:
        None for fewer than four videos, whose halves have no covariance.
    """
    if len(features) < 4:
        return None
    order = np.random.default_rng(seed).permutation(len(features))
    half = len(features) // 2
    parts = [rows([features[i] for i in sorted(part)]) for part in (order[:half], order[half : 2 * half])]
    return frechet_distance(*parts)


def interval(
    score: Callable[..., float], sets: Sequence[Features], replicates: int, seed: int = 0, level: float = 0.95
) -> tuple[float, float] | None:
    """A bootstrap interval of a score over videos.

    A set drawn with replacement holds copies, so that its covariance is too small in rank and every distance too large.
    Only the spread of the replicates is used therefore: it is laid around the score of the sets themselves.

    Args:
        score: takes the rows of each set.
        sets: each drawn from on its own.
        replicates: how many times to draw; 0: no interval.

    Returns:
        Lower and upper end, neither below 0 nor leaving the score out; None for sets of fewer than four videos, or if
        most draws have no score.
    """
    if replicates < 1 or min(len(features) for features in sets) < 4:
        return None
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(replicates):
        drawn = [[features[i] for i in rng.integers(len(features), size=len(features))] for features in sets]
        try:
            found.append(score(*map(rows, drawn)))
        except (ValueError, np.linalg.LinAlgError):
            continue
    if len(found) < max(2, replicates // 2):
        return None
    value = score(*map(rows, sets))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2]) - np.mean(found) + value
    return max(0.0, float(min(low, value))), float(max(high, value))


def inception_score(logits: np.ndarray, splits: int = 1) -> float:
    """The Inception Score: exp of the mean KL divergence of each frame's classes from those of all (paper, equation 5).

    Args:
        logits: `(n, classes)`, in file order.
        splits: parts, in order, each scored by itself; their mean is returned. Rows that do not divide go to the first
            parts.

    Returns:
        1 (all frames alike) to the number of classes.

    Raises:
        ValueError: fewer rows than parts, or numbers that are not finite.
    """
    if not 1 <= splits <= len(logits):
        raise ValueError(f"{len(logits)} frames cannot be split into {splits} parts")
    scores = []
    for part in np.array_split(logits, splits):
        width = part.shape[1]
        marginal, negative_entropy = np.zeros(width), 0.0
        for start in range(0, len(part), _BLOCK):
            x = part[start : start + _BLOCK].astype(np.float64)
            x = x - x.max(axis=1, keepdims=True)
            log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
            p = np.exp(log_p)
            marginal += p.sum(axis=0)
            negative_entropy += float((p * log_p).sum())
        marginal /= len(part)
        held = marginal[marginal > 0]
        # mean KL(p | m) = mean of Σ p log p, minus Σ m log m
        scores.append(float(np.exp(negative_entropy / len(part) - (held * np.log(held)).sum())))
    if not np.isfinite(scores).all():
        raise ValueError("logits are not finite numbers")
    return float(np.mean(scores))
