"""A catalogue from its inputs to its page: the one function that command line and Python call."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from fashionflow_core.catalogue import gallery
from fashionflow_core.catalogue.books import Books, Summary, Watcher
from fashionflow_core.catalogue.crew import WORKER
from fashionflow_core.catalogue.inputs import Entry
from fashionflow_core.catalogue.manifest import Manifest, State, names_by_source
from fashionflow_core.catalogue.out_folder import HIDDEN, opened
from fashionflow_core.catalogue.planner import Planner, Rules
from fashionflow_core.catalogue.runner import Run
from fashionflow_core.catalogue.work import Work, model_revision, read_model
from fashionflow_core.errors import FashionFlowError

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
        manifest = Manifest(out)
        stack.callback(manifest.close)
        work = replace(request.work, scratch=str(scratch))
        planner = planner_for(replace(request, work=work), manifest.states)
        if page:
            stack.callback(_show, out)
        books = Books(manifest, watcher or Watcher(), len(planner))
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


def _show(out: Path) -> None:
    """Rebuild the page, which is worth no error: the run's own counts for more."""
    with suppress(FashionFlowError, OSError):
        gallery.build(out)
