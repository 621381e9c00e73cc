"""Evaluation run: each clip read once, then distances between sets."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, option
from fashionflow_core.evaluate import summary
from fashionflow_core.evaluate.availability import check, resolve
from fashionflow_core.evaluate.measure import ClipMeasurement, FeatureNetworks, compare, describe, extract
from fashionflow_core.evaluate.parts import ClipParts
from fashionflow_core.evaluate.protocol import NETWORKS, PAIRED, EvaluateOptions, Protocol
from fashionflow_core.evaluate.sources import (
    ClipFile,
    Looked,
    common_size,
    find_clips,
    find_photo,
    look,
    read_clip,
)
from fashionflow_core.metrics.image_encoder import ImageEncoder
from fashionflow_core.metrics.random_features import RandomVideoFeatures
from fashionflow_core.metrics.weights import load_network
from fashionflow_core.utils.device import dtype_name, resolve_device, resolve_dtype


@dataclass(frozen=True)
class EvaluateProgress:
    """Callbacks of an evaluation: videos generated and clips measured (done, total), and remarks."""

    video: Callable[[int, int], None] = lambda done, total: None
    clip: Callable[[int, int], None] = lambda done, total: None
    note: Callable[[str], None] = lambda line: None


SILENT = EvaluateProgress()


@dataclass
class Sets:
    """Measured clips of both sets, compared pairs, and failures."""

    real: list[ClipMeasurement] = field(default_factory=list)
    fake: list[ClipMeasurement] = field(default_factory=list)
    pairs: dict[str, dict[str, float | None]] = field(default_factory=dict)
    failed: list[dict[str, Any]] = field(default_factory=list)

    def fail(self, which: str, name: str | None, reason: str, metric: str | None = None) -> None:
        """Record a clip (None: a folder) that is excluded from a metric, or (None) from all."""
        self.failed.append({"set": which, "name": name, "metric": metric, "reason": reason})


def evaluate(
    real: Path | None,
    fake: Path,
    options: EvaluateOptions,
    progress: EvaluateProgress = SILENT,
    of_fake: Sequence[ClipFile] | None = None,
) -> dict[str, Any]:
    """Measure the clips of `fake`, against those of `real`.

    Clips are paired by name for comparisons frame by frame. A clip that is damaged, too short or of another size than
    most is excluded and listed in `failed`.

    Args:
        real, fake: folders (or single files) of videos and of folders of PNG frames.
        of_fake: clips of `fake`; None: all.

    Returns:
        JSON values: `metrics`, `intervals`, `floors`, `reference`, `skin_groups`, `samples`, `omitted`, `failed`,
        `warnings`, `protocol`, `clips` (docs/guides/evaluate.md).

    Raises:
        UsageError: a metric that needs real clips without any.
        FashionFlowError: a folder, or what a selected metric needs, is missing; or no clip can be used.
    """
    unreadable: dict[str, list[str]] = {"fake": [], "real": []}
    found = {
        "fake": list(of_fake) if of_fake is not None else find_clips(fake, unreadable["fake"]),
        "real": find_clips(real, unreadable["real"]) if real is not None else [],
    }
    check(real, fake, options)
    chosen = resolve_device(options.device)
    sets = Sets()
    for which, lines in unreadable.items():
        for line in lines:
            sets.fail(which, None, line)
    looked = _look(found, sets, options.protocol, {"real": real, "fake": fake})
    longest = max((clip.frames for clip in looked["fake"]), default=0)
    fewest = min(len(clips) for which, clips in looked.items() if which == "fake" or real is not None)
    options, omitted = resolve(options, real is not None, fewest, longest)
    protocol, photos = options.protocol, options.photos
    number = resolve_dtype(options.dtype, chosen)
    kinds = dict.fromkeys(NETWORKS[name] for name in protocol.wants(*NETWORKS))
    networks = FeatureNetworks(
        {kind: load_network(kind, options.weights_folder, str(chosen), number) for kind in kinds},
        RandomVideoFeatures() if protocol.wants("rfd") else None,
        ImageEncoder.load(options.encoder_folder, str(chosen)) if protocol.wants("garment") else None,
    )
    remarks = _remarks(looked, networks, real, fake)
    done, total = 0, sum(map(len, looked.values()))
    for reals, fakes in _groups(looked, real, fake):
        _measure(reals, fakes, sets, protocol, networks, photos)
        done += len(reals) + len(fakes)
        progress.clip(done, total)
    for which, measured in (("real", sets.real), ("fake", sets.fake)):
        for clip in measured:
            for metric, reason in clip.lacking.items():
                sets.fail(which, clip.name, f"{clip.name}: {reason}", metric)
    if not sets.fake:
        raise FashionFlowError(
            f"{fake}: no usable clip of {len(found['fake'])}: {sets.failed[0]['reason']}",
            hint="fix this clip, then run the same command again",
        )
    record = protocol.record() | {
        "weights": {kind: loaded.record(kind) for kind, loaded in networks.trained.items()},
        "encoder": networks.encoder.record() if networks.encoder is not None else None,
        "dtype": dtype_name(number),
        "device": chosen.type,
        "torch": torch.__version__,
        "fps": {which: sorted({clip.fps for clip in clips}) for which, clips in looked.items()},
    }
    names = {"real": str(real) if real is not None else None, "fake": str(fake)}
    names |= {"omitted": [omission.record() for omission in omitted]}
    return names | summary.summarise(sets.real, sets.fake, sets.pairs, sets.failed, remarks, protocol, record, found)


def _look(
    found: dict[str, list[ClipFile]], sets: Sets, protocol: Protocol, folders: dict[str, Path | None]
) -> dict[str, list[Looked]]:
    """Readable clips of both sets with the most common size of `fake` (any size with `resize`)."""
    looked: dict[str, list[Looked]] = {"fake": [], "real": []}
    for which, sources in found.items():
        for source in sources:
            try:
                looked[which].append(look(source))
            except FashionFlowError as error:
                sets.fail(which, source.name, error.message)
    if protocol.resize is not None:
        return looked
    size = common_size(looked["fake"])
    if size is None:
        return looked
    for which, clips in looked.items():
        others = [clip for clip in clips if (clip.height, clip.width) != size]
        if clips and len(others) == len(clips):
            raise FashionFlowError(
                f"{folders[which]}: clips are {others[0].height}x{others[0].width}, those of {folders['fake']} "
                f"{size[0]}x{size[1]}",
                hint=f"resize all to one size: {option('resize', f'{size[0]}x{size[1]}')}",
            )
        for clip in others:
            sets.fail(
                which,
                clip.source.name,
                f"{clip.source.path}: {clip.height}x{clip.width}, but the others are {size[0]}x{size[1]}; "
                f"{option('resize')} resizes all to one size",
            )
        looked[which] = [clip for clip in clips if clip not in others]
    return looked


def _remarks(looked: dict[str, list[Looked]], networks: FeatureNetworks, real: Path | None, fake: Path) -> list[str]:
    """Remarks on the numbers that are known before measuring."""
    remarks = []
    for kind, loaded in networks.trained.items():
        if not loaded.public:
            remarks.append(
                f"the weights of {kind} (SHA-256 {loaded.sha256[:12]}...) are not the public ones: "
                "its numbers are not comparable with published ones"
            )
    if real is not None and real.resolve() == fake.resolve():
        remarks.append(f"{fake}: real and fake are the same, so distances are 0")
    rates = {which: {round(clip.fps, 2) for clip in clips if clip.fps} for which, clips in looked.items()}
    if rates["real"] and rates["fake"] and rates["real"] != rates["fake"]:
        shown = {which: ", ".join(f"{rate:g}" for rate in sorted(values)) for which, values in rates.items()}
        remarks.append(
            f"frames per second differ, real {shown['real']}, fake {shown['fake']}: distances see a different speed"
        )
    for remark in remarks:
        warnings.warn(remark, FashionFlowWarning, stacklevel=3)
    return remarks


def _groups(
    looked: dict[str, list[Looked]], real: Path | None, fake: Path
) -> Iterator[tuple[list[Looked], list[Looked]]]:
    """Clips grouped by name; two single files are paired whatever their names."""
    if real is not None and real.is_file() and fake.is_file():
        yield looked["real"], looked["fake"]
        return
    keys = sorted({clip.source.key for clips in looked.values() for clip in clips})
    for key in keys:
        reals, fakes = ([clip for clip in looked[which] if clip.source.key == key] for which in ("real", "fake"))
        yield reals, fakes


def _measure(
    reals: list[Looked],
    fakes: list[Looked],
    sets: Sets,
    protocol: Protocol,
    networks: FeatureNetworks,
    photos: Path | None,
) -> None:
    """Measure the clips of one name, and compare them if both sets have one."""
    kept: list[tuple[Path, ClipParts, ClipMeasurement]] = []
    is_pair = len(reals) == len(fakes) == 1
    # Real clips first: their first frames are the photos of generated ones.
    for which, clips in (("real", reals), ("fake", fakes)):
        for looked in clips:
            source = looked.source
            actual = source.path.resolve()
            # A file in both sets is measured once.
            same = next(((parts, measured) for path, parts, measured in kept if path == actual), None)
            true_photo = kept[0][1].frames[0] if is_pair and which == "fake" and kept else None
            photo = find_photo(source, photos) if which == "fake" and photos is not None else None
            try:
                parts, measured = same or _measured(looked, protocol, networks, true_photo, photo)
            except FashionFlowError as error:
                sets.fail(which, source.name, error.message)
                continue
            kept.append((actual, parts, measured))
            (sets.fake if which == "fake" else sets.real).append(measured)
    wanted = protocol.wants(*PAIRED)
    if is_pair and len(kept) == 2 and protocol.wants(*PAIRED, "drift", "skin"):
        name = fakes[0].source.name
        (_, true, of_true), (_, parts, measured) = kept
        measured.skin = of_true.skin or measured.skin
        try:
            sets.pairs[name] = compare(parts, true, protocol)
        except ValueError as error:
            sets.fail("fake", name, f"{name}: {error}", ",".join(wanted) or "drift")
    elif wanted and min(len(reals), len(fakes)) >= 1 and len(reals) + len(fakes) > 2:
        key = fakes[0].source.key
        sets.fail("fake", key, f"{key}: several clips have this name, so none is compared", ",".join(wanted))


def _measured(
    looked: Looked,
    protocol: Protocol,
    networks: FeatureNetworks,
    true_photo: np.ndarray | None,
    photo: Path | None,
) -> tuple[ClipParts, ClipMeasurement]:
    clip = read_clip(looked, protocol.clip_frames, protocol.seed, protocol.resize, protocol.fit, protocol.resample)
    measured = ClipMeasurement(looked.source.name, looked.source.key, len(clip.window), clip.start)
    extract(measured, clip, protocol, networks)
    parts = ClipParts(clip.head)
    try:
        describe(measured, parts, protocol, networks.encoder, true_photo, photo)
    except FashionFlowError as error:  # raised for the photo
        measured.lacking["drift"] = error.message
    return parts, measured
