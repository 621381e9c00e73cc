"""Folder locks: one process at a time."""

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fashionflow_core.errors import FashionFlowError, FashionFlowWarning

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
LOCK_FILE = ".lock"


@contextmanager
def locked(folder: Path, command: str, shown: Path | None = None) -> Iterator[None]:
    """Make a folder, and be the only one that writes to it; the lock goes with the process, however that ends.

    Args:
        command: who does, for the message to a second one.
        shown: the folder as a second one knows it, where `folder` is a hidden part of it.

    Raises:
        FashionFlowError: another process has it, or it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE).acquire(timeout=0)
    except Timeout:
        raise FashionFlowError(
            f"{shown or folder}: another {command} is writing to it",
            hint="wait until it is done, or choose another folder",
        ) from None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            warnings.warn(
                f"{shown or folder}: this file system has no locks; keep other commands from writing to it",
                FashionFlowWarning,
                stacklevel=3,
            )
            yield
            return
        raise FashionFlowError(
            f"{folder}: cannot be written ({error.strerror})", hint="choose another folder"
        ) from None
    with lock:
        yield
