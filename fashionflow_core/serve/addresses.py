"""Photos at URLs of clients: from allowed hosts with public addresses only, also after DNS and redirects."""

import base64
import binascii
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from fashionflow_core.serve.video_request import RequestError

_REDIRECTS = 3
_SECONDS = 10.0  # for each connection, and each wait for bytes of it
_LONGEST = 30.0  # for an answer, however steadily its bytes trickle in
_PORTS = {"http": 80, "https": 443}
FIELD = "input_reference"


def addresses_of(host: str, port: int) -> list[str]:
    """The IP addresses of a host.

    Raises:
        OSError: the host is unknown.
    """
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True)
class PhotoFetcher:
    """Fetcher of photos.

    Attributes:
        hosts: names of allowed hosts, lower case.
        max_bytes: size of a photo.
        resolve: as `addresses_of`.
        connect: as `socket.create_connection`.
    """

    hosts: frozenset[str]
    max_bytes: int
    resolve: Callable[[str, int], list[str]] = addresses_of
    connect: Callable[..., socket.socket] = socket.create_connection

    def fetch(self, url: str) -> bytes:
        """The bytes at a `data:`, `http:` or `https:` address.

        Raises:
            RequestError: the URL is not allowed, cannot be fetched, or is too large.
        """
        if url[:5].lower() == "data:":
            return _data(url, self.max_bytes)
        for _ in range(_REDIRECTS + 1):
            parts = self._checked(url)
            try:
                answer = self._get(parts)
            except (OSError, http.client.HTTPException) as error:
                reason = str(error)[:100] or type(error).__name__
                raise RequestError(FIELD, f"could not be fetched ({reason})", "send the photo itself") from None
            if isinstance(answer, bytes):
                return answer
            url = urljoin(url, answer)
        raise RequestError(FIELD, f"more than {_REDIRECTS} redirects", "send the final URL of the photo")

    def _checked(self, url: str) -> SplitResult:
        hint = "send the photo itself, or ask the operator of this server to allow the host"
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise RequestError(FIELD, "invalid URL", hint) from None
        if parts.scheme not in _PORTS or not host or re.search(r"[\s\\\x00-\x1f]", url) or not url.isascii():
            raise RequestError(FIELD, "invalid http or https URL", hint)
        if parts.username is not None or port not in (None, _PORTS[parts.scheme]):
            raise RequestError(FIELD, "user names and ports are not allowed in URLs", hint)
        if host not in self.hosts:
            raise RequestError(FIELD, f"host {host[:60]} is not allowed", hint)
        return parts

    def _get(self, parts: SplitResult) -> bytes | str:
        """The photo, or the target of a redirect."""
        host, port = str(parts.hostname).rstrip("."), _PORTS[parts.scheme]
        addresses = self.resolve(host, port)
        if not addresses or not all(is_public(address) for address in addresses):
            raise RequestError(FIELD, f"host {host} has an address in a private network", "send the photo itself")
        # Connect to the checked address: a second DNS query may return another one (DNS rebinding).
        stream = self.connect((addresses[0], port), timeout=_SECONDS)
        # Also for headers that trickle in: a socket's own limit begins anew with each byte.
        same, deadline = stream.dup(), time.monotonic() + _LONGEST
        limit = threading.Timer(_LONGEST, _shut, (same,))
        limit.daemon = True
        limit.start()
        try:
            if parts.scheme == "https":
                stream = ssl.create_default_context().wrap_socket(stream, server_hostname=host)
            connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
            connection.sock = stream
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", target, headers={"User-Agent": "fashionflow", "Accept": "image/*"})
            answer = connection.getresponse()
            if answer.status in (301, 302, 303, 307, 308):
                return answer.getheader("Location") or ""
            if answer.status != 200:
                raise RequestError(FIELD, f"the host answered with status {answer.status}", "check the URL")
            data = bytearray()
            while len(data) <= self.max_bytes and (part := answer.read1(65_536)):
                data += part
            if time.monotonic() >= deadline:  # what was read ends where the connection was ended
                raise ConnectionError
        except (OSError, http.client.HTTPException):
            if time.monotonic() < deadline:
                raise
            raise TimeoutError(f"it took more than {_LONGEST:g} s") from None
        finally:
            limit.cancel()
            same.close()
            stream.close()
        if len(data) > self.max_bytes:
            raise RequestError(FIELD, f"more than {self.max_bytes:,} bytes", "send a smaller photo")
        if answer.length:
            raise ConnectionError("the connection ended early")
        return bytes(data)


def _shut(stream: socket.socket) -> None:
    with suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)


def is_public(address: str) -> bool:
    """Whether an IP address is public: not loopback, private, link-local, shared or reserved."""
    try:
        found = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        # Embedded IPv4 address: mapped, 6to4, Teredo, NAT64 (RFC 6052).
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is None and found in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast and not found.is_reserved


def _data(url: str, max_bytes: int) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise RequestError(FIELD, "not a base64 data: URL", "such as data:image/jpeg;base64,...")
    if len(body) > max_bytes * 4 // 3 + 4:
        raise RequestError(FIELD, f"more than {max_bytes:,} bytes", "send a smaller photo")
    try:
        return base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error):
        raise RequestError(FIELD, "not valid base64", "such as data:image/jpeg;base64,...") from None
