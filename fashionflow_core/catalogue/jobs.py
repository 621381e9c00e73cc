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

FINGERPRINT = "fashionflow_fingerprint"  # key in a video's metadata: hash of photo, settings and model
DONE, FAILED, LOST, RETRIED = "done", "failed", "lost", "retried"


@dataclass(frozen=True)
class RunSpec:
    """Settings shared by all items of a run; each worker receives them once.

    Attributes:
        model: model folder.
        out: output folder.
        remote: URL of the output folder on remote storage; `out` is then its local mirror.
        scratch: folder on the same file system for unfinished files.
        settings: of all items; entries may override them.
        load: how the model is opened; each worker has its own device.
        encode: how the videos are written.
        finish: targets, canvas and overlays.
        batch: photos per call of the U-Net; 0: as many as memory allows on a GPU, 1 on a CPU and with generators.
        suffix: of the videos.
        background, max_megapixels: of `loading.load_photo`.
        scores: measure every video.
        gate: flag videos beyond these limits.
        reroll: retries of a flagged video with other seeds; the least bad one is kept.
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
        """File names of an item in the output folder; the first one is its video."""
        return self.finish.files(name, self.suffix)

    def on(self, device: str) -> Self:
        """The same on the device of a worker."""
        return replace(self, load=replace(self.load, device=device))


@dataclass(frozen=True)
class Job:
    """One item for a worker.

    Attributes:
        number: of the job in this run.
        name: of the item: `Item.name`.
        source: the photo.
        settings: the request; seed included.
        variation: determines all randomness together with the seed.
        settings_hash, revision: together with the photo's hash they give the fingerprint.
        attempt: 1, or 2 after a worker died with it.
        replace: whether files that no catalogue made may be replaced.
        redo: make it even if the same video is in place.
        caption: for the gallery.
        label: caption of the video, its columns filled in.
        reroll: number of earlier attempts with other seeds.
        earlier: attempts of an earlier run, from the manifest; `kept` marks the one in place.
        judge: the video is finished and lacks scores only.
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
    """Fields of a manifest line for an error."""
    text = " ".join(str(error).split())[:1000]
    kind = type(error).__name__
    if stage == "photo" and kind == "FashionFlowError":
        kind = "PhotoError"
    found = {"stage": stage, "error_class": kind, "message": text or kind}
    hint = getattr(error, "hint", None)
    return found | ({"hint": hint} if hint else {})


def died(job: Job, status: str, message: str) -> dict[str, Any]:
    """Record of a job whose worker died; the photo is identified here."""
    digest, size, changed = storage.identify(job.source)
    photo = {"input_hash": digest, "input_bytes": size, "input_mtime_ns": changed}
    return job.record(status, **photo, stage="worker", error_class="WorkerDied", message=message)


def settings_hash(request: ResolvedSettings, work: RunSpec, variation: int) -> str:
    """Hash of everything that a video's pixels depend on, except photo and model."""
    values = asdict(request)
    del values["decode_chunk"]  # affects memory only
    if values["generator"] is None:
        del values["generator"]
    if values["motion"] is None:  # hashes of appearance models predate this field
        del values["motion"]
    if values["lock"] == "off":
        del values["lock"]
    values |= {
        "variation": variation,
        "suffix": work.suffix,
        # Names and defaults must not change: other hashes would remake finished catalogues.
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
        "reroll": None,  # the gate judges finished videos and does not remake them
    }
    return _short(json.dumps(values, sort_keys=True, default=str).encode())


def fingerprint(input_hash: str, settings: str, revision: str) -> str:
    """Hash of photo, settings and model."""
    return _short(f"{input_hash} {settings} {revision}".encode())


def model_revision(folder: str | Path) -> str:
    """Hash of a model folder: names and bytes of its files, without Markdown and hidden ones.

    For a pulled pipeline of diffusers, which may have 70 GB, of the hashes that were checked when it was pulled; for a
    remote model, of its address.
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
    """Hash of a file or folder; other values as text."""
    path = Path(str(value))
    if path.is_dir():
        return model_revision(path)
    return _short(path.read_bytes()) if path.is_file() else str(value)


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
