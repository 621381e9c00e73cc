"""Outputs of a catalogue: locked folder, frames to files, final place on disk or at a URL."""

import errno
import os
import queue
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fashionflow_core.catalogue import storage
from fashionflow_core.catalogue.jobs import FINGERPRINT, Job, RunSpec
from fashionflow_core.catalogue.naming import HIDDEN, inside
from fashionflow_core.errors import FashionFlowError, option, reason_of
from fashionflow_core.utils.files import atomic_path, followed, free_bytes, sync
from fashionflow_core.utils.locks import locked

if TYPE_CHECKING:
    import numpy as np

_FULL = (errno.ENOSPC, errno.EDQUOT)
POSTER_COMMENT = b"poster of a fashionflow catalogue"
_HEAD = 1 << 18  # bytes of a JPEG within which its comment lies; a signature comes before it


class DiskFull(FashionFlowError):
    """The disk is full: the run ends and the item does not count as failed."""


class FrameQueue:
    """Frames from a queue, up to None or an exception; a poster is picked on the way."""

    def __init__(self, source: "queue.SimpleQueue[Any]") -> None:
        from fashionflow_core.video.poster import PosterPicker

        self._source, self._ended = source, False
        self._picker = PosterPicker()
        self.error: Exception | None = None

    def __iter__(self) -> "Iterator[np.ndarray]":
        while (frame := self._next()) is not None:
            self._picker.add(frame)
            yield frame
        if self.error is not None:
            raise self.error

    @property
    def poster(self) -> "np.ndarray | None":
        """The poster of the frames so far; None without frames."""
        return self._picker.poster

    def _next(self) -> Any:
        frame = None if self._ended else self._source.get()
        if isinstance(frame, Exception):
            self.error, frame = frame, None
        self._ended = frame is None
        return frame

    def drain(self) -> None:
        """Discard the remaining frames."""
        while self._next() is not None:
            pass


def metadata(path: Path) -> dict[str, str]:
    """Metadata of a video; empty if it cannot be read."""
    from fashionflow_core import video

    try:
        return video.read_metadata(path)
    except FashionFlowError:
        return {}


def is_full(error: BaseException, folder: Path) -> bool:
    """Whether an error or one of its causes means that the disk or a quota is full."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        cause = cause.__cause__ or cause.__context__
    return free_bytes(folder) < 65_536  # encoders may hide the error of the system


def is_ours(path: Path) -> bool:
    """Whether a video or poster was made by a catalogue."""
    with path.open("rb") as file:
        start = file.read(_HEAD)
    return POSTER_COMMENT in start if start.startswith(b"\xff\xd8") else FINGERPRINT in metadata(path)


@dataclass
class Attempt:
    """One video of a job.

    Attributes:
        video, poster: complete, not in place yet; None: of an earlier run.
        more: as `video`, for further targets.
        is_in_place: of an earlier run, and kept by it.
    """

    video: Path | None
    poster: Path | None
    seed: int
    scores: dict[str, float] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    is_in_place: bool = False
    more: tuple[Path, ...] = ()

    def discard(self) -> None:
        """Remove the files that were not moved into place."""
        for file in (self.video, self.poster, *self.more):
            if file is not None:
                file.unlink(missing_ok=True)


def earlier_takes(job: Job) -> list[Attempt]:
    """Attempts of an earlier run, of which only the kept one still exists."""
    return [
        Attempt(None, None, take["seed"], take.get("scores") or {}, take.get("flags") or [], take["kept"])
        for take in job.earlier
    ]


def of_takes(best: Attempt, takes: list[Attempt], work: RunSpec) -> dict[str, Any]:
    """Fields of a manifest line for the kept video and the attempts that it was chosen from."""
    found: dict[str, Any] = {"seed": best.seed}
    if best.scores:
        found["scores"] = best.scores
    if work.gate is not None:
        found["flags"] = best.flags
    if len(takes) > 1:
        found["takes"] = [{"seed": take.seed, "scores": take.scores, "flags": take.flags} for take in takes]
    return found


@contextmanager
def opened(out: Path) -> Iterator[Path]:
    """Create and lock the output folder; yields an empty folder for unfinished files.

    Raises:
        FashionFlowError: another run has locked it, or it cannot be created or written.
    """
    if os.path.lexists(out) and not out.is_dir():
        raise FashionFlowError(f"{out}: not a folder", hint=f"choose another one with {option('out')}")
    hidden = out / HIDDEN
    with locked(hidden, "run of fashionflow", shown=out):  # also of `evaluate`, which uses the same layout
        scratch = hidden / f"scratch-{os.getpid()}"
        try:
            # Left by killed runs; complete files have been moved out.
            for old in hidden.glob("scratch-*"):
                shutil.rmtree(old, ignore_errors=True)
            scratch.mkdir()
        except OSError as error:
            problem = f"{out}: cannot be written ({reason_of(error)})"
            raise FashionFlowError(problem, hint="check the free disk space") from None
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


class Outputs(Protocol):
    """Output folder; names are relative to it, with `/` between folders."""

    def check(self, job: Job, name: str) -> None:
        """Refuse a path outside the folder, or of a file that no catalogue made."""
        ...

    def put(self, file: Path, name: str) -> None:
        """Move a complete file into place durably."""
        ...

    @contextmanager
    def existing(self, name: str) -> Iterator[Path | None]:
        """The existing file as a local path; None without one."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        ...


