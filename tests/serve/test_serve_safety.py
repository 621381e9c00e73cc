"""Hostile requests to `fashionflow serve`: the right status, nothing written elsewhere, and the server lives."""

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from catalogues import conventions
from command import assert_refused, run
from serving import Server, form, picture, serving
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest

from fashionflow_core.catalogue.jobs import RunSpec
from fashionflow_core.serve.addresses import PhotoFetcher, is_public
from fashionflow_core.serve.guard import Bucket, Guard
from fashionflow_core.serve.settings import ApiKeys, ServerLimits, ServerOptions, read_keys
from fashionflow_core.serve.upload import read_upload
from fashionflow_core.serve.video_request import RequestError

KEY = "0123456789abcdef0123456789abcdef"
AUTH = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    (folder / "keys").write_text(f"# shop\n{KEY}\n")
    (folder / "keys").chmod(0o600)
    options = ("--api-key-file", folder / "keys", "--rate", "0", "--max-upload", "0.3", "--max-megapixels", "1")
    with serving(folder / "out", *options, "--allow-url", "localhost", "--allow-url", "allowed.invalid") as server:
        yield server


def photo(data: bytes, name: str = "p.png", **fields: Any) -> tuple[bytes, dict[str, str]]:
    body, kind = form({**fields, "input_reference": (name, data)})
    return body, {**AUTH, "Content-Type": kind}


def address(url: str) -> tuple[bytes, dict[str, str]]:
    body = json.dumps({"input_reference": {"image_url": url}}).encode()
    return body, {**AUTH, "Content-Type": "application/json"}


def fields(text: bytes, kind: str = "application/json") -> tuple[bytes, dict[str, str]]:
    return text, {**AUTH, "Content-Type": kind}


