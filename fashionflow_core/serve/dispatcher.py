"""Dispatcher: queued videos to worker processes, results to the store."""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fashionflow_core.catalogue.jobs import FAILED, LOST, RETRIED, Job, RunSpec, died, model_revision, settings_hash
from fashionflow_core.catalogue.naming import HIDDEN
from fashionflow_core.catalogue.worker_handle import WORKER, WorkerHandle, WorkerPool
from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import FashionFlowError, reason_of
from fashionflow_core.serve.video_store import PHOTOS, ServedVideo, VideoStore

PATIENCE = 30.0  # seconds in which a stopping server finishes the current videos
_STARTS = 3  # consecutive workers that may die before their model is open
_PAUSE = 10.0  # seconds until the next attempt with a full disk
_SWEEP = 20.0  # seconds between two searches for expired videos
_AHEAD = 2  # videos per worker beside the computed one: one whose scores are measured, one whose photo is opened


class Dispatcher:
    """Dispatcher of queued videos to worker processes, one per device, whose models stay open.

    It runs on a thread of its own; `start` and `stop` may be called from any thread.

    Args:
        work: settings of all videos; its folder is the folder of the store.
        store: the videos.
        devices: one worker per device.
        failed: called on that thread with the error that ended it.
        module: Python module of the worker process.
    """

    def __init__(
        self,
        work: RunSpec,
        store: VideoStore,
        devices: tuple[str, ...],
        failed: Callable[[FashionFlowError], None],
        module: str = WORKER,
    ) -> None:
        self.work, self.store, self._failed = work, store, failed
        self.config, self.revision = ModelConfig.load(work.model), model_revision(work.model)
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._pool = WorkerPool(work, list(devices), Path(work.out) / HIDDEN, self._events, module)
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        self._unwritten: list[Mapping[str, Any]] = []
        self._retries: dict[str, int] = {}  # videos during whose computation a worker died
        self._since: dict[int, float] = {}  # when the computation of a job began
        self._ids: dict[int, str] = {}
        self._number = 0
        self._stopping = False
        self._resume = 0.0  # no worker is started before: the disk is full
        self._deaths = 0
        self._swept = time.monotonic()
        self.problem = ""

    @property
    def is_ready(self) -> bool:
        """Whether a worker has its model open and can work."""
        return not self.problem and any(worker.ready for worker in self._pool.workers)

    def start(self) -> None:
        """Start the workers and the thread."""
        self._stop_listening = self.store.listen(self._wake)
        self._thread.start()

    def stop(self) -> None:
        """Finish the current videos, for at most `PATIENCE` seconds; queued ones stay in the store."""
        self._events.put((None, ("stop",)))
        self._thread.join(PATIENCE + 10)
        self._stop_listening()

    def _wake(self, video: ServedVideo | None, event: str) -> None:
        if event == "accepted":
            self._events.put((None, ("nothing",)))
        elif event == "deleted" and video is not None:
            self._events.put((None, ("deleted", video.id)))

    def _run(self) -> None:
        try:
            self._loop()
        except FashionFlowError as error:
            self.problem = error.message
            self._failed(error)
        except Exception as error:
            self.problem = f"internal: {type(error).__name__}: {error}"
            self._failed(FashionFlowError(self.problem, hint="start the server again; accepted videos are kept"))
        finally:
            for worker in self._pool.workers:
                worker.child.kill()

    def _loop(self) -> None:
        deadline = float("inf")
        while True:
            now = time.monotonic()
            if not self._stopping:
                self._start_workers(now)
                self._give()
            self._write(now)
            self._check_time(now)
            if self._stopping:
                if deadline == float("inf"):
                    deadline = now + PATIENCE
                    self._pool.tell("end")
                if not self._pool.workers or now > deadline or not any(w.jobs for w in self._pool.workers):
                    return
            if now - self._swept > _SWEEP:
                self._swept = now
                self.store.expire()
            with suppress(queue.Empty):
                self._handle(*self._events.get(timeout=0.25))
                for _ in range(1000):  # all pending events share one flush of the disk
                    self._handle(*self._events.get_nowait())

    def _start_workers(self, now: float) -> None:
        if now < self._resume:
            return
        running = {worker.number for worker in self._pool.workers}
        for number in range(len(self._pool.devices)):
            if number not in running:
                self._pool.start(number)

    def _give(self) -> None:
        while self.store.waiting and not self.problem:
            takers = [worker for worker in self._pool.workers if self._takes(worker)]
            worker = min(takers, key=lambda taker: len(taker.jobs), default=None)
            video = self.store.take() if worker is not None else None
            if worker is None or video is None:
                return
            alone = self._retries.get(video.id, 0) > 0
            if alone and worker.jobs:
                self.store.give_back(video.id)
                return
            try:
                job = self._job(video, 2 if alone else 1)
            except FashionFlowError as error:  # the model was replaced by one that does not support the settings
                record = {"item": video.id, "source": video.request.photo, "status": FAILED, "stage": "plan"}
                self._unwritten.append(record | {"error_class": type(error).__name__, "message": error.message})
                continue
            self._ids[job.number] = video.id
            worker.give(job)

    def _takes(self, worker: WorkerHandle) -> bool:
        return worker.ready and not worker.ending and not worker.alone and len(worker.jobs) < self._room(worker)

    @staticmethod
    def _room(worker: WorkerHandle) -> int:
        return (worker.room - 1) // 2 + _AHEAD  # a handle's room is twice its batch, and one

    def _job(self, video: ServedVideo, attempt: int) -> Job:
        self._number += 1
        settings = video.request.generate_settings()
        mark = settings_hash(settings.resolve(self.config), self.work, video.request.variation)
        return Job(
            self._number,
            video.id,
            str(self.store.folder / PHOTOS / video.request.photo),
            settings,
            video.request.variation,
            mark,
            self.revision,
            attempt,
            caption=video.request.prompt,
        )

    def _handle(self, worker: WorkerHandle | None, message: tuple[Any, ...]) -> None:
        kind, *rest = message
        if kind == "stop":
            self._stopping = True
        elif kind == "deleted":
            self._cancel(rest[0])
        elif worker is None:
            return
        elif kind == "ready":
            worker.ready, worker.room = True, 2 * rest[1] + 1
            self._deaths, self.problem = 0, ""
        elif kind == "room":
            worker.room = 2 * rest[0] + 1
        elif kind == "begun":
            worker.begun.update(rest[0])
            for number in rest[0]:
                self._since[number] = time.monotonic()
                self.store.begin(self._ids.get(number, ""))
        elif kind == "progress":
            for number in rest[0]:
                self.store.progressed(self._ids.get(number, ""), rest[1], rest[2])
        elif kind == "record":
            job = worker.jobs.pop(rest[0])
            worker.begun.discard(rest[0])
            worker.alone = False
            self._forget(job)
            self._retries.pop(job.name, None)
            self._unwritten.append(rest[1] | {"attempt": job.attempt})
        elif kind == "fatal":
            self._fatal(worker, rest[0])
        elif kind == "dead":
            self._bury(worker)

    def _cancel(self, name: str) -> None:
        """Tell the worker of a deleted video to drop it, which it reports like a failure."""
        for worker in self._pool.workers:
            for job in worker.jobs.values():
                if job.name == name:
                    worker.child.send(("cancel", job.number))

    def _forget(self, job: Job) -> None:
        self._since.pop(job.number, None)
        self._ids.pop(job.number, None)

    def _fatal(self, worker: WorkerHandle, error: FashionFlowError) -> None:
        if not worker.ready:
            raise error
        # The disk is full: the videos of the worker return to the queue and are retried after a pause.
        self.problem, self._resume = error.message, time.monotonic() + _PAUSE
        worker.ending = True

    def _check_time(self, now: float) -> None:
        limit = self.store.limits.job_seconds
        for worker in list(self._pool.workers):
            late = [number for number in worker.begun if now - self._since.get(number, now) > limit]
            for number in late:
                job = worker.jobs.pop(number)
                worker.begun.discard(number)
                self._forget(job)
                words = f"took longer than {limit:g} s, the time limit of this server"
                record = died(job, FAILED, words) | {"error_class": "TimeLimit"}
                self._unwritten.append(record)
            if late:
                worker.ending = True  # its other videos are not to blame
                worker.child.process.kill()

    def _bury(self, worker: WorkerHandle) -> None:
        """A worker is gone: the computed video is retried once, alone; its other videos return to the queue."""
        code = worker.child.kill() if worker.child.process.poll() is None else worker.child.wait()
        self._pool.workers.remove(worker)
        if not worker.ready and not self._stopping:
            self._deaths += 1
            if self._deaths >= _STARTS:
                words = worker.last_line()
                problem = f"a worker ended with exit code {code} while it opened the model"
                raise FashionFlowError(
                    f"{problem} ({words})" if words else problem,
                    hint=f"see {worker.log}",
                )
        blamed = not self._stopping and not worker.ending
        for job in reversed(worker.jobs.values()):
            self._forget(job)
            if not blamed or job.number not in worker.begun:
                self.store.give_back(job.name)
                continue
            last = job.attempt > 1
            how = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            self._unwritten.append(died(job, LOST if last else RETRIED, f"its worker was {how}"))
            if not last:
                self._retries[job.name] = 1
                self.store.give_back(job.name)

    def _write(self, now: float) -> None:
        if not self._unwritten or now < self._resume:
            return
        records, self._unwritten = self._unwritten, []
        try:
            self.store.finish(records)
        except OSError as error:
            self._unwritten = records
            self.problem = f"{self.store.folder}: could not be written ({reason_of(error)})"
            self._resume = now + _PAUSE
        else:
            if self._resume and not any(not worker.ready for worker in self._pool.workers):
                self.problem, self._resume = "", 0.0
