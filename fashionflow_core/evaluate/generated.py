"""Generation of a model's videos for a test set, resumable."""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fashionflow_core.catalogue import run
from fashionflow_core.catalogue.inputs import Entry
from fashionflow_core.catalogue.jobs import DONE, RETRIED, RunSpec, model_revision
from fashionflow_core.catalogue.naming import HIDDEN, shortened
from fashionflow_core.catalogue.planner import Decision, Rules
from fashionflow_core.config import GenerateSettings, LoadOptions, ModelConfig
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, option, reason_of
from fashionflow_core.evaluate.availability import check
from fashionflow_core.evaluate.protocol import EvaluateOptions
from fashionflow_core.evaluate.run import SILENT, EvaluateProgress, evaluate
from fashionflow_core.evaluate.sources import ClipFile, find_clips, first_frame, is_photo, look
from fashionflow_core.generators.config import GeneratorConfig
from fashionflow_core.generators.folder import config_of
from fashionflow_core.images.fitting import fit, write_png
from fashionflow_core.images.loading import load_photo
from fashionflow_core.store import registry
from fashionflow_core.utils.files import write_text
from fashionflow_core.utils.temporary import sweep

RECORD = "generation.json"
_OF_MOTION = ("motion", "motion_amount", "loop", "duration")
FRAMES = "first-frames"
_SEED_BYTES = 6  # bytes of the seed of a clip: JSON readers represent 48 bits exactly


@dataclass(frozen=True)
class Made:
    """Result of generating.

    Attributes:
        clips: videos, named like their clip or photo; the folder may contain others.
        size, fit, resample: height and width of the model's frame, and how photos were fitted to it.
        failed: one line per photo without a video.
        record: model and settings of the videos, JSON-serializable.
    """

    clips: list[ClipFile]
    size: tuple[int, int]
    fit: str
    resample: str
    failed: list[str]
    record: dict[str, Any]


def photos_of(data: Path) -> tuple[list[ClipFile], bool]:
    """Clips of a test set, or its photos if it is a folder of photos only; and whether they are clips.

    PNGs directly in the folder are photos, not the frames of one clip, since one clip is not a test set.

    Raises:
        FashionFlowError: no such folder, or no clips or photos in it.
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
        raise FashionFlowError(f"{data}: contains neither clips nor photos", hint="pass a folder of clips or photos")
    return [ClipFile(path.stem, path) for path in inside], False


def _recorded(settings: GenerateSettings) -> dict[str, Any]:
    """Settings as recorded in the folder; motion settings only if set, so that older records remain valid."""
    values = vars(settings) | {"decode_chunk": None}
    return {name: value for name, value in values.items() if name not in _OF_MOTION or value}


def _is_still(clip: ClipFile) -> bool:
    """Whether a WebP is a photo rather than a video."""
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
    """Generate the missing videos of `folder`: one per clip of `data`, from its first frame, or per photo.

    `folder` becomes a catalogue (docs/guides/catalogues.md): interrupted runs resume, failures are in its manifest. A
    video
    depends only on the model, the settings, the name and the photo: each has its own seed, derived from that of the
    settings and its name, so that other items of the test set have no effect and no two share their noise. The folder
    records model and settings, and rejects others.

    Args:
        devices: one worker per device.

    Raises:
        UsageError: settings that the model does not support.
        FashionFlowError: no such model or data; `folder` contains videos of another model or of other settings, another
            run is using it, or it is not writable.
    """
    sources, are_clips = photos_of(data)
    where = registry.find(model)
    config = config_of(where)
    settings = replace(settings, lock=settings.lock or "off")  # a model is judged by what it makes itself
    if settings.size is None and config.latents != "appearance":
        # Clips are compared at one size, whatever the sizes of their photos.
        settings = replace(settings, size=_frame_size(config, settings, sources[0], are_clips), megapixels=None)
    request = settings.resolve(config)  # rejected before the folder is claimed
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
        f"{source.path}: skipped: same name as {taken[source.key].name}"
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
            # Errors of clips and photos contain their names.
            named = "" if line["stage"] in ("plan", "photo") else f"{line['item']}: "
            failed.append(f"{named}{line['message']}")
        tell()

    def skipped(decision: Decision) -> None:
        # Failed items are retried; finished ones are skipped.
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


def _frame_size(config: ModelConfig, settings: GenerateSettings, first: ClipFile, is_clip: bool) -> tuple[int, int]:
    """Height and width of all frames: a motion model's own, or a generator's for the shape of the first photo."""
    if isinstance(config, GeneratorConfig) and (asked := settings.resolve(config).generator) is not None:
        with suppress(FashionFlowError):  # reported for its item
            frame = first_frame(first) if is_clip else load_photo(first.path)
            return asked.sizes.nearest(*frame.shape[:2])
    return config.height, config.width


def _entry(
    source: ClipFile, is_clip: bool, folder: Path, size: tuple[int, int], mode: str, resample: str, seed: int
) -> Entry:
    """A clip or photo as input of a catalogue: an image of the model's frame size, or an error.

    It is fitted to the whole frame, like a real clip, so that both have the same size and crop.
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
            f"{picture.parent}: cannot be created ({reason_of(error)})", hint="choose a writable folder"
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
    """Generate the missing videos, then evaluate all, at the model's frame size unless the protocol has one.

    Args:
        model, data, folder, settings: as in `generate`, with the device's default dtype.
        options: photos default to those of `data` if it contains photos.

    Returns:
        As `run.evaluate`; `failed` also lists items without a video.

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
            f"{data}: no video was generated: {made.failed[0]}", hint="fix this input, then run the same command again"
        )
    found = evaluate(real, folder, options, progress, made.clips)
    for reason in made.failed:
        found["failed"].append({"set": "fake", "name": None, "metric": None, "reason": reason})
    found["protocol"]["generated"] = made.record
    return found


def _claim(folder: Path, record: dict[str, Any]) -> None:
    """Claim the folder for these videos, or check that it is claimed for them."""
    record = json.loads(json.dumps(record))
    path = folder / RECORD
    sweep(folder)  # leftovers of a run killed at its start
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise FashionFlowError(
                f"{path}: cannot be read", hint=f"choose another folder: {option('generated', 'DIR')}"
            ) from None
        if found != record and any(folder.rglob("*.mp4")):
            what = next((key for key in record if not isinstance(found, dict) or found.get(key) != record[key]), "more")
            raise FashionFlowError(
                f"{folder}: contains videos of another model or of other settings ({what} differ)",
                hint=f"choose another folder: {option('generated', 'DIR')}",
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FashionFlowError(
            f"{folder}: not a folder of generated videos", hint=f"choose a new folder: {option('generated', 'DIR')}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record, indent=1) + "\n")
