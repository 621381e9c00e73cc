"""Temporary files and folders next to their targets; those that killed processes left are removed.

Names are `.NAME.MACHINE-PID.RANDOM`: of a process of this machine the next one sees whether it still runs; of another
machine, whose disk this may be, what nobody has changed for a day is taken for abandoned.
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
_NAME_BYTES = 60  # of the final name in a temporary one
KEPT = "kept"  # in a temporary folder: files that are not ours
_ABANDONED = 24 * 3600.0  # seconds
_swept: set[str] = set()


def shortened(name: str, most: int = _NAME_BYTES) -> str:
    """The beginning of a file name, at most so many bytes: names have 255, of which temporary ones need some."""
    return os.fsencode(name)[:most].decode("utf-8", errors="ignore")


def temporary_file(target: Path) -> Path:
    """A new empty file beside `target`, of the same suffix; only its owner may read it."""
    handle, name = tempfile.mkstemp(prefix=_prefix(target.stem), suffix=target.suffix, dir=_beside(target))
    os.close(handle)
    return Path(name)


def temporary_folder(target: Path, beside: Path | None = None) -> Path:
    """A new folder beside `target`, or in another folder of the same disk; only its owner may read it."""
    return Path(tempfile.mkdtemp(prefix=_prefix(target.name), dir=beside or _beside(target)))


@contextmanager
def scratch_folder(target: Path, beside: Path | None = None) -> Iterator[Path]:
    """As `temporary_folder`; removed at the end, with whatever is in it."""
    folder = temporary_folder(target, beside)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder; never what belongs to one that runs.

    A folder that holds `replaced` beside `made` was to take the place of another one: it stays, since nothing else
    holds what was there before. So does one that holds `KEPT`.
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
    """The folder of a target; what was left there is removed at this process's first file in it."""
    folder = target.absolute().parent
    if str(folder) not in _swept:
        _swept.add(str(folder))
        sweep(folder)
    return folder


def _prefix(name: str) -> str:
    return f".{shortened(name)}.{_machine()}-{os.getpid()}."


@cache
def _machine() -> str:
    """A mark of the machine since it was started, and of the container: where a process id means the same process."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("|".join(parts).encode(errors="surrogateescape")).hexdigest()[:8]


def _is_abandoned(machine: str, pid: int, entry: "os.DirEntry[str]") -> bool:
    if machine != _machine() or os.name == "nt":  # where os.kill would end the process
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # another user's
        return False
    return False
