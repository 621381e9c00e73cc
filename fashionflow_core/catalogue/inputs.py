"""Which photos a catalogue is made of: folders, patterns, single files, and lists as text, CSV or JSON lines."""

import csv
import glob
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fashionflow_core.config import GenerateSettings
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.photo_formats import sniff

PHOTOS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".tif", ".tiff", ".gif", ".heic", ".heif")
)
# Pictures that cannot be read: each is told of as failed, where a text file beside the photos is passed over.
OTHER_PICTURES = frozenset(
    (".bmp", ".psd", ".psb", ".pdf", ".svg", ".eps", ".ai", ".jp2", ".jxl", ".ico", ".tga", ".exr", ".hdr", ".xcf")
) | frozenset((".raw", ".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"))
LISTS = frozenset((".csv", ".tsv", ".jsonl", ".ndjson", ".txt"))
SOURCE_COLUMNS = ("photo", "path", "file", "image", "source")
NAME_COLUMNS = ("output", "name")
# Fields of GenerateSettings that a row may set; the rest belongs to the run.
SETTINGS = {field.name: field for field in fields(GenerateSettings) if field.name not in ("size", "decode_chunk")}
STDIN = "-"


class Entry(NamedTuple):
    """One photo as it was named; a tuple, because a catalogue may have a million.

    Attributes:
        source: path, as it was given, or URL.
        name: of the video inside the output folder, `/` between folders, without a suffix.
        own_name: the name was chosen in a list: it is kept as it is, or refused.
        caption: for the gallery.
        settings: fields of `GenerateSettings` that this photo has of its own.
        problem: why nothing can come of it.
    """

    source: str
    name: str
    own_name: bool = False
    caption: str = ""
    settings: Mapping[str, Any] | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Inputs:
    """All photos of a run, and what was passed over: number of files by suffix, and entries that came twice."""

    entries: list[Entry]
    passed_over: dict[str, int]
    twice: int = 0


def is_many(argument: str) -> bool:
    """Whether one argument of `generate` stands for a catalogue: a folder, a pattern, a list."""
    path = Path(argument)
    if path.is_dir():
        return True
    if path.exists():
        return path.suffix.lower() in LISTS
    return glob.has_magic(argument) or path.suffix.lower() in LISTS


def read_inputs(arguments: Sequence[str], out: Path, stdin: Callable[[], bytes]) -> Inputs:
    """Find all photos.

    Args:
        arguments: folders, patterns (`*`, `?`, `[...]`, `**`), photos, lists, and `-` for a list on standard input.
        out: the output folder; photos inside it are none.
        stdin: reads standard input.

    Raises:
        UsageError: a list that cannot be understood.
        FashionFlowError: nothing there, or not readable.
    """
    found: list[tuple[str, str | None, Any]] = []  # source, folder it is named relative to, row of a list
    passed_over: dict[str, int] = {}
    out = out.resolve()
    for argument in arguments:
        path = Path(argument)
        if argument == STDIN:
            found += _rows(_text(stdin(), "<stdin>"), "<stdin>", "")
        elif path.is_dir():
            found += ((file, str(path), None) for file in _walk(path, out, passed_over))
        elif path.exists() and path.suffix.lower() in LISTS:
            try:
                found += _rows(_text(path.read_bytes(), argument), argument, path.suffix.lower())
            except OSError as error:
                raise FashionFlowError(f"{argument}: could not be read ({error.strerror})") from None
        elif not path.exists() and glob.has_magic(argument):
            found += ((file, _fixed_part(argument), None) for file in _matches(argument, out, passed_over))
        elif not path.exists() and len(arguments) == 1:
            raise FashionFlowError(f"{argument}: no such file or folder", hint="check the spelling of the path")
        else:
            found.append((argument, None, None))
    if not found:
        raise FashionFlowError(
            f"{' '.join(arguments[:3])}: no photos found" + (f" ({describe(passed_over)})" if passed_over else ""),
            hint=f"photos end in one of {', '.join(sorted(PHOTOS))}",
        )
    return _named(found, arguments, passed_over)


