"""Resumable HTTP downloads, checked by hash where one is given.

Requests go through huggingface_hub's client, which applies proxies, certificates and HF_HUB_OFFLINE and reconnects
within a process; this module adds resuming in a later process.
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

from fashionflow_core.errors import FashionFlowError, option, reason_of
from fashionflow_core.utils import hashing
from fashionflow_core.utils.files import free_bytes
from fashionflow_core.utils.network import check_network, proxies

_ATTEMPTS, _WAIT = 4, 0.5  # tries without a new byte; seconds before the second one, doubled each time
_LONGEST_WAIT = 60  # the longest Retry-After, in seconds, that is followed
# Slower downloads are stopped: bytes per second, on average over FLOOR_SECONDS.
FLOOR, FLOOR_SECONDS = 1_000, 60.0
ANSWER_SECONDS = 120.0  # for redirects and headers together; the client's own timeout restarts with each byte
LARGEST_UNANNOUNCED = 16 * 2**30  # bytes, where the server sends no Content-Length; such a body may be endless
_PASSING = (408, 429, 500, 502, 503, 504)  # HTTP status codes that a retry may resolve

_ADDRESS = "check the address"

OnBytes = Callable[[str, int, int], None]  # file name, bytes done, bytes in all
T = TypeVar("T")


def shortened(url: str) -> str:
    """An address, shortened for messages."""
    return url if len(url) <= 200 else f"{url[:200]}..."


def status(error: BaseException) -> int | None:
    """The HTTP status of a failed request; None without a response."""
    return getattr(getattr(error, "response", None), "status_code", None)


def is_connection(error: BaseException) -> bool:
    """Whether the network failed. Compared by name: the classes belong to the hub client's own HTTP library."""
    return "TransportError" in _kinds(error)


def _is_request(error: BaseException) -> bool:
    """Whether a retry cannot help: a redirect loop, a malformed address."""
    return bool(_kinds(error) & {"RequestError", "InvalidURL", "StreamError", "UnicodeError"})


def _kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _may_pass(error: BaseException) -> bool:
    if answered := status(error):
        return answered in _PASSING
    return is_connection(error) and not _kinds(error) & {"ConnectError", "ProxyError", "UnsupportedProtocol"}


def persistent(action: Callable[[], T]) -> T:
    """Retry transient failures; a host that cannot be resolved is not retried."""
    for attempt in range(_ATTEMPTS):
        try:
            return action()
        except Exception as error:
            if not _may_pass(error) or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_pause(error, attempt))
    raise AssertionError("the last attempt returns or raises")


def _pause(error: BaseException, failures: int) -> float:
    """Seconds until the next try: doubled each time, or the server's Retry-After, capped."""
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
    progress: OnBytes | None,
    version: str | None = None,
) -> None:
    """Download into `partial`, resuming at its end; cut connections are retried.

    Args:
        size: bytes of the whole file; None if unknown.
        label: the name passed to `progress`.
        version: ETag or date of the file that `partial` belongs to; if it has changed, the server sends all of it.
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
            if status(error) == 416:  # the partial file does not belong to this file
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
    """One request for the rest of a file; each chunk is written as it arrives, so that no byte is requested twice."""
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
        if done and response.status_code != 206:  # no support for ranges: the whole file follows
            done = file.truncate(0)
        most = math.inf if size is not None else min(LARGEST_UNANNOUNCED, done + free_bytes(partial.parent) / 2)
        since, before = time.monotonic(), done
        for piece in response.iter_bytes():
            file.write(piece)
            progress(done := done + len(piece))
            if done > most:
                file.truncate(0)
                raise FashionFlowError(f"{shortened(url)}: no end after {done / 1e9:.2f} GB", hint=_ADDRESS)
            if (seconds := time.monotonic() - since) >= FLOOR_SECONDS:
                if done - before < FLOOR * seconds:
                    raise FashionFlowError(
                        f"{shortened(url)}: download too slow ({(done - before) / seconds:,.0f} bytes per second, "
                        f"at least {FLOOR:,} required)",
                        hint="retry later; the partial download is kept",
                    )
                since, before = time.monotonic(), done
    if size is not None and done != size:
        partial.unlink()
        raise OSError(f"received {done} of {size} bytes")


def _answer(url: str, ask: Callable[[], T]) -> T:
    """Response of a server, read in its own thread: the client has no limit for headers that arrive byte by byte.

    Raises:
        FashionFlowError: headers incomplete after `ANSWER_SECONDS`. The thread ends with its connection.
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
            f"{shortened(url)}: server too slow (no complete response after {ANSWER_SECONDS:g} s)",
            hint="retry later; the partial download is kept",
        )
    return found[0]


