"""Videos of a model for a test set, resumable."""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fashionflow_core.catalogue import run
from fashionflow_core.catalogue.inputs import Entry
from fashionflow_core.catalogue.jobs import DONE, RETRIED, RunSpec, model_revision
from fashionflow_core.catalogue.naming import HIDDEN, shortened
from fashionflow_core.catalogue.planner import Decision, Rules
from fashionflow_core.config import GenerateSettings, LoadOptions
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, option
from fashionflow_core.evaluate.protocol import EvaluateOptions
from fashionflow_core.evaluate.run import SILENT, EvaluateProgress, check, evaluate
from fashionflow_core.evaluate.sources import ClipFile, find_clips, first_frame, is_photo, look
from fashionflow_core.generators.folder import config_of
from fashionflow_core.images.fitting import fit, write_png
from fashionflow_core.images.loading import load_photo
from fashionflow_core.store import registry
from fashionflow_core.utils.files import write_text
from fashionflow_core.utils.temporary import sweep

RECORD = "generation.json"
_OF_MOTION = ("motion", "motion_amount", "loop", "duration")
FRAMES = "first-frames"
_SEED_BYTES = 6  # of a clip's own seed: every reader of JSON holds such a number exactly


@dataclass(frozen=True)
class Made:
    """What came of generating.

    Attributes:
        clips: the videos, each named like the clip or photo that it was made of: the folder may hold others, too.
        size, fit, resample: height and width of the model's frame, and how photos were brought to it.
        failed: one line a photo without a video.
        record: what made the videos, JSON-able.
    """

    clips: list[ClipFile]
    size: tuple[int, int]
    fit: str
    resample: str
    failed: list[str]
    record: dict[str, Any]


def photos_of(data: Path) -> tuple[list[ClipFile], bool]:
    """What a test set holds: its clips, or, where it is a folder of photos alone, those; and whether it is clips.

    PNGs that lie in it side by side are photos: they could be the frames of one clip, but one clip is no test set.

    Raises:
        FashionFlowError: no such folder, or neither is in it.
    """
    inside = sorted(path for path in data.iterdir() if is_photo(path)) if data.is_dir() else []
    if is_photo(data):
        return [ClipFile(data.stem, data)], False
    try:
        clips = [clip for clip in find_clips(data, unreadable=[]) if not _is_still(clip)]
    except FashionFlowError:
        if not inside:
            raise
        clips = []
    one_clip = len(clips) == 1 and clips[0].path == data and data.is_dir()
    if clips and not one_clip:
        return clips, True
    if not inside:
        raise FashionFlowError(f"{data}: holds neither clips nor photos", hint="name a folder of one or the other")
    return [ClipFile(path.stem, path) for path in inside], False


def _recorded(settings: GenerateSettings) -> dict[str, Any]:
    """Settings as the folder notes them; motion settings only where one is set, so that older notes stay valid."""
    values = vars(settings) | {"decode_chunk": None}
    return {name: value for name, value in values.items() if name not in _OF_MOTION or value}


def _is_still(clip: ClipFile) -> bool:
    """Whether a WebP, which may be either, is a photo."""
    if clip.path.suffix.lower() != ".webp":
        return False
    try:
        return look(clip).frames == 1
    except FashionFlowError:
        return False


def generate(
    model: str,
    data: Path,
    folder: Path,
    settings: GenerateSettings,
    devices: Sequence[str] = ("auto",),
    backend: str = "auto",
    progress: EvaluateProgress = SILENT,
) -> Made:
    """Make the videos that `folder` lacks: one for each clip of `data`, from its first frame, or for each photo.

    `folder` becomes a catalogue (docs/guides/catalogues.md): an interrupted run is resumed, failures are in its
    manifest. A video depends on the model, the settings, the name and the photo alone: each has its own seed, drawn
    from that of the settings and its name, so that other clips do not change it and no two share their noise. The
    folder records what its videos were made with, and refuses others.

    Args:
        devices: one worker each.

    Raises:
        UsageError: settings that the model cannot meet.
        FashionFlowError: no such model or data; `folder` holds videos of another model or of other settings, another
            run has it, or it cannot be written.
    """
    sources, are_clips = photos_of(data)
    where = registry.find(model)
    config = config_of(where)
    if config.latents != "appearance" and settings.size is None:
        # Clips are compared at one size, whatever sizes their photos have.
        settings = replace(settings, size=(config.height, config.width))
    request = settings.resolve(config)  # refused before the folder is claimed for them
    record = {
        "model": config.name,
        "revision": model_revision(where),
        "backend": backend,
        "settings": _recorded(settings),
        "seeds": "of each clip: the first 48 bits of SHA-256 of SEED:NAME",
    }
    _claim(folder, record)
    taken = {source.key: source for source in reversed(sources)}
    failed = [
        f"{source.path}: has the name of {taken[source.key].name}, which is made instead"
        for source in sources
        if taken[source.key] is not source
    ]
    size, mode = request.size or (config.height, config.width), request.fit
    entries = {
        (entry := _entry(taken[key], are_clips, folder, size, mode, config.resample, settings.seed)).source: entry
        for key in sorted(taken)
    }
    made: dict[str, str] = {}  # source of an entry → name of its video

    def recorded(line: Mapping[str, Any]) -> None:
        if line["status"] == DONE:
            made[str(line["source"])] = str(line["output"])
        elif line["status"] != RETRIED:
            # What was wrong with a clip or photo names it.
            named = "" if line["stage"] in ("plan", "photo") else f"{line['item']}: "
            failed.append(f"{named}{line['message']}")
        tell()

    def skipped(decision: Decision) -> None:
        # What failed before is tried again: all that needs no work is there.
        made[decision.item.source] = decision.item.name + work.suffix
        tell()

    def tell() -> None:
        progress.video(len(made) + len(failed) - (len(sources) - len(taken)), len(taken))

    work = RunSpec(
        model=str(where),
        out=str(folder),
        scratch="",
        settings=replace(settings, fit="stretch"),
        scores=False,
        load=LoadOptions(backend=backend),
    )
    run.run(
        run.Request(list(entries.values()), work, devices=tuple(devices), rules=Rules(retry_failed=True)),
        run.Watcher(
            recorded, skipped, progress.note, lambda line: warnings.warn(line, FashionFlowWarning, stacklevel=2)
        ),
    )
    clips = [
        ClipFile(f"{key}{work.suffix}", folder / made[source])
        for key, source in zip(sorted(taken), entries, strict=True)
        if source in made
    ]
    return Made(clips, size, mode, config.resample, failed, record)


