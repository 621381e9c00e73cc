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
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, command, option, reason_of
from fashionflow_core.utils import download as http
from fashionflow_core.utils import hashing
from fashionflow_core.utils.files import sync, write_text
from fashionflow_core.utils.locks import locked
from fashionflow_core.utils.network import NetworkSettingError

MANIFEST = "downloads.jsonl"
PARTIAL = ".partial"
_LONGEST_ADDRESS = 8_000  # characters; limit of common servers
_LONGEST_NAME = 200  # bytes; file systems allow 255, and temporary names are longer
_SHA256 = re.compile(r"(?:^|\s)sha256[:=]([0-9A-Fa-f]+)\s*$")


@dataclass(frozen=True)
class ListEntry:
    """One line of a list.

    Attributes:
        url: address.
        name: relative path of the file, `/` between parts; empty if there is a `problem`.
        sha256: expected hash; empty if not given.
        problem: what is wrong with the line.
    """

    url: str
    name: str = ""
    sha256: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Fetched:
    """Result of an item: `state` is fetched, kept (already present) or failed; `problem` is the reason of a failure.

    `file`, `bytes` and `sha256` are recorded in the manifest.
    """

    url: str
    file: str
    state: str
    bytes: int = 0
    sha256: str = ""
    problem: str = ""


def read_list(text: str, where: str, taken: dict[str, str] | None = None) -> list[ListEntry]:
    """Parse a list: one address per line, optionally followed by a tab and a name, and by `sha256:HEX`.

    Empty lines and lines that start with # are skipped; duplicate addresses count once. A name is a path below the
    folder; by default it is the last part of the address, `+` kept, with part of the address's hash appended for
    duplicates.

    Args:
        text: the list.
        where: name of the list in problems.
        taken: names of addresses from earlier runs, which are kept.
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
        return ListEntry(url, problem=f"{shown}: {len(url):,} characters; addresses have at most {_LONGEST_ADDRESS:,}")
    try:
        parts = urlsplit(url)
        _ = parts.port  # validated only on access
    except ValueError as error:
        return ListEntry(url, problem=f"{shown}: invalid address ({error})")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ListEntry(url, problem=f"{shown}: not an http or https address")
    if asked := rest.strip():
        stored = _stored(asked)
        if stored is None:
            return ListEntry(url, problem=f"name {asked} is outside the folder")
        if used.setdefault(_folded(stored), url) != url:
            return ListEntry(url, problem=f"name {stored} is already used by {used[_folded(stored)]}")
    elif before is not None:
        stored = before
    else:
        stored = safe_name(unquote(PurePosixPath(parts.path).name))
        # Videos are recognized here by content, but by other tools by suffix.
        stored = stored if PurePosixPath(stored).suffix else f"{stored}.mp4"
        if used.setdefault(_folded(stored), url) != url:
            path = PurePosixPath(stored)
            stored = f"{path.stem}-{hashlib.sha256(url.encode()).hexdigest()[:8]}{path.suffix}"
            used[_folded(stored)] = url
    return ListEntry(url, stored, sha256)


def _stored(name: str) -> str | None:
    """The normalized path of a name below the folder; None if it is outside."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.name:
        return None
    return PurePosixPath(*map(safe_name, path.parts)).as_posix()


def _folded(name: str) -> str:
    """A key that is equal for names that some file systems treat as the same."""
    return unicodedata.normalize("NFC", name).casefold()


def safe_name(name: str) -> str:
    """A portable, visible file name as close to `name` as possible."""
    cleaned = "".join(
        "_" if char in '/\\<>:"|?*' or unicodedata.category(char) in ("Cc", "Cs") else char for char in name
    ).strip(" ")
    cleaned = re.sub(r"^\.+|\.+$", "_", cleaned) or "video"
    stem, suffix = PurePosixPath(cleaned).stem, PurePosixPath(cleaned).suffix
    while len(f"{stem}{suffix}".encode()) > _LONGEST_NAME:
        stem, suffix = (stem[:-1], suffix) if stem else ("video", suffix[:16])
    return stem + suffix


