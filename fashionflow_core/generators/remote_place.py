"""Addresses of remote models: `http://host:port/v1`, with the model's name behind a `#` where a server has several."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from fashionflow_core.errors import SettingError
from fashionflow_core.generators.config import GeneratorConfig
from fashionflow_core.utils.frame_sizes import FrameSizes

# A `Path` keeps one of two slashes, and models are named by paths everywhere.
_ADDRESS = re.compile(r"(https?):/{1,2}(?=[^/])", re.IGNORECASE)
_FPS, _SECONDS, _LONGEST = 24, 4, 20


def is_remote(place: str | Path) -> bool:
    """Whether a model is named by an address."""
    return bool(_ADDRESS.match(str(place)))


def address_of(place: str | Path) -> tuple[str, str]:
    """Address without a slash at its end, and the name of the model, empty if it states none.

    Raises:
        UsageError: not an address, or one with a user or password.
    """
    text = _ADDRESS.sub(lambda found: f"{found[1].lower()}://", str(place), count=1)
    address, _, model = text.partition("#")
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, None
    if not host or parts is None or parts.username or parts.password or parts.query:
        raise SettingError(
            "model", f"{text.split('@')[-1]!r} is not an address of a model", hint="write http://HOST:PORT/v1"
        )
    return address.rstrip("/"), model


def remote_config(place: str | Path) -> GeneratorConfig:
    """Assumed conventions of a remote model: its videos are resampled to this frame rate.

    Raises:
        UsageError: as `address_of`.
    """
    address, model = address_of(place)
    sizes = FrameSizes(480 * 832, 16)
    height, width = sizes.nearest(1, 1)
    return GeneratorConfig(
        name=model or urlsplit(address).netloc,
        purpose=f"remote model at {address}: photos are sent there",
        height=height,
        width=width,
        frames=_FPS * _SECONDS,
        fps=_FPS,
        latents_mean=(),
        latents_std=(),
        latents="frames",
        lock="full",
        family="remote model",
        longest=_FPS * _LONGEST,
        sizes=sizes,
        guidance=1.0,
        licence="that of the server's model",
        is_restricted=False,
        repo=address,
    )
