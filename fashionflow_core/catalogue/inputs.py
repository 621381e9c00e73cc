"""Inputs of a catalogue: folders, patterns, files and lists."""

import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fashionflow_core.catalogue import storage
from fashionflow_core.catalogue.list_files import NAME_COLUMNS, SETTINGS, SOURCE_COLUMNS, read_list, row_settings
from fashionflow_core.errors import FashionFlowError, SettingError, option, reason_of
from fashionflow_core.images.formats import sniff
from fashionflow_core.utils.folders import is_aside, walk

PHOTOS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".tif", ".tiff", ".gif", ".heic", ".heif")
)
# Pictures that cannot be read: they fail by name, whereas other files are skipped.
OTHER_PICTURES = frozenset(
    (".bmp", ".psd", ".psb", ".pdf", ".svg", ".eps", ".ai", ".jp2", ".jxl", ".ico", ".tga", ".exr", ".hdr", ".xcf")
) | frozenset((".raw", ".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"))
MANIFEST = "manifest.jsonl"  # of an output folder
LISTS = frozenset((".csv", ".tsv", ".jsonl", ".ndjson", ".txt"))
STDIN = "-"


class Entry(NamedTuple):
    """One photo of the inputs; a tuple, because a catalogue may have a million.

    Attributes:
        source: path, as it was given, or URL.
        name: of the video in the output folder, `/` between folders, without suffix.
        own_name: the name comes from a list and is kept or refused.
        caption: for the gallery.
        settings: fields of `GenerateSettings` for this photo alone.
        problem: why it cannot be processed.
        columns: its values of additional columns of a list.
    """

    source: str
    name: str
    own_name: bool = False
    caption: str = ""
    settings: Mapping[str, Any] | None = None
    problem: str | None = None
    columns: Mapping[str, str] | None = None


