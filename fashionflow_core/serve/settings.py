"""Server settings: limits, API keys, hosts that photos may be fetched from."""

import hashlib
import hmac
import ipaddress
import math
import re
import stat
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from fashionflow_core.catalogue.jobs import RunSpec
from fashionflow_core.catalogue.worker_handle import WORKER
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, SettingError

SHORTEST_KEY = 16  # characters of an API key
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
FOREVER = "forever"


@dataclass(frozen=True)
class ServerLimits:
    """Limits for clients.

    Attributes:
        queue: videos that may wait; further ones are refused with status 429.
        job_seconds: time limit of one video, from the start of its computation.
        keep_seconds: age at which a finished video is removed; infinite: never.
        posts_per_minute: new videos per minute and key (without keys: per address); 0: no limit.
        body_bytes: size of a request body.
        body_seconds: time in which a request body must arrive.
        photo_megapixels: size of a photo.
        video_seconds: length of a video.
        video_pixels: size of a video's frame.
        streams: progress streams that may be open together.
    """

    queue: int = 100
    job_seconds: float = 600.0
    keep_seconds: float = 604_800.0
    posts_per_minute: int = 120
    body_bytes: int = 64_000_000
    body_seconds: float = 60.0
    photo_megapixels: float = 50.0
    video_seconds: float = 60.0
    video_pixels: int = 3840 * 2160
    streams: int = 256


@dataclass(frozen=True)
class ApiKeys:
    """API keys of clients; without any, every program of this machine may use the server.

    Attributes:
        digests: (name, SHA-256) of each key; logs contain the name only.
    """

    digests: tuple[tuple[str, bytes], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.digests)

    def name_of(self, key: str) -> str | None:
        """The name of a presented key; None if it is unknown. Takes the same time for every key."""
        found, presented = None, hashlib.sha256(key.encode(errors="surrogatepass")).digest()
        for name, digest in self.digests:
            if hmac.compare_digest(presented, digest):
                found = name
        return found

    def session_of(self, name: str) -> str:
        """The session cookie of a browser whose user entered the key of this name."""
        digest = dict(self.digests)[name]
        return f"{name}.{hmac.digest(digest, b'fashionflow session', 'sha256').hex()}"

    def name_of_session(self, cookie: str) -> str | None:
        """The name of the key of a session cookie; None if it is unknown."""
        found = None
        for name, _ in self.digests:
            if hmac.compare_digest(cookie.encode(errors="surrogateescape"), self.session_of(name).encode()):
                found = name
        return found


@dataclass(frozen=True)
class ServerOptions:
    """A server.

    Attributes:
        work: settings of all videos, with the folders of model and videos.
        host, port: address to listen on; port 0: any free one.
        devices: one worker process per device; empty: videos are displayed and reviewed only.
        keys: API keys of clients.
        url_hosts: names of hosts that photos may be fetched from.
        limits: for clients.
        module: Python module of the worker process.
    """

    work: RunSpec
    host: str = "127.0.0.1"
    port: int = 8000
    devices: tuple[str, ...] = ("auto",)
    keys: ApiKeys = ApiKeys()
    url_hosts: frozenset[str] = frozenset()
    limits: ServerLimits = field(default_factory=ServerLimits)
    module: str = WORKER

    def __post_init__(self) -> None:
        if not self.keys and not is_loopback(self.host):
            raise SettingError(
                "host",
                f"{self.host} is reachable from other machines, and no API key is set",
                hint="write a long random line into a file and name it with the setting api_key_file, or use 127.0.0.1",
            )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is a loopback one."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_keys(path: Path) -> ApiKeys:
    """Read API keys from a file: one per line; empty lines and lines that begin with # are skipped.

    Warns:
        FashionFlowWarning: other users of this machine can read the file.

    Raises:
        FashionFlowError: the file cannot be read, or contains no key.
        SettingError: a key is too short.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise FashionFlowError(f"{path}: {reason.lower()}", hint=f"check the file: ls -l {path}") from None
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise FashionFlowError(f"{path}: contains no key", hint=f"create one: openssl rand -hex 32 > {path}")
    for number, key in enumerate(keys, 1):
        if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise SettingError(
                "api_key_file",
                f"key {number} of {path} is not {SHORTEST_KEY} or more ASCII characters without spaces",
                hint=f"create one: openssl rand -hex 32 > {path}",
            )
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        warnings.warn(
            f"{path}: other users of this machine may read the keys in it; chmod 600 {path}",
            FashionFlowWarning,
            stacklevel=2,
        )
    digests = (hashlib.sha256(key.encode()).digest() for key in keys)
    return ApiKeys(tuple((f"key-{digest.hex()[:8]}", digest) for digest in digests))


def parse_span(text: str) -> float:
    """Seconds of `90s`, `30m`, `12h`, `7d`, `2w` or `forever` (infinite).

    Raises:
        SettingError: any other text, or zero.
    """
    if text == FOREVER:
        return math.inf
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if match is None or not int(match[1]):
        raise SettingError("keep", f"{text!r} is not a time", hint="such as 12h, 7d or forever")
    return int(match[1]) * _SPANS[match[2]]