def outputs(work: RunSpec) -> Outputs:
    """The output folder of a run."""
    return Remote(work.remote, Path(work.scratch)) if work.remote else Local(Path(work.out))


class Local:
    """Output folder on this machine."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def check(self, job: Job, name: str) -> None:
        path = inside(self.out, name)
        if path is None:
            raise FashionFlowError(
                f"{job.name}: a link inside {self.out} leads out of it",
                hint=f"remove that link, or choose another {option('out')}",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() and not job.redo and not followed(path).is_relative_to(os.path.realpath(self.out)):
            raise FashionFlowError(
                f"{path}: a link that leads out of {self.out}",
                hint=f"remove it, or pass {option('overwrite', True)} to write to its target",
            )
        if path.is_dir():
            raise FashionFlowError(f"{path}: is a folder", hint=f"move it away, or choose another {option('out')}")
        if not path.exists():
            return
        if os.path.exists(job.source) and path.samefile(job.source):
            raise FashionFlowError(f"{path}: is the photo itself", hint=f"choose another {option('out')}")
        if not job.replace and not is_ours(path):
            raise _not_ours(str(path))

    def put(self, file: Path, name: str) -> None:
        target = self.out / name
        if target.is_symlink():  # its target may be on another file system
            with atomic_path(target) as temporary:
                shutil.copyfile(file, temporary)
            file.unlink()
            return
        file.replace(target)
        sync(target.parent)

    @contextmanager
    def existing(self, name: str) -> Iterator[Path | None]:
        path = inside(self.out, name)
        yield path if path is not None and path.is_file() else None

    def has(self, name: str) -> bool:
        return (self.out / name).is_file()


class Remote:
    """Output folder on remote storage (fsspec); files are uploaded whole or not at all."""

    def __init__(self, url: str, scratch: Path) -> None:
        self.url, self.scratch = url.rstrip("/"), scratch

    def check(self, job: Job, name: str) -> None:
        if job.replace:
            return
        with self.existing(name) as path:
            if path is not None and not is_ours(path):
                raise _not_ours(f"{self.url}/{name}")

    def put(self, file: Path, name: str) -> None:
        storage.put(file, f"{self.url}/{name}")
        file.unlink()

    @contextmanager
    def existing(self, name: str) -> Iterator[Path | None]:
        if not self.has(name):
            yield None
            return
        local = self.scratch / f"existing-{abs(hash(name))}{Path(name).suffix}"
        try:
            yield storage.fetch(f"{self.url}/{name}", local)
        finally:
            local.unlink(missing_ok=True)

    def has(self, name: str) -> bool:
        return storage.size(f"{self.url}/{name}") is not None


def _not_ours(place: str) -> FashionFlowError:
    return FashionFlowError(
        f"{place}: already exists and was not made by a catalogue",
        hint=f"move it away, or pass {option('overwrite', True)}",
    )
