"""Parallel download of a list of videos."""

import errno
import hashlib
import json
import os
import re
import shutil
import threading
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from queue import Empty, SimpleQueue
from urllib.parse import unquote, urlsplit

from fashionflow_core import video
from fashionflow_core.dataset.clips import VIDEO_FILES
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, command, option
from fashionflow_core.utils import download as http
from fashionflow_core.utils import hashing
from fashionflow_core.utils.files import sync, write_text
from fashionflow_core.utils.locks import locked
from fashionflow_core.utils.network import NetworkSettingError

MANIFEST = "downloads.jsonl"
PARTIAL = ".partial"
_LONGEST_ADDRESS = 8_000  # characters; servers take no more
_LONGEST_NAME = 200  # bytes; file systems stop at 255, and temporary names are longer
_SHA256 = re.compile(r"(?:^|\s)sha256[:=]([0-9A-Fa-f]+)\s*$")


@dataclass(frozen=True)
class ListEntry:
    """One line of a list.

    Attributes:
        url: the address.
        name: where the file goes, `/` between parts; empty where `problem` says what is wrong with the line.
        sha256: what it must hash to; empty where the list does not say.
        problem: why nothing can be fetched.
    """

    url: str
    name: str = ""
    sha256: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Fetched:
    """What became of an item: `state` is fetched, kept (it was there) or failed; `problem` says why it failed.

    `file`, `bytes` and `sha256` are what the manifest records.
    """

    url: str
    file: str
    state: str
    bytes: int = 0
    sha256: str = ""
    problem: str = ""


def read_list(text: str, where: str, taken: dict[str, str] | None = None) -> list[ListEntry]:
    """The items of a list: a line is an address; after it may come a tab and a name, and then `sha256:HEX`.

    Empty lines and lines that begin with # are passed over, an address that comes again counts once. A name is a path
    below the folder; without one it is the last part of the address, `+` kept, and a later file of the same name gets
    a piece of its address's hash.

    Args:
        text: the list.
        where: what its lines are called in problems.
        taken: names given to addresses before, which they keep.
    """
    taken = taken or {}
    used = {_folded(MANIFEST): "the record of downloads"} | {_folded(name): url for url, name in taken.items()}
    items: dict[str, ListEntry] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        url, rest = re.match(r"(\S+)(.*)", line).groups()  # type: ignore[union-attr]
        if url not in items:
            item = _read_line(url, rest, taken.get(url), used)
            items[url] = ListEntry(url, problem=f"{where} line {number}: {item.problem}") if item.problem else item
    return list(items.values())


