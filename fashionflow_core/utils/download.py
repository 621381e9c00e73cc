"""Resumable HTTP downloads.

The requests are huggingface_hub's, whose client knows proxies, certificates and HF_HUB_OFFLINE, and takes up a cut
connection by itself as long as the process lives; what is added here is that a later process goes on as well.
"""

import errno
import hashlib
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fashionflow_core.errors import FashionFlowError, option
from fashionflow_core.utils import hashing
from fashionflow_core.utils.files import free_bytes
from fashionflow_core.utils.network import check_network, proxies

_ATTEMPTS, _WAIT = 4, 0.5  # tries without a new byte; seconds before the second one, doubled each time
_LONGEST_WAIT = 60  # seconds that a server may ask to be left alone
# A body that comes more slowly is given up: bytes a second, on average over so many seconds.
FLOOR, FLOOR_SECONDS = 1_000, 60.0
ANSWER_SECONDS = 120.0  # until redirects and headers have come; a client's own limit is one of each wait for bytes
LARGEST_UNANNOUNCED = 16 * 2**30  # bytes of a body whose size the server does not say; such a body may never end
_PASSING = (408, 429, 500, 502, 503, 504)  # answers that another try may change

_ADDRESS = "check the address"

Progress = Callable[[str, int, int], None]  # file name, bytes done, bytes in all
T = TypeVar("T")


def shortened(url: str) -> str:
    """An address as messages show it."""
    return url if len(url) <= 200 else f"{url[:200]}..."


def status(error: BaseException) -> int | None:
    """The HTTP status that a server answered with, if it answered."""
    return getattr(getattr(error, "response", None), "status_code", None)


def is_connection(error: BaseException) -> bool:
    """Whether the network failed. By name: these are kinds of the hub client's own HTTP library."""
    return "TransportError" in _kinds(error)


def _is_request(error: BaseException) -> bool:
    """Whether a request failed before it reached the network, or for good: a circle of redirects, a broken address."""
    return bool(_kinds(error) & {"RequestError", "InvalidURL", "StreamError", "UnicodeError"})


def _kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _may_pass(error: BaseException) -> bool:
    if answered := status(error):
        return answered in _PASSING
    return is_connection(error) and not _kinds(error) & {"ConnectError", "ProxyError", "UnsupportedProtocol"}


def persistent(action: Callable[[], T]) -> T:
    """Try again what failed for a reason that may pass; a server that is not there at all is not waited for."""
    for attempt in range(_ATTEMPTS):
        try:
            return action()
        except Exception as error:
            if not _may_pass(error) or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_pause(error, attempt))
    raise AssertionError("the last attempt returns or raises")


def _pause(error: BaseException, failures: int) -> float:
    """Seconds until another try: twice as many as before, or what the server asks for, within reason."""
    asked = getattr(getattr(error, "response", None), "headers", {}).get("retry-after", "")
    with suppress(ValueError):
        until = parsedate_to_datetime(asked).timestamp() - time.time() if not asked.isdigit() else float(asked)
        return min(max(_WAIT * 2**failures, until), _LONGEST_WAIT)
    return _WAIT * 2**failures


