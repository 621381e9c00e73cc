"""Cache folder of this program."""

import os
from pathlib import Path


def cache_home() -> Path:
    """`$FASHIONFLOW_HOME`, else `fashionflow` in the user's cache: `$XDG_CACHE_HOME`, else ~/.cache."""
    if home := os.environ.get("FASHIONFLOW_HOME"):
        return Path(home).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fashionflow"
