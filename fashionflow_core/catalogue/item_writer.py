"""Item writer: encodes a clip, scores it, retries it if flagged, puts the best attempt in place, and records it."""

import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from fashionflow_core.catalogue import storage
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
from fashionflow_core.catalogue.photo_process import OpenedPhoto, Photos, Started
from fashionflow_core.catalogue.quality_gate import QualityLimits, badness, flags, reroll_seed
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.images.fitting import fit
from fashionflow_core.utils.hashing import sha256
from fashionflow_core.utils.text import log_traceback
from fashionflow_core.video import finishing
from fashionflow_core.video import poster as posters
from fashionflow_core.video.canvas import photo_box
from fashionflow_core.video.finishing import Finisher, Footage, is_loop

if TYPE_CHECKING:
    from fashionflow_core.pipeline import Clip, FashionFlowPipeline
    from fashionflow_core.video import VideoInfo

Report = Callable[[Job, dict[str, Any]], None]


@dataclass
class GeneratedItem:
    """A generated clip whose frames are being decoded.

    Attributes:
        job, photo, clip: what was generated.
        seconds: of each stage so far.
        distance: of its motion to those of earlier variations; None: not measured.
        frames: decoded frames, up to None or an exception.
        placed: set when its files are in place, or were given up.
    """

    job: Job
    photo: OpenedPhoto
    clip: "Clip"
    seconds: dict[str, float]
    distance: float | None = None
    frames: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)
    placed: threading.Event = field(default_factory=threading.Event)


class ItemWriter:
    """Writes the files and records of items.

    Args:
        work: of the run.
        pipe: opened model.
        photos: process that scores videos.
        report: called with each finished job and its record.
        again: called with a job to make once more, with another seed.
        full: called if the disk is full.
    """

    def __init__(
        self,
        work: RunSpec,
        pipe: "FashionFlowPipeline",
        photos: Photos,
        report: Report,
        again: Callable[[Started], None],
        full: Callable[[DiskFull], None],
    ) -> None:
        self.work, self.pipe, self.photos = work, pipe, photos
        self.report, self.again, self.full = report, again, full
        self.out, self.scratch, self.outputs = Path(work.out), Path(work.scratch), outputs(work)
        self._takes: dict[int, list[Attempt]] = {}

    def write(self, item: GeneratedItem) -> None:
        """Write the files of an item while its frames are decoded, and report its record or failure."""
        frames = FrameQueue(item.frames)
        try:
            record = self._put_in_place(item, frames)
        except Exception as error:
            frames.drain()
            stage = "write" if frames.error is None else "decode"
            self.fail(item.job, item.photo, stage, frames.error or error)
        else:
            if record is not None:
                self.report(item.job, record)
        finally:
            item.placed.set()

    def _put_in_place(self, item: GeneratedItem, frames: FrameQueue) -> dict[str, Any] | None:
        """Write the files of a video into the scratch folder, then move them into place.

        Returns:
            The record; None if the video is retried first.
        """
        job, photo, clip, seconds = item.job, item.photo, item.clip, item.seconds
        start = time.perf_counter()
        mark = {FINGERPRINT: fingerprint(photo.sha256, job.settings_hash, job.revision)}
        attempt = self.scratch / f"{job.number}-{job.attempt}-{job.reroll}"
        temporary, *more = (Path(name) for name in self.work.files(str(attempt)))
        poster = temporary.with_suffix(".jpg")
        take = Attempt(temporary, poster, seed=job.settings.seed, more=tuple(more))
        try:
            finishers = self.finishers(job, photo, clip)
            with self._sources(job, photo) as sources:
                with finishing.replayed(frames, finishers, [temporary, *more]) as generated:
                    info, *_ = [
                        finishing.write(
                            finisher, generated(finisher), path, clip.metadata | mark, self.work.encode, None, sources
                        )
                        for finisher, path in zip(finishers, [temporary, *more], strict=True)
                    ]
                if frames.poster is not None:
                    picture = finishers[0].still(frames.poster)
                    posters.write(poster, picture, self.work.encode, clip.metadata, sources, POSTER_COMMENT)
            seconds["encode"] = time.perf_counter() - start
            kept = None
            if self.work.one_at_a_time:
                kept = self._keep(job, take)
                item.placed.set()
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
            **({} if item.distance is None else {"motion_distance": round(item.distance, 4)}),
            **({} if info.frames == clip.count else {"generated_frames": clip.count}),
            **_photo_box(photo, finishers[0]),
            poster=job.name + POSTER,
            encoder=info.encoder,
            scheduler=clip.metadata["fashionflow_scheduler"],
            steps=int(clip.metadata["fashionflow_steps"]),
            seconds={stage: round(value, 4) for stage, value in seconds.items()},
        )

    def finishers(self, job: Job, photo: OpenedPhoto, clip: "Clip | None" = None) -> list[Finisher]:
        """Finishers of an item's files; a clip may have other frames than requested, as those of remote models."""
        request = job.settings.resolve(self.pipe.config)
        assert photo.fitted is not None
        box = clip or photo.fitted.box
        count = clip.count if clip else request.video_frames
        footage = Footage(count, request.fps, box.height, box.width, is_loop(request))
        return replace(self.work.finish, caption=job.label).finishers(footage)

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
            "device": str(self.pipe.networks.device),
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

    def adopted(self, job: Job, photo: OpenedPhoto) -> bool:
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
                take.scores = self._scores(path, photo, self.finishers(job, photo)[0])
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
                **_photo_box(photo, self.finishers(job, photo)[0]),
                seconds={},
                **{"judged" if job.judge else "recovered": True},
            )
        self.report(job, record)
        return True

    def fail(self, job: Job, photo: OpenedPhoto, stage: str, error: BaseException) -> None:
        """Report a failed item; a full disk ends the run instead.

        Args:
            stage: photo, denoise, decode or write.
        """
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