def _transfer(
    url: str,
    partial: Path,
    size: int | None,
    label: str,
    progress: Progress | None,
    version: str | None = None,
) -> None:
    """Fetch into `partial`, going on where it ends; cut connections are taken up again.

    Args:
        size: bytes of the whole file; None if the server does not say.
        label: what `progress` is told.
        version: ETag or date of what `partial` is a piece of; of another version the server then sends everything.
    """
    start = _length(partial)
    failures, reached = 0, start
    while _length(partial) != size:
        try:
            unchanged = {"If-Range": version} if version and _length(partial) else {}
            _stream(
                *(url, partial, unchanged, size),
                lambda done: progress(label, done, size or 0) if progress else None,
            )
            break
        except Exception as error:
            moved = _length(partial) > reached
            failures = 1 if moved else failures + 1
            reached = max(reached, _length(partial))
            if status(error) == 416:  # what is here is no part of that file
                partial.unlink(missing_ok=True)
            elif not _may_pass(error) and not (is_connection(error) and reached > start):
                raise
            if failures == _ATTEMPTS:
                raise
            pause = _pause(error, failures - 1)
        time.sleep(pause)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _stream(
    url: str, partial: Path, headers: Mapping[str, str], size: int | None, progress: Callable[[int], None]
) -> None:
    """One request for the rest of a file; each piece is written as it comes, so that nothing is asked for twice."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    done = _length(partial)
    asked = {**headers, "Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    options: Any = {"headers": asked, "follow_redirects": True, "timeout": constants.HF_HUB_DOWNLOAD_TIMEOUT}
    client = get_session()
    with ExitStack() as stack:
        response = _answer(url, lambda: stack.enter_context(client.stream("GET", url, **options)))
        file = stack.enter_context(partial.open("ab"))
        response.raise_for_status()
        if done and response.status_code != 206:  # it cannot begin in the middle, and sends everything
            done = file.truncate(0)
        most = math.inf if size is not None else min(LARGEST_UNANNOUNCED, done + free_bytes(partial.parent) / 2)
        since, before = time.monotonic(), done
        for piece in response.iter_bytes():
            file.write(piece)
            progress(done := done + len(piece))
            if done > most:
                file.truncate(0)
                raise FashionFlowError(f"{shortened(url)}: does not end ({done / 1e9:.2f} GB came)", hint=_ADDRESS)
            if (seconds := time.monotonic() - since) >= FLOOR_SECONDS:
                if done - before < FLOOR * seconds:
                    raise FashionFlowError(
                        f"{shortened(url)}: comes too slowly ({(done - before) / seconds:,.0f} bytes a second, "
                        f"at least {FLOOR:,} are needed)",
                        hint="try again later: what came is kept",
                    )
                since, before = time.monotonic(), done
    if size is not None and done != size:
        partial.unlink()
        raise OSError(f"{done} bytes came, {size} were announced")


def _answer(url: str, ask: Callable[[], T]) -> T:
    """The answer of a server, in a thread of its own: headers that come a byte at a time meet no limit of the client.

    Raises:
        FashionFlowError: its headers are not complete after `ANSWER_SECONDS`. The thread ends with its connection.
    """
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(ask())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if failed:
        raise failed[0]
    if not found:
        raise FashionFlowError(
            f"{shortened(url)}: comes too slowly (no complete answer after {ANSWER_SECONDS:g} s)",
            hint="try again later: what came is kept",
        )
    return found[0]


def download(url: str, folder: Path, sha256: str | None = None, progress: Progress | None = None) -> Path:
    """Fetch one file from an address into `folder`, made if missing, and check it; returns its path.

    An earlier, interrupted download goes on if the server says that the file is still the same one.

    Raises:
        FashionFlowError: no such file, no network, a full disk, or another SHA-256 than `sha256`.
    """
    from huggingface_hub.utils import WeakFileLock

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise FashionFlowError(
            f"{shortened(url)}: is no address that can be fetched", hint="give a file, or an http(s) address"
        )
    if parts.netloc.endswith("dropbox.com"):  # with dl=0 it serves a page about the file
        url = re.sub(r"([?&])dl=0\b", r"\1dl=1", url)
    folder.mkdir(parents=True, exist_ok=True)
    key, label = _short(url), PurePosixPath(parts.path).name or parts.netloc
    with explained(shortened(url), parts.netloc), WeakFileLock(folder / f"{key}.lock"):
        headers = persistent(lambda: _headers(url))
        length = headers.get("content-length", "")
        # Servers that make their answers up as they go say 0 where they do not know.
        size = int(length) or None if length.isdigit() and not headers.get("content-encoding") else None
        version = headers.get("etag") or headers.get("last-modified")
        target = folder / f"{key}-{_short(f'{version} {size}')}.incomplete"
        for other in folder.glob(f"{key}-*.incomplete"):
            if other != target or not version:
                other.unlink()  # of another version of the file, or of nobody knows which
        check_room(label, (size or 0) - (target.stat().st_size if target.exists() else 0), folder)
        _transfer(url, target, size, label, progress, None if version and version.startswith("W/") else version)
        if sha256 and (found := hashing.sha256(target)) != sha256.lower():
            target.unlink()
            raise FashionFlowError(
                f"{url}: its SHA-256 is {found}, not {sha256.lower()}; it was thrown away",
                hint=f"check the address and {option('sha256')}",
            )
    return target


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _headers(url: str) -> Mapping[str, str]:
    """What the server says of a file; nothing where it does not answer such questions, as with signed addresses."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    client = get_session()
    response: Any = _answer(url, lambda: client.head(url, follow_redirects=True, timeout=constants.HF_HUB_ETAG_TIMEOUT))
    if response.status_code in (403, 405, 501):
        return {}
    response.raise_for_status()
    return response.headers


def check_room(label: str, needed: int, folder: Path) -> None:
    """Raise FashionFlowError if `folder`, or what will hold it, has less than `needed` bytes free."""
    beside = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    free = free_bytes(beside)
    if needed > free:
        raise FashionFlowError(
            f"{label}: needs {needed / 1e6:.0f} MB more in {beside}, which has {free / 1e6:.0f} MB free",
            hint="make room there, or set HF_HOME or FASHIONFLOW_HOME to a folder on a larger disk",
        )


@contextmanager
def explained(what: str, server: str) -> Iterator[None]:
    """Failures of the disk, of the network and of `server` as one line about `what`.

    Raises:
        NetworkSettingError: a variable of the environment keeps everything from the network.
        FashionFlowError: anything else.
    """
    check_network()
    try:
        yield
    except FashionFlowError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise FashionFlowError(f"{what}: the disk is full", hint="make room, then try again") from None
        if isinstance(error, OSError) and error.errno and error.filename:
            raise FashionFlowError(
                f"{what}: {error.filename}: {(error.strerror or '').lower()}",
                hint="set HF_HOME and FASHIONFLOW_HOME to folders that can be written",
            ) from None
        if "OfflineModeIsEnabled" in _kinds(error):
            raise FashionFlowError(
                f"{what}: is not here yet, and HF_HUB_OFFLINE forbids the network", hint="unset HF_HUB_OFFLINE"
            ) from None
        if isinstance(error, UnicodeError) or "InvalidURL" in _kinds(error):
            raise FashionFlowError(f"{what}: not an address ({_line(error)})", hint="check the address") from None
        answered = status(error)
        if answered is None and _is_request(error) and not is_connection(error):
            raise FashionFlowError(f"{what}: could not be fetched: {_line(error)}", hint=_ADDRESS) from None
        if answered is None and not is_connection(error) and not isinstance(error, OSError):
            raise
        reason = f"answers {answered}" if answered else f"cannot be reached, or broke off ({_line(error)})"
        raise FashionFlowError(
            f"{what}: could not be fetched: {server} {reason}",
            hint=_ADDRESS if answered == 404 else f"check {' and '.join(['the network', *proxies()])}, then try again",
        ) from None


def _line(error: BaseException) -> str:
    lines = (line.strip() for line in str(error).splitlines() if line.strip())
    return next(lines, type(error).__name__)[:200]