def download(url: str, folder: Path, sha256: str | None = None, progress: OnBytes | None = None) -> Path:
    """Download one file into `folder` (created if missing), check it, and return its path.

    An interrupted download is resumed if the file on the server is unchanged.

    Raises:
        FashionFlowError: no such file, no network, a full disk, or another SHA-256 than `sha256`.
    """
    from huggingface_hub.utils import WeakFileLock

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise FashionFlowError(f"{shortened(url)}: not an http(s) address", hint="pass a file, or an http(s) address")
    if parts.netloc.endswith("dropbox.com"):  # with dl=0 it serves a page about the file
        url = re.sub(r"([?&])dl=0\b", r"\1dl=1", url)
    folder.mkdir(parents=True, exist_ok=True)
    key, label = _short(url), PurePosixPath(parts.path).name or parts.netloc
    with explained(shortened(url), parts.netloc), WeakFileLock(folder / f"{key}.lock"):
        headers = persistent(lambda: _headers(url))
        length = headers.get("content-length", "")
        # Servers that generate their responses send 0 for an unknown size.
        size = int(length) or None if length.isdigit() and not headers.get("content-encoding") else None
        version = headers.get("etag") or headers.get("last-modified")
        target = folder / f"{key}-{_short(f'{version} {size}')}.incomplete"
        for other in folder.glob(f"{key}-*.incomplete"):
            if other != target or not version:
                other.unlink()  # of another or an unknown version of the file
        check_room(label, (size or 0) - (target.stat().st_size if target.exists() else 0), folder)
        _transfer(url, target, size, label, progress, None if version and version.startswith("W/") else version)
        if sha256 and (found := hashing.sha256(target)) != sha256.lower():
            target.unlink()
            raise FashionFlowError(
                f"{url}: SHA-256 is {found}, not {sha256.lower()}; the file was deleted",
                hint=f"check the address and {option('sha256')}",
            )
    return target


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _headers(url: str) -> Mapping[str, str]:
    """Headers of a file; empty where the server rejects HEAD requests, as for signed addresses."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    client = get_session()
    response: Any = _answer(url, lambda: client.head(url, follow_redirects=True, timeout=constants.HF_HUB_ETAG_TIMEOUT))
    if response.status_code in (403, 405, 501):
        return {}
    response.raise_for_status()
    return response.headers


def check_room(label: str, needed: int, folder: Path) -> None:
    """Raise FashionFlowError if `folder`, or its nearest existing parent, has less than `needed` bytes free."""
    beside = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    free = free_bytes(beside)
    if needed > free:
        raise FashionFlowError(
            f"{label}: needs {needed / 1e6:.0f} MB in {beside}; {free / 1e6:.0f} MB free",
            hint="free some space there, or set HF_HOME or FASHIONFLOW_HOME to a folder on a larger disk",
        )


@contextmanager
def explained(what: str, server: str) -> Iterator[None]:
    """Turn errors of disk, network and `server` into one line about `what`.

    Raises:
        NetworkSettingError: an environment variable blocks all connections.
        FashionFlowError: any other failure.
    """
    check_network()
    try:
        yield
    except FashionFlowError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise FashionFlowError(f"{what}: disk full", hint="free some space, then retry") from None
        if isinstance(error, OSError) and error.errno and error.filename:
            raise FashionFlowError(
                f"{what}: {error.filename}: {reason_of(error)}",
                hint="set HF_HOME and FASHIONFLOW_HOME to writable folders",
            ) from None
        if "OfflineModeIsEnabled" in _kinds(error):
            raise FashionFlowError(
                f"{what}: not in the cache, and HF_HUB_OFFLINE is set", hint="unset HF_HUB_OFFLINE"
            ) from None
        if isinstance(error, UnicodeError) or "InvalidURL" in _kinds(error):
            raise FashionFlowError(f"{what}: not an address ({_line(error)})", hint="check the address") from None
        answered = status(error)
        if answered is None and _is_request(error) and not is_connection(error):
            raise FashionFlowError(f"{what}: download failed: {_line(error)}", hint=_ADDRESS) from None
        if answered is None and not is_connection(error) and not isinstance(error, OSError):
            raise
        reason = f"returned {answered}" if answered else f"unreachable, or connection lost ({_line(error)})"
        raise FashionFlowError(
            f"{what}: download failed: {server} {reason}",
            hint=_ADDRESS if answered == 404 else f"check {' and '.join(['the network', *proxies()])}, then retry",
        ) from None


def _line(error: BaseException) -> str:
    lines = (line.strip() for line in str(error).splitlines() if line.strip())
    return next(lines, type(error).__name__)[:200]
