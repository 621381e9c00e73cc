"""A catalogue from its inputs to its page: the one function that command line and Python call."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from fashionflow_core.catalogue import gallery, storage
from fashionflow_core.catalogue.books import Books, Summary, Watcher
from fashionflow_core.catalogue.crew import WORKER
from fashionflow_core.catalogue.inputs import Entry
from fashionflow_core.catalogue.manifest import MANIFEST, Manifest, State, names_by_source
from fashionflow_core.catalogue.out_folder import HIDDEN, opened
from fashionflow_core.catalogue.planner import Planner, Rules
from fashionflow_core.catalogue.runner import Run
from fashionflow_core.catalogue.work import Work, model_revision, read_model
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.files import atomic_path

ENGINES = LOCAL, RAY = "local", "ray"


@dataclass(frozen=True)
class Request:
    """What is asked of a run.

    Attributes:
        entries: of `inputs.read_inputs`.
        work: what all items have in common; its `scratch` is filled in here.
        variations: videos a photo.
        devices: one worker each.
        rules: what is made again.
        module: what a worker runs.
        engine: one of `ENGINES`: processes of this machine, or Ray Data.
        ray_address: of a running Ray cluster; None: Ray is started here for the run.
    """

    entries: Sequence[Entry]
    work: Work
    variations: int = 1
    devices: tuple[str, ...] = ("auto",)
    rules: Rules = field(default_factory=Rules)
    module: str = WORKER
    engine: str = LOCAL
    ray_address: str | None = None


def run(request: Request, watcher: Watcher | None = None, page: bool = True) -> Summary:
    """Make what is missing, and write it down; the `page` is rebuilt however the run ends.

    Raises:
        UsageError: settings that the model cannot meet.
        FashionFlowError: another run has the folder, the model is broken, the disk is full.
    """
    request.work.settings.resolve(read_model(request.work.model))
    out = Path(request.work.out)
    with ExitStack() as stack:
        scratch = stack.enter_context(opened(out))
        if request.work.remote:
            pull_manifest(request.work)
            stack.callback(_send_up, request.work)
        manifest = Manifest(out)
        stack.callback(manifest.close)
        work = replace(request.work, scratch=str(scratch))
        planner = planner_for(replace(request, work=work), manifest.states)
        if page:
            stack.callback(_show, request.work)
        books = Books(manifest, watcher or Watcher(), len(planner))
        if request.work.remote:
            books.now_and_then = lambda: _send_up(request.work)
        start = time.perf_counter()
        if request.engine == RAY:
            _run_on_ray(planner, books, request)
        else:
            Run(planner, books, list(request.devices), request.module)()
        books.summary.seconds = time.perf_counter() - start
        return books.summary


def _run_on_ray(planner: Planner, books: Books, request: Request) -> None:
    from fashionflow_core.catalogue import ray_engine

    jobs = []
    for decision in planner.decide():
        if decision.job is not None:
            jobs.append(decision.job)
        elif decision.record is not None:
            books.write([decision.record])
        else:
            books.skip(decision)
    if jobs:
        log = Path(planner.work.out) / HIDDEN / "ray.log"
        for record in ray_engine.make(jobs, planner.work, request.devices, request.ray_address, log):
            books.write([record])


def planner_for(request: Request, states: Mapping[str, State]) -> Planner:
    """What decides about every item of a run, by what the manifest says of it."""
    return Planner(
        request.entries,
        request.variations,
        request.work,
        read_model(request.work.model),
        model_revision(request.work.model),
        states,
        names_by_source(states),
        request.rules,
    )


def _show(work: Work) -> None:
    """Rebuild the page, which is worth no error: the run's own counts for more."""
    with suppress(FashionFlowError, OSError):
        pages = gallery.build(work.out, everything_is_there=bool(work.remote))
        for page in pages if work.remote else ():
            storage.put(page, f"{work.remote.rstrip('/')}/{page.name}")


def rebuild(place: str) -> list[str]:
    """Build the page of an output folder or URL again; returns the pages.

    Raises:
        FashionFlowError: as `gallery.build`.
    """
    if not storage.is_url(place):
        return [str(page) for page in gallery.build(place)]
    url = place.rstrip("/")
    work = Work(model="", out=str(storage.mirror(url)), remote=url, scratch="")
    pull_manifest(work)
    pages = gallery.build(work.out, everything_is_there=True)
    for page in pages:
        storage.put(page, f"{url}/{page.name}")
    return [f"{url}/{page.name}" for page in pages]


def pull_manifest(work: Work) -> None:
    """Bring the manifest of a remote output folder here; the longer one counts, since lines are only ever added."""
    url, local = f"{work.remote.rstrip('/')}/{MANIFEST}", Path(work.out) / MANIFEST
    size = storage.size(url)
    if size is not None and (not local.exists() or local.stat().st_size < size):
        local.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(local) as temporary:
            storage.fetch(url, temporary)


def _send_up(work: Work) -> None:
    storage.put(Path(work.out) / MANIFEST, f"{work.remote.rstrip('/')}/{MANIFEST}")
