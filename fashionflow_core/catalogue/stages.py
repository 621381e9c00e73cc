"""Stages inside a worker: open photos ahead, compute, write behind."""

import importlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionflow_core.catalogue import storage
from fashionflow_core.catalogue.gpu_memory import batch_that_fits, free_memory, release_memory, used_memory
from fashionflow_core.catalogue.jobs import DONE, FAILED, FINGERPRINT, Job, RunSpec, failure, fingerprint
from fashionflow_core.catalogue.naming import POSTER
from fashionflow_core.catalogue.outputs import (
    Attempt,
    DiskFull,
    FrameQueue,
    earlier_takes,
    is_full,
    metadata,
    of_takes,
    outputs,
    write_poster,
)
from fashionflow_core.catalogue.photo_process import OpenedPhoto, Photos
from fashionflow_core.catalogue.quality_gate import QualityLimits, badness, flags, reroll_seed
from fashionflow_core.errors import FashionFlowError, OutOfMemory
from fashionflow_core.generators.folder import config_of
from fashionflow_core.images.fitting import fit
from fashionflow_core.utils.hashing import sha256
from fashionflow_core.utils.priority import give_way
from fashionflow_core.utils.text import log_traceback
from fashionflow_core.video import finishing
from fashionflow_core.video.finishing import Finisher, Footage, is_loop

if TYPE_CHECKING:
    from fashionflow_core.pipeline import Clip, FashionFlowPipeline
    from fashionflow_core.video import VideoInfo

_DENOISING = 0.5  # of the progress of a video; networks of a motion model take less of its time, others more
Report = Callable[[Job, dict[str, Any]], None]


class Stopped(Exception):
    """The run asked for an end, between two denoising steps."""


class DeviceLost(Exception):
    """After an error of CUDA's nothing works in this process any more; another one may go on."""


@dataclass
class Started:
    """A job whose photo is being opened."""

    job: Job
    photo: "Future[OpenedPhoto]"


