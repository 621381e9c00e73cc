"""`manifest.jsonl`, read and appended: one line per item and attempt, also after a kill."""

import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fashionflow_core.catalogue.inputs import MANIFEST
from fashionflow_core.catalogue.jobs import RETRIED
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, command, option, reason_of
from fashionflow_core.utils.files import append_durably

_NAMED = 5  # skipped lines that are reported individually
# Types of the fields of a record; each may be absent.
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("item", "status", "source", "settings_hash", "model_revision", "input_hash", "model", "output_hash"), (str,)
    ),
    **dict.fromkeys(("output", "poster", "caption", "message", "hint", "stage", "scheduler", "codec"), (str,)),
    **dict.fromkeys(("input_bytes", "input_mtime_ns", "frames", "output_bytes", "width", "height", "seed"), (int,)),
    **dict.fromkeys(("scores", "seconds"), (dict,)),
    **dict.fromkeys(("flags", "takes", "warnings", "more_outputs", "photo_box"), (list,)),
    "fps": (int, float),
    "steps": (int,),
}


class State(NamedTuple):
    """State of an item from its last line; small, since there may be a million.

    Attributes:
        status: done, failed or lost.
        source: the photo.
        made_of: settings hash and model revision.
        input_hash: of the photo; empty if it was unreadable.
        stamp: size and modification time of the photo when it was read.
        frames, bytes: of the video.
        model: name of the model that made it.
        start: offset of its line (`record_at`).
    """

    status: str
    source: str
    made_of: str
    input_hash: str
    stamp: tuple[int, int]
    frames: int
    bytes: int
    model: str = ""
    start: int = 0


class Manifest:
    """Manifest of an output folder, opened by the run that holds the folder's lock.

    Args:
        out: the output folder.

    Raises:
        FashionFlowError: it cannot be opened.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / MANIFEST
        self.states = states_of(out)
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            _drop_torn_end(self._descriptor)
        except OSError as error:
            raise FashionFlowError(
                f"{self.path}: cannot be written ({reason_of(error)})", hint=f"check its permissions: ls -l {self.path}"
            ) from None

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append lines and flush them to the disk.

        Raises:
            OSError: they could not be written; the file is as before.
        """
        records = list(records)
        data = "".join(json.dumps(record) + "\n" for record in records).encode()
        if not data:
            return
        before = append_durably(self._descriptor, data)
        for record in records:
            _note(self.states, record, before)
            before += len(json.dumps(record)) + 1

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _note(states: dict[str, State], record: Mapping[str, Any], start: int) -> None:
    if record.get("status") == RETRIED:
        return
    states[str(record["item"])] = State(
        sys.intern(str(record["status"])),
        str(record.get("source", "")),
        sys.intern(f"{record.get('settings_hash', '')} {record.get('model_revision', '')}"),
        str(record.get("input_hash", "")),
        (record.get("input_bytes", 0), record.get("input_mtime_ns", 0)),
        record.get("frames", 0),
        record.get("output_bytes", 0),
        sys.intern(str(record.get("model", ""))),
        start,
    )


def manifest_of(out: Path) -> Path:
    """The manifest of an output folder.

    Raises:
        FashionFlowError: the folder contains none.
    """
    if not (out / MANIFEST).is_file():
        raise FashionFlowError(
            f"{out}: contains no {MANIFEST}",
            hint=f"name the folder that {command('generate')} wrote with {option('out')}",
        )
    return out / MANIFEST


def states_of(out: Path) -> dict[str, State]:
    """State of each item from the manifest of an output folder; empty without one.

    Raises:
        FashionFlowError: it cannot be read.
    """
    states: dict[str, State] = {}
    for start, record in _records(out / MANIFEST):
        _note(states, record, start)
    return states


def names_by_source(states: Mapping[str, State]) -> dict[str, list[str]]:
    """Items made from each photo, in order."""
    found: dict[str, list[str]] = {}
    for name, state in states.items():
        found.setdefault(state.source, []).append(name)
    return found


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Records of a manifest; none without the file. An incomplete last line is omitted.

    Warns:
        FashionFlowWarning: other lines that are not records, which are skipped.

    Raises:
        FashionFlowError: the file cannot be read.
    """
    return (record for _, record in _records(path))


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Records with their offsets in the file."""
    start = skipped = 0
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    except OSError as error:
        raise FashionFlowError(
            f"{path}: could not be read ({reason_of(error)})", hint=f"check its permissions: ls -l {path}"
        ) from None
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            record, begin, start = _record(line), start, start + len(line)
            if record is not None:
                yield begin, record
                continue
            skipped += 1
            if skipped <= _NAMED:
                warnings.warn(
                    f"{path}: line {number} is not a record of a catalogue and was skipped; its item is made again",
                    FashionFlowWarning,
                    stacklevel=3,
                )
    if skipped > _NAMED:
        warnings.warn(f"{path}: {skipped - _NAMED} more lines were skipped", FashionFlowWarning, stacklevel=3)


def _record(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None if it is not one, or a field has a wrong type."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not {"item", "status"} <= record.keys():
        return None
    for key, kinds in _TYPES.items():
        if key in record and (not isinstance(record[key], kinds) or isinstance(record[key], bool)):
            return None
    if not all(_is_number(value) for key in ("scores", "seconds") for value in (record.get(key) or {}).values()):
        return None
    return record


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def latest(path: Path) -> dict[str, int]:
    """Offset of the last record of each item, in the order of their first records; see `record_at`."""
    found: dict[str, int] = {}
    for start, record in _records(path):
        if record["status"] != RETRIED:
            found[record["item"]] = start
    return found


def record_at(file: BinaryIO, start: int) -> dict[str, Any]:
    """The record at an offset."""
    file.seek(start)
    return json.loads(file.readline())


def _drop_torn_end(descriptor: int) -> None:
    """Truncate an incomplete last line."""
    end = os.fstat(descriptor).st_size
    position = end
    while position > 0:
        start = max(0, position - 65536)
        block = os.pread(descriptor, position - start, start)
        newline = block.rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position < end:
        os.ftruncate(descriptor, position)
