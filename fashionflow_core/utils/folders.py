"""Recursive folder walk that skips hidden files and system folders and reports unreadable folders."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from fashionflow_core.errors import FashionFlowError, reason_of

# Folders made by NAS systems (Synology, QNAP), Windows and macOS archives, in lower case.
SIDE_FOLDERS = frozenset(
    ("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin", "recycler", "__macosx")
) | {"system volume information"}


def is_aside(name: str) -> bool:
    """Whether a file or folder of this name is hidden or made by the system."""
    return name.startswith(".") or name.lower() in SIDE_FOLDERS


def walk(
    folder: str | Path,
    unreadable: list[str] | None = None,
    skip: Callable[[str], bool] = lambda folder: False,
    twice: bool = False,
) -> Iterator[str]:
    """Every file below a folder, sorted by name at each level, without hidden and system ones.

    Links are followed. A folder is not entered again inside itself, so that circular links end.

    Args:
        unreadable: called with one line per unreadable folder; None: an unreadable folder is an error.
        skip: predicate of folders below the first that are not entered.
        twice: whether a folder is entered once per link to it.

    Raises:
        FashionFlowError: unreadable folder: the first one, or any if `unreadable` is None.
    """
    top = os.fspath(folder)
    visited: set[tuple[int, int]] = set()
    # Stack of open folders: remaining entries, identity. No recursion: folders may be nested 1,000 deep.
    open_folders: list[tuple[Iterator[os.DirEntry[str]], tuple[int, int]]] = []

    def enter(here: str) -> None:
        try:
            info = os.stat(here)
            identity = (info.st_dev, info.st_ino)
            above = {identity for _, identity in open_folders}
            # File systems without inodes report 0 for all.
            if identity[1] and identity in (above if twice else visited):
                return
            with os.scandir(here) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            line = f"{here}: folder cannot be read ({reason_of(error)})"
            if unreadable is None or here == top:
                raise FashionFlowError(line, hint="check its permissions") from None
            unreadable.append(line)
            return
        visited.add(identity)
        open_folders.append((iter(inside), identity))

    enter(top)
    while open_folders:
        entry = next(open_folders[-1][0], None)
        if entry is None:
            open_folders.pop()
        elif is_aside(entry.name):
            continue
        elif not _is_folder(entry):
            yield entry.path
        elif not skip(entry.path):
            enter(entry.path)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        # entry.is_dir() fails for circular links.
        return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
    except OSError:
        return False
