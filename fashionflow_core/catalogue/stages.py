"""Stages inside a worker: open photos ahead, compute, write behind."""

import importlib
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from fashionflow_core.catalogue import storage
from fashionflow_core.catalogue.gpu_memory import batch_that_fits, free_memory, release_memory, used_memory
from fashionflow_core.catalogue.jobs import DONE, FAILED, FINGERPRINT, Job, RunSpec, failure, fingerprint
from fashionflow_core.catalogue.naming import POSTER
from fashionflow_core.catalogue.outputs import (
    POSTER_COMMENT,
    Attempt,
    DiskFull,
    FrameQueue,
    earlier_takes,
    is_full,
    metadata,
    of_takes,
    outputs,
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
from fashionflow_core.video import poster as posters
from fashionflow_core.video.canvas import photo_box
from fashionflow_core.video.finishing import Finisher, Footage, is_loop

if TYPE_CHECKING:
    from fashionflow_core.pipeline import Clip, FashionFlowPipeline
    from fashionflow_core.video import VideoInfo

_CANCELLED = "cancelled"
_DENOISING = 0.5  # share of denoising in the progress of a video; less for motion models, more for others
Report = Callable[[Job, dict[str, Any]], None]


class Stopped(Exception):
    """The run was stopped between two denoising steps."""


class Cancelled(FashionFlowError):
    """Nobody wants this video any more."""


class DeviceLost(Exception):
    """A CUDA error made this process unusable; another one can continue."""


@dataclass
class Started:
    """A job whose photo is being opened."""

    job: Job
    photo: "Future[OpenedPhoto]"


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
        again: Callable[["Started"], None],
        full: Callable[[DiskFull], None],
        log: Path | None = None,
    ) -> None:
        self.work, self.report, self.again, self.full = work, report, again, full
        self._takes: dict[int, list[Attempt]] = {}
        self.stop = threading.Event()
        self.cancelled: set[int] = set()  # numbers of jobs to be dropped; may be added to from any thread
        self.out, self.scratch, self.outputs = Path(work.out), Path(work.scratch), outputs(work)
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
                self._failed(one.job, photo, "photo", Cancelled(_CANCELLED))
                continue
            if photo.error is not None:
                self._failed(one.job, photo, "photo", photo.error)
                continue
            try:
                if self._adopted(one.job, photo):
                    continue
            except Exception as error:  # remote storage may be unreachable
                self._failed(one.job, photo, "write", error)
                continue
            try:
                for finisher in self._finishers(one.job, photo):
                    finisher.check()
            except FashionFlowError as error:  # such as a caption that is too long
                self._failed(one.job, photo, "photo", error)
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
                self._failed(job, photo, "denoise", error)
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
        """Decode on this thread, which uses the device, into a queue for the writing thread."""
        frames: queue.SimpleQueue[Any] = queue.SimpleQueue()
        seconds = {"photo": photo.seconds, "denoise": denoise}
        placed = threading.Event()
        self._behind.acquire()
        self._writing.submit(self._write, job, photo, clip, frames, seconds, distance, placed)
        start = time.perf_counter()
        try:
            for number, frame in enumerate(clip.frames, 1):
                if job.number in self.cancelled:
                    raise Cancelled(_CANCELLED)
                frames.put(frame)
                if number % 4 == 0:
                    share = _DENOISING + (1 - _DENOISING) * number / max(1, clip.count)
                    self.progressed([job.number], "decode", min(1.0, share))
            seconds["decode"] = time.perf_counter() - start
            frames.put(None)
        except Exception as error:
            frames.put(error)
        if self.work.one_at_a_time:
            placed.wait()

    def _write(
        self,
        job: Job,
        photo: OpenedPhoto,
        clip: "Clip",
        frames: "queue.SimpleQueue[Any]",
        seconds: dict[str, float],
        distance: float | None,
        placed: threading.Event,
    ) -> None:
        drained = FrameQueue(frames)
        try:
            record = self._put_in_place(job, photo, clip, drained, seconds, distance, placed)
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
            placed.set()
            self._behind.release()

    def _put_in_place(
        self,
        job: Job,
        photo: OpenedPhoto,
        clip: "Clip",
        frames: FrameQueue,
        seconds: dict[str, float],
        distance: float | None,
        placed: threading.Event,
    ) -> dict[str, Any] | None:
        """Write the files of a video into the scratch folder, then move them into place; `placed` is set then.

        Returns:
            The record; None if the video is retried first.
        """
        start = time.perf_counter()
        mark = {FINGERPRINT: fingerprint(photo.sha256, job.settings_hash, job.revision)}
        attempt = self.scratch / f"{job.number}-{job.attempt}-{job.reroll}"
        temporary, *more = (Path(name) for name in self.work.files(str(attempt)))
        poster = temporary.with_suffix(".jpg")
        take = Attempt(temporary, poster, seed=job.settings.seed, more=tuple(more))
        try:
            finishers = self._finishers(job, photo, clip)
            with self._sources(job, photo) as sources:
                infos = self._write_files(finishers, [temporary, *more], frames, clip.metadata | mark, sources)
                info = infos[0]
                if frames.poster is not None:
                    picture = finishers[0].still(frames.poster)
                    posters.write(poster, picture, self.work.encode, clip.metadata, sources, POSTER_COMMENT)
            seconds["encode"] = time.perf_counter() - start
            kept = None
            if self.work.one_at_a_time:
                kept = self._keep(job, take)
                placed.set()
            if self.work.scores and photo.fitted is not None:
                start = time.perf_counter()
                place = temporary if kept is None else self.out / self.work.files(job.name)[0]
                take.scores = self._scores(place, photo, finishers[0])
                seconds["score"] = time.perf_counter() - start
            takes = [*(self._takes.pop(job.number, None) or earlier_takes(job)), take]
            if self.work.gate is not None:
                for one in takes:  # limits may differ from those of the earlier run
                    one.flags = flags(one.scores, self.work.gate)
                if take.flags and job.reroll < self.work.reroll:
                    self._takes[job.number] = takes
                    self._reroll(job, photo)
                    return None
            there = [one for one in takes if one.video is not None or one.is_in_place]
            best = min(there, key=lambda one: badness(one.scores, self.work.gate or QualityLimits()))
            size, digest = kept or self._keep(job, best)
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
            **_photo_box(photo, finishers[0]),
            poster=job.name + POSTER,
            encoder=info.encoder,
            scheduler=clip.metadata["fashionflow_scheduler"],
            steps=int(clip.metadata["fashionflow_steps"]),
            seconds={stage: round(value, 4) for stage, value in seconds.items()},
        )

    def _finishers(self, job: Job, photo: OpenedPhoto, clip: "Clip | None" = None) -> list[Finisher]:
        """Finishers of an item's files; a clip may have other frames than requested, as those of remote models."""
        request = job.settings.resolve(self.pipe.config)
        assert photo.fitted is not None
        box = clip or photo.fitted.box
        count = clip.count if clip else request.video_frames
        footage = Footage(count, request.fps, box.height, box.width, is_loop(request))
        return replace(self.work.finish, caption=job.label).finishers(footage)

    def _write_files(
        self,
        finishers: list[Finisher],
        paths: list[Path],
        frames: FrameQueue,
        metadata: dict[str, str],
        sources: Sequence[str],
    ) -> "list[VideoInfo]":
        """Write the files of a clip."""
        with finishing.replayed(frames, finishers, paths) as generated:
            return [
                finishing.write(finisher, generated(finisher), path, metadata, self.work.encode, None, sources)
                for finisher, path in zip(finishers, paths, strict=True)
            ]

    @contextmanager
    def _sources(self, job: Job, photo: OpenedPhoto) -> Iterator[tuple[str, ...]]:
        """Files that a signature names: the photo, which is fetched again where it is elsewhere.

        Raises:
            FashionFlowError: it cannot be fetched, or was replaced since the video was generated.
        """
        if self.work.encode.sign is None or not storage.is_url(job.source):
            yield (job.source,)
            return
        folder = self.scratch / f"source-{job.number}-{job.attempt}-{job.reroll}"
        folder.mkdir()
        try:
            local = storage.fetch(job.source, folder / PurePosixPath(job.source).name)
            if sha256(local) != photo.sha256:
                raise FashionFlowError(f"{job.source}: changed during the run", hint="run the same command again")
            yield (str(local),)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _scores(self, path: Path, photo: OpenedPhoto, finisher: Finisher) -> dict[str, float]:
        """Scores of a video against its photo, finished as the frames are."""
        assert photo.fitted is not None
        pixels, footage = photo.fitted.box.cut(photo.fitted.pixels), finisher.footage
        if pixels.shape[:2] != (footage.height, footage.width):  # a remote model chose another size
            pixels = fit(pixels, footage.height, footage.width, "stretch").pixels
        return self.photos.scores(path, finisher.still(pixels), len(finisher.order))

    def _keep(self, job: Job, best: Attempt) -> tuple[int, str]:
        """Move the files of an item into place; returns size and hash of the video."""
        names = self.work.files(job.name)
        if best.video is None or best.poster is None:
            with self.outputs.existing(names[0]) as path:
                return (path.stat().st_size, sha256(path)) if path is not None else (0, "")
        size, digest = best.video.stat().st_size, sha256(best.video)
        # The video last: its presence means that the item is finished.
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
        """Whether the same video is already in place: the run was killed before its line was written."""
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
                **_photo_box(photo, self._finishers(job, photo)[0]),
                seconds={},
                **{"judged" if job.judge else "recovered": True},
            )
        self.report(job, record)
        return True

    def _failed(self, job: Job, photo: OpenedPhoto, stage: str, error: BaseException) -> None:
        if stage in ("photo", "write") and is_full(error, self.scratch):
            self.full(
                DiskFull(f"{self.out}: the disk is full", hint="free some space, then run the same command again")
            )
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


def _photo_box(photo: OpenedPhoto, finisher: Finisher) -> dict[str, Any]:
    """Where the photo lies in a video, for the manifest; nothing if it fills it."""
    if photo.fitted is None:
        return {}
    found = photo_box(finisher.size, photo.fitted.source, photo.shape)
    fills = all(abs(share - whole) < 0.005 for share, whole in zip(found, (0, 0, 1, 1)))
    return {} if fills else {"photo_box": [round(share, 5) for share in found]}


def _smaller(job: Job, photo: OpenedPhoto) -> tuple[Job, OpenedPhoto]:
    chunk = max(1, job.settings.decode_chunk // 4)
    return replace(job, settings=replace(job.settings, decode_chunk=chunk)), photo
