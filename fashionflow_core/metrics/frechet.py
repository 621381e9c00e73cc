"""Fréchet distance (FVD, VFID, FID) with noise floor and interval; Inception Score.

Sets are lists of float arrays `(rows, d)`, one per video: one row per video for FVD and VFID, one per frame for FID.
Halves and bootstrap samples draw videos, because frames of one video are not independent samples.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Features = Sequence[np.ndarray]

_BLOCK = 4096  # rows converted to float64 at a time


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean `(d,)`, and a factor F `(k, d)` of the unbiased covariance FᵀF, k at most d."""

    mean: np.ndarray
    factor: np.ndarray


def gaussian(features: Features) -> Gaussian:
    """Mean and covariance of a set; computed in blocks, since the rows of 1,000 videos take half a GB.

    Raises:
        ValueError: fewer than two rows, which have no covariance, or numbers that are not finite.
    """
    count, width = sum(map(len, features)), features[0].shape[1]
    if count < 2:
        raise ValueError(f"{count} samples (at least 2 required for a covariance)")
    mean = np.zeros(width)
    for block in _blocks(features):
        mean += block.sum(axis=0)
    mean /= count
    if not np.isfinite(mean).all():
        raise ValueError("features are not finite")
    if count <= width:
        return Gaussian(mean, (np.concatenate(list(_blocks(features))) - mean) / np.sqrt(count - 1))
    covariance = np.zeros((width, width))
    for block in _blocks(features):
        centred = block - mean
        covariance += centred.T @ centred
    values, vectors = np.linalg.eigh(covariance / (count - 1))
    return Gaussian(mean, np.sqrt(np.maximum(values, 0))[:, None] * vectors.T)


def _blocks(features: Features) -> Iterator[np.ndarray]:
    """All rows in order, float64, some thousand at a time: to merge many small arrays into few matrix products."""
    kept: list[np.ndarray] = []
    for part in features:
        for start in range(0, len(part), _BLOCK):
            kept.append(part[start : start + _BLOCK])
            if sum(map(len, kept)) >= _BLOCK:
                yield np.concatenate(kept).astype(np.float64)
                kept = []
    if kept:
        yield np.concatenate(kept).astype(np.float64)


def distance(a: Gaussian, b: Gaussian) -> float:
    """Squared difference of the means plus Tr(Σa + Σb − 2 (Σa Σb)^½).

    Paper, equation 4, with the sign between the means corrected to minus.

    The trace of the root is the nuclear norm of Fa Fbᵀ, which holds for singular covariances too and needs no matrix
    root.
    """
    root = np.linalg.svd(a.factor @ b.factor.T, compute_uv=False).sum()
    spread = np.sum(a.factor**2) + np.sum(b.factor**2)
    value = float(np.sum((a.mean - b.mean) ** 2) + spread - 2 * root)
    # For equal sets only rounding errors remain, of either sign.
    return value if value > 1e-13 * spread else 0.0


def frechet_distance(a: Features, b: Features) -> float:
    """The Fréchet distance of two sets: 0 for the same set, in any order.

    Raises:
        ValueError: a set of fewer than two rows; different widths; numbers that are not finite.
    """
    shapes = {part.shape[1:] for features in (a, b) for part in features}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise ValueError(f"expected rows of one width, got {' and '.join(map(str, sorted(shapes))) or 'none'}")
    return distance(gaussian(a), gaussian(b))


def noise_floor(features: Features, seed: int = 0) -> float | None:
    """The distance of two random halves of one set: the noise floor, also for a perfect generator.

    Returns:
        None for fewer than four videos, whose halves have no covariance.
    """
    if len(features) < 4:
        return None
    order = np.random.default_rng(seed).permutation(len(features))
    half = len(features) // 2
    parts = [[features[i] for i in sorted(part)] for part in (order[:half], order[half : 2 * half])]
    return frechet_distance(*parts)


def interval(
    score: Callable[..., float], sets: Sequence[Features], replicates: int, seed: int = 0, lowest: float = 0.0
) -> tuple[float, float] | None:
    """A bootstrap interval of a score over videos.

    A set drawn with replacement contains duplicates, so its covariance is rank-deficient and every distance too large.
    Therefore only the spread of the replicates is used, centred on the score of the sets themselves.

    Args:
        score: function of the sets.
        sets: sets of videos, resampled independently.
        replicates: number of replicates; 0: no interval.
        lowest: lower bound of the score.

    Returns:
        Ends of the 95 % interval, at least `lowest` and including the score; None for sets of fewer than four videos,
        or if most replicates have no score.
    """
    if replicates < 1 or min(len(features) for features in sets) < 4:
        return None
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(replicates):
        drawn = [[features[i] for i in rng.integers(len(features), size=len(features))] for features in sets]
        try:
            found.append(score(*drawn))
        except (ValueError, np.linalg.LinAlgError):
            continue
    if len(found) < max(2, replicates // 2):
        return None
    value = score(*sets)
    low, high = np.quantile(found, [0.025, 0.975]) - np.mean(found) + value
    return max(lowest, float(min(low, value))), float(max(high, value))


def inception_score(logits: Features, splits: int = 1) -> float:
    """The Inception Score: exp of the mean KL divergence of each frame's classes from those of all (paper, equation 5).

    Args:
        logits: `(frames, classes)` of each video, in file order.
        splits: parts, in order, each scored separately; their mean is returned. Remaining rows go to the first parts.

    Returns:
        1 (all frames alike) to the number of classes.

    Raises:
        ValueError: fewer rows than parts, or numbers that are not finite.
    """
    together = np.concatenate(list(logits))
    if not 1 <= splits <= len(together):
        raise ValueError(f"{len(together)} frames cannot be split into {splits} parts")
    scores = []
    for part in np.array_split(together, splits):
        width = part.shape[1]
        marginal, negative_entropy = np.zeros(width), 0.0
        for x in _blocks([part]):
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
        raise ValueError("logits are not finite")
    return float(np.mean(scores))