def _read_line(url: str, rest: str, before: str | None, used: dict[str, str]) -> ListEntry:
    sha256 = ""
    if match := _SHA256.search(rest):
        sha256, rest = match[1].lower(), rest[: match.start()]
        if len(sha256) != 64:
            return ListEntry(url, problem=f"sha256:{sha256} has {len(sha256)} digits, not 64")
    shown = http.shortened(url)
    if len(url) > _LONGEST_ADDRESS:
        return ListEntry(
            url, problem=f"{shown} has {len(url):,} characters, and addresses at most {_LONGEST_ADDRESS:,}"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port  # refused only as it is read
    except ValueError as error:
        return ListEntry(url, problem=f"{shown} is no address ({error})")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ListEntry(url, problem=f"{shown} is no http or https address")
    if asked := rest.strip():
        stored = _stored(asked)
        if stored is None:
            return ListEntry(url, problem=f"the name {asked} leads out of the folder")
        if used.setdefault(_folded(stored), url) != url:
            return ListEntry(url, problem=f"the name {stored} is that of {used[_folded(stored)]} already")
    elif before is not None:
        stored = before
    else:
        stored = safe_name(unquote(PurePosixPath(parts.path).name))
        # What is a video is seen by its content; others find it by its name.
        stored = stored if PurePosixPath(stored).suffix else f"{stored}.mp4"
        if used.setdefault(_folded(stored), url) != url:
            path = PurePosixPath(stored)
            stored = f"{path.stem}-{hashlib.sha256(url.encode()).hexdigest()[:8]}{path.suffix}"
            used[_folded(stored)] = url
    return ListEntry(url, stored, sha256)


def _stored(name: str) -> str | None:
    """The place below the folder that a name means; None if it leads out."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.name:
        return None
    return PurePosixPath(*map(safe_name, path.parts)).as_posix()


def _folded(name: str) -> str:
    """Equal for names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()


def safe_name(name: str) -> str:
    """A file name that every system takes and that is not hidden, as near to `name` as can be."""
    cleaned = "".join(
        "_" if char in '/\\<>:"|?*' or unicodedata.category(char) in ("Cc", "Cs") else char for char in name
    ).strip(" ")
    cleaned = re.sub(r"^\.+|\.+$", "_", cleaned) or "video"
    stem, suffix = PurePosixPath(cleaned).stem, PurePosixPath(cleaned).suffix
    while len(f"{stem}{suffix}".encode()) > _LONGEST_NAME:
        stem, suffix = (stem[:-1], suffix) if stem else ("video", suffix[:16])
    return stem + suffix


def read_manifest(folder: Path) -> dict[str, Fetched]:
    """What was fetched into a folder before, by address; lines that a crash cut off, or that are none, are skipped.

    Warns:
        FashionFlowWarning: lines that name a place outside of the folder.

    Raises:
        FashionFlowError: the file cannot be read.
    """
    found: dict[str, Fetched] = {}
    path = folder / MANIFEST
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    except OSError as error:
        raise FashionFlowError(
            f"{path}: cannot be read ({(error.strerror or str(error)).lower()})", hint="move it away"
        ) from None
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            row = Fetched(entry["url"], entry["file"], "kept", entry["bytes"], entry["sha256"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if not isinstance(row.url, str) or not isinstance(row.file, str):
            continue
        if _stored(row.file) != row.file:
            warnings.warn(
                f"{path}: line {number} names a place outside of the folder and was skipped",
                FashionFlowWarning,
                stacklevel=2,
            )
            continue
        found[row.url] = row
    return found


def download_all(
    items: Sequence[ListEntry],
    folder: Path,
    jobs: int = 4,
    overwrite: bool = False,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[Fetched]:
    """Fetch what a folder does not hold yet.

    Args:
        items: of `read_list`.
        folder: made where missing.
        jobs: files fetched at a time.
        overwrite: fetch again what is there, and replace files that did not come from here.
        on_done: called with the number of items that are dealt with.

    Returns:
        the outcomes, in the order of `items`.

    Raises:
        FashionFlowError: another process fetches into the folder, or it cannot be written.
    """
    with locked(folder, command("data download")):
        before = {} if overwrite else read_manifest(folder)
        writing = threading.Lock()
        waiting: SimpleQueue[int] = SimpleQueue()
        outcomes: SimpleQueue[tuple[int, Fetched | BaseException]] = SimpleQueue()
        for index in range(len(items)):
            waiting.put(index)

        def record(outcome: Fetched) -> None:
            with writing, (folder / MANIFEST).open("a", encoding="utf-8") as manifest:
                manifest.write(_row(outcome) + "\n")
                manifest.flush()
                os.fsync(manifest.fileno())

        def work() -> None:
            while True:
                try:
                    index = waiting.get_nowait()
                except Empty:
                    return
                try:
                    outcomes.put((index, _fetch(items[index], folder, before, overwrite, record)))
                except BaseException as error:
                    outcomes.put((index, error))

        # Daemons: who interrupts does not wait for the servers, and nothing half-done is where it would be taken for
        # done.
        for _ in range(min(jobs, len(items))):
            threading.Thread(target=work, daemon=True).start()
        found: dict[int, Fetched] = {}
        while len(found) < len(items):
            index, outcome = outcomes.get()
            if isinstance(outcome, BaseException):
                raise outcome
            found[index] = outcome
            on_done(len(found))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FashionFlowWarning)  # of lines that were named before
            rows = read_manifest(folder)  # each address once, without what a crash cut off
        try:
            write_text(folder / MANIFEST, "".join(f"{_row(row)}\n" for row in rows.values()))
        except OSError as error:
            raise FashionFlowError(
                f"{folder / MANIFEST}: could not be written ({_reason(error)})",
                hint="make room, then run the same again",
            ) from None
        if all(outcome.state != "failed" for outcome in found.values()):
            shutil.rmtree(folder / PARTIAL, ignore_errors=True)
        return [found[index] for index in range(len(items))]


def _fetch(
    item: ListEntry, folder: Path, before: dict[str, Fetched], overwrite: bool, record: Callable[[Fetched], None]
) -> Fetched:
    failed = Fetched(item.url, item.name, "failed")
    if item.problem:
        return replace(failed, problem=item.problem)
    target, known = folder / item.name, before.get(item.url)
    if known and known.file == item.name and _holds(target, known, item.sha256):
        return known
    if not Path(os.path.realpath(target.parent)).is_relative_to(os.path.realpath(folder)):
        return replace(failed, problem=f"{target}: a link on the way leads out of {folder}")
    if target.exists() and known is None and not overwrite:
        return replace(failed, problem=f"{target}: exists, and is not from {item.url}; see {option('overwrite', True)}")
    try:
        partial = http.download(item.url, folder / PARTIAL, item.sha256 or None)
        if problem := why_unusable(partial, item.name):
            partial.unlink()  # it may be better next time
            return replace(failed, problem=f"{http.shortened(item.url)}: {problem}")
        size, sha256 = partial.stat().st_size, hashing.sha256(partial)
        fetched = Fetched(item.url, item.name, "fetched", size, sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        sync(partial)
        # Recorded first: a file that is in place without a record could be anyone's.
        record(fetched)
        partial.replace(target)
        sync(target.parent)
        return fetched
    except NetworkSettingError:
        raise  # the others would fail of it too
    except FashionFlowError as error:
        return replace(failed, problem=error.message)
    except OSError as error:
        return replace(failed, problem=f"{target}: could not be written ({_reason(error)})")
    except Exception as error:  # whatever one address does, the others are fetched
        line = " ".join(str(error).split())[:200]
        return replace(failed, problem=f"{http.shortened(item.url)}: could not be fetched ({line})")


def _reason(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "the disk is full" if full else (error.strerror or str(error)).lower()


def _holds(target: Path, known: Fetched, sha256: str) -> bool:
    """Whether a file that was fetched before is still there, and is what the list asks for."""
    return target.is_file() and target.stat().st_size == known.bytes and sha256 in ("", known.sha256)


def why_unusable(path: Path, name: str) -> str:
    """Why a file cannot be what its name says; empty if it can. Servers send pages about errors as if all was well."""
    with path.open("rb") as file:
        head = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head:
        return "came empty"
    if head.startswith((b"<!doctype html", b"<html")):
        return "is a web page, not a video"
    if PurePosixPath(name).suffix.lower() not in VIDEO_FILES:
        return ""
    try:
        return "" if next(video.iter_frames(path, limit=1), None) is not None else "holds no frames"
    except FashionFlowError as error:
        return error.message.removeprefix(f"{path}: ")


def _row(fetched: Fetched) -> str:
    return json.dumps({key: getattr(fetched, key) for key in ("url", "file", "bytes", "sha256")})