def describe(passed_over: Mapping[str, int]) -> str:
    """`4 files that are no photos: 3 .txt, 1 .mp4`."""
    kinds = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in sorted(passed_over.items()))
    return f"{sum(passed_over.values())} files that are no photos: {kinds}"


def _walk(folder: Path, out: Path, passed_over: dict[str, int]) -> Iterator[str]:
    """Every picture below a folder, by name; links are followed, but no folder is entered twice on one way down."""

    def enter(here: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
        try:
            info = os.stat(here)
            inside = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            raise FashionFlowError(
                f"{here}: the folder could not be read ({error.strerror})", hint="check its permissions"
            ) from None
        if (info.st_dev, info.st_ino) in above or os.path.realpath(here) == str(out):
            return
        for entry in inside:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from enter(entry.path, above | {(info.st_dev, info.st_ino)})
            elif _is_picture(entry.path):
                yield entry.path
            else:
                suffix = os.path.splitext(entry.name)[1].lower()
                passed_over[suffix] = passed_over.get(suffix, 0) + 1

    return enter(str(folder), frozenset())


def _is_picture(path: str) -> bool:
    suffix = os.path.splitext(path)[1].lower()
    if suffix:
        return suffix in PHOTOS or suffix in OTHER_PICTURES
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            return sniff(file.read(4096)) is not None
    except OSError:
        return False


def _matches(pattern: str, out: Path, passed_over: dict[str, int]) -> Iterator[str]:
    for path in sorted(glob.iglob(pattern, recursive=True)):
        if os.path.isdir(path):
            continue
        if Path(path).resolve().is_relative_to(out) and out.is_dir():
            continue
        if _is_picture(path):
            yield path
        else:
            suffix = os.path.splitext(path)[1].lower()
            passed_over[suffix] = passed_over.get(suffix, 0) + 1


def _fixed_part(pattern: str) -> str:
    """The folders of a pattern before its first wildcard."""
    parts = Path(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return os.path.join(*parts[:fixed]) if fixed else "."


def _text(data: bytes, name: str) -> str:
    if b"\0" in data[:4096]:
        raise UsageError(f"{name}: is not a list of photos", hint="one photo needs a video: -o NAME.mp4")
    # File names may hold any bytes; those that are no UTF-8 come back as they were when the file is opened.
    return data.decode("utf-8-sig", errors="surrogateescape")


def _rows(text: str, name: str, suffix: str) -> Iterator[tuple[str, None, Any]]:
    """A list's rows: as text (a path a line), CSV or TSV with a header, or JSON lines."""
    first = next((line for line in io.StringIO(text) if line.strip()), "")
    header = [column.strip().lower() for column in first.replace("\t", ",").replace(";", ",").split(",")]
    if suffix in (".jsonl", ".ndjson") or (not suffix and first.lstrip().startswith("{")):
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield _row(_json(line, f"{name}, line {number}"), f"{name}, line {number}")
    elif suffix in (".csv", ".tsv") or (not suffix and len(header) > 1 and set(header) & set(SOURCE_COLUMNS)):
        separator = max("\t;,", key=first.count)
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restkey="", strict=True)
        rows.fieldnames = [column.strip().lower() for column in rows.fieldnames or []]
        try:
            for row in rows:
                where = f"{name}, line {rows.line_num}"
                if row.pop("", None):
                    raise UsageError(f"{where}: has more values than the header has columns", hint="quote commas")
                yield _row({column: value for column, value in row.items() if value not in (None, "")}, where)
        except csv.Error as error:
            raise UsageError(f"{name}, line {rows.line_num}: {error}", hint="check the quotes") from None
    else:
        for line in text.split("\n"):
            line = line.rstrip("\r")
            if line.strip():
                yield line, None, None


def _json(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where}: is not JSON ({error.msg})", hint='a line is {"photo": "dress.jpg"}') from None
    if not isinstance(row, dict):
        raise UsageError(f"{where}: is no JSON object", hint='a line is {"photo": "dress.jpg"}')
    return {str(key).lower(): value for key, value in row.items() if value is not None}


def _row(row: dict[str, Any], where: str) -> tuple[str, None, Any]:
    known = (*SOURCE_COLUMNS, *NAME_COLUMNS, "caption", *SETTINGS)
    row = {key.replace("-", "_"): value for key, value in row.items()}
    if "guidance" in row:
        row["guidance_scale"] = row.pop("guidance")
    if unknown := [key for key in row if key not in known]:
        raise UsageError(f"{where}: {unknown[0]!r} is no column", hint=f"columns: {', '.join(known)}")
    source = next((row.pop(column) for column in SOURCE_COLUMNS if column in row), None)
    if not isinstance(source, str) or not source:
        raise UsageError(f"{where}: names no photo", hint="the column is called photo")
    return source, None, row


def _named(found: list[tuple[str, str | None, Any]], arguments: Sequence[str], passed_over: dict[str, int]) -> Inputs:
    """Names as relative as can be: to the one folder that was given, or to what all sources have in common."""
    root = None
    if len({base for _, base, _ in found}) == 1 and found[0][1] is not None:
        root = os.path.abspath(found[0][1])
    else:
        root = _common(os.path.abspath(base) if base else os.path.dirname(os.path.abspath(s)) for s, base, _ in found)
    entries, seen, twice = [], set(), 0
    for source, _, row in found:
        row = row or {}
        own = next((row[column] for column in NAME_COLUMNS if column in row), None)
        settings, problem = _settings({key: value for key, value in row.items() if key in SETTINGS})
        key = hash((source, own, tuple(settings.items()) if settings else None))
        if key in seen:
            twice += 1
            continue
        seen.add(key)
        name = str(own) if own is not None else _relative(source, root)
        entries.append(Entry(source, name, own is not None, str(row.get("caption", "")), settings, problem))
    return Inputs(entries, passed_over, twice)


def _common(folders: Iterator[str]) -> str | None:
    """The deepest folder that holds all of these; None where there is none (drives of Windows)."""
    common: str | None = None
    last = None
    for folder in folders:
        if folder == last:
            continue
        last = folder
        if common is None:
            common = folder
        elif folder != common and not folder.startswith(common.rstrip(os.sep) + os.sep):
            try:
                common = os.path.commonpath((common, folder))
            except ValueError:
                return None
    return common


def _relative(source: str, root: str | None) -> str:
    path = os.path.abspath(source)
    relative = os.path.basename(path) if root is None else path[len(root.rstrip(os.sep)) + 1 :]
    stem, suffix = os.path.splitext(relative.replace(os.sep, "/"))
    return stem if suffix.lower() in PHOTOS | OTHER_PICTURES else stem + suffix


def _settings(values: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    """A row's settings in their own types, and what is wrong with them; checked by `GenerateSettings` itself."""
    if not values:
        return None, None
    wanted: dict[str, Any] = {}
    for name, value in values.items():
        kind = str(SETTINGS[name].type)
        try:
            if name == "guidance_interval":
                ends = value.split(",") if isinstance(value, str) else value
                wanted[name] = tuple(float(end) for end in ends)
            elif "int" in kind:
                wanted[name] = int(value) if isinstance(value, str) else value
            elif "float" in kind:
                wanted[name] = float(value) if isinstance(value, str) else value
            else:
                wanted[name] = str(value)
        except (TypeError, ValueError):
            return None, f"{name.replace('_', '-')}: {value!r} is not a value it can have"
    try:
        GenerateSettings(**wanted)
    except (FashionFlowError, TypeError) as error:
        return None, str(error)
    return wanted, None


def relative_name(name: str) -> PurePosixPath | None:
    """A name of a list as a path inside the output folder; None if it would leave that."""
    path = PurePosixPath(name.replace("\\", "/") if os.sep == "\\" else name)
    inside = not path.is_absolute() and ".." not in path.parts and path.parts and "\0" not in name
    return path if inside else None
