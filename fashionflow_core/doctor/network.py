"""Whether the Hugging Face hub can be reached; nothing is fetched, and no token is sent or shown."""

import os
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from fashionflow_core.doctor.check import NOTE, OK, Check

LIMIT = 3.0  # seconds
_TRUE = ("1", "on", "yes", "true")


def _address() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def reach() -> dict[str, Any]:
    """Ask the hub's address for its headers; in a process of its own, since looking up a name knows no time limit."""
    start = time.monotonic()
    try:
        request = urllib.request.Request(_address(), method="HEAD", headers={"User-Agent": "fashionflow-doctor"})
        with urllib.request.urlopen(request, timeout=LIMIT) as response:
            status = response.status
    except urllib.error.HTTPError as error:
        status = error.code
    except Exception as error:  # addresses, names, certificates, proxies: each fails in its own way
        return {"failed": " ".join(str(getattr(error, "reason", error)).split())[:200]}
    return {"status": status, "answered_in": round(time.monotonic() - start, 3)}


def offline() -> str | None:
    """The variable that forbids the network, if one does."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return next((name for name in names if os.environ.get(name, "").lower() in _TRUE), None)


def hub(answer: dict[str, Any] | None) -> Check:
    """What `reach` found; None where it was not to ask. Never a problem: the bundled model needs no network."""
    parts = urlsplit(_address())
    try:  # without the user and password that may stand in it
        shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        shown = ""
    details: dict[str, Any] = {"endpoint": shown, "offline": bool(offline()), "reachable": None}
    if answer is None:
        return Check("hub", OK, f"{offline()} is set: models come from the cache alone", details=details)
    if parts.scheme not in ("http", "https") or not parts.hostname or not shown:
        mend = "unset HF_ENDPOINT, or: export HF_ENDPOINT=https://huggingface.co"
        return Check("hub", NOTE, "HF_ENDPOINT is no address", mend, details=details)
    if why := answer.get("failed"):
        text = f"{shown} cannot be reached ({why}); only `fashionflow models pull` needs it"
        mend = "check the network, HTTPS_PROXY and HF_ENDPOINT, or set HF_HUB_OFFLINE=1"
        return Check("hub", NOTE, text, mend, details=details | {"reachable": False})
    details |= {"reachable": answer["status"] < 500, **answer}
    if answer["status"] >= 500:
        return Check("hub", NOTE, f"{shown} answers {answer['status']}", "try again later", details=details)
    return Check("hub", OK, f"{shown} answers in {answer['answered_in'] * 1000:.0f} ms", details=details)
