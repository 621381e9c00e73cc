"""Atomic files: temporary file, fsync, rename."""

import errno
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fashionflow_core.errors import FashionFlowError, option, reason_of
from fashionflow_core.utils.temporary import temporary_file

# Errors of file systems without permissions or without fsync of folders.
_UNSUPPORTED = {errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}


def check_target(path: str | Path, overwrite: bool) -> Path:
    """Check an output path before the work starts, and return it.

    Raises:
        FashionFlowError: the parent folder is missing or not writable, `path` is a folder, or it exists and
            `overwrite` is false.
    """
    path = Path(path)
    check_name(path)
    parent = followed(path).absolute().parent
    if not parent.is_dir():
        raise FashionFlowError(f"{path}: folder {parent} does not exist", hint=f"create it: mkdir -p {parent}")
    if path.is_dir():
        raise FashionFlowError(f"{path}: is a folder, not a file", hint="name a file inside it")
    if path.exists() and not overwrite:
        raise FashionFlowError(
            f"{path}: already exists", hint=f"pass {option('overwrite', True)}, or another name with {option('out')}"
        )
    if not os.access(parent, os.W_OK):
        raise FashionFlowError(
            f"{path}: folder {parent} is not writable", hint=f"choose another folder with {option('out')}"
        )
    return path


def check_name(path: Path) -> None:
    """Reject, before any work, a path that the file system cannot hold.

    Raises:
        FashionFlowError: name or path too long, or a parent folder that cannot be entered.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise FashionFlowError(f"{path}: {reason_of(error)}", hint=f"choose another {option('out')}") from None


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `target` (same suffix); on success fsync it and rename it onto `target`.

    A symbolic link is kept; its target is written.

    Any exception, KeyboardInterrupt included, removes the temporary file; `target` is unchanged. After a kill
    the next process that writes into the folder removes it.
    """
    target = followed(Path(target))
    temporary = temporary_file(target)
    try:
        # Temporary files are private; the final file gets the permissions of any new file.
        set_mode(temporary)
        yield temporary
        sync(temporary)
        temporary.replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    # The rename is durable only after fsync of the folder.
    sync(target.absolute().parent)


def followed(path: Path) -> Path:
    """The target of a link, or the path itself; safe for circular links."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def set_mode(path: Path, mode: int | None = None) -> None:
    """Set permissions where the file system supports them; network shares, USB sticks and bucket mounts may not.

    Args:
        mode: permission bits; None: those of a new file or folder.
    """
    if mode is None:
        umask = os.umask(0)
        os.umask(umask)
        mode = (0o777 if path.is_dir() else 0o666) & ~umask
    try:
        path.chmod(mode)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def sync(path: Path) -> None:
    """Flush a file or folder to the disk; a folder only where the file system supports it."""
    is_folder = path.is_dir()
    if os.name == "nt" and is_folder:  # Windows cannot open folders for fsync
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not is_folder or error.errno not in _UNSUPPORTED:
            raise


def free_bytes(folder: Path) -> float:
    """Free bytes of the disk that holds a folder; infinite where the file system reports size 0."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return math.inf
    return usage.free if usage.total else math.inf


def write_text(target: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_durably(descriptor: int, data: bytes) -> int:
    """Append bytes to an open file; they are on the disk when this returns, with the file's size before.

    Raises:
        OSError: they are not, and nothing of them is left in the file.
    """
    before = os.fstat(descriptor).st_size
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, before)
        raise
    return before
