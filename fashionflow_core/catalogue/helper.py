"""A small process beside each worker: opens photos and scores videos, while the worker's device computes.

A process and not a thread, because decoders of photos switch what belongs to the whole process (`photo.load_photo`),
hold Python's lock, and may crash on bad files.
"""

import hashlib
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionflow_core.catalogue import protocol, storage
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning
from fashionflow_core.priority import give_way

if TYPE_CHECKING:
    import numpy as np

    from fashionflow_core.image import Fitted


@dataclass(frozen=True)
class PhotoRequest:
    """A photo to open and to bring to the model's frame; the fields are those of `photo.load_photo` and `image.fit`."""

    path: str
    height: int
    width: int
    fit: str
    resample: str
    background: tuple[int, int, int]
    max_megapixels: float


@dataclass(frozen=True)
class OpenedPhoto:
    """What became of a photo: the frame it gives, or the error it is refused with.

    Attributes:
        sha256, bytes: of the file; empty and 0 where it could not be read at all.
        mtime_ns: when it was changed last.
    """

    fitted: "Fitted | None"
    error: Exception | None = None
    sha256: str = ""
    bytes: int = 0
    mtime_ns: int = 0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identify(path: str | Path) -> tuple[str, int, int]:
    """Hash, size in bytes and time of change of a file; empty and zeros of what cannot be read, no hash of a URL."""
    if storage.is_url(str(path)):
        return storage.identify(str(path))
    try:
        info = Path(path).stat()
        return (hash_file(path), info.st_size, info.st_mtime_ns) if Path(path).is_file() else ("", 0, 0)
    except (OSError, ValueError):
        return "", 0, 0


def open_photo(request: PhotoRequest) -> OpenedPhoto:
    """Read, hash and fit one photo; never raises."""
    from fashionflow_core.foreground import warn_if_no_figure
    from fashionflow_core.image import fit
    from fashionflow_core.photo import load_photo

    start = time.perf_counter()
    fitted, error = None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", FashionFlowWarning)
        try:
            photo = load_photo(request.path, background=request.background, max_megapixels=request.max_megapixels)
            warn_if_no_figure(photo, request.path)
            fitted = fit(photo, request.height, request.width, request.fit, request.resample)
        except Exception as problem:
            error = problem if isinstance(problem, FashionFlowError) else _named(problem)
        digest, size, changed = identify(request.path)
        if not digest and error is None:
            fitted, error = None, FashionFlowError(f"{request.path}: went away while it was read")
    lines = [str(warning.message) for warning in caught]
    return OpenedPhoto(fitted, error, digest, size, changed, time.perf_counter() - start, lines)


def _named(problem: Exception) -> FashionFlowError:
    """An error that nobody foresaw, as one that can be sent to another process."""
    traceback.print_exc()
    return FashionFlowError(f"{type(problem).__name__}: {problem}")


def score_video(path: str, photo: "np.ndarray") -> "dict[str, float] | Exception":
    """`gate.score`, or why it has none."""
    from fashionflow_core.catalogue.gate import score

    try:
        return score(path, photo)
    except Exception as problem:
        return problem if isinstance(problem, FashionFlowError) else _named(problem)


# NumPy multiplies small matrices here. More threads are no faster but wait for each other in loops, which measured four
# times the processor's time, taken from networks that run on the same processors.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1"}


class Helper:
    """The worker's side: one request at a time, from any thread through a lock of the caller's.

    The process is started when it is first needed, and again after it died.
    """

    def __init__(self, log: Path | None = None) -> None:
        self._log = log
        self._child: protocol.Child | None = None

    def ask(self, kind: str, *arguments: Any) -> Any:
        """One of the functions below in the other process.

        Raises:
            EOFError: it died of this request.
        """
        if self._child is None:
            self._child = protocol.Child(__name__, self._log, environment=_ONE_THREAD)
        try:
            if not self._child.send((kind, *arguments)):
                raise EOFError
            return self._child.receive()
        except EOFError:
            self._child.kill()
            self._child = None
            raise

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.kill()
            self._child = None


def main() -> None:
    """Answer requests until the worker is gone."""
    give_way()
    incoming, outgoing = protocol.streams()
    functions = {"photo": open_photo, "score": score_video}
    try:
        while True:
            kind, *arguments = protocol.receive(incoming)
            protocol.send(outgoing, functions[kind](*arguments))
    except (EOFError, OSError):
        return
