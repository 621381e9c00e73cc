"""Supervisor of the workers: jobs out, records in, safe stop."""

import queue
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fashionflow_core.catalogue.jobs import LOST, RETRIED, Job, died
from fashionflow_core.catalogue.ledger import Ledger
from fashionflow_core.catalogue.naming import HIDDEN
from fashionflow_core.catalogue.planner import Decision, Planner
from fashionflow_core.catalogue.worker_handle import WORKER, WorkerHandle, WorkerPool
from fashionflow_core.errors import FashionFlowError

PATIENCE = 30.0  # seconds that a stop may take
_STARTS = 3  # consecutive deaths of workers before their model is open that end the run


class Supervisor:
    """Assigns the items of a planner to workers, one per device.

    It runs on its own thread, so that a signal, which Python raises on the main thread, cannot come between a video and
    its line in the manifest.

    Args:
        planner: items to make.
        books: records them.
        devices: one worker each.
        module: the module that a worker runs.
    """

    def __init__(self, planner: Planner, books: Ledger, devices: list[str], module: str = WORKER) -> None:
        self.planner, self._books, self.watcher = planner, books, books.watcher
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        logs = Path(planner.work.out) / HIDDEN
        self._pool = WorkerPool(planner.work, devices, logs, self._events, module)
        self._planned: queue.Queue[Decision | BaseException | None] = queue.Queue(256)
        self._todo: deque[Job] = deque()
        self._all_planned = False
        self._stopping = False
        self._error: BaseException | None = None
        self._deaths_before_ready = 0
        self._warned: set[str] = set()
        self._unwritten: list[Mapping[str, Any]] = []

    def __call__(self) -> None:
        """Run to the end.

        Raises:
            FashionFlowError: the run cannot continue: no model, no device, a full disk.
            BaseException: raised by a signal meanwhile, after all files were closed.
        """
        finished = threading.Event()
        threading.Thread(target=self._safely, args=(finished,), daemon=True).start()
        interruption = self._wait(finished)
        if interruption is not None:
            raise interruption
        if self._error is not None:
            raise self._error

    def _wait(self, finished: threading.Event) -> BaseException | None:
        """Wait for the run; the first signal stops it gently, a second one or `PATIENCE` at once."""
        interruption, deadline = None, float("inf")
        while True:
            try:
                # Not Thread.join: after an interruption it may report a running thread as ended.
                if finished.wait(0.2):
                    return interruption
                if time.monotonic() > deadline:
                    self._pool.kill()
            except BaseException as error:
                if interruption is None:
                    interruption, deadline = error, time.monotonic() + PATIENCE
                    self._events.put((None, ("stop",)))
                    self.watcher.said("finishing the current video (Ctrl-C again to stop now)")
                else:
                    deadline = 0
                    self._pool.kill()

    def _plan(self) -> None:
        try:
            for decision in self.planner.decide():
                self._planned.put(decision)
            self._planned.put(None)
        except BaseException as error:
            self._planned.put(error)

    def _safely(self, finished: threading.Event) -> None:
        try:
            threading.Thread(target=self._plan, daemon=True).start()
            self._loop()
        except BaseException as error:
            self._error = error
            self._pool.kill()
        finally:
            for worker in self._pool.workers:
                worker.child.kill()
            finished.set()

    def _loop(self) -> None:
        while True:
            self._take_planned()
            if not self._stopping:
                self._give()
            self._write()
            if self._is_over():
                return
            self._handle(*self._next_event())
            with suppress(queue.Empty):  # events that arrived meanwhile share one flush of the disk
                for _ in range(1000):
                    self._handle(*self._events.get_nowait())

    def _next_event(self) -> tuple[WorkerHandle | None, tuple[Any, ...]]:
        idle = not self._all_planned and not self._todo
        try:
            return self._events.get(timeout=0.002 if idle else 0.5)
        except queue.Empty:
            return None, ("nothing",)

    def _is_over(self) -> bool:
        if self._stopping or (self._all_planned and not self._todo and not any(w.jobs for w in self._pool.workers)):
            self._pool.tell("stop" if self._stopping else "end")
            return not self._pool.workers
        return False

    def _take_planned(self) -> None:
        wanted = 2 * len(self._pool.devices) * max((worker.room for worker in self._pool.workers), default=2)
        for _ in range(2000):
            if self._all_planned or len(self._todo) >= wanted or self._stopping:
                return
            try:
                decision = self._planned.get_nowait()
            except queue.Empty:
                return
            if decision is None:
                self._all_planned = True
            elif isinstance(decision, BaseException):
                raise decision
            elif decision.job is not None:
                self._todo.append(decision.job)
            elif decision.record is not None:
                self._unwritten.append(decision.record)
            else:
                self._books.skip(decision)

    def _give(self) -> None:
        """Assign the next jobs to the worker with the fewest; workers are started when they are needed."""
        while self._todo:
            takers = [worker for worker in self._pool.workers if worker.takes(self._todo[0])]
            worker = min(takers, key=lambda taker: len(taker.jobs), default=None)
            if worker is None or worker.jobs:
                running = {worker.number for worker in self._pool.workers}
                missing = [number for number in range(len(self._pool.devices)) if number not in running]
                worker = self._pool.start(missing[0]) if missing else worker
            if worker is None:
                return
            worker.give(self._todo.popleft())

    def _handle(self, worker: WorkerHandle | None, message: tuple[Any, ...]) -> None:
        kind, *rest = message
        if kind == "stop":
            self._stopping = True
            for starting in self._pool.workers:
                if not starting.ready:
                    starting.child.process.kill()
        elif worker is None or kind == "nothing":
            return
        elif kind == "ready":
            worker.ready, worker.room = True, 2 * rest[1] + 1
            self._deaths_before_ready = 0
            self.watcher.said(
                f"{rest[0]}: model open after {rest[2]:.1f} s" + (f", {rest[1]} at a time" * (rest[1] > 1))
            )
        elif kind == "room":
            worker.room = 2 * rest[0] + 1
            self.watcher.said(f"{self._pool.devices[worker.number]}: {rest[0]} photos at a time")
        elif kind == "begun":
            worker.begun.update(rest[0])
        elif kind == "record":
            job = worker.jobs.pop(rest[0])
            worker.begun.discard(rest[0])
            worker.alone = False
            self._unwritten.append(rest[1] | {"attempt": job.attempt})
        elif kind == "warning" and rest[0] not in self._warned:
            self._warned.add(rest[0])
            self.watcher.warned(rest[0])
        elif kind == "fatal":
            self._error = self._error or rest[0]
            self._stopping = True
        elif kind == "dead":
            self._handle_death(worker)

    def _handle_death(self, worker: WorkerHandle) -> None:
        """Handle the death of a worker: its current items are retried once, alone; the others are reassigned."""
        code = worker.child.kill() if worker.child.process.poll() is None else worker.child.wait()
        self._pool.workers.remove(worker)
        if self._stopping or (worker.ending and not worker.jobs):
            return
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        line = worker.last_line()
        how += f" ({line})" if line else ""
        if not worker.ready:
            self._deaths_before_ready += 1
            if self._deaths_before_ready >= _STARTS:
                raise FashionFlowError(f"a worker {how} while opening the model", hint=f"see {worker.log}")
        self.watcher.warned(f"a worker on {self._pool.devices[worker.number]} {how}; it is replaced")
        for job in reversed(worker.jobs.values()):
            if job.number not in worker.begun:
                self._todo.appendleft(job)
                continue
            last = job.attempt > 1
            self._unwritten.append(died(job, LOST if last else RETRIED, f"its worker {how}"))
            if not last:
                self._todo.appendleft(replace(job, attempt=2))

    def _write(self) -> None:
        records, self._unwritten = self._unwritten, []
        self._books.write(records)
