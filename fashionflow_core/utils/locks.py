"""Folder locks: one writing process at a time."""

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, reason_of

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
LOCK_FILE = ".lock"


@contextmanager
def locked(folder: Path, command: str, shown: Path | None = None) -> Iterator[None]:
    """Create a folder and lock it for this process; the lock ends with the process, also after a kill.

    Args:
        command: name of the running command, for the error of a second process.
        shown: the folder named in errors, if `folder` is a hidden part of it.

    Raises:
        FashionFlowError: locked by another process, or not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE).acquire(timeout=0)
    except Timeout:
        raise FashionFlowError(
            f"{shown or folder}: another {command} is writing to it",
            hint="wait until it has finished, or choose another folder",
        ) from None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            warnings.warn(
                f"{shown or folder}: no locks on this file system; run only one command at a time on this folder",
                FashionFlowWarning,
                stacklevel=3,
            )
            yield
            return
        raise FashionFlowError(f"{folder}: not writable ({reason_of(error)})", hint="choose another folder") from None
    with lock:
        yield
