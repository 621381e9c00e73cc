"""Videos of a model for a test set: made once, in a folder that a later run goes on with."""

import hashlib
import json
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fashionflow_core import pipeline, registry
from fashionflow_core.config import GenerateSettings, ModelConfig
from fashionflow_core.download import digest
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.evaluate.protocol import Protocol
from fashionflow_core.evaluate.run import Progress, check, evaluate
from fashionflow_core.evaluate.sources import Source, find_clips, first_frame, is_photo, look
from fashionflow_core.files import write_text
from fashionflow_core.image import fit
from fashionflow_core.photo import load_photo

RECORD = "generation.json"


@dataclass(frozen=True)
class Made:
    """What came of generating.

    Attributes:
        folder: of the videos.
        size, fit, resample: height and width of the model's frame, and how photos were brought to it.
        keys: of the clips or photos of the test set: the folder may hold videos of others, too.
        made, kept: videos that this run made, and that were there.
        failed: one line a photo without a video.
    """

    folder: Path
    size: tuple[int, int]
    fit: str
    resample: str
    keys: frozenset[str]
    made: int
    kept: int
    failed: list[str]


def photos_of(data: Path) -> tuple[list[Source], bool]:
    """What a test set holds: its clips, or, where it is a folder of photos alone, those; and whether it is clips.

    PNGs that lie in it side by side are photos: they could be the frames of one clip, but one clip is no test set.

    Raises:
        FashionFlowError: no such folder, or neither is in it.
    """
    inside = sorted(path for path in data.iterdir() if is_photo(path)) if data.is_dir() else []
    if is_photo(data):
        return [Source(data.stem, data)], False
    try:
        clips = [clip for clip in find_clips(data) if not _is_still(clip)]
    except FashionFlowError:
        if not inside:
            raise
        clips = []
    one_clip = len(clips) == 1 and clips[0].path == data and data.is_dir()
    if clips and not one_clip:
        return clips, True
    if not inside:
        raise FashionFlowError(f"{data}: holds neither clips nor photos", hint="name a folder of one or the other")
    return [Source(path.stem, path) for path in inside], False


def _is_still(clip: Source) -> bool:
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
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "auto",
    on_item: Progress = lambda done, total: None,
) -> Made:
    """Make the videos that `folder` lacks: one for each clip of `data`, from its first frame, or for each photo.

    What each is made of depends on the model, the settings and the name alone, so that a run which was stopped and
    goes on ends with the same videos. The folder notes what its videos are of, and takes no others.

    Raises:
        UsageError: settings that the model cannot meet.
        FashionFlowError: no such model or data; `folder` holds videos of another model or of other settings.
    """
    sources, are_clips = photos_of(data)
    where = registry.find(model)
    config = ModelConfig.load(where)
    settings.resolve(config)  # refused before the folder is claimed for them
    _claim(folder, _record(where, config, settings))
    taken = {source.key: source for source in reversed(sources)}
    failed = [
        f"{source.path}: has the name of {taken[source.key].name}, which is made instead"
        for source in sources
        if taken[source.key] is not source
    ]
    missing = [key for key in sorted(taken) if not _target(folder, key).is_file()]
    kept, made = len(taken) - len(missing), 0
    if missing:
        pipe = pipeline.load(where, device, dtype, backend)
        pipe.resolve(settings)
        for done, key in enumerate(missing, 1):
            try:
                _make(pipe, taken[key], are_clips, settings, _target(folder, key))
                made += 1
            except FashionFlowError as error:
                failed.append(error.message)
            on_item(done, len(missing))
    size = (config.height, config.width)
    return Made(folder, size, settings.fit or config.fit, config.resample, frozenset(taken), made, kept, failed)


def check_model(model: str, settings: GenerateSettings) -> None:
    """Refuse, before any work, a model that is not there or cannot do this.

    Raises:
        UsageError, FashionFlowError: as `generate`.
    """
    settings.resolve(ModelConfig.load(registry.find(model)))


def evaluate_model(
    model: str,
    data: Path,
    folder: Path,
    settings: GenerateSettings,
    protocol: Protocol,
    weights: Path,
    photos: Path | None = None,
    device: str = "auto",
    dtype: str = "fp32",
    backend: str = "auto",
    on_video: Progress = lambda done, total: None,
    on_clip: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Make the videos that are missing, then measure all of them, at the model's own frame unless `protocol` names one.

    Args:
        model, data, folder, settings, device, backend: as `generate`, in the device's own number type.
        protocol, weights, photos, dtype: as `run.evaluate`; photos are those of `data` where that holds photos.

    Returns:
        As `run.evaluate`; `failed` also names what no video could be made of.

    Raises:
        UsageError, FashionFlowError: as both.
    """
    of_clips = photos_of(data)[1]
    real, photos = (data, photos) if of_clips else (None, photos or (data if data.is_dir() else data.parent))
    check(real, folder, protocol, weights)
    made = generate(model, data, folder, settings, device, backend=backend, on_item=on_video)
    if protocol.resize is None:
        protocol = replace(protocol, resize=made.size, fit=made.fit, resample=made.resample)
    if not made.made + made.kept:
        raise FashionFlowError(f"{data}: no video could be made: {made.failed[0]}")
    found = evaluate(real, folder, protocol, weights, photos, device, dtype, on_clip, made.keys)
    for reason in made.failed:
        found["failed"].append({"set": "fake", "name": None, "metric": None, "reason": reason})
    found["protocol"]["generated"] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return found


def _make(
    pipe: pipeline.FashionFlowPipeline, source: Source, is_clip: bool, settings: GenerateSettings, target: Path
) -> None:
    """One video, whole or not at all; the item's number comes from its name, so that others do not change it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    frame = first_frame(source) if is_clip else load_photo(source.path)
    # Brought to the whole frame first: a real clip is, too, so that both have one size and show the same part.
    size = (pipe.config.height, pipe.config.width)
    pixels = fit(frame, *size, mode=settings.fit or pipe.config.fit, resample=pipe.config.resample).pixels
    item = zlib.crc32(source.key.encode(errors="surrogateescape"))
    pipe.generate(pixels, replace(settings, fit="stretch"), item=item).save(target)


def _target(folder: Path, key: str) -> Path:
    return folder / f"{key}.mp4"


def _record(where: Path, config: ModelConfig, settings: GenerateSettings) -> dict[str, Any]:
    weights = {
        path.relative_to(where).as_posix(): digest(path, hashlib.sha256())
        for path in sorted(where.rglob("*.safetensors"))
    }
    return {"model": config.name, "settings": vars(settings) | {"decode_chunk": None}, "weights": weights}


def _claim(folder: Path, record: dict[str, Any]) -> None:
    """Make the folder one of these videos, or see that it is."""
    record = json.loads(json.dumps(record))
    path = folder / RECORD
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise FashionFlowError(f"{path}: cannot be read", hint="name another folder: --generated DIR") from None
        if found != record and any(folder.rglob("*.mp4")):
            what = next((key for key in record if not isinstance(found, dict) or found.get(key) != record[key]), "more")
            raise FashionFlowError(
                f"{folder}: holds videos of another model or of other settings ({what} differ)",
                hint="name another folder: --generated DIR",
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FashionFlowError(f"{folder}: holds something else", hint="name a new folder: --generated DIR")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record, indent=1) + "\n")