def _entry(
    source: ClipFile, is_clip: bool, folder: Path, size: tuple[int, int], mode: str, resample: str, seed: int
) -> Entry:
    """A clip or photo as the catalogue takes it: a picture of the model's frame, or why there is none.

    It is brought to the whole frame here: a real clip is, too, so that both have one size and show the same part.
    """
    picture = folder / HIDDEN / FRAMES / f"{shortened(source.key)}.png"
    digest = hashlib.sha256(f"{seed}:{source.key}".encode(errors="surrogateescape")).digest()
    own = {"seed": int.from_bytes(digest[:_SEED_BYTES])}
    try:
        frame = first_frame(source) if is_clip else load_photo(source.path)
    except FashionFlowError as error:
        return Entry(str(picture), source.key, True, settings=own, problem=str(error))
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FashionFlowError(
            f"{picture.parent}: cannot be made ({error.strerror})", hint="name a folder that can be written"
        ) from None
    write_png(picture, fit(frame, *size, mode=mode, resample=resample).pixels)
    return Entry(str(picture), source.key, True, settings=own)


def evaluate_model(
    model: str,
    data: Path,
    folder: Path,
    settings: GenerateSettings,
    options: EvaluateOptions,
    progress: EvaluateProgress = SILENT,
) -> dict[str, Any]:
    """Make the videos that are missing, then measure all of them, at the model's own frame unless the protocol has one.

    Args:
        model, data, folder, settings: as `generate`, in the device's own number type.
        options: photos are by default those of `data` where that holds photos.

    Returns:
        As `run.evaluate`; `failed` also names what no video could be made of.

    Raises:
        UsageError, FashionFlowError: as both.
    """
    of_clips = photos_of(data)[1]
    real = data if of_clips else None
    if not of_clips and options.photos is None:
        options = replace(options, photos=data if data.is_dir() else data.parent)
    check(real, folder, options)
    made = generate(model, data, folder, settings, options.devices or (options.device,), options.backend, progress)
    if options.protocol.resize is None:
        protocol = replace(options.protocol, resize=made.size, fit=made.fit, resample=made.resample)
        options = replace(options, protocol=protocol)
    if not made.clips:
        raise FashionFlowError(
            f"{data}: no video could be made: {made.failed[0]}", hint="correct what it names, then run the same again"
        )
    found = evaluate(real, folder, options, progress, made.clips)
    for reason in made.failed:
        found["failed"].append({"set": "fake", "name": None, "metric": None, "reason": reason})
    found["protocol"]["generated"] = made.record
    return found


def _claim(folder: Path, record: dict[str, Any]) -> None:
    """Make the folder one of these videos, or see that it is."""
    record = json.loads(json.dumps(record))
    path = folder / RECORD
    sweep(folder)  # of a run that was killed in its first moment
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise FashionFlowError(
                f"{path}: cannot be read", hint=f"name another folder: {option('generated', 'DIR')}"
            ) from None
        if found != record and any(folder.rglob("*.mp4")):
            what = next((key for key in record if not isinstance(found, dict) or found.get(key) != record[key]), "more")
            raise FashionFlowError(
                f"{folder}: holds videos of another model or of other settings ({what} differ)",
                hint=f"name another folder: {option('generated', 'DIR')}",
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FashionFlowError(
            f"{folder}: holds something else", hint=f"name a new folder: {option('generated', 'DIR')}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record, indent=1) + "\n")
