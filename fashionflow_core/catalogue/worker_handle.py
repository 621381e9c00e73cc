"""Worker handles: start, assign, replace."""

import queue
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fashionflow_core.catalogue.ipc import Child
from fashionflow_core.catalogue.jobs import Job, RunSpec

WORKER = "fashionflow_core.catalogue.worker"


@dataclass
class WorkerHandle:
    """One worker process.

    Attributes:
        number: its place in the pool, which its replacement inherits.
        jobs: assigned and not reported yet, by number.
        begun: numbers of jobs in work, of which one is the likely cause if it dies.
        ready: whether its model is open.
        room: maximum number of jobs at a time.
        ending: it was told to end.
        alone: it has a job that a worker died of, and gets no other one.
    """

    number: int
    child: Child
    log: Path
    jobs: dict[int, Job] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    ready: bool = False
    room: int = 2
    ending: bool = False
    alone: bool = False

    def takes(self, job: Job) -> bool:
        """Whether it can take this job now."""
        if self.ending or self.alone or len(self.jobs) >= self.room:
            return False
        return job.attempt == 1 or not self.jobs

    def give(self, job: Job) -> None:
        """Send it a job; a dead worker is noticed later."""
        self.jobs[job.number] = job
        self.alone = job.attempt > 1
        self.child.send(("job", job))

    def last_line(self) -> str:
        """The last line of its log."""
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1][:200] if lines else ""


class WorkerPool:
    """Worker processes of a run; their messages arrive in `events` as (worker, message), a death as ("dead",).

    Args:
        work: of the run.
        devices: one worker each.
        logs: folder of log files.
        events: queue of messages.
        module: the module that a worker runs.
    """

    def __init__(
        self, work: RunSpec, devices: list[str], logs: Path, events: "queue.SimpleQueue[Any]", module: str = WORKER
    ) -> None:
        self.work, self.devices, self.logs, self.events, self.module = work, devices, logs, events, module
        self.workers: list[WorkerHandle] = []

    def start(self, number: int) -> WorkerHandle:
        """Start the worker of a device, or a replacement for a dead one."""
        log = self.logs / f"worker-{number}.log"
        worker = WorkerHandle(number, Child(self.module, log), log)
        worker.child.send(("work", self.work.on(self.devices[number]), log.with_suffix(".helper.log")))
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        self.workers.append(worker)
        return worker

    def _listen(self, worker: WorkerHandle) -> None:
        try:
            while True:
                self.events.put((worker, worker.child.receive()))
        except Exception:  # it is gone, or its message is unreadable
            self.events.put((worker, ("dead",)))

    def tell(self, message: str) -> None:
        """Send a message to all workers that are not ending yet."""
        for worker in self.workers:
            if not worker.ending:
                worker.ending = True
                worker.child.send((message,))

    def kill(self) -> None:
        """Kill all workers."""
        for worker in self.workers:
            worker.child.process.kill()