def bomb(width: int, height: int) -> bytes:
    """A small PNG that unpacks to so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 100_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


NOTHING: tuple[bytes, dict[str, str]] = (b"", AUTH)
POST, GET = ("POST", "/v1/videos"), "GET"
TWO_LENGTHS = {"Transfer-Encoding": "chunked", "Content-Length": "2"}
HOSTILE: dict[str, tuple[tuple[str, str], tuple[bytes, dict[str, str]], int]] = {
    "no key": (POST, (photo(picture())[0], {"Content-Type": photo(picture())[1]["Content-Type"]}), 401),
    "wrong key": ((GET, "/v1/videos"), (b"", {"Authorization": "Bearer " + "f" * 32}), 401),
    "half a key": ((GET, "/v1/videos"), (b"", {"Authorization": f"Bearer {KEY[:-1]}"}), 401),
    "another scheme": ((GET, "/v1/videos"), (b"", {"Authorization": f"Basic {KEY}"}), 401),
    "an empty key": ((GET, "/v1/videos"), (b"", {"Authorization": "Bearer "}), 401),
    "a made-up session": ((GET, "/v1/videos"), (b"", {"Cookie": "fashionflow_session=key-00000000.00"}), 401),
    "metrics without a key": ((GET, "/metrics"), (b"", {}), 401),
    "events without a key": ((GET, "/v1/events"), (b"", {}), 401),
    "schema without a key": ((GET, "/openapi.json"), (b"", {}), 401),
    "traversal in an id": ((GET, "/v1/videos/../../etc/passwd"), NOTHING, 404),
    "encoded traversal": ((GET, "/v1/videos/%2e%2e%2f%2e%2e%2fetc%2fpasswd"), NOTHING, 404),
    "traversal to content": ((GET, "/v1/videos/..%2f..%2fkeys/content"), NOTHING, 404),
    "backslashes": ((GET, "/v1/videos/..%5c..%5ckeys/content"), NOTHING, 404),
    "a zero byte": ((GET, "/v1/videos/a%00b/content"), NOTHING, 404),
    "traversal in the page": ((GET, "/page.js/../../../keys"), NOTHING, 404),
    "deletion of another file": (("DELETE", "/v1/videos/..%2fkeys"), NOTHING, 404),
    "an unknown method": (("BREW", "/v1/videos"), NOTHING, 405),
    "an unknown id": ((GET, "/v1/videos/video_00000000000000000000000000000000"), NOTHING, 404),
    "a list without end": ((GET, "/v1/videos?limit=1000000"), NOTHING, 400),
    "a list from nowhere": ((GET, "/v1/videos?after=x"), NOTHING, 404),
    "a limit that is no number": ((GET, "/v1/videos?limit=x"), NOTHING, 400),
    "a text as photo": (POST, photo(b"hello"), 400),
    "an empty photo": (POST, photo(b""), 400),
    "a page as photo": (POST, photo(b"<svg onload=alert(1)>", "x.svg"), 400),
    "a program as photo": (POST, photo(b"\x7fELF" + bytes(100)), 400),
    "a video as photo": (POST, photo(b"\0\0\0\x18ftypmp42" + bytes(100)), 400),
    "a bomb": (POST, photo(bomb(50_000, 50_000)), 400),
    "a smaller bomb": (POST, photo(bomb(1200, 1200)), 400),
    "a strip": (POST, photo(picture(size=(640, 40))), 400),
    "a body that is too large": (POST, photo(bytes(400_000)), 413),
    "a length that lies": (POST, (b"", {**AUTH, "Content-Length": "99999999999"}), 413),
    "a length that is none": (POST, (b"", {**AUTH, "Content-Length": "-1"}), 400),
    "two photos": (POST, fields(*form({"input_reference": ("a", picture()), "photo": ("b", picture())})), 400),
    "no photo": (POST, fields(b"{}"), 400),
    "a list as body": (POST, fields(b"[]"), 400),
    "deep JSON": (POST, fields(b"[" * 100_000), 400),
    "JSON of empty objects": (POST, fields(b'{"extra": [' + b"{}," * 50_000 + b"{}]}"), 400),
    "broken JSON": (POST, fields(b'{"a'), 400),
    "a form without an end": (POST, fields(b"--x\r\n", "multipart/form-data; boundary=x"), 400),
    "a form without a mark": (POST, fields(b"--x\r\n", "multipart/form-data"), 400),
    "too many fields": (POST, fields(*form({f"f{n}": n for n in range(500)})), 400),
    "half a surrogate pair as caption": (POST, fields(b'{"prompt": "\\ud800"}'), 400),
    "half a surrogate pair as name": (POST, fields(b'{"\\ud800": 1}'), 400),
    "half a surrogate pair inside": (POST, fields(b'{"extra": {"motion": ["\\ud800"]}}'), 400),
    "half a surrogate pair as key": (("POST", "/session"), fields(b'{"key": "\\ud800"}'), 401),
    "a name that comes twice": (POST, fields(b'{"seed": 1, "seed": 2}'), 400),
    "a name that comes twice inside": (POST, fields(b'{"extra": {"loop": true, "loop": false}}'), 400),
    "a slow codec": (POST, fields(b"--x--\r\n", "multipart/form-data; boundary=x; charset=punycode"), 400),
    "two kinds of length": (POST, (b"2\r\n{}\r\n0\r\n\r\n", {**AUTH, **TWO_LENGTHS}), 400),
    "more steps than noise levels": (POST, photo(picture(), num_inference_steps=1001), 400),
    "XML": (POST, fields(b"<a/>", "text/xml"), 400),
    "a file of this machine": (POST, address("file://localhost/etc/passwd"), 400),
    "a path of this machine": (POST, address("/etc/passwd"), 400),
    "loopback by name": (POST, address("http://localhost/x.png"), 400),
    "loopback by number": (POST, address("http://127.0.0.1/x.png"), 400),
    "loopback in one number": (POST, address("http://2130706433/x.png"), 400),
    "the metadata service": (POST, address("http://169.254.169.254/latest/meta-data/"), 400),
    "a port": (POST, address("http://allowed.invalid:22/x.png"), 400),
    "a user name": (POST, address("http://allowed.invalid@evil.invalid/x.png"), 400),
    "a line break": (POST, address("http://allowed.invalid/x\r\nHost: y"), 400),
    "another scheme of addresses": (POST, address("gopher://allowed.invalid/x"), 400),
    "a host that is not named": (POST, address("https://example.com/x.png"), 400),
    "data without a photo": (POST, address("data:text/html;base64,PGI+"), 400),
    "data that is not base64": (POST, address("data:image/png;base64,@@@@"), 400),
    "a review of nothing": (("POST", "/v1/videos/x/review"), fields(b'{"verdict": "approved"}'), 404),
    "a page of another site": (POST, (b"{}", {**AUTH, "Origin": "https://evil.invalid"}), 403),
    "a form of another site": (POST, (b"{}", {**AUTH, "Sec-Fetch-Site": "cross-site"}), 403),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_requests(server: Server, name: str) -> None:
    (method, path), (body, headers), status = HOSTILE[name]
    before = everything(server.folder.parent)
    answer = server.ask(method, path, body, headers)
    assert answer.status == status, answer.body
    if answer.headers.get("content-type") == "application/json":
        text = answer.body.decode()
        assert str(server.folder) not in text and KEY not in text
        assert answer.json["error"]["message"]
    assert name == "a length that is none" or answer.headers["x-content-type-options"] == "nosniff"
    assert everything(server.folder.parent) == before
    assert server.ask("GET", "/healthz").status == 200


def everything(folder: Path) -> dict[str, int]:
    """All files but logs, and their sizes."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log")
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def test_names_of_photos_are_shown_and_never_opened(server: Server) -> None:
    body, headers = photo(picture(8), "../../../etc/cron.d/evil\u202e.png", prompt="</script><script>alert(1)</script>")
    made = server.ask("POST", "/v1/videos", body, headers)
    assert made.json["photo_name"] == "evil.png"
    server.headers = AUTH
    server.wait(made.json["id"])
    names = [path.name for path in (server.folder / "photos").iterdir()]
    assert len(names) == 1 and names[0].removesuffix(".png").isalnum()
    server.headers = {}


