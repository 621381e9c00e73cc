"""Availability of metrics: what can be computed for these clips on this machine, and why the rest is omitted."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError, SettingError, UsageError, command, option
from fashionflow_core.evaluate.protocol import (
    DISTANCES,
    FREE,
    METRICS,
    NETWORKS,
    OF_16_FRAMES,
    PAIRED,
    SCORES,
    EvaluateOptions,
)
from fashionflow_core.metrics import flicker
from fashionflow_core.metrics.features import FVD_FRAMES
from fashionflow_core.metrics.weights import FILES, find_weights

_SET = 2  # clips that have a covariance


@dataclass(frozen=True)
class Omission:
    """Metrics that are not computed by default, with the reason and what to do about it."""

    metrics: tuple[str, ...]
    reason: str
    hint: str

    def record(self) -> dict[str, Any]:
        """The omission, JSON-serializable."""
        return asdict(self) | {"metrics": list(self.metrics)}


def resolve(
    options: EvaluateOptions, has_real: bool, fewest: int, longest: int
) -> tuple[EvaluateOptions, tuple[Omission, ...]]:
    """Options with the metrics that can be computed, if the protocol names none; each reason for an omission once.

    Args:
        has_real: whether there are real clips.
        fewest: clips of the smaller set.
        longest: frames of the longest generated clip.
    """
    if options.protocol.metrics is not None:
        return options, ()
    omitted = tuple(_omissions(options, has_real, fewest, longest))
    without = {name for omission in omitted for name in omission.metrics}
    metrics = tuple(name for name in METRICS if name not in without)
    return replace(options, protocol=replace(options.protocol, metrics=metrics)), omitted


def _omissions(options: EvaluateOptions, has_real: bool, fewest: int, longest: int) -> Iterator[Omission]:
    """What is missing, in the order in which a user would provide it: clips, frames, weights, packages."""
    left = [name for name in METRICS if has_real or name in (*SCORES, *FREE)]
    if not has_real:
        hint = f"pass their folder: {option('real', 'DIR')}; with a model, clips as {option('data', 'DIR')}"
        yield Omission((*DISTANCES, *PAIRED), "need real clips", hint)
    elif fewest < _SET:
        yield Omission(DISTANCES, f"need {_SET} clips in both sets, not {fewest}", "add clips to the smaller one")
        left = [name for name in left if name not in DISTANCES]
    frames = min(options.protocol.clip_frames, longest)
    if frames < FVD_FRAMES and (few := tuple(name for name in OF_16_FRAMES if name in left)):
        hint = "generate longer clips" if longest < FVD_FRAMES else f"pass {option('clip_frames', FVD_FRAMES)} or more"
        yield Omission(few, f"need {FVD_FRAMES} frames, not {frames}", hint)
        left = [name for name in left if name not in few]
    missing = [kind for kind, file in FILES.items() if not (options.weights_folder / file.name).is_file()]
    if names := tuple(name for name in left if NETWORKS.get(name) in missing):
        files = " and ".join(FILES[kind].name for kind in dict.fromkeys(NETWORKS[name] for name in names))
        yield Omission(names, f"{options.weights_folder}: no {files}", command("models pull", "metrics"))
    if not flicker.is_installed():
        yield Omission(("flicker",), "needs OpenCV, which is not installed", flicker.requirement())
    if options.encoder is None and not options.encoder_folder.is_dir():
        yield Omission(
            ("garment",),
            "needs an image encoder (DINOv2 or CLIP)",
            f"pass its folder: {option('encoder', 'DIR')}",
        )


def check(real: Path | None, fake: Path, options: EvaluateOptions) -> None:
    """Check the request before any work: first the folders, then what selected metrics need.

    Args:
        fake: may not exist yet, if its clips are still to be generated.

    Raises:
        UsageError: a metric that needs real clips without any; one folder is inside the other.
        FashionFlowError: a folder, the weights, the encoder or OpenCV are missing.
    """
    if real is not None and not real.exists():
        raise FashionFlowError(f"{real}: no such file or folder", hint="check the spelling of the path")
    if options.photos is not None and not options.photos.is_dir():
        raise FashionFlowError(
            f"{options.photos}: not a folder", hint=f"pass the folder of the photos: {option('photos', 'DIR')}"
        )
    for name, folder in (("weights_dir", options.weights), ("encoder", options.encoder)):
        if folder is not None and not folder.is_dir():
            raise FashionFlowError(f"{folder}: not a folder", hint=f"pass an existing one: {option(name, 'DIR')}")
    if real is not None:
        whole, part = sorted((real.resolve(), fake.resolve()), key=lambda path: len(path.parts))
        if whole != part and part.is_relative_to(whole):
            raise UsageError(f"{part}: inside {whole}, so its clips would be in both sets", hint="move one of them")
    if options.protocol.metrics is None:
        return
    protocol = options.protocol
    if real is None and (needing := protocol.wants(*DISTANCES, *PAIRED)):
        raise SettingError(
            "metrics", f"{', '.join(needing)} need real clips", hint=f"pass their folder: {option('real', 'DIR')}"
        )
    for kind in dict.fromkeys(NETWORKS[name] for name in protocol.wants(*NETWORKS)):
        find_weights(kind, options.weights_folder)
    if protocol.wants("flicker") and not flicker.is_installed():
        raise FashionFlowError("flicker by warping error needs OpenCV, which is not installed", flicker.requirement())
    if protocol.wants("garment") and not options.encoder_folder.is_dir():
        raise FashionFlowError(
            f"{options.encoder_folder}: no image encoder; required by garment",
            hint=f"download one, such as facebook/dinov2-small, and pass its folder: {option('encoder', 'DIR')}",
        )
