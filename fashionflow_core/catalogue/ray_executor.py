"""Ray executor: a run on Ray Data, one actor per device.

Ray's driver is a separate process whose output goes to a log.

Settings that confine a bad item to itself:

- One row per call (`map`, not `map_batches`) and `max_tasks_in_flight_per_actor=1`: a dying actor loses one item.
- `max_restarts=-1` restarts actors; a finite `max_task_retries` gives up an item that kills each of them.
- `max_errored_blocks=-1`: such an item leaves a block without rows and does not end the run. With one item per block,
  items without a record are those that were lost.
"""

import json
import os
import pickle
import queue
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from fashionflow_core.catalogue import ipc
from fashionflow_core.catalogue.jobs import LOST, Job, RunSpec, died
from fashionflow_core.errors import FashionFlowError, SettingError, Wording, option
from fashionflow_core.utils import extras
from fashionflow_core.utils.text import log_traceback

RETRIES = 1
PATIENCE = 20.0  # seconds for Ray to shut down
BLOCKS = 10_000  # above this, Ray's bookkeeping of blocks costs more than it saves


class Actor:
    """Ray actor: makes one item at a time with a model that is opened once."""

    def __init__(self, work: RunSpec, wording: Wording) -> None:
        Wording.current = wording
        from fashionflow_core.catalogue.stages import Maker

        if work.remote:  # this may be another machine than the run's: unfinished files stay on its own disk
            self._scratch = tempfile.TemporaryDirectory(prefix="fashionflow-")
            work = replace(work, scratch=self._scratch.name)
        self._records: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._again: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._maker = Maker(work, lambda _job, record: self._records.put(record), self._repeat, self._records.put)
        self._maker.open()

    def _repeat(self, started: Any) -> None:
        self._again.put(started)
        self._records.put(None)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        self._maker.make([self._maker.start(pickle.loads(row["job"]))])
        while (record := self._records.get()) is None:  # flagged, and made again with another seed
            self._maker.make([self._again.get()])
        if isinstance(record, Exception):
            return {"number": row["number"], "record": "", "fatal": str(record)}
        return {"number": row["number"], "record": json.dumps(record), "fatal": ""}


def make(
    jobs: Sequence[Job], work: RunSpec, devices: Sequence[str], address: str | None, log: Path
) -> Iterator[Mapping[str, Any]]:
    """Make all jobs; yields records as they arrive, those of lost items last.

    Args:
        jobs: what to do.
        work: of the run.
        devices: one actor each, on a GPU that Ray assigns. `all`: one for each GPU of the cluster.
        address: of a running cluster; None: Ray is started for this run.
        log: receives the output of Ray.

    Raises:
        FashionFlowError: Ray is not installed or not reachable, or the run cannot continue.
    """
    open_jobs = {job.number: job for job in jobs}
    driver = ipc.Child(__name__, log)
    try:
        driver.send((list(jobs), work, tuple(devices), address))
        while (message := driver.receive()) is not None:
            if isinstance(message, Exception):
                raise message
            number, record = message
            del open_jobs[number]
            yield record
    except EOFError:
        raise FashionFlowError("Ray's driver died", hint=f"see {log}") from None
    finally:
        driver.end(PATIENCE)
    for job in open_jobs.values():
        yield died(replace(job, attempt=1 + RETRIES), LOST, f"its worker died, in each of {1 + RETRIES} tries")


def main() -> None:
    """The driver. Messages out: (number, record), an error, and None at the end."""
    incoming, outgoing = ipc.streams()
    jobs, work, devices, address = ipc.receive(incoming)
    threading.Thread(target=_end_with, args=(incoming,), daemon=True).start()
    try:
        for message in _drive(jobs, work, devices, address):
            ipc.send(outgoing, message)
        ipc.send(outgoing, None)
    except FashionFlowError as error:
        ipc.send(outgoing, error)
    except Exception as error:
        log_traceback(error)
        text = " ".join(str(error).split())[:300]
        ipc.send(outgoing, FashionFlowError(f"Ray: {type(error).__name__}: {text}", hint="see .fashionflow/ray.log"))


def _end_with(incoming: IO[bytes]) -> None:
    """End this driver and its Ray when the run is gone or stops."""
    incoming.read(1)
    import ray  # pyright: ignore[reportMissingImports]  # of an extra

    ray.shutdown()
    os._exit(1)


def _drive(jobs: list[Job], work: RunSpec, devices: Sequence[str], address: str | None) -> Iterator[tuple[int, Any]]:
    ray = _started(address, devices)
    missing = {job.number: job for job in jobs}
    for number, record in _pass(ray, jobs, work, devices):
        del missing[number]
        yield number, record
    if len(jobs) > BLOCKS and missing:
        # Several items shared a block: with a block each, only the failing one is lost.
        yield from _pass(ray, list(missing.values()), work, devices)
    ray.shutdown()


def _started(address: str | None, devices: Sequence[str]) -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise FashionFlowError(
            f"{Wording.current.setting('executor')}: ray needs the extra 'ray'",
            hint=f"{extras.install('ray')}, or leave {option('executor')} out",
        ) from None
    try:
        if address is None:
            ray.init(include_dashboard=False, num_cpus=max(2, len(devices)), log_to_driver=False)
        else:
            ray.init(address=address, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise FashionFlowError(
            f"{Wording.current.setting('ray_address')}: {address}: {' '.join(str(error).split())[:300]}",
            hint="check the cluster: ray status",
        ) from None
    return ray


def actors(devices: Sequence[str], gpus: int) -> tuple[int, str]:
    """Number of actors and the device of each; on a cluster with GPUs `auto` is a GPU.

    Raises:
        UsageError: all GPUs are requested and there are none.
    """
    if devices[0] == "all" and not gpus:
        raise SettingError(
            "devices", "all requested, but Ray reports no GPU", hint=f"use {option('devices', 'cpu,cpu')}"
        )
    # An actor sees its GPU as the first one.
    wanted = "cuda" if devices[0].startswith("cuda") or (gpus and devices[0] in ("all", "auto")) else devices[0]
    return (gpus if devices[0] == "all" else len(devices)), wanted


def _pass(ray: Any, jobs: list[Job], work: RunSpec, devices: Sequence[str]) -> Iterator[tuple[int, Any]]:
    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = -1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    count, device = actors(devices, int(ray.cluster_resources().get("GPU", 0)))
    gpu = device == "cuda"
    rows = [{"number": job.number, "job": pickle.dumps(job)} for job in jobs]
    made = ray.data.from_items(rows, override_num_blocks=min(len(rows), BLOCKS)).map(
        Actor,
        fn_constructor_args=(work.on(device), Wording.current),
        compute=ray.data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=1),
        num_gpus=1 if gpu else 0,
        num_cpus=0 if gpu else 1,
        max_restarts=-1,
        max_task_retries=RETRIES,
    )
    for row in made.iter_rows():
        if row["fatal"]:
            raise FashionFlowError(row["fatal"], hint="run the same command again")
        yield row["number"], json.loads(row["record"])