def read_manifest(folder: Path) -> dict[str, Fetched]:
    """Earlier downloads of a folder by address; incomplete and invalid lines are skipped.

    Warns:
        FashionFlowWarning: lines with a path outside the folder.

    Raises:
        FashionFlowError: unreadable file.
    """
    found: dict[str, Fetched] = {}
    path = folder / MANIFEST
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    except OSError as error:
        raise FashionFlowError(f"{path}: unreadable ({reason_of(error)})", hint="move it away") from None
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
                f"{path}: skipped line {number} (path outside the folder)",
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
    """Download the missing files of a folder.

    Args:
        items: result of `read_list`.
        folder: target folder, created if missing.
        jobs: number of parallel downloads.
        overwrite: download existing files again, and replace files of other origin.
        on_done: called with the number of finished items.

    Returns:
        The results, in the order of `items`.

    Raises:
        FashionFlowError: in use by another process, or not writable.
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

        # Daemon threads: an interruption does not wait for servers, and incomplete files have temporary names.
        for _ in range(min(jobs, len(items))):
            threading.Thread(target=work, daemon=True).start()
        found: dict[int, Fetched] = {}
        while len(found) < len(items):
            try:
                # A signal that comes just before the wait begins is only handled once the wait ends.
                index, outcome = outcomes.get(timeout=0.5)
            except Empty:
                continue
            if isinstance(outcome, BaseException):
                raise outcome
            found[index] = outcome
            on_done(len(found))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FashionFlowWarning)  # already warned about
            rows = read_manifest(folder)  # each address once, without incomplete lines
        try:
            write_text(folder / MANIFEST, "".join(f"{_row(row)}\n" for row in rows.values()))
        except OSError as error:
            raise FashionFlowError(
                f"{folder / MANIFEST}: not writable ({_reason(error)})",
                hint="free some space, then run the same command again",
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
        return replace(failed, problem=f"{target}: a link in the path leads out of {folder}")
    if target.exists() and known is None and not overwrite:
        return replace(
            failed, problem=f"{target}: exists, but is not from {item.url}; pass {option('overwrite', True)}"
        )
    try:
        partial = http.download(item.url, folder / PARTIAL, item.sha256 or None)
        if problem := why_unusable(partial, item.name):
            partial.unlink()  # the next download may be intact
            return replace(failed, problem=f"{http.shortened(item.url)}: {problem}")
        size, sha256 = partial.stat().st_size, hashing.sha256(partial)
        fetched = Fetched(item.url, item.name, "fetched", size, sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        sync(partial)
        # Recorded first: a file without a record counts as a file of the user.
        record(fetched)
        partial.replace(target)
        sync(target.parent)
        return fetched
    except NetworkSettingError:
        raise  # affects all other items too
    except FashionFlowError as error:
        return replace(failed, problem=error.message)
    except OSError as error:
        return replace(failed, problem=f"{target}: not writable ({_reason(error)})")
    except Exception as error:  # a failing address must not stop the others
        line = " ".join(str(error).split())[:200]
        return replace(failed, problem=f"{http.shortened(item.url)}: download failed ({line})")


def _reason(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "disk full" if full else reason_of(error)


def _holds(target: Path, known: Fetched, sha256: str) -> bool:
    """Whether a downloaded file still exists and matches the list."""
    return target.is_file() and target.stat().st_size == known.bytes and sha256 in ("", known.sha256)


def why_unusable(path: Path, name: str) -> str:
    """Why a file is not a video or image as named; empty if it is. Servers send error pages with status 200."""
    with path.open("rb") as file:
        head = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head:
        return "empty response"
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page, not a video"
    if PurePosixPath(name).suffix.lower() not in VIDEO_FILES:
        return ""
    try:
        return "" if next(video.iter_frames(path, limit=1), None) is not None else "no frames"
    except FashionFlowError as error:
        return error.message.removeprefix(f"{path}: ")


def _row(fetched: Fetched) -> str:
    return json.dumps({key: getattr(fetched, key) for key in ("url", "file", "bytes", "sha256")})
