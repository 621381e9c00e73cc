"""Photo process: a child of each worker that opens photos and scores videos.

It is a process because decoders of photos change global state (`loading.load_photo`), hold Python's lock, and may crash
on bad files.
"""

import hashlib
import threading
import time
import warnings
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionflow_core.catalogue import ipc, storage
from fashionflow_core.catalogue.jobs import Job, RunSpec
from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning
from fashionflow_core.images.fitting import Fitted, Frame
from fashionflow_core.utils.priority import give_way
from fashionflow_core.utils.text import log_traceback

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class PhotoRequest:
    """A photo to open with `loading.load_photo` and to fit to the model's frame.

    Attributes:
        path, background, max_megapixels: of the photo.
        frame: of the model.
        needs_figure: warn if no person is found; a motion model warns itself.
    """

    path: str
    frame: Frame
    background: tuple[int, int, int]
    max_megapixels: float
    needs_figure: bool = True


@dataclass(frozen=True)
class OpenedPhoto:
    """Result of opening a photo: the fitted photo, or the error.

    Attributes:
        sha256, bytes: of the file; empty and 0 if it is unreadable.
        mtime_ns: modification time.
        shape: height and width of the photo in pixels.
    """

    fitted: Fitted | None
    error: Exception | None = None
    sha256: str = ""
    bytes: int = 0
    mtime_ns: int = 0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    shape: tuple[int, int] = (0, 0)


@dataclass
class Started:
    """A job whose photo is being opened."""

    job: Job
    photo: Future[OpenedPhoto]


def open_photo(request: PhotoRequest) -> OpenedPhoto:
    """Read, hash and fit one photo; never raises."""
    from fashionflow_core.images.loading import load_photo
    from fashionflow_core.images.person import warn_if_no_figure

    start = time.perf_counter()
    fitted, error, shape = None, None, (0, 0)
    read = hashlib.sha256()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", FashionFlowWarning)
        try:
            photo = load_photo(
                request.path, background=request.background, max_megapixels=request.max_megapixels, digest=read
            )
            if request.needs_figure:
                warn_if_no_figure(photo, request.path)
            fitted, shape = request.frame.fit(photo), (photo.shape[0], photo.shape[1])
        except Exception as problem:
            error = problem if isinstance(problem, FashionFlowError) else _named(problem)
        digest, size, changed = storage.identify(request.path)
        if fitted is not None and digest != read.hexdigest():
            # The file was replaced meanwhile: the record is of the decoded one, and the next run finds the other.
            digest, changed = read.hexdigest(), 0
    lines = [str(warning.message) for warning in caught]
    return OpenedPhoto(fitted, error, digest, size, changed, time.perf_counter() - start, lines, shape)


def _named(problem: Exception) -> FashionFlowError:
    """An unexpected error as one that can be sent to another process."""
    log_traceback(problem)
    return FashionFlowError(f"{type(problem).__name__}: {problem}")


def score_video(path: str, photo: "np.ndarray", frames: int | None) -> "dict[str, float] | Exception":
    """`quality_gate.score`, or its error."""
    from fashionflow_core.catalogue.quality_gate import score

    try:
        return score(path, photo, frames)
    except Exception as problem:
        return problem if isinstance(problem, FashionFlowError) else _named(problem)


# Opening a photo of 50 megapixels or scoring a video takes seconds; more means a malicious file.
PATIENCE = 120.0  # seconds

# NumPy multiplies small matrices here. More threads were not faster and took four times the processor time,
# by busy waiting, from networks on the same processors.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1"}