def test_huge_and_slow_headers_end_the_connection(server: Server) -> None:
    for data in (
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01" + bytes(200),
        b"GET\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as stream:
            stream.sendall(data)
            assert stream.recv(100).startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
    assert server.ask("GET", "/healthz").status == 200


def test_many_half_open_connections_do_no_harm(server: Server) -> None:
    streams = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(200)]
    for stream in streams:
        stream.sendall(b"POST /v1/videos HTTP/1.1\r\nHost: x\r\n")
    assert server.ask("GET", "/healthz").status == 200
    for stream in streams:
        stream.close()


def test_a_browser_signs_in_with_the_key_and_gets_a_cookie(server: Server) -> None:
    assert server.ask("GET", "/session").json == {"signed_in": False}
    assert server.ask("GET", "/").status == 200
    assert server.ask("POST", "/session", {"key": "x" * 32}).status == 401
    signed = server.ask("POST", "/session", {"key": KEY})
    cookie = signed.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and KEY not in cookie
    headers = {"Cookie": cookie.partition(";")[0]}
    assert server.ask("GET", "/session", headers=headers).json["signed_in"]
    assert server.ask("GET", "/v1/videos", headers=headers).status == 200
    assert server.ask("POST", "/v1/videos/x/again", {}, {**headers, "Origin": "http://evil.invalid"}).status == 403
    text = server.log.read_text()
    assert KEY not in text and "key-" in text


