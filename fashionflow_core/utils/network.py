"""Checks of network settings in the environment: proxies, certificates, hub address, token."""

import os
from importlib.util import find_spec
from urllib.parse import urlsplit

from fashionflow_core.errors import FashionFlowError, reason_of
from fashionflow_core.utils.paths import expanded, hub_home

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_TIMEOUTS = ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


class NetworkSettingError(FashionFlowError):
    """An invalid environment variable that blocks all connections. Its value, often a secret, is not shown."""


def check_hub_settings() -> None:
    """Check variables that huggingface_hub (and so diffusers and transformers) reads on import.

    Raises:
        NetworkSettingError: names the variable.
    """
    if endpoint := os.environ.get("HF_ENDPOINT"):
        problem = _address_problem(endpoint, ("http", "https"))
        if problem:
            raise NetworkSettingError(
                f"HF_ENDPOINT: {problem}", hint="unset HF_ENDPOINT, or: export HF_ENDPOINT=https://huggingface.co"
            )
    for name in _TIMEOUTS:
        value = os.environ.get(name, "")
        if value and not value.strip().isdecimal():
            raise NetworkSettingError(f"{name}: not a whole number of seconds", hint=f"unset {name}")


def check_network() -> None:
    """Check variables that affect every connection.

    Raises:
        NetworkSettingError: names the variable.
    """
    check_hub_settings()
    for name in proxies():
        value = os.environ[name]
        problem = _address_problem(value if "://" in value else f"http://{value}", _PROXY_SCHEMES)
        if problem:
            raise NetworkSettingError(
                f"{name}: {problem}", hint=f"correct it, such as {name}=http://HOST:PORT, or unset it"
            )
        if value.lower().startswith("socks") and find_spec("socksio") is None:
            raise NetworkSettingError(
                f"{name}: a SOCKS proxy needs the package socksio", hint=f"pip install socksio, or unset {name}"
            )
    if file := os.environ.get("SSL_CERT_FILE"):
        import ssl

        try:
            ssl.create_default_context(cafile=file)
        except OSError as error:  # includes ssl.SSLError
            reason = "contains no certificates" if isinstance(error, ssl.SSLError) else reason_of(error)
            raise NetworkSettingError(f"SSL_CERT_FILE: {reason}", hint="correct it, or unset SSL_CERT_FILE") from None


def check_token() -> None:
    """Check values that are sent to the hub as headers: token and user agent.

    Raises:
        NetworkSettingError: names the variable, or the file.
    """
    if not os.environ.get("HF_HUB_USER_AGENT_ORIGIN", "").isascii():
        raise NetworkSettingError("HF_HUB_USER_AGENT_ORIGIN: not ASCII", hint="unset HF_HUB_USER_AGENT_ORIGIN")
    path = expanded(os.environ.get("HF_TOKEN_PATH") or hub_home() / "token")
    where = next((name for name in _TOKENS if os.environ.get(name)), "")
    try:
        token = os.environ[where].encode(errors="surrogateescape") if where else path.read_bytes()
    except OSError as error:
        if not os.path.lexists(path):
            return
        raise NetworkSettingError(f"{path}: {reason_of(error)}", hint="log in again: hf auth login") from None
    if any(not 32 <= byte < 127 for byte in token.strip()):
        raise NetworkSettingError(
            f"{where or path}: invalid characters in the token",
            hint=f"copy the token again, or unset {where}" if where else "log in again: hf auth login",
        )


def proxies() -> list[str]:
    """Names of the proxy variables that are set: lower case, which overrides, or upper case."""
    found = []
    for name in _PROXIES:
        found += [variable for variable in (name, name.upper()) if os.environ.get(variable)][:1]
    return found


def _address_problem(address: str, schemes: tuple[str, ...]) -> str:
    """What is wrong with an address; empty if it is valid."""
    try:
        parts = urlsplit(address)
        if parts.scheme.lower() not in schemes:
            return f"scheme is {parts.scheme or 'missing'}, not one of {', '.join(schemes)}"
        if not parts.hostname or any(char.isspace() for char in address):
            return "not an address: no host"
        _ = parts.port
    except ValueError as error:
        return f"not an address ({str(error).split(chr(39))[0].removesuffix(' as ')})"
    return ""