class Helper:
    """Client of the photo process: one request at a time; callers hold a lock.

    The process is started on first use and again after it died.
    """

    def __init__(self, log: Path | None = None) -> None:
        self._log = log
        self.child: ipc.Child | None = None

    def ask(self, kind: str, *arguments: Any, seconds: float = PATIENCE) -> Any:
        """Call a function of `main` in the photo process.

        Raises:
            TimeoutError: no answer within `seconds`; the process was killed.
            EOFError: the process ended before it answered.
        """
        if self.child is None:
            self.child = ipc.Child(__name__, self._log, environment=_ONE_THREAD)
        child, late = self.child, threading.Event()

        def give_up() -> None:
            late.set()
            child.process.kill()  # the closed pipe ends the wait below, on every system

        timer = threading.Timer(seconds, give_up)
        timer.daemon = True
        timer.start()
        try:
            if not child.send((kind, *arguments)):
                raise EOFError
            return child.receive()
        except EOFError:
            child.kill()
            self.child = None
            if late.is_set():
                raise TimeoutError(f"no answer in {seconds:g} s") from None
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """Kill the process."""
        if self.child is not None:
            self.child.kill()
            self.child = None


class HelperDied(FashionFlowError):
    """A photo that crashes the process that opens it."""


class Photos:
    """Opens photos and scores videos against them, from any thread.

    Args:
        work: of the run.
        config: of the model.
        log: of the photo process.
    """

    def __init__(self, work: RunSpec, config: ModelConfig, log: Path | None) -> None:
        self.work, self.config = work, config
        self.helper = Helper(log)
        self._asking = threading.Lock()

    def close(self) -> None:
        """Kill the photo process."""
        self.helper.close()

    def open(self, job: Job) -> OpenedPhoto:
        """Open a job's photo; never raises."""
        config = self.config
        request = PhotoRequest(
            job.source,
            Frame.of(config, job.settings.resolve(config)),
            self.work.background,
            self.work.max_megapixels,
            needs_figure=config.latents == "appearance",
        )
        opener = self._open_remote if storage.is_url(job.source) else self._open_local
        try:
            try:
                return opener(request, job)
            except EOFError:
                # It may have been killed from outside, such as for lack of memory.
                return opener(request, job)
        except EOFError:
            problem = HelperDied(
                f"{job.source}: crashed the process that opened it", hint="save the photo again as JPEG"
            )
        except TimeoutError as error:
            problem = HelperDied(f"{job.source}: could not be opened ({error})", hint="save the photo again as JPEG")
        return OpenedPhoto(None, problem, *storage.identify(job.source))

    def _open_local(self, request: PhotoRequest, _job: Job) -> OpenedPhoto:
        return self._ask("photo", request)

    def _open_remote(self, request: PhotoRequest, job: Job) -> OpenedPhoto:
        local = Path(self.work.scratch) / f"photo-{job.number}-{job.attempt}"
        _, size, changed = storage.identify(job.source)
        try:
            opened: OpenedPhoto = self._ask("photo", replace(request, path=str(storage.fetch(job.source, local))))
        except FashionFlowError as error:
            return OpenedPhoto(None, error, "", size, changed)
        finally:
            local.unlink(missing_ok=True)

        def named(text: str) -> str:
            return text.replace(str(local), job.source)

        error = opened.error
        if isinstance(error, FashionFlowError):
            error = FashionFlowError(named(error.message), error.hint)
        lines = [named(line) for line in opened.warnings]
        return replace(opened, error=error, bytes=size, mtime_ns=changed, warnings=lines)

    def _ask(self, kind: str, *arguments: Any) -> Any:
        """Ask the photo process, one request at a time.

        Raises:
            EOFError, TimeoutError: as `Helper.ask`.
        """
        with self._asking:
            return self.helper.ask(kind, *arguments)

    def scores(self, path: Path, photo: "np.ndarray", frames: int | None = None) -> dict[str, float]:
        """As `quality_gate.score`; empty if a video cannot be scored: it is kept all the same."""
        try:
            found = self._ask("score", str(path), photo, frames)
        except (EOFError, TimeoutError):
            found = None
        return found if isinstance(found, dict) else {}


def main() -> None:
    """Answer requests until the worker ends."""
    give_way()
    incoming, outgoing = ipc.streams()
    functions = {"photo": open_photo, "score": score_video}
    try:
        while True:
            kind, *arguments = ipc.receive(incoming)
            ipc.send(outgoing, functions[kind](*arguments))
    except (EOFError, OSError):
        return
