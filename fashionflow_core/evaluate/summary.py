"""Summary of measurements: distances, intervals, noise floor, means."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fashionflow_core.errors import FashionFlowWarning
from fashionflow_core.evaluate.measure import ClipMeasurement, protocol_of
from fashionflow_core.evaluate.protocol import DISTANCES, PAIRED, Protocol
from fashionflow_core.evaluate.sources import ClipFile
from fashionflow_core.metrics import frechet, person

SCHEMA = 1
# Above this number of rows times columns squared a replicate takes seconds: fewer are drawn, and their number is
# recorded.
_DEAR = 2e10


def summarise(
    real: Sequence[ClipMeasurement],
    fake: Sequence[ClipMeasurement],
    pairs: Mapping[str, Mapping[str, float | None]],
    failed: list[dict[str, Any]],
    remarks: list[str],
    protocol: Protocol,
    record: dict[str, Any],
    found: Mapping[str, Sequence[ClipFile]],
) -> dict[str, Any]:
    """The result of `run.evaluate`, without the names of the folders."""
    result = _Result(protocol, failed, remarks)
    for metric in protocol.wants(*DISTANCES):
        result.add_distance(metric, _having(real, metric), _having(fake, metric))
    if protocol.wants("is"):
        result.add_score(_having(real, "is"), _having(fake, "is"))
    for metric in protocol.wants(*PAIRED):
        result.add_mean(of_pairs(metric), [pair[name] for pair in pairs.values() if (name := of_pairs(metric)) in pair])
    for name in dict.fromkeys(name for clip in fake for name in clip.numbers):
        result.add_mean(name, [clip.numbers.get(name) for clip in fake])
        result.add_reference(name, [clip.numbers.get(name) for clip in real])
    for name in ("garment_error", "skin_error", "width_correlation"):
        if any(name in pair for pair in pairs.values()):
            result.add_mean(name, [pair.get(name) for pair in pairs.values()])
    if protocol.wants("drift", "skin"):
        result.add_skin_gap(real, fake)
    result.remark_lengths(fake, pairs)
    samples = {
        "real": len(real),
        "fake": len(fake),
        "found": {which: len(sources) for which, sources in found.items()},
        "pairs": len(pairs),
        **result.samples,
    }
    return {
        "schema": SCHEMA,
        "metrics": result.metrics,
        "intervals": result.intervals,
        "floors": result.floors,
        "reference": result.reference,
        "reference_intervals": result.reference_intervals,
        "skin_groups": _skin_groups(fake),
        "samples": samples,
        "failed": failed,
        "warnings": remarks,
        "protocol": record
        | {"replicates": result.replicates}
        | {"clips": {"real": list(map(protocol_of, real)), "fake": list(map(protocol_of, fake))}},
        "clips": [_of_clip(clip, pairs.get(clip.name, {})) for clip in fake],
    }


def of_pairs(metric: str) -> str:
    """The measure that a metric of `PAIRED` computes."""
    return "silhouette_overlap" if metric == "silhouette" else metric


class _Result:
    """Metrics by name, computed one by one."""

    def __init__(self, protocol: Protocol, failed: list[dict[str, Any]], remarks: list[str]) -> None:
        self.protocol, self.failed, self.remarks = protocol, failed, remarks
        self.metrics: dict[str, float | None] = {}
        self.intervals: dict[str, list[float]] = {}
        self.floors: dict[str, float | None] = {}
        self.reference: dict[str, float | None] = {}
        self.reference_intervals: dict[str, list[float]] = {}
        self.samples: dict[str, Any] = {}
        self.replicates: dict[str, int] = {}

    def add_distance(self, metric: str, real: frechet.Features, fake: frechet.Features) -> None:
        """Compute FVD, VFID or FID of the sets' features."""
        self.samples[metric] = {"real": sum(map(len, real)), "fake": sum(map(len, fake))}
        self.metrics[metric] = self.floors[metric] = None
        for which, features in (("real", real), ("fake", fake)):
            if len(features) < 2:
                self._lack(metric, which, f"{metric} needs at least 2 {which} clips, not {len(features)}")
                return
        self._keep(metric, frechet.frechet_distance, [real, fake])
        self.floors[metric] = frechet.noise_floor(real, self.protocol.seed)
        count, width = min(self.samples[metric].values()), real[0].shape[1]
        if count <= width:
            self._remark(
                f"{metric}: {count} samples for {width} features: covariances are singular and the value is "
                "biased upwards; compare only sets of this size, and use the noise floor"
            )

    def add_score(self, real: frechet.Features, fake: frechet.Features) -> None:
        """Compute IS of the fakes, and of the real clips as reference."""
        splits = self.protocol.is_splits
        self.samples["is"] = {"fake": sum(map(len, fake))}
        self.metrics["is"] = None
        if self.samples["is"]["fake"] < splits:
            self._lack("is", "fake", f"IS in {splits} splits needs as many frames, not {self.samples['is']['fake']}")
            return
        self._keep("is", lambda logits: frechet.inception_score(logits, splits), [fake])
        if sum(map(len, real)) >= splits:
            self.reference["is"] = frechet.inception_score(real, splits)

    def add_mean(self, metric: str, values: Sequence[float | None]) -> None:
        """Mean of a measure over the clips or pairs that have it."""
        having = [value for value in values if value is not None]
        self.metrics[metric] = _mean(values)
        self.samples[metric] = len(having)
        if metric in map(of_pairs, PAIRED) and not values:
            self._remark(f"{metric}: no clip could be compared with a real one of the same name")
        if metric == "psnr" and len(having) < len(values):
            self._remark(f"psnr: infinite for {len(values) - len(having)} equal pairs, which the mean omits")
        self._interval(metric, lambda x: float(np.mean(x)), [[np.array([[value]]) for value in having]], floor=False)

    def add_reference(self, metric: str, values: Sequence[float | None]) -> None:
        """Mean of a measure over the real clips that have it, with its interval."""
        self.reference[metric] = _mean(values)
        having = [np.array([[value]]) for value in values if value is not None]
        if having and (
            ends := frechet.interval(
                lambda x: float(np.mean(x)), [having], self.protocol.bootstrap, self.protocol.seed, lowest=-np.inf
            )
        ):
            self.reference_intervals[metric] = list(ends)

    def add_skin_gap(self, real: Sequence[ClipMeasurement], fake: Sequence[ClipMeasurement]) -> None:
        """Difference of mean skin drift between skin groups, of the fakes and of the real clips as reference."""
        groups = _by_group(fake)
        self.metrics["skin_gap"], ends = self._skin_gap(groups)
        self.samples["skin_gap"] = sum(map(len, groups.values()))
        if ends is not None:
            self.intervals["skin_gap"], self.replicates["skin_gap"] = list(ends), self.protocol.bootstrap
        self.reference["skin_gap"], ends = self._skin_gap(_by_group(real))
        if ends is not None:
            self.reference_intervals["skin_gap"] = list(ends)

    def _skin_gap(self, groups: Mapping[str, list[float]]) -> tuple[float | None, tuple[float, float] | None]:
        """The gap with its interval; None if fewer than two groups are there, or too few clips."""
        value = person.skin_gap(groups)
        if value is None:
            return None, None
        rows = [np.array([[place, drift]]) for place, values in enumerate(groups.values()) for drift in values]

        def gap(drawn: frechet.Features) -> float:
            together = np.concatenate(list(drawn))
            found = person.skin_gap({str(p): together[together[:, 0] == p, 1].tolist() for p in set(together[:, 0])})
            if found is None:
                raise ValueError("one group")
            return found

        return value, frechet.interval(gap, [rows], self.protocol.bootstrap, self.protocol.seed)

    def remark_lengths(self, clips: Sequence[ClipMeasurement], pairs: Mapping[str, Mapping[str, float | None]]) -> None:
        """Remark that clips are compared on the frames that both have, if their lengths differ."""
        compared = [(clip.frames, pairs[clip.name]) for clip in clips if clip.name in pairs]
        uneven = sorted(pair["compared_frames"] or 0 for frames, pair in compared if pair["real_frames"] != frames)
        if uneven:
            span = f"{uneven[0]}" if uneven[0] == uneven[-1] else f"{uneven[0]} to {uneven[-1]}"
            self._remark(
                f"{len(uneven)} of {len(pairs)} clips differ in length from their real clip: compared frame by frame "
                f"over the {span} leading frames that both have"
            )

    def _keep(self, metric: str, score: Callable[..., float], sets: list[frechet.Features]) -> None:
        self.metrics[metric] = score(*sets)
        self._interval(metric, score, sets)

    def _interval(self, metric: str, score: Callable[..., float], sets: list[Any], floor: bool = True) -> None:
        if not all(sets):
            return
        work = sum(sum(map(len, s)) * s[0].shape[1] ** 2 for s in sets) if metric in DISTANCES else 0
        replicates = min(self.protocol.bootstrap, max(10, int(self.protocol.bootstrap * _DEAR / max(work, _DEAR))))
        replicates = min(replicates, self.protocol.bootstrap)
        ends = frechet.interval(score, sets, replicates, self.protocol.seed, lowest=0.0 if floor else -np.inf)
        if ends is not None:
            self.intervals[metric], self.replicates[metric] = list(ends), replicates

    def _lack(self, metric: str, which: str, reason: str) -> None:
        self.failed.append({"set": which, "name": None, "metric": metric, "reason": reason})

    def _remark(self, text: str) -> None:
        self.remarks.append(text)
        warnings.warn(text, FashionFlowWarning, stacklevel=4)


