"""From frames to files in their place: what one thread of a worker hands to another, and what disks do to that."""

import contextlib
import errno
import queue
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionflow_core.catalogue.work import FINGERPRINT
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.files import atomic_path

if TYPE_CHECKING:
    import numpy as np

_FULL = (errno.ENOSPC, errno.EDQUOT)
_OURS = b"poster of a fashionflow catalogue"


class DiskFull(FashionFlowError):
    """Nothing more can be written: the run ends, and the item is not to blame."""


class FrameQueue:
    """Frames out of a queue, up to None or an exception; keeps the first."""

    def __init__(self, source: "queue.SimpleQueue[Any]") -> None:
        self._source, self._ended = source, False
        self.first: np.ndarray | None = None
        self.error: Exception | None = None

    def __iter__(self) -> "Iterator[np.ndarray]":
        while (frame := self._next()) is not None:
            if self.first is None:
                self.first = frame
            yield frame
        if self.error is not None:
            raise self.error

    def _next(self) -> Any:
        frame = None if self._ended else self._source.get()
        if isinstance(frame, Exception):
            self.error, frame = frame, None
        self._ended = frame is None
        return frame

    def drain(self) -> None:
        """Take what still comes."""
        while self._next() is not None:
            pass


def metadata(path: Path) -> dict[str, str]:
    """A video's metadata; none of what cannot be read."""
    from fashionflow_core import video

    try:
        return video.read_metadata(path)
    except FashionFlowError:
        return {}


def is_full(error: BaseException, folder: Path) -> bool:
    """Whether an error, or what led to it, says that the disk or a quota is full."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        cause = cause.__cause__ or cause.__context__
    with contextlib.suppress(OSError):
        # Encoders may hide what the system said.
        return shutil.disk_usage(folder).free < 65_536
    return False


def write_poster(path: Path, frame: "np.ndarray | None") -> None:
    """Write a video's first frame, uint8 (h, w, 3), as JPEG; its comment says whose it is."""
    from PIL import Image

    assert frame is not None
    with atomic_path(path) as temporary:
        Image.fromarray(frame).save(temporary, format="JPEG", quality=88, comment=_OURS)


def is_ours(path: Path) -> bool:
    """Whether a video or poster was made by a catalogue."""
    with path.open("rb") as file:
        start = file.read(4096)  # a comment is among the first things in a JPEG
    return _OURS in start if start.startswith(b"\xff\xd8") else FINGERPRINT in metadata(path)
