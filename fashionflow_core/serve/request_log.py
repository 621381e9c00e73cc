"""Request log: `requests.jsonl`, one line per accepted or removed video."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError, reason_of
from fashionflow_core.serve.video_request import VideoRequest
from fashionflow_core.utils.files import append_durably

REQUESTS = "requests.jsonl"


class RequestLog:
    """The log, opened for appending; for one thread at a time.

    Raises:
        FashionFlowError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise FashionFlowError(
                f"{path}: cannot be written ({reason_of(error)})", hint=f"check its permissions: ls -l {path.parent}"
            ) from None

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Append lines; they are on the disk when this returns.

        Raises:
            OSError: nothing was appended.
        """
        append_durably(self._descriptor, "".join(json.dumps(line) + "\n" for line in lines).encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_requests(path: Path) -> tuple[dict[str, VideoRequest], set[str]]:
    """Valid requests by id, and ids of removed ones; incomplete lines, which were never answered, are skipped."""
    found: dict[str, VideoRequest] = {}
    removed: set[str] = set()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return found, removed
    except OSError as error:
        raise FashionFlowError(f"{path}: {reason_of(error)}", hint=f"check its permissions: ls -l {path}") from None
    for text in data.split(b"\n"):
        try:
            line = json.loads(text)
            if "accepted" in line:
                request = VideoRequest.from_json(line["accepted"])
                found[request.id] = request
            else:
                removed.add(str(line["removed"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return {name: request for name, request in found.items() if name not in removed}, removed
