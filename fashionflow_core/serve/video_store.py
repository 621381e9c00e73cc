"""Queue and results of a server on disk: requests, videos and reviews in one folder, consistent after a kill."""

import hashlib
import json
import math
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fashionflow_core.catalogue.jobs import DONE, RETRIED
from fashionflow_core.catalogue.manifest import MANIFEST, Manifest
from fashionflow_core.catalogue.manifest import read as read_manifest
from fashionflow_core.catalogue.naming import POSTER, inside
from fashionflow_core.catalogue.reviews import UNDECIDED, Review, read_reviews, write_review
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.images.formats import sniff
from fashionflow_core.serve.request_log import REQUESTS, RequestLog, read_requests
from fashionflow_core.serve.settings import ServerLimits
from fashionflow_core.serve.video_request import VideoRequest
from fashionflow_core.utils.files import atomic_path, write_text

PHOTOS = "photos"
QUEUED, IN_PROGRESS, COMPLETED, BROKEN = "queued", "in_progress", "completed", "failed"
_KEPT = (
    "model",
    "output",
    "poster",
    "seed",
    "frames",
    "fps",
    "height",
    "width",
    "seconds",
    "scores",
    "flags",
    "warnings",
    "photo_box",
)
_KEPT_OF_FAILED = ("stage", "error_class", "message", "hint")
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "AVIF": ".avif", "GIF": ".gif", "TIFF": ".tif"}
_MEDIA = {
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".gif": "image/gif",
    ".tif": "image/tiff",
    ".heic": "image/heic",
}
_DEAD = 1000  # removed videos that are left in the files before these are rewritten


