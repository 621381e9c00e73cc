"""Outputs that are never lost or half-written: temporary file in the same folder, fsync, rename."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fashionflow_core.errors import FashionFlowError


def check_target(path: str | Path, overwrite: bool) -> Path:
    """The path to write to, checked before the work that would be wasted.

    Raises:
        FashionFlowError: the parent folder is missing or not writable, `path` is a folder, or it exists and
            `overwrite` is false.
    """
    path = Path(path)
    parent = path.absolute().parent
    if not parent.is_dir():
        raise FashionFlowError(f"{path}: the folder {parent} does not exist", hint=f"create it: mkdir -p {parent}")
    if path.is_dir():
        raise FashionFlowError(f"{path}: is a folder, not a file to write", hint="name a file inside it")
    if path.exists() and not overwrite:
        raise FashionFlowError(f"{path}: already exists", hint="pass --overwrite, or another name with -o")
    if not os.access(parent, os.W_OK):
        raise FashionFlowError(f"{path}: the folder {parent} is not writable", hint="choose another folder with -o")
    return path


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` (same suffix); on success fsync it and rename it onto `target`.

    Any exception, KeyboardInterrupt included, removes the temporary file and leaves `target` as it was.
    """
    target = Path(target)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.absolute().parent)
    os.close(handle)
    temporary = Path(name)
    try:
        # mkstemp makes files private; what a user asked for gets the permissions any other new file would have.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        yield temporary
        sync(temporary)
        temporary.replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    # The rename itself is durable only once the folder is.
    sync(target.absolute().parent)


def sync(path: Path) -> None:
    """Flush one file or folder to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders for fsync
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(target: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
