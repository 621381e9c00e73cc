"""User paths: expansion of `~`, and the cache folder."""

import os
from pathlib import Path

from fashionflow_core.errors import FashionFlowError


class NoHome(FashionFlowError):
    """No home folder: HOME is not set and the user is unknown to the system, as in many containers."""

    def __init__(self) -> None:
        super().__init__(
            "HOME: not set, and the user has no home folder",
            hint="set a writable folder: export FASHIONFLOW_HOME=/path/to/folder",
        )


def expanded(path: str | Path) -> Path:
    """A path with `~` and `~user` expanded; unchanged if there is no such user or home folder."""
    return Path(os.path.expanduser(path))


def hub_home() -> Path:
    """`$HF_HOME`, else `huggingface` in the user's cache: folder of the hub's cache and token."""
    return expanded(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"))


def cache_home() -> Path:
    """`$FASHIONFLOW_HOME`, else `fashionflow` in the user's cache: `$XDG_CACHE_HOME`, else ~/.cache.

    Raises:
        NoHome: none of them is set and there is no home folder.
    """
    home = os.environ.get("FASHIONFLOW_HOME")
    path = expanded(home or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "fashionflow"))
    if path.parts[:1] == ("~",):
        raise NoHome
    return path
