"""What a run asks of its workers: settings of the whole run, one job an item, and the record that comes back."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fashionflow_core.catalogue.gate import Limits
from fashionflow_core.catalogue.helper import identify
from fashionflow_core.config import GenerateSettings, ModelConfig, ResolvedSettings

FINGERPRINT = "fashionflow_fingerprint"  # in a video's metadata: what input, settings and model it was made of
DONE, FAILED, LOST, RETRIED = "done", "failed", "lost", "retried"


@dataclass(frozen=True)
class Work:
    """What all items of a run have in common; every worker is given it once.

    Attributes:
        model: model folder.
        out: output folder.
        remote: URL of the output folder, where that is not of this machine; `out` is then what is kept of it here.
        scratch: folder on the same file system, for files that are not whole yet; what is in it is worth nothing.
        settings: of all items, but for what entries have of their own.
        device, dtype: as for `pipeline.load`; the device is each worker's own.
        batch: photos in one call of the U-Net; 0: as many as memory allows on a GPU, 1 on a CPU.
        suffix: of the videos.
        coding: `crf`, `codec` and `encoder` of `video.write`.
        background, max_megapixels: of `photo.load_photo`.
        scores: measure every video.
        gate: flag videos beyond these limits.
        reroll: times that a flagged video is made again with another seed; the least bad one is kept.
        loading: further arguments of the opener.
        opener: `module:function` that opens the model, called as `pipeline.load` is.
    """

    model: str
    out: str
    scratch: str
    remote: str = ""
    settings: GenerateSettings = field(default_factory=GenerateSettings)
    device: str = "auto"
    dtype: str = "auto"
    batch: int = 0
    suffix: str = ".mp4"
    coding: Mapping[str, Any] = field(default_factory=dict)
    background: tuple[int, int, int] = (255, 255, 255)
    max_megapixels: float = 50.0
    scores: bool = True
    gate: Limits | None = None
    reroll: int = 0
    loading: Mapping[str, Any] = field(default_factory=dict)
    opener: str = "fashionflow_core.pipeline:load"


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
        reroll: how often it was made before with another seed.
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
    reroll: int = 0

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
    digest, size, changed = identify(job.source)
    photo = {"input_hash": digest, "input_bytes": size, "input_mtime_ns": changed}
    return job.record(status, **photo, stage="worker", error_class="WorkerDied", message=message)


def settings_hash(request: ResolvedSettings, work: Work, variation: int) -> str:
    """Of everything but photo and model that a video's pixels depend on."""
    values = asdict(request)
    del values["decode_chunk"]  # a matter of memory
    values |= {
        "variation": variation,
        "suffix": work.suffix,
        "coding": {key: value for key, value in work.coding.items() if value not in (None, "software")},
        "background": work.background,
        "loading": {key: _content(value) for key, value in work.loading.items() if key != "low_memory"},
        "dtype": work.dtype,
        "reroll": [work.reroll, asdict(work.gate)] if work.gate and work.reroll else None,
    }
    return _short(json.dumps(values, sort_keys=True, default=str).encode())


def fingerprint(input_hash: str, settings: str, revision: str) -> str:
    """Of all that makes a video what it is."""
    return _short(f"{input_hash} {settings} {revision}".encode())


def model_revision(folder: str | Path) -> str:
    """Of a model folder's files: names and bytes, but for notes that nothing is computed from."""
    total = hashlib.sha256()
    folder = Path(folder)
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and not any(part.startswith(".") for part in Path(name).parts) and file.suffix != ".md":
            with file.open("rb") as content:
                total.update(f"{name} {hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def _content(value: Any) -> str:
    """A file or folder by what is in it, anything else by itself."""
    path = Path(str(value))
    if path.is_dir():
        return model_revision(path)
    return _short(path.read_bytes()) if path.is_file() else str(value)


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def read_model(folder: str | Path) -> ModelConfig:
    """`model.json`, which is all a run itself needs to know of a model."""
    return ModelConfig.load(folder)
