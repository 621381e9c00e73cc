"""Folder walk: every file below a folder; side folders of systems are skipped, unreadable ones are named."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from fashionflow_core.errors import FashionFlowError

# Of NAS boxes (Synology, QNAP), Windows and macOS archives, in lower case; hidden ones (`.thumbnails`) have a dot.
SIDE_FOLDERS = frozenset(
    ("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin", "recycler", "__macosx")
) | {"system volume information"}


def is_aside(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or a side folder of a system."""
    return name.startswith(".") or name.lower() in SIDE_FOLDERS


def walk(
    folder: str | Path,
    unreadable: list[str] | None = None,
    skip: Callable[[str], bool] = lambda folder: False,
    twice: bool = False,
) -> Iterator[str]:
    """Every file below a folder, by name at each level, except hidden ones and those in side folders.

    Links are followed. A folder inside itself is not entered again, so that links in circles end.

    Args:
        unreadable: takes one line for each folder that cannot be read; None: such a folder is an error.
        skip: whether not to enter a folder below the first.
        twice: enter a folder again where another link leads to it.

    Raises:
        FashionFlowError: the folder itself cannot be read, or another one and `unreadable` is None.
    """
    top = os.fspath(folder)
    visited: set[tuple[int, int]] = set()
    # Of each open folder what is left of it, and its identity; not a recursion, since folders may be a thousand deep.
    open_folders: list[tuple[Iterator[os.DirEntry[str]], tuple[int, int]]] = []

    def enter(here: str) -> None:
        try:
            info = os.stat(here)
            identity = (info.st_dev, info.st_ino)
            above = {identity for _, identity in open_folders}
            # Mounts without inodes give 0 for all.
            if identity[1] and identity in (above if twice else visited):
                return
            with os.scandir(here) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            line = f"{here}: the folder cannot be read ({(error.strerror or str(error)).lower()})"
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
        # entry.is_dir() fails for links that lead in circles.
        return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
    except OSError:
        return False