@dataclass
class Skipped:
    """Files and folders that a search for photos left out.

    Attributes:
        files: number of files that are not photos, by suffix.
        outputs: output folders of other runs, whose posters are not photos.
        unreadable: one line for each folder that cannot be read.
    """

    files: dict[str, int] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Messages: `skipped 4 files (not photos): 3 .txt, 1 .mp4`."""
        found = [f"skipped {_counted(self.files)}"] if self.files else []
        return found + [f"skipped {folder}: the output folder of another run" for folder in self.outputs]


@dataclass(frozen=True)
class Inputs:
    """All photos of a run, what was skipped, and the number of duplicates."""

    entries: Sequence[Entry]
    skipped: Skipped
    twice: int = 0


def is_many(argument: str) -> bool:
    """Whether one argument of `generate` stands for a catalogue: a folder, a pattern, a list, a URL."""
    if storage.is_url(argument):
        return True
    path = Path(argument)
    if path.is_dir():
        return True
    if path.exists():
        return path.suffix.lower() in LISTS
    return glob.has_magic(argument) or path.suffix.lower() in LISTS


def read_inputs(arguments: Sequence[str], out: Path, stdin: Callable[[], bytes], columns: Sequence[str] = ()) -> Inputs:
    """Find all photos.

    Args:
        arguments: folders, patterns (`*`, `?`, `[...]`, `**`), photos, lists, and `-` for a list on standard input.
        out: the output folder; pictures in it are not photos.
        stdin: reads standard input.
        columns: additional columns of lists.

    Raises:
        UsageError: an invalid list, or a folder that is also the output folder.
        FashionFlowError: no photos, or not readable.
    """
    found: list[Any] = []  # a source, or a source and its row of a list
    bases: set[str | None] = set()  # folders that names are relative to; None: to the common folder of all
    skipped = Skipped()
    url, real = storage.as_given(out), os.path.realpath(out)
    for argument in arguments:
        path = Path(argument)
        if storage.is_url(argument):
            found += _remote(argument, url, skipped)
            bases.add(_fixed_part(argument) if glob.has_magic(argument) else argument)
        elif argument == STDIN:
            found += read_list(stdin(), "<stdin>", "", columns)
            bases.add(None)
        elif path.is_dir():
            _check_apart(argument, argument, real)
            found += _pictures(_walk(str(path), real, skipped), skipped)
            bases.add(str(path))
        elif path.exists() and path.suffix.lower() in LISTS:
            try:
                found += read_list(path.read_bytes(), argument, path.suffix.lower(), columns)
                bases.add(None)
            except OSError as error:
                raise FashionFlowError(
                    f"{argument}: could not be read ({reason_of(error)})",
                    hint=f"check its permissions: ls -l {argument}",
                ) from None
        elif not path.exists() and glob.has_magic(argument):
            _check_apart(argument, _fixed_part(argument), real)
            found += _pictures(_matches(argument, real, skipped), skipped)
            bases.add(_fixed_part(argument))
        elif not path.exists() and len(arguments) == 1:
            raise FashionFlowError(f"{argument}: no such file or folder", hint="check the spelling of the path")
        else:
            found.append(argument)
            bases.add(None)
    if not found:
        why = "; ".join([*skipped.unreadable, *skipped.lines()])
        raise FashionFlowError(
            f"{' '.join(arguments[:3])}: no photos found" + (f" ({why})" if why else ""),
            hint=f"photos end in one of {', '.join(sorted(PHOTOS))}",
        )
    return _named(found, bases, skipped)


def _counted(files: Mapping[str, int]) -> str:
    kinds = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in sorted(files.items()))
    total = sum(files.values())
    return f"{total} files (not photos): {kinds}" if total > 1 else f"1 file (not a photo): {kinds}"


def _check_apart(argument: str, folder: str, out: str) -> None:
    """Refuse the output folder as input: its posters are pictures too."""
    if os.path.realpath(folder) == out:
        raise SettingError(
            "out", f"is where the photos of {argument} are", hint=f"choose another folder: {option('out', 'videos/')}"
        )


def _walk(folder: str, out: str, skipped: Skipped, skip: Callable[[str], bool] = lambda folder: False) -> Iterator[str]:
    """Files below a folder, except those in output folders of this and other runs."""
    is_in_out = _is_in(folder, out)

    def leave_out(here: str) -> bool:
        if skip(here) or os.path.realpath(here) == out or (not is_in_out and _is_in(here, out)):
            return True
        if is_output := os.path.isfile(os.path.join(here, MANIFEST)):
            skipped.outputs.append(here)
        return is_output

    return walk(folder, skipped.unreadable, leave_out, twice=True)


def _pictures(files: Iterable[str], skipped: Skipped) -> Iterator[str]:
    """Pictures among the files; other files are counted."""
    for file in files:
        if _is_picture(file):
            yield file
        else:
            suffix = os.path.splitext(file)[1].lower()
            skipped.files[suffix] = skipped.files.get(suffix, 0) + 1


def _remote(argument: str, out: str, skipped: Skipped) -> Iterator[str]:
    """Pictures below a URL, except those in output folders."""
    files = storage.find(argument)
    if files == [argument]:
        yield argument
        return
    base = (_fixed_part(argument) if glob.has_magic(argument) else argument).rstrip("/") + "/"
    own = out.rstrip("/") + "/"
    others = {file.removesuffix(MANIFEST) for file in files if file.endswith(f"/{MANIFEST}")} - {base, own}
    skipped.outputs += sorted(others)
    apart = (own, *others)
    yield from _pictures(
        (
            file
            for file in files
            if not file.startswith(apart) and not any(map(is_aside, file.removeprefix(base).split("/")))
        ),
        skipped,
    )


def _absolute(path: str) -> str:
    """An absolute path, or a URL in the form of one."""
    if path.startswith(("http://", "https://")):
        path = re.split(r"[?#]", path)[0]  # a query is not part of the name
    return f"/{path}".rstrip("/").replace("://", ":/", 1) if storage.is_url(path) else os.path.abspath(path)


def _is_picture(path: str) -> bool:
    suffix = os.path.splitext(path)[1].lower()
    if suffix or storage.is_url(path):
        return suffix in PHOTOS or suffix in OTHER_PICTURES
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            return sniff(file.read(4096)) is not None
    except OSError:
        return False


def _matches(pattern: str, out: str, skipped: Skipped) -> Iterator[str]:
    """Files that match a pattern, except those in output folders.

    `glob` is not used: it hides unreadable folders and follows circular links forty times.
    """
    base = _fixed_part(pattern)
    wanted = Path(pattern).parts[len(Path(base).parts) :]
    start = len(os.path.join(base, ""))

    def leads_nowhere(folder: str) -> bool:
        parts = folder[start:].split(os.sep)
        above = wanted[: len(parts)]
        return "**" not in above and (len(parts) >= len(wanted) or not _fits(parts, above))

    for path in _walk(base, out, skipped, leads_nowhere) if os.path.isdir(base) else ():
        if _fits(path[start:].split(os.sep), wanted):
            yield path[start:] if base == "." else path


def _is_in(path: str, folder: str) -> bool:
    return os.path.realpath(path).startswith(folder.rstrip(os.sep) + os.sep)


def _fits(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether the parts of a path match those of a pattern; `**` stands for any number of folders."""
    if not wanted or not parts:
        return not parts and all(part == "**" for part in wanted)
    if wanted[0] == "**":
        return _fits(parts, wanted[1:]) or _fits(parts[1:], wanted)
    return fnmatchcase(parts[0], wanted[0]) and _fits(parts[1:], wanted[1:])


