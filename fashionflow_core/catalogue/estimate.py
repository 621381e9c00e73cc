"""Dry run of a catalogue: files, seconds, hours."""

from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fashionflow_core.catalogue import ipc
from fashionflow_core.catalogue.jobs import DONE, FAILED, LOST, RunSpec
from fashionflow_core.catalogue.manifest import MANIFEST, read, states_of
from fashionflow_core.catalogue.planner import Planner, count
from fashionflow_core.catalogue.run import Request, about_other_models, planner_for, pull_manifest
from fashionflow_core.config import GenerateSettings
from fashionflow_core.errors import FashionFlowError, option

_RECENT = 1000  # last lines of the manifest that are averaged
# With more items, some should be made first: their times are better than one timed call.
_TIMED_UP_TO = 100_000


@dataclass(frozen=True)
class Estimate:
    """Estimate of a run; `dataclasses.asdict` gives JSON.

    Attributes:
        items: of the catalogue, of which `to_do`, `done` and `failed` are counted.
        devices: one worker each.
        seconds_each: for one video on one device, by `measured`: earlier videos of the same model, frames and steps, or
            one timed call.
        seconds: of the whole run.
        bytes_each: of a video, if the folder has such videos.
        model, frames, steps, scheduler: of items without settings of their own.
        notes: what happens to finished videos of another model.
        requirements: of a pipeline of diffusers: fields of `generators.requirements.Requirements`.
    """

    items: int
    to_do: int
    done: int
    failed: int
    devices: tuple[str, ...]
    seconds_each: float | None
    seconds: float | None
    measured: str
    bytes_each: int | None
    model: str
    frames: int
    steps: int
    scheduler: str
    notes: tuple[str, ...] = ()
    requirements: dict[str, Any] | None = None


def estimate(request: Request) -> Estimate:
    """Plan a run over a catalogue; takes no lock and writes nothing.

    Raises:
        UsageError: settings that the model does not support.
        FashionFlowError: the model is broken, or the manifest cannot be read.
    """
    out = Path(request.work.out)
    if request.work.remote:
        pull_manifest(request.work)
    planner: Planner = planner_for(request, states_of(out))
    settings = request.work.settings.resolve(planner.config)
    counts = count(planner.decide())
    alike = {"model_revision": planner.revision, "steps": settings.steps, "frames": settings.video_frames}
    seconds, size = _from_manifest(out, alike)
    measured, needed = "videos made before", None
    if seconds is None and 0 < counts["to do"] <= _TIMED_UP_TO:
        (seconds, needed), measured = _timed(request), "one timed call of each network"
    workers = min(len(request.devices), max(counts["to do"], 1))
    return Estimate(
        items=len(planner),
        to_do=counts["to do"],
        done=counts[DONE],
        failed=counts[FAILED] + counts[LOST],
        devices=request.devices,
        seconds_each=seconds,
        seconds=None if seconds is None else seconds * -(-counts["to do"] // workers),
        measured=measured if seconds is not None else "nothing",
        bytes_each=size,
        model=planner.config.name,
        frames=settings.frames,
        steps=settings.steps,
        scheduler=settings.scheduler,
        notes=tuple(about_other_models(planner)),
        requirements=needed,
    )


def _from_manifest(out: Path, alike: dict[str, Any]) -> tuple[float | None, int | None]:
    """Mean seconds on the device and mean size of the last videos with these values."""
    last: deque[dict[str, Any]] = deque(maxlen=_RECENT)
    for record in read(out / MANIFEST):
        frames = {"frames": record.get("generated_frames", record.get("frames"))}
        if record["status"] == DONE and record.get("seconds") and alike.items() <= (record | frames).items():
            last.append(record)
    if not last:
        return None, None
    seconds = sum(record["seconds"].get("denoise", 0) + record["seconds"].get("decode", 0) for record in last)
    return seconds / len(last), round(sum(record.get("output_bytes", 0) for record in last) / len(last))


def _timed(request: Request) -> tuple[float | None, dict[str, Any] | None]:
    """Seconds of denoising and decoding, timed in a separate process; for a generator, its requirements instead."""
    child = ipc.Child(__name__)
    try:
        child.send((request.work, request.devices[0], request.work.settings))
        found = child.receive()
    except EOFError:
        raise FashionFlowError(
            "the process that timed the model ended", hint=f"try again with {option('device', 'cpu')}"
        ) from None
    finally:
        child.kill()
    if isinstance(found, Exception):
        raise found
    return found["seconds"], found["requirements"]


def main() -> None:
    """Child process: open the model, plan one video and time its parts."""
    incoming, outgoing = ipc.streams()
    work, device, settings = ipc.receive(incoming)
    try:
        answer: Any = _plan(work, device, settings)
    except FashionFlowError as error:
        answer = error
    ipc.send(outgoing, answer)


def _plan(work: RunSpec, device: str, settings: GenerateSettings) -> dict[str, Any]:
    from fashionflow_core import pipeline

    pipe = pipeline.load_for_planning(Path(work.model), work.on(device).load)
    return asdict(pipe.plan(settings, measure=True))
