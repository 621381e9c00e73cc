"""A web server on 127.0.0.1 that holds videos, with the faults of real ones on demand, and a log of requests."""

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """The state of the server; tests change it while it runs.

    Attributes:
        files: path → content.
        drop: path → after how many bytes each of the next connections is cut.
        answers: path → statuses that the next requests are answered with, each with a Retry-After in seconds or None.
        ignores_range: sends everything whatever is asked.
        refuses_head: signed addresses are good for GET alone.
        tells_length: whether sizes are announced; without, content comes in chunks.
        hangs: paths that are never answered.
        redirects: path → where its answer leads.
        endless: paths whose content is sent again and again.
        crawls: seconds between the bytes of these paths.
        headers_crawl: paths whose headers never end, a line at a time.
        pause: seconds after every 64 KiB.
        log: method, path and range of every request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    drop: dict[str, list[int]] = field(default_factory=dict)
    answers: dict[str, list[tuple[int, str | None]]] = field(default_factory=dict)
    ignores_range: bool = False
    refuses_head: bool = False
    tells_length: bool = True
    hangs: set[str] = field(default_factory=set)
    redirects: dict[str, str] = field(default_factory=dict)
    endless: set[str] = field(default_factory=set)
    crawls: dict[str, float] = field(default_factory=dict)
    headers_crawl: set[str] = field(default_factory=set)
    pause: float = 0.0
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    closed: threading.Event = field(default_factory=threading.Event)

    def gets(self, path: str) -> list[str | None]:
        """The ranges that a file was asked for with."""
        return [asked for method, where, asked in self.log if (method, where) == ("GET", path)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        site = self.site
        with site.lock:
            site.log.append((self.command, self.path, self.headers["Range"]))
            site.at_once += 1
            site.most_at_once = max(site.most_at_once, site.at_once)
        try:
            self._serve(site)
        except OSError:
            self.close_connection = True  # the client is gone
        finally:
            with site.lock:
                site.at_once -= 1

    def _serve(self, site: Site) -> None:
        while self.path in site.hangs and not site.closed.wait(0.05):
            pass
        if self.path in site.headers_crawl:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not site.closed.wait(0.05):
                self.wfile.write(b"X: x\r\n")
        if self.path in site.redirects:
            self.send_response(302)
            self.send_header("Location", site.redirects[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = site.files.get(self.path)
        status, after = 200 if content is not None else 404, None
        if site.refuses_head and self.command == "HEAD":
            status = 403
        elif site.answers.get(self.path):
            status, after = site.answers[self.path].pop(0)
        body = content if status == 200 and content is not None else b"<html>sorry</html>"
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if match and status == 200 and not site.ignores_range and self.headers["If-Range"] in (None, etag):
            start, status = int(match[1]), 206
        self.send_response(status)
        self.send_header("ETag", etag)
        if after is not None:
            self.send_header("Retry-After", after)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if site.tells_length and self.path not in site.endless:
            self.send_header("Content-Length", str(len(body) - start))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command == "HEAD":
            return
        while self.path in site.endless and not site.closed.is_set():
            self.wfile.write(b"%x\r\n%b\r\n" % (len(body), body))
        for position in range(len(body)) if self.path in site.crawls else ():
            self.wfile.write(body[position : position + 1])
            if site.closed.wait(site.crawls[self.path]):
                return
        cut = site.drop[self.path].pop(0) if site.drop.get(self.path) and status in (200, 206) else None
        sent = body[start:] if cut is None else body[start : start + cut]
        for begin in range(0, len(sent), 1 << 16):
            piece = sent[begin : begin + (1 << 16)]
            self.wfile.write(piece if site.tells_length else b"%x\r\n%b\r\n" % (len(piece), piece))
            time.sleep(site.pause)
        if cut is not None:
            self.close_connection = True
        elif not site.tells_length:
            self.wfile.write(b"0\r\n\r\n")


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    """A server on a free port of 127.0.0.1, empty at first."""
    site = Site()
    handler = type("Handler", (_Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        site.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield site
        finally:
            site.closed.set()
            server.shutdown()
