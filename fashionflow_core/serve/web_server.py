"""Web server (uvicorn) with time limits for connections and JSON log lines."""

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uvicorn

CONNECTIONS = 1000  # beyond which requests are answered with status 503
REQUEST_SECONDS = 20.0  # in which the headers of a request, or what is left of an answered one, must have arrived
STALLED_SECONDS = 120.0  # after which a client that takes nothing of its answer is disconnected
_CHECK_SECONDS = 2.0


def web_server(app: Any) -> "uvicorn.Server":
    """The server of an ASGI application; it is given its listening socket when it starts."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=_protocol(),
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # X-Forwarded-For would let clients choose their address
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=16_384,
        )
    )


def _protocol() -> type[asyncio.Protocol]:
    """uvicorn's protocol, with time limits that it lacks.

    Its limit for idle connections ends with the first byte of a request, however slowly the next ones come.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class TimedProtocol(H11Protocol):
        """Closes connections whose requests do not arrive, and those whose answers are not read."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            peer = transport.get_extra_info("socket")
            if hasattr(socket, "TCP_USER_TIMEOUT") and peer is not None:  # Linux
                milliseconds = int(1000 * STALLED_SECONDS)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
            self._seen, self._since = self.cycle, self.loop.time()
            self.loop.call_later(_CHECK_SECONDS, self._check)

        def _check(self) -> None:
            if self.transport.is_closing():
                return
            now = self.loop.time()
            if self.cycle is not self._seen or (self.cycle is not None and not self.cycle.response_complete):
                self._seen, self._since = self.cycle, now
            if now - self._since > REQUEST_SECONDS:
                self.transport.abort()
            else:
                self.loop.call_later(_CHECK_SECONDS, self._check)

    return TimedProtocol


class _JsonLines(logging.Handler):
    """Warnings and errors of libraries as log lines of the server."""

    def __init__(self, log: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage()[:300],
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
        self._log(json.dumps(line))


@contextmanager
def logged_as_json(log: Callable[[str], None]) -> Iterator[None]:
    """Within this block what uvicorn and asyncio log goes to `log`, one JSON object per line."""
    handler, loggers = _JsonLines(log), [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate
