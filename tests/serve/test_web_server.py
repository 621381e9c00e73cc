"""Connections of the web server alone: those that send or read nothing end, and the others do not."""

import asyncio
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fashionflow_core.serve import web_server
from fashionflow_core.serve.web_server import logged_as_json

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once, after a while, or with more than any buffer holds."""
    await receive()
    if scope["path"] == "/slow":
        await asyncio.sleep(2)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    size = 200_000_000 if scope["path"] == "/large" else 0
    for _ in range(size // 1_000_000):
        await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
    await send({"type": "http.response.body", "body": b"end"})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, Any]]:
    """The port of a server whose limits are short, and the server."""
    monkeypatch.setattr(web_server, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(web_server, "STALLED_SECONDS", 1.0)
    monkeypatch.setattr(web_server, "_CHECK_SECONDS", 0.1)
    server = web_server.web_server(answer)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        yield listener.getsockname()[1], server
        server.should_exit = True
        thread.join()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def ends(stream: socket.socket) -> bool:
    """Whether the server closes the connection (waits for it)."""
    try:
        while stream.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost:",
        REQUEST + b"GET / HTTP/1.1\r\nHost:",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc",
    ],
    ids=["nothing", "half a request", "half a second request", "a body that the answer did not wait for"],
)
def test_requests_that_do_not_arrive_end_their_connection(server: tuple[int, Any], begun: bytes) -> None:
    with connected(server[0]) as stream:
        stream.sendall(begun)
        assert ends(stream)


def test_a_byte_now_and_then_is_not_enough(server: tuple[int, Any]) -> None:
    with connected(server[0]) as stream, pytest.raises(OSError):
        stream.sendall(REQUEST + b"GET / HTTP/1.1\r\n")
        for _ in range(300):
            time.sleep(0.1)
            stream.sendall(b"X: y\r\n")


def test_an_answer_may_take_longer_than_a_request(server: tuple[int, Any]) -> None:
    with connected(server[0]) as stream:
        stream.sendall(REQUEST.replace(b"/ ", b"/slow ", 1))
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += stream.recv(1000)
    assert received.startswith(b"HTTP/1.1 200")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is a setting of Linux's sockets")
def test_a_client_that_never_reads_is_disconnected(server: tuple[int, Any]) -> None:
    port, running = server
    with connected(port) as stream:
        stream.sendall(REQUEST.replace(b"/ ", b"/large ", 1))
        assert stream.recv(1)
        deadline = time.monotonic() + 30
        while running.server_state.connections:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_what_libraries_log_is_json(capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    with logged_as_json(lines.append):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
        logging.getLogger("uvicorn.error").info("not of interest")
        try:
            raise ValueError("x")
        except ValueError:
            logging.getLogger("asyncio").exception("of a callback")
    found = [json.loads(line) for line in lines]
    assert [(line["level"], line["message"], line.get("error")) for line in found] == [
        ("warning", "Invalid HTTP request received.", None),
        ("error", "of a callback", "ValueError"),
    ]
    assert capfd.readouterr().err == ""
