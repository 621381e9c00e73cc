"""Remote storage through fsspec: s3://, gs://, az://, hf://, memory://.

A local mirror of a remote output folder holds lock, manifest, page and unfinished files. Videos are uploaded one by
one, the manifest every few seconds and at the end.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.utils.hashing import sha256
from fashionflow_core.utils.paths import cache_home

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://")


def is_url(text: str) -> bool:
    """Whether this is a URL of fsspec."""
    return bool(_URL.match(text))


def as_given(path: Path | str) -> str:
    """An argument as it was typed: `Path` shortens s3://bucket to s3:/bucket."""
    text = re.sub(r"^([a-z][a-z0-9+.-]+):/(?!/)", r"\1://", os.fspath(path))
    return re.sub(r"^(file|local)://(?!/)", r"\1:///", text)  # without a host


def mirror(url: str) -> Path:
    """The local mirror of an output URL, in the user's cache."""
    return cache_home() / "catalogues" / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Convert errors of remote file systems into a FashionFlowError.

    Raises:
        FashionFlowError: for any error inside.
    """
    try:
        yield
    except FashionFlowError:
        raise
    except FileNotFoundError:
        raise FashionFlowError(f"{url}: no such file", hint="check the spelling of the address") from None
    except PermissionError:
        raise FashionFlowError(f"{url}: access denied", hint="check the credentials in the environment") from None
    except Exception as error:  # each file system has its own exceptions
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise FashionFlowError(f"{url}: {text}", hint="check address, network and credentials") from None


def opened(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path on it.

    Raises:
        FashionFlowError: unknown protocol, or its package is not installed.
    """
    from fsspec.core import url_to_fs

    try:
        with explained(url):
            return url_to_fs(url)
    except FashionFlowError as error:
        match = _URL.match(url)
        kind = match[1] if match else ""
        package = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}.get(kind)
        if package and "nstall" in error.message:
            raise FashionFlowError(f"{url}: {kind}:// needs {package}", hint=f"pip install {package}") from None
        raise


def find(url: str) -> list[str]:
    """Files below a folder or matching a pattern, or the file itself, as sorted URLs."""
    files, path = opened(url)
    with explained(url):
        files.invalidate_cache()
        if re.search(r"[*?\[]", path):
            found = files.glob(path)
        elif files.isfile(path) and not url.endswith("/"):
            return [url]
        else:
            found = files.find(path)
    return sorted(files.unstrip_protocol(one) for one in found)


def identify(source: str | Path) -> tuple[str, int, int]:
    """SHA-256, size in bytes and modification time of a file.

    The hash of a URL is empty, since it would require a download; of an unreadable file all are empty or 0.
    """
    if is_url(str(source)):
        return _identify_url(str(source))
    try:
        path = Path(source)
        info = path.stat()
        return (sha256(path), info.st_size, info.st_mtime_ns) if path.is_file() else ("", 0, 0)
    except (OSError, ValueError):
        return "", 0, 0


def _identify_url(url: str) -> tuple[str, int, int]:
    try:
        files, path = opened(url)
        files.invalidate_cache()
        info = files.info(path)
    except Exception:  # each file system has its own exceptions
        return "", 0, 0
    changed = next((info[key] for key in ("LastModified", "mtime", "updated", "created") if info.get(key)), 0)
    if isinstance(changed, datetime):
        changed = changed.timestamp()
    with suppress(TypeError, ValueError):
        return "", int(info.get("size") or 0), int(float(changed) * 1e9)
    return "", int(info.get("size") or 0), 0


def size(url: str) -> int | None:
    """Size of a file in bytes; None if it does not exist."""
    files, path = opened(url)
    with explained(url):
        files.invalidate_cache()
        return int(files.info(path)["size"]) if files.exists(path) else None


def fetch(url: str, target: Path) -> Path:
    """Download a file."""
    files, path = opened(url)
    with explained(url):
        files.get_file(path, str(target))
    return target


def put(source: Path, url: str) -> None:
    """Upload a file and check its size.

    Raises:
        FashionFlowError: the upload failed or is incomplete.
    """
    files, path = opened(url)
    with explained(url):
        with suppress(Exception):  # object stores have no folders
            if not {"s3", "gs", "gcs", "az", "abfs"} & set(files.protocol):
                files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        files.put_file(str(source), path)
        files.invalidate_cache()
        if files.info(path)["size"] != source.stat().st_size:
            raise FashionFlowError(f"{url}: stored incompletely", hint="run the same command again")