def test_headers_that_forbid_framing_and_foreign_sources(server: Server) -> None:
    headers = server.ask("GET", "/").headers
    policy = headers["content-security-policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "connect-src 'self'"):
        assert rule in policy
    assert "unsafe" not in policy and headers["x-frame-options"] == "DENY" and "server" not in headers


def test_without_a_key_the_server_answers_its_own_machine_only(tmp_path: Path) -> None:
    with serving(tmp_path / "out", "--rate", "3") as server:
        for host in ("evil.invalid", f"evil.invalid:{server.port}", "127.0.0.1.evil.invalid", "10.0.0.1"):
            assert server.ask("GET", "/v1/videos", headers={"Host": host}).status == 421
        for host in ("localhost", f"127.0.0.1:{server.port}", f"[::1]:{server.port}"):
            assert server.ask("GET", "/v1/videos", headers={"Host": host}).status == 200
        origin = {"Origin": "http://evil.invalid"}
        assert server.post(picture(), headers=origin).status == 403
        statuses = [server.post(picture(number)).status for number in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        assert server.ask("POST", "/v1/videos/x/again", {}).status == 429
        answer = server.post(picture())
        assert 1 <= int(answer.headers["retry-after"]) <= 21 and answer.json["error"]["code"] == "rate_limit"


def test_the_command_refuses_what_is_unsafe(tmp_path: Path) -> None:
    conventions(tmp_path / "model")
    command = ("serve", "--model", tmp_path / "model", "--folder", tmp_path / "out")
    assert_refused(run(*command, "--host", "0.0.0.0", cwd=tmp_path), 2, "--host", "no API key")
    (tmp_path / "short").write_text("abc\n")
    assert_refused(run(*command, "--api-key-file", "short", cwd=tmp_path), 2, "--api-key-file", "key 1")
    (tmp_path / "empty").write_text("# none\n")
    assert_refused(run(*command, "--api-key-file", "empty", cwd=tmp_path), 1, "empty", "contains no key")
    assert_refused(run(*command, "--api-key-file", "none", cwd=tmp_path), 1, "none", "no such file")
    assert_refused(run(*command, "--allow-url", "http://a/", cwd=tmp_path), 2, "--allow-url")
    assert_refused(run(*command, "--keep", "soon", cwd=tmp_path), 2, "--keep")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_refused(run(*command, "--port", port, cwd=tmp_path), 1, port, "in use")


# parts alone


def options(**limits: Any) -> ServerOptions:
    return ServerOptions(RunSpec(model="", out="", scratch=""), limits=ServerLimits(**limits))


async def reads_all(_scope: Any, receive: Any, send: Any) -> None:
    """An endpoint (ASGI) that answers once it has the whole body."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})


def scope(headers: Mapping[bytes, bytes] = {}) -> dict[str, Any]:
    """A request of this machine's."""
    all_headers = [(b"host", b"localhost"), *headers.items()]
    return {"type": "http", "method": "POST", "path": "/v1/videos", "headers": all_headers, "client": ("127.0.0.1", 1)}


def guarded(chunks: list[tuple[float, bytes]], limits: dict[str, Any], headers: dict[bytes, bytes]) -> int:
    """The status for a body whose parts arrive after so many seconds each."""

    rest = iter(chunks)

    async def receive() -> dict[str, Any]:
        seconds, data = next(rest, (0.0, None))
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": data or b"", "more_body": data is not None}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    lines: list[str] = []
    guard = Guard(reads_all, options(**limits), lines.append, lambda status: None)
    asyncio.run(guard(scope(headers), receive, send))
    assert json.loads(lines[-1])["status"] == sent[0]["status"]
    return sent[0]["status"]


def test_bodies_are_counted_and_timed() -> None:
    limits = {"body_bytes": 100, "body_seconds": 0.3}
    assert guarded([(0, b"x" * 50), (0, b"x" * 50)], limits, {}) == 200
    assert guarded([(0, b"x" * 50), (0, b"x" * 51)], limits, {}) == 413
    assert guarded([(60, b"x")], limits, {b"content-length": b"101"}) == 413  # before anything is read
    assert guarded([(60, b"x")], limits, {}) == 408
    assert guarded([(0.1, b"x")] * 20, limits, {}) == 408


def test_large_fields_come_in_parts_only() -> None:
    """Decoding percent signs takes 60 times a field's size in memory."""
    urlencoded = [(b"content-type", b"application/x-www-form-urlencoded")]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"photo=" + b"%41" * 400_000, "more_body": False}

    request = HttpRequest({**scope(), "app": None, "headers": urlencoded}, receive)
    with pytest.raises(HTTPException, match="exceeded maximum size"):
        asyncio.run(read_upload(request, ServerLimits()))


def test_bodies_that_are_held_together_are_counted() -> None:
    """Seventeen requests of almost full size, none of which is complete: the last one is sent away."""
    all_sent = asyncio.Event()
    statuses: list[int] = []
    guard = Guard(reads_all, options(body_bytes=100), lambda line: None, statuses.append)
    got = 0

    async def send(message: Any) -> None:
        if message.get("status") == 503:
            all_sent.set()

    async def request() -> None:
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent, got
            if sent:
                await all_sent.wait()
                return {"type": "http.request", "body": b"", "more_body": False}
            sent, got = True, got + 1
            return {"type": "http.request", "body": bytes(95), "more_body": True}

        await guard(scope(), receive, send)

    async def run() -> None:
        await asyncio.wait_for(asyncio.gather(*(request() for _ in range(17))), 30)
        await request()  # what has ended is not held any more

    asyncio.run(run())
    assert (got, statuses.count(503), statuses.count(200)) == (18, 1, 17)


def test_rates_are_per_client_and_recover() -> None:
    now = 0.0
    bucket = Bucket(2, lambda: now)
    assert [bucket.wait("a") for _ in range(3)] == [0, 0, 30] and bucket.wait("b") == 0
    now = 30.0
    assert bucket.wait("a") == 0 and bucket.wait("a") == 30
    assert Bucket(0).wait("a") == 0


def test_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n{KEY[::-1]}\n")
    file.chmod(0o600)
    keys = read_keys(file)
    names = [name for name, _ in keys.digests]
    assert [keys.name_of(KEY), keys.name_of(KEY[::-1])] == names and keys.name_of(KEY[:-1]) is None
    assert keys.name_of("\udcff") is None
    assert keys.name_of_session(keys.session_of(names[1])) == names[1] and keys.name_of_session("x") is None
    assert not ApiKeys() and KEY not in repr(keys)
    file.chmod(0o644)
    with pytest.warns(UserWarning, match="chmod 600"):
        read_keys(file)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "192.0.2.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "nonsense",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:db8::1",
        "fd00:ec2::254",
    ],
)
def test_private_addresses(address: str) -> None:
    assert not is_public(address)


