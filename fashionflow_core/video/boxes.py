"""Boxes of MP4 and MOV files (ISO/IEC 14496-12, 4.2): kinds and positions."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_TOP = (b"moov", b"mdat", b"moof", b"uuid", b"free")
_HOLDERS = (b"moov", b"trak", b"edts", b"moof", b"traf")
_DEEPEST = 4  # holders inside one another: of valid files moov, trak, edts


@dataclass(frozen=True)
class Mp4Box:
    """One box: its kind, and the start and end of its content in bytes."""

    kind: bytes
    start: int
    end: int


def walk(file: IO[bytes], at: int = 0, end: int | None = None, depth: int = 0) -> Iterator[Mp4Box]:
    """Boxes in the order of the file, each followed by those inside it; stops at an invalid box.

    `depth`: number of boxes that contain those from `at` to `end`.
    """
    end = file.seek(0, 2) if end is None else end
    while at + 8 <= end:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        start = at + 8
        if size == 1:
            more = file.read(8)
            if len(more) < 8:
                return
            size, start = struct.unpack(">Q", more)[0], at + 16
        stop = end if size == 0 else at + size
        if stop < start or stop > end:
            return
        yield Mp4Box(kind, start, stop)
        if kind in _HOLDERS and depth < _DEEPEST:
            yield from walk(file, start, stop, depth + 1)
        at = stop


def is_mp4(path: Path) -> bool:
    """Whether a file is MP4 or MOV, by its first bytes."""
    with path.open("rb") as file:
        return file.read(12)[4:8] == b"ftyp"


def is_cut_off(path: Path) -> bool:
    """Whether an MP4 or MOV ends inside a box of its top level."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        at = max((box.end for box in walk(file)), default=0)
        file.seek(at)
        return at < size and file.read(8)[4:] in _TOP


def kinds(path: Path) -> list[bytes]:
    """The kinds of all boxes, in the order of the file."""
    with path.open("rb") as file:
        return [box.kind for box in walk(file)]
