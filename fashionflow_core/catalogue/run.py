"""A catalogue run from inputs to gallery."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from fashionflow_core.catalogue import gallery, results, storage
from fashionflow_core.catalogue.inputs import Entry
from fashionflow_core.catalogue.jobs import RunSpec, model_revision
from fashionflow_core.catalogue.ledger import Ledger, Summary, Watcher
from fashionflow_core.catalogue.manifest import MANIFEST, Manifest, State, names_by_source
from fashionflow_core.catalogue.naming import HIDDEN
from fashionflow_core.catalogue.outputs import opened
from fashionflow_core.catalogue.planner import Planner, Rules
from fashionflow_core.catalogue.reviews import read_reviews
from fashionflow_core.catalogue.supervisor import Supervisor
from fashionflow_core.catalogue.worker_handle import WORKER
from fashionflow_core.errors import FashionFlowError, option
from fashionflow_core.generators.folder import config_of
from fashionflow_core.utils.files import atomic_path

EXECUTORS = LOCAL, RAY = "local", "ray"


@dataclass(frozen=True)
class Request:
    """Request for a run.

    Attributes:
        entries: of `inputs.read_inputs`.
        work: settings of all items; `scratch` is filled in by `run`.
        variations: videos per photo.
        devices: one worker each.
        rules: which items are made again.
        module: the module that a worker runs.
        executor: one of `EXECUTORS`: processes of this machine, or Ray Data.
        ray_address: of a running Ray cluster; None: Ray is started here for the run.
    """

    entries: Sequence[Entry]
    work: RunSpec
    variations: int = 1
    devices: tuple[str, ...] = ("auto",)
    rules: Rules = field(default_factory=Rules)
    module: str = WORKER
    executor: str = LOCAL
    ray_address: str | None = None


def run(request: Request, watcher: Watcher | None = None, page: bool = True) -> Summary:
    """Make missing items and record them; `page` and tables are rebuilt however the run ends.

    Raises:
        UsageError: settings that the model does not support.
        FashionFlowError: another run has the folder, the model is broken, the disk is full.
    """
    config = config_of(request.work.model)
    request.work.settings.resolve(config)
    request.work.load.check(config)
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
        books = Ledger(manifest, watcher or Watcher(), len(planner))
        for line in about_other_models(planner):
            books.watcher.said(line)
        if request.work.remote:
            books.now_and_then = lambda: _send_up(request.work)
        start = time.perf_counter()
        if request.executor == RAY:
            _run_on_ray(planner, books, request)
        else:
            Supervisor(planner, books, list(request.devices), request.module)()
        books.summary.seconds = time.perf_counter() - start
        return books.summary


def _run_on_ray(planner: Planner, books: Ledger, request: Request) -> None:
    from fashionflow_core.catalogue import ray_executor

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
        for record in ray_executor.make(jobs, planner.work, request.devices, request.ray_address, log):
            books.write([record])


def about_other_models(planner: Planner) -> list[str]:
    """What happens to finished videos of other models, one line per model."""
    if planner.rules.overwrite:
        return []
    now = planner.config.name
    lines = []
    for model, count in planner.others().items():
        made = f"{count} finished videos were made with " + (
            f"an earlier {now}" if model == now else model or "another model"
        )
        if planner.rules.keep_other_models:
            lines.append(f"{made} and are kept; to remake them with {now}: {option('model', now)}")
        else:
            lines.append(f"{made}; those of this run's photos are remade with {now}")
    return lines


def planner_for(request: Request, states: Mapping[str, State]) -> Planner:
    """The planner of a run."""
    return Planner(
        request.entries,
        request.variations,
        request.work,
        config_of(request.work.model),
        model_revision(request.work.model),
        states,
        names_by_source(states),
        request.rules,
        read_reviews(Path(request.work.out)) if request.rules.retry_rejected else {},
    )


def _show(work: RunSpec) -> None:
    """Rebuild page and tables; their errors must not hide those of the run."""
    with suppress(FashionFlowError, OSError):
        files = [*results.write(work.out), *gallery.build(work.out, everything_is_there=bool(work.remote))]
        for file in files if work.remote else ():
            storage.put(file, f"{work.remote.rstrip('/')}/{file.name}")


def rebuild(place: str) -> list[str]:
    """Build the page and the tables of an output folder or URL again; returns the pages.

    Raises:
        FashionFlowError: as `gallery.build`.
    """
    if not storage.is_url(place):
        results.write(place)
        return [str(page) for page in gallery.build(place)]
    url = place.rstrip("/")
    work = RunSpec(model="", out=str(storage.mirror(url)), remote=url, scratch="")
    pull_manifest(work)
    pages = gallery.build(work.out, everything_is_there=True)
    for file in (*pages, *results.write(work.out)):
        storage.put(file, f"{url}/{file.name}")
    return [f"{url}/{page.name}" for page in pages]


def pull_manifest(work: RunSpec) -> None:
    """Download the manifest of a remote output folder unless the local one is longer: lines are only appended."""
    url, local = f"{work.remote.rstrip('/')}/{MANIFEST}", Path(work.out) / MANIFEST
    size = storage.size(url)
    if size is not None and (not local.exists() or local.stat().st_size < size):
        local.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(local) as temporary:
            storage.fetch(url, temporary)


def _send_up(work: RunSpec) -> None:
    storage.put(Path(work.out) / MANIFEST, f"{work.remote.rstrip('/')}/{MANIFEST}")
