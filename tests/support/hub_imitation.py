"""A Hugging Face hub on 127.0.0.1: what its client asks of the real one, with faults on demand and a log of it all.

Written after the answers that huggingface_hub 2.4 reads: listings of repositories under /api/models, files under
/ID/resolve/COMMIT/FILE with their headers, large files by a redirect to another host, Range requests.
"""

import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Request:
    """One answered request: what was asked, and how many bytes of body went out."""

    method: str
    path: str
    range: str | None
    authorization: str | None
    host: str
    status: int = 0
    sent: int = 0


@dataclass
class Hub:
    """The state of the imitation; tests change it while it runs.

    Attributes:
        repos: repository → commit → path → content. `main` is the last commit.
        files: path → content of plain files, outside of any repository, under /plain/.
        drop: file name → after how many bytes each of the next connections that fetch it is cut.
        pause: file name → seconds to wait after every 64 KiB.
        corrupt: file names that arrive with one bit turned.
        gated: repositories that need a permission.
        no_head: file names for which only GET is answered.
        failing: how many of the next requests are answered with 503.
        hang: nothing is answered at all.
        requests: what was asked so far.
    """

    url: str = ""
    repos: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    drop: dict[str, list[int]] = field(default_factory=dict)
    pause: dict[str, float] = field(default_factory=dict)
    corrupt: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    no_head: set[str] = field(default_factory=set)
    failing: int = 0
    hang: threading.Event = field(default_factory=threading.Event)
    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, repo: str, files: Mapping[str, bytes]) -> str:
        """Commit `files` to `repo`; returns the commit's hash."""
        commit = hashlib.sha1(repr((repo, sorted(files.items()))).encode()).hexdigest()
        self.repos.setdefault(repo, {})[commit] = dict(files)
        return commit

    def sent(self, name: str) -> int:
        """Bytes of a file, by its last part, that went out so far."""
        with self.lock:
            return sum(request.sent for request in self.requests if request.path.endswith("/" + name))

    def asked(self) -> Counter[str]:
        """How often each path was asked for, with any method."""
        with self.lock:
            return Counter(request.path for request in self.requests)


def is_large(path: str) -> bool:
    """Whether a file is kept in large-file storage, as `.gitattributes` of most repositories says."""
    return path.endswith((".safetensors", ".bin", ".pth"))


def _commit(hub: Hub, repo: str, revision: str) -> str | None:
    commits = hub.repos.get(repo, {})
    return revision if revision in commits else list(commits)[-1] if revision == "main" and commits else None


def _entry(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": blob}
    if is_large(path):
        entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def setup(self) -> None:
        # Small buffers: what counts as sent has mostly arrived.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        hub, url = self.hub, urlsplit(self.path)
        path = unquote(url.path)
        self.request_log = Request(
            *(self.command, path, self.headers["Range"], self.headers["Authorization"], self.headers["Host"])
        )
        with hub.lock:
            hub.requests.append(self.request_log)
            failing = hub.failing > 0
            hub.failing -= failing
        while hub.hang.is_set():
            time.sleep(0.05)
        if failing:
            return self._answer(503)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            return self._describe(match[1], match[2] or "main")
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(match[1], match[2], match[3])
        if match := re.fullmatch(r"/(?:storage|plain)/(.+)", path):
            query = parse_qs(url.query)
            content = self._stored(query["id"][0]) if "id" in query else hub.files.get(match[1])
            return self._answer(404) if content is None else self._send(match[1].split("/")[-1], content)
        return self._answer(200 if path == "/" else 404)

    def _stored(self, sha256: str) -> bytes | None:
        every = (
            content for commits in self.hub.repos.values() for files in commits.values() for content in files.values()
        )
        return next((content for content in every if hashlib.sha256(content).hexdigest() == sha256), None)

    def _find(self, repo: str, revision: str) -> str | None:
        """The commit, or None after an answer that says why not."""
        if repo in self.hub.gated:
            self._answer(401, {"X-Error-Code": "GatedRepo"}, b"gated")
        elif repo not in self.hub.repos:
            self._answer(404, {"X-Error-Code": "RepoNotFound"})
        elif (commit := _commit(self.hub, repo, revision)) is None:
            self._answer(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            return commit
        return None

    def _describe(self, repo: str, revision: str) -> None:
        if (commit := self._find(repo, revision)) is None:
            return
        files = self.hub.repos[repo][commit]
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in files]
        if "blobs=" in self.path:  # without it the files are named and no more
            siblings = [_entry(path, content) for path, content in files.items()]
        described = {"id": repo, "sha": commit, "siblings": siblings}
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(described).encode())

    def _resolve(self, repo: str, revision: str, path: str) -> None:
        if (commit := self._find(repo, revision)) is None:
            return
        content = self.hub.repos[repo][commit].get(path)
        headers = {"X-Repo-Commit": commit}
        if content is None:
            self._answer(404, headers | {"X-Error-Code": "EntryNotFound"})
        elif is_large(path):
            sha256 = hashlib.sha256(content).hexdigest()
            # As the hub does: by another host name, which must not be shown the token.
            place = self.hub.url.replace("127.0.0.1", "localhost") + f"/storage/{path}?id={sha256}"
            linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content)), "Location": place}
            self._answer(302, headers | linked)
        else:
            self._send(path, content, headers | {"ETag": f'"{_entry(path, content)["blobId"]}"'})

    def _send(self, name: str, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        hub, base = self.hub, name.split("/")[-1]
        etag = {"ETag": f'"{hashlib.md5(content).hexdigest()}"'}
        if base in hub.corrupt:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        start, status = 0, 200
        if self.command == "HEAD" and base in hub.no_head:
            return self._answer(403)
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or ""):
            start, status = int(match[1]), 206
            if start >= len(content):
                return self._answer(416)
        ranged = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        cut = hub.drop[base].pop(0) if self.command == "GET" and hub.drop.get(base) else None
        self._answer(
            *(status, {"Accept-Ranges": "bytes", **etag, **(headers or {}), **ranged}, content[start:]),
            cut=cut,
            pause=hub.pause.get(base, 0),
        )

    def _answer(
        self,
        status: int,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        cut: int | None = None,
        pause: float = 0,
    ) -> None:
        self.request_log.status = status
        with contextlib.suppress(OSError):  # the client is gone
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            for start in range(0, len(body[:cut]), 1 << 16):
                piece = body[:cut][start : start + (1 << 16)]
                # Counted first: a client that has read the last piece may ask for the sum before this thread runs on.
                self.request_log.sent += len(piece)
                try:
                    self.wfile.write(piece)
                except OSError:
                    self.request_log.sent -= len(piece)
                    raise
                time.sleep(pause)
            if cut is not None:
                self.close_connection = True


@contextlib.contextmanager
def imitated_hub() -> Iterator[Hub]:
    """A hub on a free port of 127.0.0.1, empty at first."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield hub
        finally:
            hub.hang.clear()
            server.shutdown()


def surroundings(hub: Hub, folder: Path) -> dict[str, str]:
    """Environment variables of a command that knows no other hub, and keeps models and cache in `folder`."""
    return {
        "FASHIONFLOW_HOME": str(folder / "home"),
        "HF_HOME": str(folder / "hf"),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "hf_secret",
    }


def files_in(folder: Path) -> dict[str, bytes]:
    """Content by path of all files in a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def nothing_installed(folder: Path) -> bool:
    """Whether the models folder of `surroundings` holds no model, nor a part of one."""
    models = folder / "home" / "models"
    return not [path for path in models.glob("*") if path.suffix != ".lock" and path.name != ".downloads"]