def test_public_addresses() -> None:
    assert all(is_public(address) for address in ("1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"))


def answering(*answers: bytes) -> tuple[socket.socket, list[bytes]]:
    """A web server that gives these answers, one a connection, and what it was asked."""
    listener, asked = socket.create_server(("127.0.0.1", 0)), []

    def loop() -> None:
        for answer in answers:
            with contextlib.suppress(OSError):  # the listener was closed: the test needed fewer answers
                stream, _ = listener.accept()
                with stream:
                    asked.append(stream.recv(4096))
                    stream.sendall(answer)

    threading.Thread(target=loop, daemon=True).start()
    return listener, asked


def fetcher(listener: socket.socket, names: dict[str, list[str]], **more: Any) -> PhotoFetcher:
    """One whose look-ups are `names` and whose connections all go to `listener`."""
    reached: list[str] = []

    def connect(place: tuple[str, int], timeout: float) -> socket.socket:
        reached.append(place[0])
        assert place[0] == "93.184.216.34"
        return socket.create_connection(listener.getsockname(), timeout)

    return PhotoFetcher(frozenset(names), more.get("max_bytes", 1000), lambda host, _port: names[host], connect)


PUBLIC = {"cdn.example": ["93.184.216.34"], "inside.example": ["10.0.0.1"], "both.example": ["93.184.216.34", "::1"]}


def test_allowed_hosts_are_fetched_from() -> None:
    listener, asked = answering(
        b"HTTP/1.1 302 Found\r\nLocation: /b.png\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nphoto"
    )
    with listener:
        assert fetcher(listener, PUBLIC).fetch("http://CDN.example/a.png?x=1") == b"photo"
    assert asked[0].startswith(b"GET /a.png?x=1 ") and asked[1].startswith(b"GET /b.png ")
    assert b"Host: cdn.example\r\n" in asked[0]


@pytest.mark.parametrize(
    ("url", "answers", "words"),
    [
        ("http://inside.example/", [], "private network"),
        ("http://both.example/", [], "private network"),
        ("http://cdn.example/", [b"HTTP/1.1 302 Found\r\nLocation: http://inside.example/\r\n\r\n"], "private network"),
        ("http://cdn.example/", [b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\n\r\n"], "not allowed"),
        (
            "http://cdn.example/",
            [b"HTTP/1.1 302 Found\r\nLocation: file://localhost/etc/passwd\r\n\r\n"],
            "invalid",
        ),
        ("http://cdn.example/", [b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"] * 9, "redirects"),
        ("http://cdn.example/", [b"HTTP/1.1 200 OK\r\n\r\n" + bytes(2000)], "more than 1,000 bytes"),
        ("http://cdn.example/", [b"HTTP/1.1 404 Not Found\r\n\r\n"], "status 404"),
        ("http://cdn.example/", [b"nonsense"], "could not be fetched"),
        ("http://cdn.example/", [b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf"], "ended early"),
    ],
)
def test_what_is_not_fetched(url: str, answers: list[bytes], words: str) -> None:
    listener, _ = answering(*answers)
    with listener, pytest.raises(RequestError, match=words):
        fetcher(listener, PUBLIC).fetch(url)


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 100 Continue\r\n\r\n" * 3, b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"]
)
def test_hosts_that_trickle_do_not_hold_a_thread(monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    """Each byte comes in time, and the whole never does."""
    monkeypatch.setattr("fashionflow_core.serve.addresses._LONGEST", 0.5)
    listener = socket.create_server(("127.0.0.1", 0))

    def trickle() -> None:
        stream, _ = listener.accept()
        with stream, contextlib.suppress(OSError):
            stream.recv(4096)
            stream.sendall(start)
            while True:
                stream.sendall(b"x")
                time.sleep(0.02)

    threading.Thread(target=trickle, daemon=True).start()
    with listener, pytest.raises(RequestError, match=r"more than 0\.5 s"):
        fetcher(listener, PUBLIC, max_bytes=10**9).fetch("http://cdn.example/a.png")
