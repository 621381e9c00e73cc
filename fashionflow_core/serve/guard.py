"""Request guard: hosts, keys, rates, sizes and time limits of requests, security headers, log lines."""

import asyncio
import ipaddress
import json
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from http.cookies import CookieError, SimpleCookie
from typing import Any

from fashionflow_core.serve.settings import ServerOptions, is_loopback

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "fashionflow_session"
# Open without a key: the page, whose script asks for one, and the probes of load balancers.
OPEN = frozenset(("/", "/page.css", "/page.js", "/session", "/healthz", "/readyz"))
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    b"connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_FAILED_KEYS_PER_MINUTE = 20  # wrong keys from one address
_HEADER_BYTES = 16_384
_ADDRESSES = 10_000  # whose rates are kept at a time
_BODIES = 16  # requests of full size that may be in memory together


class Bucket:
    """Token buckets, one per client: N requests per minute, in bursts of at most N."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self._clock = per_minute, clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Seconds until the next request is allowed; 0: now, and this one is counted."""
        if not self.per_minute:
            return 0.0
        now = self._clock()
        level, then = self._levels.pop(client, (float(self.per_minute), now))
        level = min(float(self.per_minute), level + (now - then) * self.per_minute / 60)
        allowed = level >= 1
        self._levels[client] = (level - 1 if allowed else level, now)
        while len(self._levels) > _ADDRESSES:
            self._levels.popitem(last=False)
        return 0.0 if allowed else (1 - level) * 60 / self.per_minute


