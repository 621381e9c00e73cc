"""Stages inside a worker: open photos ahead, generate, write behind."""

import importlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fashionflow_core.catalogue.gpu_memory import batch_that_fits, free_memory, release_memory, used_memory
from fashionflow_core.catalogue.item_writer import GeneratedItem, ItemWriter, Report
from fashionflow_core.catalogue.jobs import Job, RunSpec
from fashionflow_core.catalogue.outputs import DiskFull
from fashionflow_core.catalogue.photo_process import OpenedPhoto, Photos, Started
from fashionflow_core.errors import FashionFlowError, OutOfMemory
from fashionflow_core.generators.folder import config_of
from fashionflow_core.utils.priority import give_way

if TYPE_CHECKING:
    from fashionflow_core.pipeline import FashionFlowPipeline

_CANCELLED = "cancelled"
_DENOISING = 0.5  # share of denoising in the progress of a video; less for motion models, more for others


class Stopped(Exception):
    """The run was stopped between two denoising steps."""


class Cancelled(FashionFlowError):
    """Nobody wants this video any more."""


class DeviceLost(Exception):
    """A CUDA error made this process unusable; another one can continue."""


class Maker:
    """Makes the videos of jobs in batches after `open`; `start` may be called before.

    Args:
        work: of the run.
        report: called from any thread with each finished job and its record.
        again: called from any thread with a job to make once more.
        full: called from any thread if the disk is full.
        log: of the photo process.

    Raises:
        FashionFlowError: not a model folder.
    """

    pipe: "FashionFlowPipeline"

    def __init__(
        self,
        work: RunSpec,
        report: Report,
        again: Callable[[Started], None],
        full: Callable[[DiskFull], None],
        log: Path | None = None,
    ) -> None:
        self.work, self.report, self.again, self.full = work, report, again, full
        self.stop = threading.Event()
        self.cancelled: set[int] = set()  # numbers of jobs to be dropped; may be added to from any thread
        # Before threads start: concurrent imports of PyAV fail.
        importlib.import_module("av.video.reformatter")
        self.photos = Photos(work, config_of(work.model), log)
        self._opening = ThreadPoolExecutor(1, "photos")
        self._writing = ThreadPoolExecutor(1, "videos", initializer=give_way)
        # The clip being written and one more: a device that is faster than the encoder waits.
        self._behind = threading.Semaphore(2)
        self.limit, self._room = work.batch or 1, None
        self.grown: Callable[[int], None] = lambda limit: None
        # Arguments: numbers of jobs, stage, share done.
        self.progressed: Callable[[list[int], str, float], None] = lambda numbers, stage, share: None

    def open(self) -> float:
        """Open the model; returns the seconds it took.

        Raises:
            FashionFlowError: the model cannot be opened, or does not support the settings of the run.
        """
        start = time.perf_counter()
        module, function = self.work.opener.split(":")
        opener = getattr(importlib.import_module(module), function)
        work = self.work
        self.pipe = opener(Path(work.model), work.load)
        self.pipe.resolve(work.settings)  # unsupported settings end the run instead of failing each item
        self.device = str(self.pipe.networks.device)
        self._writer = ItemWriter(work, self.pipe, self.photos, self.report, self.again, self.full)
        self._variations = None
        if self.pipe.config.latents == "motion":
            from fashionflow_core.motion.distance import Variations

            self._variations = Variations()
        if self.pipe.config.latents == "frames":
            # A clip takes minutes, and is lost with its batch: several only on request, where the model takes lists.
            self.limit = self.limit if getattr(self.pipe.config, "takes_lists", False) else 1
        else:
            self._room = free_memory(self.pipe.networks.device) if not work.batch else None
        return time.perf_counter() - start

    def start(self, job: Job) -> Started:
        """Start opening the photo of a job."""
        return Started(job, self._opening.submit(self.photos.open, job))

    def make(self, started: list[Started]) -> None:
        """Generate the videos of a batch; each is reported when it failed or was written.

        Raises:
            Stopped: `stop` was set during denoising; the unfinished jobs are not reported.
        """
        ready: list[tuple[Job, OpenedPhoto]] = []
        for one in started:
            photo = one.photo.result()
            if one.job.number in self.cancelled:
                self._writer.fail(one.job, photo, "photo", Cancelled(_CANCELLED))
                continue
            if photo.error is not None:
                self._writer.fail(one.job, photo, "photo", photo.error)
                continue
            try:
                if self._writer.adopted(one.job, photo):
                    continue
            except Exception as error:  # remote storage may be unreachable
                self._writer.fail(one.job, photo, "write", error)
                continue
            try:
                for finisher in self._writer.finishers(one.job, photo):
                    finisher.check()
            except FashionFlowError as error:  # such as a caption that is too long
                self._writer.fail(one.job, photo, "photo", error)
                continue
            ready.append((one.job, photo))
        while ready:
            batch, ready = ready[: self.limit], ready[self.limit :]
            self._generate(batch)

    def finish(self) -> None:
        """Wait until all generated videos are written."""
        self._opening.shutdown(cancel_futures=True)
        self._writing.shutdown()
        self.photos.close()

    def _generate(self, batch: list[tuple[Job, OpenedPhoto]], again: bool = False) -> None:
        """Denoise and decode a batch; after an error halves are tried, and a single photo without memory once more."""
        start = time.perf_counter()
        numbers = [job.number for job, _ in batch]

        def on_step(done: int, steps: int) -> None:
            if self.stop.is_set():
                raise Stopped
            if self.cancelled.issuperset(numbers):
                raise Cancelled(_CANCELLED)
            self.progressed(numbers, "denoise", _DENOISING * done / max(1, steps))

        try:
            clips = self.pipe.generate_batch(
                [photo.fitted for _, photo in batch if photo.fitted is not None],
                [job.settings for job, _ in batch],
                [job.variation for job, _ in batch],
                on_step,
            )
        except Stopped:
            raise
        except Cancelled as error:
            for job, photo in batch:
                self._writer.fail(job, photo, "denoise", error)
            return
        except Exception as error:
            if "CUDA error" in str(error):
                raise DeviceLost(str(error)) from error
            if len(batch) > 1:
                size = len(batch) // 2
                if isinstance(error, OutOfMemory):
                    self.limit = min(self.limit, size)
                    release_memory()
                while batch:
                    size = min(size, self.limit)  # the first half may have lowered it
                    self._generate(batch[:size])
                    batch = batch[size:]
            elif isinstance(error, OutOfMemory) and not again:
                release_memory()
                self._generate([_smaller(*batch[0])], again=True)
            else:
                self._writer.fail(*batch[0], "denoise", error)
            return
        denoised = time.perf_counter()
        if self._room is not None:
            self.limit = batch_that_fits(self._room, used_memory(self.pipe.networks.device))
            self._room = None
            self.grown(self.limit)
        for (job, photo), clip in zip(batch, clips):
            distance = None
            if self._variations is not None and not job.reroll:
                distance = self._variations.add(photo.sha256, clip.latents)
            seconds = {"photo": photo.seconds, "denoise": (denoised - start) / len(batch)}
            self._decode(GeneratedItem(job, photo, clip, seconds, distance))

    def _decode(self, item: GeneratedItem) -> None:
        """Decode on this thread, which uses the device, into a queue for the writing thread."""
        self._behind.acquire()
        self._writing.submit(self._write, item)
        start = time.perf_counter()
        try:
            for number, frame in enumerate(item.clip.frames, 1):
                if item.job.number in self.cancelled:
                    raise Cancelled(_CANCELLED)
                item.frames.put(frame)
                if number % 4 == 0:
                    share = _DENOISING + (1 - _DENOISING) * number / max(1, item.clip.count)
                    self.progressed([item.job.number], "decode", min(1.0, share))
            item.seconds["decode"] = time.perf_counter() - start
            item.frames.put(None)
        except Exception as error:
            item.frames.put(error)
        if self.work.one_at_a_time:
            item.placed.wait()

    def _write(self, item: GeneratedItem) -> None:
        try:
            self._writer.write(item)
        finally:
            self._behind.release()


def _smaller(job: Job, photo: OpenedPhoto) -> tuple[Job, OpenedPhoto]:
    chunk = max(1, job.settings.decode_chunk // 4)
    return replace(job, settings=replace(job.settings, decode_chunk=chunk)), photo