def _fixed_part(pattern: str) -> str:
    """The folders of a pattern before its first wildcard."""
    if storage.is_url(pattern):
        return re.split(r"[*?\[]", pattern)[0].rpartition("/")[0]
    parts = Path(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return os.path.join(*parts[:fixed]) if fixed else "."


class Entries(Sequence[Entry]):
    """Entries created on access: of a million paths only the paths are held."""

    def __init__(self, found: list[Any], root: str | None) -> None:
        self._found, self._root = found, root

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: Any) -> Any:
        return (
            [self._entry(one) for one in self._found[index]]
            if isinstance(index, slice)
            else self._entry(self._found[index])
        )

    def __iter__(self) -> Iterator[Entry]:
        return map(self._entry, self._found)

    def _entry(self, found: "str | tuple[str, dict[str, Any]]") -> Entry:
        if isinstance(found, str):
            return Entry(found, _relative(found, self._root))
        source, row = found
        own = next((row[column] for column in NAME_COLUMNS if column in row), None)
        settings, problem = row_settings({key: value for key, value in row.items() if key in SETTINGS})
        name = str(own) if own is not None else _relative(source, self._root)
        known = {*SOURCE_COLUMNS, *NAME_COLUMNS, "caption", *SETTINGS}
        columns = {key: str(value) for key, value in row.items() if key not in known}
        return Entry(source, name, own is not None, str(row.get("caption", "")), settings, problem, columns or None)


def _named(found: list[Any], bases: set[str | None], skipped: Skipped) -> Inputs:
    """Entries named relative to the only folder given, or to the common folder of all sources."""
    if len(bases) == 1 and (only := next(iter(bases))) is not None:
        root = _absolute(only)
    else:
        sources = (one if isinstance(one, str) else one[0] for one in found)
        folders = (os.path.dirname(_absolute(source)) for source in sources)
        root = _common(chain((_absolute(base) for base in bases if base is not None), folders))
    # Hashes instead of entries keep a set of a million small.
    seen: set[int] = set()
    unique = []
    for one in found:
        key = hash(one if isinstance(one, str) else (one[0], json.dumps(one[1], sort_keys=True, default=str)))
        if key not in seen:
            seen.add(key)
            unique.append(one)
    return Inputs(Entries(unique, root), skipped, len(found) - len(unique))


def _common(folders: Iterator[str]) -> str | None:
    """The deepest common folder; None if there is none (drives of Windows)."""
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
    path = _absolute(source)
    relative = os.path.basename(path) if root is None else path[len(root.rstrip(os.sep)) + 1 :]
    stem, suffix = os.path.splitext(relative.replace(os.sep, "/"))
    return stem if suffix.lower() in PHOTOS | OTHER_PICTURES else stem + suffix


def relative_name(name: str) -> PurePosixPath | None:
    """A name of a list as a path inside the output folder; None if it would leave that."""
    path = PurePosixPath(name.replace("\\", "/") if os.sep == "\\" else name)
    inside = not path.is_absolute() and ".." not in path.parts and path.parts and "\0" not in name
    return path if inside else None