class Refused(Exception):
    """A refused request."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers


class Guard:
    """Wraps the endpoint (ASGI).

    Args:
        app: the endpoint.
        options: settings of the server.
        log: called with each log line.
        answered: called with the status of each answer.
    """

    def __init__(
        self, app: App, options: ServerOptions, log: Callable[[str], None], answered: Callable[[int], None]
    ) -> None:
        self.app, self.options, self._log, self._answered = app, options, log, answered
        self._posts = Bucket(options.limits.posts_per_minute)
        self._wrong_keys = Bucket(_FAILED_KEYS_PER_MINUTE)
        self._held = 0  # bytes of requests that are being received or answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        start, status, started = time.monotonic(), 0, False
        body: _LimitedBody | None = None

        async def answer(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                message = {**message, "headers": _with_security(message.get("headers", ()))}
            await send(message)

        try:
            client = self._check(scope)
            scope["fashionflow_client"] = client
            body = _LimitedBody(receive, self._body_limit(scope), self.options.limits.body_seconds, self._hold)
            await self.app(scope, body, answer)
        except Refused as refusal:
            if not started:
                await _refuse(answer, refusal)
        except Exception as error:
            self._write(scope, error=type(error).__name__, message=str(error)[:300])
            if not started:
                await _refuse(answer, Refused(500, "internal_error", "internal error; see the server's log"))
        finally:
            if body is not None:
                self._held -= body.got
            self._answered(status)
            self._write(scope, status=status, seconds=round(time.monotonic() - start, 4))

    def _write(self, scope: Scope, **more: Any) -> None:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "method": scope["method"][:20],
            "path": scope["path"][:200],
            "address": (scope.get("client") or ("",))[0],
            "client": scope.get("fashionflow_client", ""),
        }
        self._log(json.dumps(line | more))

    def _check(self, scope: Scope) -> str:
        """The client: the name of its key, or its address.

        Raises:
            Refused: the request is not allowed.
        """
        headers: dict[bytes, bytes] = dict(scope["headers"])
        method, path = scope["method"], scope["path"]
        address = str((scope.get("client") or ("",))[0])
        if sum(len(name) + len(value) for name, value in scope["headers"]) > _HEADER_BYTES:
            raise Refused(
                431, "headers_too_large", f"headers may have at most {_HEADER_BYTES:,} bytes", connection="close"
            )
        host = headers.get(b"host", b"").decode("latin-1")
        if sum(name == b"host" for name, _ in scope["headers"]) != 1:
            raise Refused(400, "bad_host", "a request must have one Host header")
        if not self.options.keys and not self._is_own_name(host):
            # Without keys, pages of other sites in a browser of this machine could use the server: through a name that
            # resolves to this machine (DNS rebinding), or through a form.
            raise Refused(421, "bad_host", "this server answers to its own address only; open it by that")
        if method not in ("GET", "HEAD", "OPTIONS"):
            self._check_origin(headers, host)
        client = self._identify(headers, address) if self.options.keys else address
        if client is None:
            if path not in OPEN:
                raise Refused(401, "invalid_api_key", "a valid API key is needed", **{"www-authenticate": "Bearer"})
            client = address
        makes = path == "/v1/videos" or path.endswith("/again")
        if method == "POST" and makes and (seconds := self._posts.wait(client)):
            raise Refused(429, "rate_limit", "too many requests", **{"retry-after": str(math.ceil(seconds))})
        return client

    def _is_own_name(self, host: str) -> bool:
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        return is_loopback(name) or name.lower() == self.options.host.lower()

    @staticmethod
    def _check_origin(headers: dict[bytes, bytes], host: str) -> None:
        origin = headers.get(b"origin", b"").decode("latin-1")
        site = headers.get(b"sec-fetch-site", b"").decode("latin-1")
        if (origin and origin.partition("://")[2] != host) or site not in ("", "same-origin", "none"):
            raise Refused(403, "cross_site", "requests from pages of other sites are refused")

    def _identify(self, headers: dict[bytes, bytes], address: str) -> str | None:
        keys = self.options.keys
        scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        cookie = _cookie(headers.get(b"cookie", b"").decode("latin-1"))
        if not key and not cookie:
            return None
        found = keys.name_of(key.strip()) if key and scheme.lower() == "bearer" else None
        if found is None and cookie:
            found = keys.name_of_session(cookie)
        # Only wrong keys are limited: behind a proxy all clients share one address.
        if found is None and (seconds := self.wrong_key(address)):
            raise Refused(429, "rate_limit", "too many wrong keys", **{"retry-after": str(math.ceil(seconds))})
        return found

    def wrong_key(self, address: str) -> float:
        """Count a wrong key; returns 0, or the seconds to wait if there were too many."""
        return self._wrong_keys.wait(_network(address))

    def _body_limit(self, scope: Scope) -> int:
        """Bytes that the body of a request may have.

        Raises:
            Refused: it announces more, or its length in two ways.
        """
        headers = dict(scope["headers"])
        limit = self.options.limits.body_bytes if scope["path"] == "/v1/videos" else 65_536
        length = headers.get(b"content-length", b"")
        if length and b"transfer-encoding" in headers:
            # A proxy in front may have gone by the other one (request smuggling; RFC 9112, 6.3).
            raise Refused(400, "bad_length", "Content-Length beside Transfer-Encoding", connection="close")
        if length and (not length.isdigit() or int(length) > limit):
            raise Refused(413, "too_large", f"a request may have at most {limit:,} bytes", connection="close")
        return limit

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > _BODIES * self.options.limits.body_bytes:
            headers = {"retry-after": "5", "connection": "close"}
            raise Refused(503, "busy", "too many large requests at once", **headers)


class _LimitedBody:
    """The body of a request (ASGI's `receive`), up to so many bytes within so many seconds.

    Args:
        receive: of the web server.
        limit: bytes.
        seconds: in which it must have arrived.
        hold: called with the size of each part.
    """

    def __init__(self, receive: Receive, limit: int, seconds: float, hold: Callable[[int], None]) -> None:
        self._receive, self._limit, self._hold = receive, limit, hold
        self._deadline, self._done = time.monotonic() + seconds, False
        self.got = 0

    async def __call__(self) -> Message:
        if self._done:  # from now on this waits for the end of the connection
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._deadline - time.monotonic()))
        except TimeoutError:
            raise Refused(408, "timeout", "the request did not arrive in time", connection="close") from None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self.got += size
            self._hold(size)
            self._done = not message.get("more_body", False)
            if self.got > self._limit:
                raise Refused(413, "too_large", f"a request may have at most {self._limit:,} bytes", connection="close")
        return message


def _with_security(headers: Any) -> list[tuple[bytes, bytes]]:
    found = [(name.lower(), value) for name, value in headers if name.lower() != b"server"]
    names = {name for name, _ in found}
    found += [one for one in HEADERS if one[0] not in names]
    if b"content-security-policy" not in names:
        found.append((b"content-security-policy", POLICY))
    if b"cache-control" not in names:
        found.append((b"cache-control", b"no-store"))
    return found


async def _refuse(send: Send, refusal: Refused) -> None:
    body = json.dumps(error_json(refusal.code, str(refusal))).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_json(code: str, message: str, param: str | None = None, hint: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    kind = "server_error" if code == "internal_error" else "invalid_request_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return {"error": error | ({"hint": hint} if hint else {})}


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _network(address: str) -> str:
    """An IPv4 address, or the /64 network of an IPv6 address, which is what one customer gets."""
    try:
        found = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{found}/64", strict=False)) if found.version == 6 else address
