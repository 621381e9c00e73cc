"""Run settings, jobs and records exchanged with workers."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from fashionflow_core.catalogue import storage
from fashionflow_core.catalogue.quality_gate import QualityLimits
from fashionflow_core.config import EncodeOptions, GenerateSettings, LoadOptions, ResolvedSettings
from fashionflow_core.generators.folder import SOURCE_FILE, is_pipeline
from fashionflow_core.generators.remote_place import is_remote
from fashionflow_core.utils.hashing import sha256
from fashionflow_core.video.finishing import FinishOptions

FINGERPRINT = "fashionflow_fingerprint"  # in a video's metadata: what input, settings and model it was made of
DONE, FAILED, LOST, RETRIED = "done", "failed", "lost", "retried"


@dataclass(frozen=True)
class RunSpec:
    """What all items of a run have in common; every worker is given it once.

    Attributes:
        model: model folder.
        out: output folder.
        remote: URL of the output folder, where that is not of this machine; `out` is then what is kept of it here.
        scratch: folder on the same file system, for files that are not whole yet; what is in it is worth nothing.
        settings: of all items, but for what entries have of their own.
        load: how the model is opened; the device is each worker's own.
        encode: how the videos are written.
        finish: what is made of the generated frames.
        batch: photos in one call of the U-Net; 0: as many as memory allows on a GPU, 1 on a CPU.
        suffix: of the videos.
        background, max_megapixels: of `loading.load_photo`.
        scores: measure every video.
        gate: flag videos beyond these limits.
        reroll: times that a flagged video is made again with another seed; the least bad one is kept.
        one_at_a_time: have each video in place before the next one is computed, so that whatever ends a worker only
            what it computes has to be made again; scores are measured meanwhile. Not together with `gate`.
        opener: `module:function` that opens the model, called as `pipeline.load` is.
    """

    model: str
    out: str
    scratch: str
    remote: str = ""
    settings: GenerateSettings = GenerateSettings()
    load: LoadOptions = LoadOptions()
    encode: EncodeOptions = EncodeOptions()
    finish: FinishOptions = FinishOptions()
    batch: int = 0
    suffix: str = ".mp4"
    background: tuple[int, int, int] = (255, 255, 255)
    max_megapixels: float = 50.0
    scores: bool = True
    gate: QualityLimits | None = None
    reroll: int = 0
    one_at_a_time: bool = False
    opener: str = "fashionflow_core.pipeline:load"

    def files(self, name: str) -> list[str]:
        """An item's files inside the output folder; the first one is its video."""
        return self.finish.files(name, self.suffix)

    def on(self, device: str) -> Self:
        """The same on a worker's own device."""
        return replace(self, load=replace(self.load, device=device))


@dataclass(frozen=True)
class Job:
    """One item for a worker.

    Attributes:
        number: of the job in this run.
        name: of the item: `Item.name`.
        source: the photo.
        settings: the request; seed included.
        variation: with the seed it fixes all randomness.
        settings_hash, revision: with the photo's own hash they make the fingerprint.
        attempt: 1, or 2 after a worker died of it.
        replace: whether a file that is no known video of ours may be replaced.
        redo: make it even if the very same video is in place.
        caption: for the gallery.
        label: caption of the video, its columns filled in.
        reroll: how often it was made before with another seed.
        earlier: tries of an earlier run, as the manifest has them; `kept` is the one that is in place.
        judge: the video is finished, and only has no scores.
    """

    number: int
    name: str
    source: str
    settings: GenerateSettings
    variation: int
    settings_hash: str
    revision: str
    attempt: int = 1
    replace: bool = False
    redo: bool = False
    caption: str = ""
    label: str = ""
    reroll: int = 0
    earlier: tuple[Mapping[str, Any], ...] = ()
    judge: bool = False

    def record(self, status: str, **more: Any) -> dict[str, Any]:
        """The start of a manifest line for this job."""
        return {
            "item": self.name,
            "source": self.source,
            "status": status,
            "attempt": self.attempt,
            "seed": self.settings.seed,
            "variation": self.variation,
            "settings_hash": self.settings_hash,
            "model_revision": self.revision,
            **({"caption": self.caption} if self.caption else {}),
            **more,
        }


def failure(stage: str, error: BaseException) -> dict[str, Any]:
    """What a manifest line says of an error."""
    text = " ".join(str(error).split())[:1000]
    kind = type(error).__name__
    if stage == "photo" and kind == "FashionFlowError":
        kind = "PhotoError"
    found = {"stage": stage, "error_class": kind, "message": text or kind}
    hint = getattr(error, "hint", None)
    return found | ({"hint": hint} if hint else {})


def died(job: Job, status: str, message: str) -> dict[str, Any]:
    """The record of a job that its worker died of; what the photo is nobody has told, so it is looked at here."""
    digest, size, changed = storage.identify(job.source)
    photo = {"input_hash": digest, "input_bytes": size, "input_mtime_ns": changed}
    return job.record(status, **photo, stage="worker", error_class="WorkerDied", message=message)


def settings_hash(request: ResolvedSettings, work: RunSpec, variation: int) -> str:
    """Of everything but photo and model that a video's pixels depend on."""
    values = asdict(request)
    del values["decode_chunk"]  # a matter of memory
    if values["generator"] is None:
        del values["generator"]
    if values["motion"] is None:  # so that hashes of appearance models stay what they were without this field
        del values["motion"]
    if values["lock"] == "off":
        del values["lock"]
    values |= {
        "variation": variation,
        "suffix": work.suffix,
        # As the names and defaults were when finished catalogues were hashed: other ones would remake their videos.
        "coding": {
            key: value
            for key, value in vars(work.encode).items()
            if key != "sign" and value not in (None, "software", True)
        },
        **({"signed": _content(work.encode.sign.cert)} if work.encode.sign is not None else {}),
        "background": work.background,
        "loading": {
            key: _content(value)
            for key, value in vars(work.load).items()
            if key in ("backend", "lora", "allow_unverified", "compile") and value not in (None, "auto", False)
        },
        "dtype": work.load.dtype,
        **({} if work.finish == FinishOptions() else {"finish": work.finish.hashed()}),
        "reroll": None,  # the gate judges videos that are finished; it is no reason to make them again
    }
    return _short(json.dumps(values, sort_keys=True, default=str).encode())


def fingerprint(input_hash: str, settings: str, revision: str) -> str:
    """Of all that makes a video what it is."""
    return _short(f"{input_hash} {settings} {revision}".encode())


def model_revision(folder: str | Path) -> str:
    """Of a model folder's files: names and bytes, but for notes that nothing is computed from.

    Of a pulled pipeline of diffusers, which may hold 70 GB: of the hashes that were checked when it was pulled. Of a
    remote model: of its address, which is all that is known.
    """
    if is_remote(folder):
        return _short(str(folder).encode())
    if is_pipeline(folder) and (Path(folder) / SOURCE_FILE).is_file():
        return _short((Path(folder) / SOURCE_FILE).read_bytes())
    total = hashlib.sha256()
    folder = Path(folder)
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and not any(part.startswith(".") for part in Path(name).parts) and file.suffix != ".md":
            total.update(f"{name} {sha256(file)}\n".encode())
    return total.hexdigest()[:16]


def _content(value: Any) -> str:
    """A file or folder by what is in it, anything else by itself."""
    path = Path(str(value))
    if path.is_dir():
        return model_revision(path)
    return _short(path.read_bytes()) if path.is_file() else str(value)


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