class Maker:
    """Makes videos of jobs, one batch after the other, once it is open; `start` may be called before.

    Args:
        work: of the run.
        report: called, from any thread, once with each job that is finished, and its record.
        again: called, from any thread, with a job that is to be made once more.
        full: called, from any thread, if the disk is full.
        log: where the helper process writes.

    Raises:
        FashionFlowError: the folder of the run is not a model.
    """

    pipe: "FashionFlowPipeline"

    def __init__(
        self,
        work: RunSpec,
        report: Report,
        again: Callable[["Started"], None],
        full: Callable[[DiskFull], None],
        log: Path | None = None,
    ) -> None:
        self.work, self.report, self.again, self.full = work, report, again, full
        self._takes: dict[int, list[Attempt]] = {}
        self.stop = threading.Event()
        self.out, self.scratch, self.outputs = Path(work.out), Path(work.scratch), outputs(work)
        # Before there are threads: two that import PyAV at once each get half of it.
        importlib.import_module("av.video.reformatter")
        self.photos = Photos(work, config_of(work.model), log)
        self._opening = ThreadPoolExecutor(1, "photos")
        self._writing = ThreadPoolExecutor(1, "videos", initializer=give_way)
        # The clip that is written and one more: a device that is faster than the encoder waits here.
        self._behind = threading.Semaphore(2)
        self.limit, self._room = work.batch or 1, None
        self.grown: Callable[[int], None] = lambda limit: None
        # Numbers of jobs, stage, share of the whole that is done.
        self.progressed: Callable[[list[int], str, float], None] = lambda numbers, stage, share: None

    def open(self) -> float:
        """Open the model; returns the seconds it took.

        Raises:
            FashionFlowError: the model cannot be opened, or cannot do what the run asks of it.
        """
        start = time.perf_counter()
        module, function = self.work.opener.split(":")
        opener = getattr(importlib.import_module(module), function)
        work = self.work
        self.pipe = opener(Path(work.model), work.load)
        self.pipe.resolve(work.settings)  # what the networks cannot do should end the run, not each of its items
        self.device = str(self.pipe.networks.device)
        self._variations = None
        if self.pipe.config.latents == "motion":
            from fashionflow_core.motion.distance import Variations

            self._variations = Variations()
        if self.pipe.config.latents == "frames":
            self.limit = 1  # generators make one clip after the other: each is written before the next one
        else:
            self._room = free_memory(self.pipe.networks.device) if not work.batch else None
        return time.perf_counter() - start

    def start(self, job: Job) -> Started:
        """Begin to open a job's photo."""
        return Started(job, self._opening.submit(self.photos.open, job))

    def make(self, started: list[Started]) -> None:
        """Generate the videos of a batch; each is reported, here or when it is written.

        Raises:
            Stopped: `stop` was set before the clips were denoised; none of the jobs that are still open is reported.
        """
        ready: list[tuple[Job, OpenedPhoto]] = []
        for one in started:
            photo = one.photo.result()
            if photo.error is not None:
                self._failed(one.job, photo, "photo", photo.error)
                continue
            try:
                if not self._adopted(one.job, photo):
                    ready.append((one.job, photo))
            except Exception as error:  # what is far away may be out of reach
                self._failed(one.job, photo, "write", error)
        while ready:
            batch, ready = ready[: self.limit], ready[self.limit :]
            self._generate(batch)

    def finish(self) -> None:
        """Wait until everything that was generated is written."""
        self._opening.shutdown(cancel_futures=True)
        self._writing.shutdown()
        self.photos.close()

    def _generate(self, batch: list[tuple[Job, OpenedPhoto]], again: bool = False) -> None:
        """Denoise and decode together; what fails together is tried in halves, one that lacks memory once more."""
        start = time.perf_counter()
        numbers = [job.number for job, _ in batch]

        def on_step(done: int, steps: int) -> None:
            if self.stop.is_set():
                raise Stopped
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
        except Exception as error:
            if "CUDA error" in str(error):
                raise DeviceLost(str(error)) from error
            if len(batch) > 1:
                size = len(batch) // 2
                if isinstance(error, OutOfMemory):
                    self.limit = min(self.limit, size)
                    release_memory()
                while batch:
                    size = min(size, self.limit)  # which the first half may find too large again
                    self._generate(batch[:size])
                    batch = batch[size:]
            elif isinstance(error, OutOfMemory) and not again:
                release_memory()
                self._generate([_smaller(*batch[0])], again=True)
            else:
                self._failed(*batch[0], "denoise", error)
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
            self._decode(job, photo, clip, (denoised - start) / len(batch), distance)

    def _decode(self, job: Job, photo: OpenedPhoto, clip: "Clip", denoise: float, distance: float | None) -> None:
        """Decode on this thread, which has the device, into a queue that the writing thread reads."""
        frames: queue.SimpleQueue[Any] = queue.SimpleQueue()
        seconds = {"photo": photo.seconds, "denoise": denoise}
        self._behind.acquire()
        self._writing.submit(self._write, job, photo, clip, frames, seconds, distance)
        start = time.perf_counter()
        try:
            for number, frame in enumerate(clip.frames, 1):
                frames.put(frame)
                if number % 4 == 0:
                    share = _DENOISING + (1 - _DENOISING) * number / max(1, clip.count)
                    self.progressed([job.number], "decode", min(1.0, share))
            seconds["decode"] = time.perf_counter() - start
            frames.put(None)
        except Exception as error:
            frames.put(error)

    def _write(
        self,
        job: Job,
        photo: OpenedPhoto,
        clip: "Clip",
        frames: "queue.SimpleQueue[Any]",
        seconds: dict[str, float],
        distance: float | None,
    ) -> None:
        drained = FrameQueue(frames)
        try:
            record = self._put_in_place(job, photo, clip, drained, seconds, distance)
        except Exception as error:
            drained.drain()
            if drained.error is not None:
                self._failed(job, photo, "decode", drained.error)
            else:
                self._failed(job, photo, "write", error)
        else:
            if record is not None:
                self.report(job, record)
        finally:
            self._behind.release()

    def _put_in_place(
        self,
        job: Job,
        photo: OpenedPhoto,
        clip: "Clip",
        frames: FrameQueue,
        seconds: dict[str, float],
        distance: float | None,
    ) -> dict[str, Any] | None:
        """Write video and poster into the scratch folder, then move both to where they belong.

        Returns:
            The record; None if the video is to be made again first.
        """
        start = time.perf_counter()
        mark = {FINGERPRINT: fingerprint(photo.sha256, job.settings_hash, job.revision)}
        attempt = self.scratch / f"{job.number}-{job.attempt}-{job.reroll}"
        temporary, *more = (Path(name) for name in self.work.files(str(attempt)))
        poster = temporary.with_suffix(".jpg")
        take = Attempt(temporary, poster, seed=job.settings.seed, more=tuple(more))
        try:
            finishers = self._finishers(job, photo, clip)
            infos = self._write_files(finishers, [temporary, *more], frames, clip.metadata | mark, job.source)
            info = infos[0]
            if frames.poster is not None:
                write_poster(poster, finishers[0].still(frames.poster), self.work.encode.mark)
            seconds["encode"] = time.perf_counter() - start
            if self.work.scores and photo.fitted is not None:
                start = time.perf_counter()
                take.scores = self._scores(temporary, photo, finishers[0])
                seconds["score"] = time.perf_counter() - start
            takes = [*(self._takes.pop(job.number, None) or earlier_takes(job)), take]
            if self.work.gate is not None:
                for one in takes:  # those of an earlier run perhaps by other limits
                    one.flags = flags(one.scores, self.work.gate)
                if take.flags and job.reroll < self.work.reroll:
                    self._takes[job.number] = takes
                    self._reroll(job, photo)
                    return None
            there = [one for one in takes if one.video is not None or one.is_in_place]
            best = min(there, key=lambda one: badness(one.scores, self.work.gate or QualityLimits()))
            size, digest = self._keep(job, best)
            for other in takes:
                other.discard()
        except BaseException:
            for other in [*self._takes.pop(job.number, []), take]:
                other.discard()
            raise
        return job.record(
            DONE,
            **self._of_photo(photo, clip),
            **self._of_video(job, info, size, digest),
            **of_takes(best, takes, self.work),
            **({} if clip.lock is None else {"lock": clip.lock.summary()}),
            **({} if distance is None else {"motion_distance": round(distance, 4)}),
            **({} if info.frames == clip.count else {"generated_frames": clip.count}),
            poster=job.name + POSTER,
            encoder=info.encoder,
            scheduler=clip.metadata["fashionflow_scheduler"],
            steps=int(clip.metadata["fashionflow_steps"]),
            seconds={stage: round(value, 4) for stage, value in seconds.items()},
        )

    def _finishers(self, job: Job, photo: OpenedPhoto, clip: "Clip | None" = None) -> list[Finisher]:
        """Of an item's files; a clip may have other frames than were asked for, as those of remote models."""
        request = job.settings.resolve(self.pipe.config)
        assert photo.fitted is not None
        box = clip or photo.fitted.box
        count = clip.count if clip else request.video_frames
        footage = Footage(count, request.fps, box.height, box.width, is_loop(request))
        return replace(self.work.finish, caption=job.label).finishers(footage)

    def _write_files(
        self, finishers: list[Finisher], paths: list[Path], frames: FrameQueue, metadata: dict[str, str], photo: str
    ) -> "list[VideoInfo]":
        """Write a clip's files; frames that are needed more than once wait on the disk."""
        encode = self.work.encode
        photo = "" if storage.is_url(photo) else photo  # a signature names those that are of this machine
        if len(paths) == 1 and finishers[0].is_streamed(self.work.suffix):
            return [finishing.write(finishers[0], lambda: frames, paths[0], metadata, encode, None, photo)]
        with finishing.FrameStore(paths[0]) as store:
            for frame in frames:
                store.add(frame)
            return [
                finishing.write(finisher, partial(store.read, finisher.order), path, metadata, encode, None, photo)
                for finisher, path in zip(finishers, paths, strict=True)
            ]

    def _scores(self, path: Path, photo: OpenedPhoto, finisher: Finisher) -> dict[str, float]:
        """Of a video, compared with its photo finished as its frames are."""
        assert photo.fitted is not None
        pixels, footage = photo.fitted.box.cut(photo.fitted.pixels), finisher.footage
        if pixels.shape[:2] != (footage.height, footage.width):  # a remote model chose another size
            pixels = fit(pixels, footage.height, footage.width, "stretch").pixels
        return self.photos.scores(path, finisher.still(pixels), len(finisher.order))

    def _keep(self, job: Job, best: Attempt) -> tuple[int, str]:
        """Move an item's files to where they belong, unless there; returns the video's bytes and hash."""
        names = self.work.files(job.name)
        if best.video is None or best.poster is None:
            with self.outputs.existing(names[0]) as path:
                return (path.stat().st_size, sha256(path)) if path is not None else (0, "")
        size, digest = best.video.stat().st_size, sha256(best.video)
        # The video last: where it is, the item is finished.
        places = ((best.poster, job.name + POSTER), *zip(best.more, names[1:]), (best.video, names[0]))
        for _, name in places:
            self.outputs.check(job, name)
        for file, name in places:
            self.outputs.put(file, name)
        return size, digest

    def _of_video(self, job: Job, info: "VideoInfo", size: int, digest: str) -> dict[str, Any]:
        first, *more = self.work.files(job.name)
        return {
            "output": first,
            **({"more_outputs": more} if more else {}),
            "output_bytes": size,
            "output_hash": digest,
            "model": self.pipe.config.name,
            "device": self.device,
            "frames": info.frames,
            "fps": info.fps,
            "height": info.height,
            "width": info.width,
            "codec": info.codec,
        }

    def _reroll(self, job: Job, photo: OpenedPhoto) -> None:
        first = self._takes[job.number][0].seed
        settings = replace(job.settings, seed=reroll_seed(first, job.reroll + 1))
        again: Future[OpenedPhoto] = Future()
        again.set_result(photo)
        self.again(Started(replace(job, settings=settings, reroll=job.reroll + 1), again))

    def _adopted(self, job: Job, photo: OpenedPhoto) -> bool:
        """Whether the very video is in place already: a kill came between its last move and its line."""
        name, *more = self.work.files(job.name)
        if job.redo or job.reroll or not all(map(self.outputs.has, more)):
            return False
        with self.outputs.existing(name) as path:
            if path is None:
                return False
            found = metadata(path)
            if found.get(FINGERPRINT) != fingerprint(photo.sha256, job.settings_hash, job.revision):
                return False
            from fashionflow_core import video

            try:
                info = video.probe(path)
            except FashionFlowError:
                return False
            take = Attempt(path, path, seed=int(found.get("fashionflow_seed", job.settings.seed)))
            if self.work.scores and photo.fitted is not None:
                take.scores = self._scores(path, photo, self._finishers(job, photo)[0])
                take.flags = flags(take.scores, self.work.gate) if self.work.gate else []
            if take.flags and self.work.reroll:
                self._takes[job.number] = [replace(take, video=None, poster=None, is_in_place=True)]
                self._reroll(job, photo)
                return True
            record = job.record(
                DONE,
                **self._of_photo(photo),
                **self._of_video(job, info, path.stat().st_size, sha256(path)),
                **({"poster": job.name + POSTER} if self.outputs.has(job.name + POSTER) else {}),
                **of_takes(take, [take], self.work),
                seconds={},
                **{"judged" if job.judge else "recovered": True},
            )
        self.report(job, record)
        return True

    def _failed(self, job: Job, photo: OpenedPhoto, stage: str, error: BaseException) -> None:
        if stage in ("photo", "write") and is_full(error, self.scratch):
            self.full(DiskFull(f"{self.out}: the disk is full", hint="free some space, then run the same again"))
            return
        if not isinstance(error, FashionFlowError):
            log_traceback(error)
        self.report(job, job.record(FAILED, **self._of_photo(photo), **failure(stage, error)))

    def _of_photo(self, photo: OpenedPhoto, clip: "Clip | None" = None) -> dict[str, Any]:
        lines = [*photo.warnings, *(clip.warnings if clip else ())]
        found: dict[str, Any] = {"warnings": lines} if lines else {}
        return found | {
            "input_hash": photo.sha256,
            "input_bytes": photo.bytes,
            "input_mtime_ns": photo.mtime_ns,
        }


def _smaller(job: Job, photo: OpenedPhoto) -> tuple[Job, OpenedPhoto]:
    chunk = max(1, job.settings.decode_chunk // 4)
    return replace(job, settings=replace(job.settings, decode_chunk=chunk)), photo