class QueueFull(FashionFlowError):
    """The queue is full.

    Args:
        seconds: after which there may be room.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__("the queue is full", hint=f"try again after {seconds} s")
        self.seconds = seconds


class KeyReused(FashionFlowError):
    """An Idempotency-Key that was used with another request."""

    def __init__(self) -> None:
        super().__init__("Idempotency-Key: was used for another request", hint="send a new key with each new request")


@dataclass(frozen=True)
class ServedVideo:
    """Immutable state of a video; each change replaces it.

    Attributes:
        request: that it was made for.
        status: queued, in_progress, completed or failed.
        progress: 0 to 100.
        stage: current stage: opening, denoise, decode.
        started, ended: seconds since 1970; 0: not yet.
        record: fields of its manifest line that are displayed.
        review: the last decision about it.
        version: increases with each change, also across restarts: of two states the larger one is newer.
    """

    request: VideoRequest
    status: str = QUEUED
    progress: int = 0
    stage: str = ""
    started: float = 0.0
    ended: float = 0.0
    record: Mapping[str, Any] = field(default_factory=dict)
    review: Review | None = None
    version: int = 0

    @property
    def id(self) -> str:
        """Its name in URLs, files and manifest."""
        return self.request.id

    @property
    def verdict(self) -> str:
        """Approved, rejected or empty."""
        return self.review.of(int(self.record.get("seed", -1))) if self.review else UNDECIDED


Listener = Callable[[ServedVideo | None, str], None]


class VideoStore:
    """All videos of a folder. Methods return once changes are on the disk, and may be called from any thread.

    Args:
        folder: of the videos; the caller holds its lock.
        limits: length of the queue, age of videos.
        suffix: of the videos.
        clock: seconds since 1970.

    Raises:
        FashionFlowError: a file of the folder cannot be read or written.
    """

    def __init__(
        self, folder: Path, limits: ServerLimits, suffix: str = ".mp4", clock: Callable[[], float] = time.time
    ) -> None:
        self.folder, self.limits, self.suffix, self.clock = folder, limits, suffix, clock
        self._lock = threading.RLock()
        self._writing = threading.Lock()
        self.videos: OrderedDict[str, ServedVideo] = OrderedDict()  # oldest first
        self.waiting: deque[str] = deque()
        self._reserved = self._dead = 0
        self._version = int(clock() * 1000)
        self._by_key: dict[str, str] = {}
        self._listeners: set[Listener] = set()
        self._sources: dict[str, str] = {}  # photos of videos that `generate` made
        self.seconds_each = 10.0  # moving mean of seconds per video, for Retry-After
        self._open()

    def _open(self) -> None:
        photos = self.folder / PHOTOS
        photos.mkdir(parents=True, exist_ok=True)
        requests, removed = read_requests(self.folder / REQUESTS)
        records, sources = self._results()
        reviews = read_reviews(self.folder)
        for item, record in records.items():
            if item not in requests and item not in removed and record["status"] == DONE:
                request = _of_catalogue(record)
                requests[request.id] = request
                self._sources[request.id] = sources[item]
        for name, request in sorted(requests.items(), key=lambda item: item[1].created):
            record = records.get(request.item or name)
            self.videos[name] = _restored(request, record, reviews.get(request.item or name))
            if record is None:
                self.waiting.append(name)
            if request.idempotency:
                self._by_key[request.idempotency] = name
        for name in removed:
            self._unlink(name, "")
        used = {video.request.photo for video in self.videos.values()}
        for path in photos.iterdir():
            if path.name not in used:  # its request was removed, or never accepted
                path.unlink(missing_ok=True)
        self._rewrite(removed)
        self._open_files()

    def _results(self) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Last manifest line of each item, and sources of all items."""
        records: dict[str, dict[str, Any]] = {}
        sources: dict[str, str] = {}
        for record in read_manifest(self.folder / MANIFEST):
            if record["status"] != RETRIED:
                name = str(record["item"])
                records[name] = _shown(record) | {key: record.get(key, "") for key in ("item", "status", "caption")}
                sources[name] = str(record.get("source", ""))
        return records, sources

    def _open_files(self) -> None:
        self._manifest = Manifest(self.folder)
        self._manifest.states.clear()  # unused here, and they grow
        self._requests = RequestLog(self.folder / REQUESTS)

    def close(self) -> None:
        """Close the files."""
        self._manifest.close()
        self._requests.close()

    # what clients do

    def accept(self, requests: Sequence[VideoRequest], photo: bytes | None) -> list[ServedVideo]:
        """Queue videos of one photo, all or none.

        Args:
            requests: their `photo` is set here, unless `photo` is None: it is stored already.
            photo: a photo file.

        Returns:
            The videos, or those of an earlier request with the same Idempotency-Key.

        Raises:
            QueueFull: there is no room for all.
            KeyReused: the Idempotency-Key was used with another request.
            OSError: the disk is full.
        """
        with self._lock:
            before = self._by_key.get(requests[0].idempotency) if requests[0].idempotency else None
            if before is not None and (first := self.videos.get(before)) is not None:
                if first.request.digest != requests[0].digest:
                    raise KeyReused
                return [one for one in self.videos.values() if one.request.group == first.request.group]
            if before is not None:  # the first request with this key is being written right now
                raise QueueFull(1)
            if len(self.waiting) + self._reserved + len(requests) > self.limits.queue:
                raise QueueFull(self.retry_after())
            self._reserved += len(requests)
            if requests[0].idempotency:
                self._by_key[requests[0].idempotency] = requests[0].id
        try:
            name = requests[0].photo if photo is None else self._keep_photo(photo)
            accepted = [ServedVideo(replace(request, photo=name)) for request in requests]
            with self._writing:  # no rewriting of the file may come between line and list
                self._requests.append([{"accepted": video.request.as_json()} for video in accepted])
                with self._lock:
                    for video in accepted:
                        self.videos[video.id] = video
                        self.waiting.append(video.id)
                    if photo is not None and not (self.folder / PHOTOS / name).is_file():
                        # The last video that shared the file was removed meanwhile.
                        self._keep_photo(photo)
        except BaseException:
            with self._lock:
                self._by_key.pop(requests[0].idempotency, None)
            raise
        finally:
            with self._lock:
                self._reserved -= len(requests)
        for video in accepted:
            self._tell(video, "accepted")
        return accepted

    def remove(self, name: str, why: str = "deleted") -> bool:
        """Remove a video and its files; those of one that is being made go when its worker has dropped it.

        Returns:
            False if there is none, or if `generate` made it: its folder is the user's own.
        """
        with self._lock:
            video = self.videos.get(name)
            if video is None or video.request.item:
                return False
        with self._writing:
            self._requests.append([{"removed": name, "why": why}])
            with self._lock:
                if self.videos.pop(name, None) is None:
                    return False
                with suppress(ValueError):
                    self.waiting.remove(name)
                if self._by_key.get(video.request.idempotency) == name:
                    del self._by_key[video.request.idempotency]
                photo = video.request.photo
                self._dead += 1
                self._unlink(name, "" if self._is_used(photo) or video.status == IN_PROGRESS else photo)
        self._tell(video, why)
        return True

    def review(self, name: str, verdict: str) -> ServedVideo | None:
        """Approve or reject a finished video; None: there is none."""
        with self._writing:
            video = self.videos.get(name)
            if video is None or video.status != COMPLETED:
                return None
            seed = int(video.record.get("seed", 0))
            write_review(self.folder, video.request.item or name, verdict, seed)
            return self._update(name, "reviewed", review=Review(verdict, seed))

    def retry_after(self) -> int:
        """Estimated seconds until there is room for a video."""
        return max(1, min(600, math.ceil(self.seconds_each)))

    # what workers do

    def take(self) -> ServedVideo | None:
        """Take the oldest waiting video out of the queue; None: the queue is empty."""
        with self._lock:
            while self.waiting:
                video = self.videos.get(self.waiting.popleft())
                if video is not None:
                    return video
        return None

    def give_back(self, name: str) -> None:
        """Return a video to the head of the queue."""
        with self._lock:
            if name in self.videos:
                self.waiting.appendleft(name)
                self._update(name, "queued", status=QUEUED, progress=0, stage="", started=0.0)

    def begin(self, name: str) -> None:
        """Note that a video is being computed."""
        self._update(name, "started", status=IN_PROGRESS, started=self.clock(), stage="opening")

    def progressed(self, name: str, stage: str, share: float) -> None:
        """Note the progress of a video, 0 to 1."""
        video = self.videos.get(name)
        progress = min(99, int(100 * share))
        if video is not None and video.status == IN_PROGRESS and (progress, stage) != (video.progress, video.stage):
            self._update(name, "progressed", progress=progress, stage=stage)

    def finish(self, records: Iterable[Mapping[str, Any]]) -> list[ServedVideo]:
        """Write manifest lines of finished and failed videos with one flush of the disk.

        Raises:
            OSError: the disk is full; nothing changed.
        """
        now = self.clock()
        stamp = datetime.fromtimestamp(now).astimezone().isoformat(timespec="seconds")
        kept = []
        with self._lock:
            for record in records:
                name = str(record["item"])
                if name in self.videos:
                    kept.append({**record, "time": stamp})
                elif record["status"] != RETRIED:
                    photo = Path(str(record.get("source", ""))).name
                    self._unlink(name, "" if self._is_used(photo) else photo)
        with self._writing:
            self._manifest.append(kept)
            self._manifest.states.clear()
        found = []
        for record in kept:
            if record["status"] == RETRIED:
                continue
            name, done = str(record["item"]), record["status"] == DONE
            status, shown = COMPLETED if done else BROKEN, _shown(record)
            progress = 100 if done else self.videos[name].progress if name in self.videos else 0
            video = self._update(name, "ended", status=status, progress=progress, stage="", ended=now, record=shown)
            if video is not None:
                found.append(video)
                if video.started and done:
                    self.seconds_each += 0.1 * (max(0.05, now - video.started) - self.seconds_each)
        return found

    def expire(self) -> int:
        """Remove videos older than the limit and return their number. Compacts files that are mostly removed videos."""
        oldest = self.clock() - self.limits.keep_seconds
        with self._lock:
            old = [video.id for video in self.videos.values() if 0 < video.ended < oldest and not video.request.item]
        for name in old:
            self.remove(name, "expired")
        if self._dead > max(_DEAD, len(self.videos)):
            with self._writing, self._lock:
                _, removed = read_requests(self.folder / REQUESTS)
                self.close()
                self._rewrite(removed)
                self._open_files()
        return len(old)

    # files

    def content(self, video: ServedVideo) -> Path | None:
        """The video file, or None."""
        return self._file(str(video.record.get("output", "")))

    def poster(self, video: ServedVideo) -> Path | None:
        """The poster, or None."""
        return self._file(str(video.record.get("poster", "")))

    def photo(self, video: ServedVideo) -> tuple[Path, str] | None:
        """The photo as it was sent and its media type; None: it is gone, or no photo."""
        if video.request.photo:
            path = self.folder / PHOTOS / video.request.photo
            return (path, _MEDIA.get(path.suffix, "application/octet-stream")) if path.is_file() else None
        path = Path(self._sources.get(video.id, ""))
        try:
            with path.open("rb") as file:
                kind = sniff(file.read(4096))
        except (OSError, ValueError):
            return None
        return (path, _MEDIA[_SUFFIXES.get(kind, ".heic")]) if kind else None

    def _file(self, name: str) -> Path | None:
        path = inside(self.folder, name) if name and ".." not in Path(name).parts else None
        return path if path is not None and path.is_file() else None

    def _keep_photo(self, photo: bytes) -> str:
        suffix = _SUFFIXES.get(sniff(photo[:4096]) or "", ".heic")
        name = f"{hashlib.sha256(photo).hexdigest()[:32]}{suffix}"
        path = self.folder / PHOTOS / name
        if not path.is_file() or path.stat().st_size != len(photo):
            with atomic_path(path) as temporary:
                temporary.write_bytes(photo)
        return name

    def _rewrite(self, removed: set[str]) -> None:
        """Rewrite the files without removed videos."""
        requests = [video.request for video in self.videos.values() if video.request.photo]
        text = "".join(json.dumps({"accepted": request.as_json()}) + "\n" for request in requests)
        manifest = self.folder / MANIFEST
        if removed and manifest.is_file():
            with atomic_path(manifest) as temporary, temporary.open("w", encoding="utf-8") as file:
                for record in read_manifest(manifest):
                    if record["item"] not in removed:
                        file.write(json.dumps(record) + "\n")
        write_text(self.folder / REQUESTS, text)  # last: until then the removals stand in it
        self._dead = 0

    def _is_used(self, photo: str) -> bool:
        return any(video.request.photo == photo for video in self.videos.values())

    def _unlink(self, name: str, photo: str) -> None:
        places = [self.folder / f"{name}{self.suffix}", self.folder / f"{name}{POSTER}"]
        for path in [*places, *([self.folder / PHOTOS / photo] if photo else [])]:
            path.unlink(missing_ok=True)

    # changes

    def _update(self, name: str, event: str, **changes: Any) -> ServedVideo | None:
        with self._lock:
            video = self.videos.get(name)
            if video is None:
                return None
            self._version += 1
            video = self.videos[name] = replace(video, version=self._version, **changes)
        self._tell(video, event)
        return video

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each change, from any thread; returns what ends that."""
        with self._lock:
            self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def _tell(self, video: ServedVideo | None, event: str) -> None:
        for listener in tuple(self._listeners):
            listener(video, event)


def new_id() -> str:
    """An unguessable id that is a valid file name."""
    return f"video_{secrets.token_hex(16)}"


def _shown(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a manifest line that are kept in memory."""
    kept = _KEPT if record["status"] == DONE else _KEPT_OF_FAILED
    return {key: record[key] for key in kept if key in record} | {"time": record.get("time", "")}


def _of_catalogue(record: Mapping[str, Any]) -> VideoRequest:
    """A request for a video that `generate` made in the same folder."""
    item = str(record["item"])
    name = f"item_{hashlib.sha256(item.encode(errors='surrogateescape')).hexdigest()[:32]}"
    fps = float(record.get("fps") or 0)
    seconds = int(record.get("frames", 0)) / fps if fps else 0.0
    size = f"{record.get('width', 0)}x{record.get('height', 0)}"
    return VideoRequest(
        id=name,
        created=_moment(record),
        photo="",
        photo_name=item,
        prompt=str(record.get("caption") or ""),
        settings={},
        group=name,
        size=size,
        seconds=seconds,
        item=item,
    )


def _restored(request: VideoRequest, record: Mapping[str, Any] | None, review: Review | None) -> ServedVideo:
    if record is None:
        return ServedVideo(request)
    done = record["status"] == DONE
    shown = {key: value for key, value in record.items() if key not in ("item", "status", "caption")}
    status, progress = (COMPLETED, 100) if done else (BROKEN, 0)
    return ServedVideo(request, status, progress, ended=_moment(record), record=shown, review=review)


def _moment(record: Mapping[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(record.get("time"))).timestamp()
    except (ValueError, OSError):
        return 0.0
