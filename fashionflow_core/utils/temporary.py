"""Temporary files and folders next to their targets, with removal of those of killed processes.

Names are `.NAME.MACHINE-PID.RANDOM`. For a process of this machine the next one checks whether it is still running; a
file of another machine (on a shared disk) counts as abandoned after a day without change.
"""

import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_NAME = re.compile(r"\..*\.(?P<machine>[0-9a-f]{8})-(?P<pid>[0-9]+)\.[a-z0-9_]{8}(\.[^.]*)?")
_NAME_BYTES = 60  # of the final name that a temporary name keeps
KEPT = "kept"  # in a temporary folder: files of the user
_ABANDONED = 24 * 3600.0  # seconds
swept: set[str] = set()


def shortened(name: str, most: int = _NAME_BYTES) -> str:
    """The beginning of a file name, at most N bytes: names have 255, and temporary names need a prefix and suffix."""
    return os.fsencode(name)[:most].decode("utf-8", errors="ignore")


def temporary_file(target: Path) -> Path:
    """Create an empty file next to `target`, with the same suffix, readable by its owner only."""
    handle, name = tempfile.mkstemp(prefix=_prefix(target.stem), suffix=target.suffix, dir=_beside(target))
    os.close(handle)
    return Path(name)


def temporary_folder(target: Path, beside: Path | None = None) -> Path:
    """Create a folder next to `target`, or in another folder of the same disk, readable by its owner only."""
    return Path(tempfile.mkdtemp(prefix=_prefix(target.name), dir=beside or _beside(target)))


@contextmanager
def scratch_folder(target: Path, beside: Path | None = None) -> Iterator[Path]:
    """As `temporary_folder`; removed at the end with its contents."""
    folder = temporary_folder(target, beside)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove leftovers of killed processes from a folder; files of running processes are kept.

    A folder that contains `replaced` next to `made` was about to replace another one: it is kept, since it contains the
    only copy of the old one. So is a folder that contains `KEPT`.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in list(entries):
            match = _NAME.fullmatch(entry.name)
            if match is None or not _is_abandoned(match["machine"], int(match["pid"]), entry):
                continue
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
            elif (inside := set(os.listdir(entry.path))).isdisjoint({KEPT}) and not {"made", "replaced"} <= inside:
                shutil.rmtree(entry.path, ignore_errors=True)


def _beside(target: Path) -> Path:
    """The folder of a target; leftovers are removed at this process's first file in it."""
    folder = target.absolute().parent
    if str(folder) not in swept:
        swept.add(str(folder))
        sweep(folder)
    return folder


def _prefix(name: str) -> str:
    return f".{shortened(name)}.{_machine()}-{os.getpid()}."


@cache
def _machine() -> str:
    """An identity of the booted machine and container, within which process ids are unique."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("|".join(parts).encode(errors="surrogateescape")).hexdigest()[:8]


def _is_abandoned(machine: str, pid: int, entry: "os.DirEntry[str]") -> bool:
    if machine != _machine() or os.name == "nt":  # on Windows os.kill would end the process
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # process of another user
        return False
    return False
