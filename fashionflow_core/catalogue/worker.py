"""Worker process: one device, one model."""

import os
import queue
import sys
import threading
import warnings
from collections.abc import Callable
from typing import IO, Any

from fashionflow_core.catalogue import ipc
from fashionflow_core.catalogue.jobs import Job
from fashionflow_core.catalogue.outputs import DiskFull
from fashionflow_core.catalogue.photo_process import Started
from fashionflow_core.catalogue.stages import Maker, Stopped
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning
from fashionflow_core.utils.text import log_traceback


class _Worker:
    """Messages in: ("work", RunSpec, log), ("job", Job), ("cancel", number), ("stop",), ("end",). Out: see `main`."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._sending = threading.Lock()
        self.jobs: queue.SimpleQueue[Started | None] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.is_ready = False

    def say(self, *message: Any) -> None:
        with self._sending:
            ipc.send(self._outgoing, message)

    def listen(self, start: Callable[[Job], Started], cancel: Callable[[int], None]) -> None:
        """Read messages on a separate thread; when the run is gone, this process ends at once.

        Photos are opened as jobs arrive, the first ones while the model is still being opened.
        """
        try:
            while True:
                kind, *rest = ipc.receive(self._incoming)
                if kind == "job":
                    if not self.stop.is_set():  # set by a full disk before the run knows of it
                        self.jobs.put(start(rest[0]))
                elif kind == "cancel":
                    cancel(rest[0])
                else:
                    if kind == "stop":
                        self.stop.set()
                    self.jobs.put(None)
        except (EOFError, OSError):
            os._exit(1)

    def run(self) -> None:
        """Open the model, then make videos until "stop" or "end"."""
        _, work, log = ipc.receive(self._incoming)
        maker = Maker(work, lambda job, record: self.say("record", job.number, record), self.jobs.put, self._full, log)
        maker.stop = self.stop
        maker.grown = lambda limit: self.say("room", limit)
        maker.progressed = lambda numbers, stage, share: self.say("progress", numbers, stage, share)
        threading.Thread(target=self.listen, args=(maker.start, maker.cancelled.add), daemon=True).start()
        loading = maker.open()
        self.is_ready = True
        self.say("ready", maker.device, maker.limit, loading)
        self._loop(maker)
        maker.finish()
        self.say("ended")

    def _full(self, error: DiskFull) -> None:
        self.stop.set()
        self.jobs.put(None)
        self.say("fatal", error)

    def _loop(self, maker: Maker) -> None:
        waiting: list[Started] = []
        while True:
            while not waiting or not self.jobs.empty():
                job = self.jobs.get()
                if job is None:
                    if self.stop.is_set() or not waiting:
                        return
                    self.jobs.put(None)
                    break
                waiting.append(job)
            if self.stop.is_set():
                return
            batch = _alike(waiting, maker.limit)
            waiting = [one for one in waiting if one not in batch]
            self.say("begun", [one.job.number for one in batch])
            try:
                maker.make(batch)
            except Stopped:
                return


def _alike(waiting: list[Started], limit: int) -> list[Started]:
    """The first job and others with the same sampling settings, at most `limit` in all."""

    def sampling(one: Started) -> tuple[Any, ...]:
        settings = one.job.settings
        return (
            settings.frames,
            settings.steps,
            settings.scheduler,
            settings.guidance_scale,
            settings.guidance_interval,
            settings.conditioning,
            settings.interpolate,
        )

    return [one for one in waiting if sampling(one) == sampling(waiting[0])][:limit]


def main() -> None:
    """Messages out: ("ready", device, batch, seconds), ("room", batch), ("begun", numbers), ("progress", numbers,
    stage, share), ("record", number, record), ("warning", text), ("fatal", error) and ("ended",)."""
    worker = _Worker(*ipc.streams())

    def show(message: Warning | str, category: type[Warning], *_place: Any) -> None:
        if issubclass(category, FashionFlowWarning):
            worker.say("warning", str(message))

    warnings.simplefilter("always", FashionFlowWarning)
    warnings.showwarning = show
    try:
        worker.run()
    except FashionFlowError as error:
        worker.say("fatal", error)
    except OSError:
        sys.exit(1)  # the run is gone
    except Exception as error:
        log_traceback(error)
        if worker.is_ready:
            os._exit(1)  # another process retries the current items
        worker.say("fatal", FashionFlowError(f"internal: {type(error).__name__}: {' '.join(str(error).split())[:300]}"))
    # Threads that wait for a device or a file must not keep the process alive.
    sys.stdout.flush()
    os._exit(0)
