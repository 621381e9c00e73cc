"""Paths of the user: `~`, and the cache folder of this program."""

import os
from pathlib import Path

from fashionflow_core.errors import FashionFlowError


class NoHome(FashionFlowError):
    """The user has no home folder: HOME is not set and the system does not know the user, as in many containers."""

    def __init__(self) -> None:
        super().__init__(
            "HOME: not set, and this user has no home folder on this system",
            hint="name a writable folder: export FASHIONFLOW_HOME=/path/to/folder",
        )


def expanded(path: str | Path) -> Path:
    """A path with `~` and `~user` expanded; as it is where there is no such user or home folder."""
    return Path(os.path.expanduser(path))


def cache_home() -> Path:
    """`$FASHIONFLOW_HOME`, else `fashionflow` in the user's cache: `$XDG_CACHE_HOME`, else ~/.cache.

    Raises:
        NoHome: none of them is set, and there is no home folder.
    """
    home = os.environ.get("FASHIONFLOW_HOME")
    path = expanded(home or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "fashionflow"))
    if path.parts[:1] == ("~",):
        raise NoHome
    return path