def _having(clips: Sequence[ClipMeasurement], metric: str) -> list[np.ndarray]:
    return [clip.features[metric] for clip in clips if metric in clip.features]


def _mean(values: Sequence[float | None]) -> float | None:
    having = [value for value in values if value is not None]
    return float(np.mean(having)) if having else None


def _by_group(clips: Sequence[ClipMeasurement]) -> dict[str, list[float]]:
    """Skin drift of the clips of each skin group."""
    groups: dict[str, list[float]] = {}
    for clip in clips:
        drift = clip.numbers.get("skin_drift")
        if clip.skin is not None and drift is not None:
            groups.setdefault(clip.skin, []).append(drift)
    return dict(sorted(groups.items()))


def _skin_groups(clips: Sequence[ClipMeasurement]) -> dict[str, dict[str, Any]]:
    return {
        group: {"clips": len(found), "skin_drift": float(np.mean(found))} for group, found in _by_group(clips).items()
    }


def _of_clip(clip: ClipMeasurement, pair: Mapping[str, float | None]) -> dict[str, Any]:
    return {
        "name": clip.name,
        "skin_group": clip.skin,
        **clip.numbers,
        **pair,
        "garment_drift_over_time": None if clip.drift is None else [round(float(value), 4) for value in clip.drift],
    }
