"""Paired bootstrap: the difference of two methods on the same photos, with its interval.

Methods that animate the same photos fail on the same difficult ones. The interval of the difference, drawn by photo, is
therefore narrower than two separate intervals suggest (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
section 13.3).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from fashionflow_core.evaluate.sources import SUFFIXES

REPLICATES = 10_000
_FEWEST = 4  # photos
_CHUNK = 2_000_000  # draws at a time


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference b − a over the photos that both methods have, with the ends of its interval."""

    photos: int
    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def paired_difference(
    a: Mapping[str, float],
    b: Mapping[str, float],
    level: float = 0.95,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> PairedDifference | None:
    """The percentile bootstrap of the mean of b − a over photos.

    Args:
        a, b: photo → value; photos of only one of them are omitted.
        level: coverage of the interval.
        replicates: number of replicates.
        seed: random seed; the result does not depend on the order of the photos.

    Returns:
        None for fewer than four common photos.
    """
    both = sorted(name for name in a if name in b)
    if len(both) < _FEWEST:
        return None
    values = np.array([[b[name] - a[name]] for name in both], np.float64)
    return _with_intervals(values, level, replicates, seed)[0]


def _with_intervals(values: np.ndarray, level: float, replicates: int, seed: int) -> list[PairedDifference]:
    """Differences `(photos, measures)` → their means with intervals; all measures see the same draws."""
    count = len(values)
    rng = np.random.default_rng(seed)
    means, rows = [], max(1, _CHUNK // count)
    for start in range(0, replicates, rows):
        drawn = rng.integers(count, size=(min(rows, replicates - start), count))
        # How often each replicate draws each photo: one matrix product then serves all measures.
        places = drawn + count * np.arange(len(drawn))[:, None]
        times = np.bincount(places.ravel(), minlength=drawn.size).reshape(drawn.shape)
        means.append(times @ values / count)
    ends = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [
        PairedDifference(count, float(mean), float(low), float(high))
        for mean, low, high in zip(values.mean(axis=0), *ends, strict=True)
    ]


def differences(
    a: Sequence[Mapping[str, Any]],
    b: Sequence[Mapping[str, Any]],
    level: float = 0.95,
    metrics: Iterable[str] | None = None,
) -> dict[str, PairedDifference]:
    """Paired differences of two methods in each measure that their clips have.

    Args:
        a, b: results of evaluations, one per run of the method; a clip's value is its mean over the runs that have it.
        level: coverage of the intervals.
        metrics: names; None: all.

    Returns:
        metric → difference; without distances and other measures of whole sets, and those with too few photos.
    """
    names = dict.fromkeys(name for result in a for name in result["metrics"]) if metrics is None else metrics
    # Measures that the same photos have share their draws.
    groups: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
    for metric in names:
        one, other = by_photo(a, metric), by_photo(b, metric)
        both = tuple(sorted(name for name in one if name in other))
        if len(both) >= _FEWEST:
            groups.setdefault(both, {})[metric] = np.array([other[name] - one[name] for name in both])
    found: dict[str, PairedDifference] = {}
    for columns in groups.values():
        values = np.stack(list(columns.values()), axis=1)
        found |= zip(columns, _with_intervals(values, level, REPLICATES, 0), strict=True)
    return found


def by_photo(results: Sequence[Mapping[str, Any]], metric: str) -> dict[str, float]:
    """Photo → mean value of a measure over the results whose clip of that photo has it."""
    values: dict[str, list[float]] = {}
    for result in results:
        for clip in result.get("clips", ()):
            value = clip.get(metric)
            if isinstance(value, int | float) and not isinstance(value, bool):
                values.setdefault(_key(str(clip["name"])), []).append(float(value))
    return {name: float(np.mean(found)) for name, found in values.items()}


def _key(name: str) -> str:
    """A clip's name without the suffix of a video: two methods may use different containers."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in SUFFIXES else name
