"""Atomic files: temporary file, fsync, rename."""

import errno
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fashionflow_core.errors import FashionFlowError, option
from fashionflow_core.utils.temporary import temporary_file

# What file systems without permissions, or without fsync of folders, answer.
_UNSUPPORTED = {errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}


def check_target(path: str | Path, overwrite: bool) -> Path:
    """The path to write to, checked before the work that would be wasted.

    Raises:
        FashionFlowError: the parent folder is missing or not writable, `path` is a folder, or it exists and
            `overwrite` is false.
    """
    path = Path(path)
    check_name(path)
    parent = followed(path).absolute().parent
    if not parent.is_dir():
        raise FashionFlowError(f"{path}: the folder {parent} does not exist", hint=f"create it: mkdir -p {parent}")
    if path.is_dir():
        raise FashionFlowError(f"{path}: is a folder, not a file to write", hint="name a file inside it")
    if path.exists() and not overwrite:
        raise FashionFlowError(
            f"{path}: already exists", hint=f"pass {option('overwrite', True)}, or another name with {option('out')}"
        )
    if not os.access(parent, os.W_OK):
        raise FashionFlowError(
            f"{path}: the folder {parent} is not writable", hint=f"choose another folder with {option('out')}"
        )
    return path


def check_name(path: Path) -> None:
    """Refuse, before any work, a path that the file system cannot hold.

    Raises:
        FashionFlowError: its name, or all of it, is too long, or a folder on its way cannot be entered.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FashionFlowError(f"{path}: {reason}", hint=f"choose another {option('out')}") from None


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` (same suffix); on success fsync it and rename it onto `target`.

    A link stays, and what it leads to is written.

    Any exception, KeyboardInterrupt included, removes the temporary file and leaves `target` as it was. After a kill
    the next process that writes into the folder removes it.
    """
    target = followed(Path(target))
    temporary = temporary_file(target)
    try:
        # Temporary files are private; what a user asked for gets the permissions any other new file would have.
        set_mode(temporary)
        yield temporary
        sync(temporary)
        temporary.replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    # The rename itself is durable only once the folder is.
    sync(target.absolute().parent)


def followed(path: Path) -> Path:
    """Where a link to a file leads, or the path itself; also of links in a circle."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def set_mode(path: Path, mode: int | None = None) -> None:
    """Set permissions where the file system has any; network shares, USB sticks and bucket mounts may not.

    Args:
        mode: None: those of any new file, or of a new folder.
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
    """Flush one file or folder to the disk; of a folder where the file system can do that."""
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
    """Free bytes of the disk that holds a folder; infinite where the file system does not tell (size 0)."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return math.inf
    return usage.free if usage.total else math.inf


def write_text(target: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
