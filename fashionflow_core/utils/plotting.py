"""Plots: check for matplotlib, style, PNG files."""

from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.utils import extras
from fashionflow_core.utils.files import atomic_path

BLUE, GREY, INK = "#2f6db3", "#9aa3ad", "#22272c"


def check(option: str = "") -> None:
    """Check before the work that plots can be drawn.

    Args:
        option: option that turned plots on, named in the error.

    Raises:
        FashionFlowError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        named = f"{option}: " if option else ""
        raise FashionFlowError(
            f"{named}plots need matplotlib, which is not installed", hint=extras.install("metrics")
        ) from None


def plain(panel: Any) -> None:
    """Plot style: small labels, no top and right spines."""
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def save(figure: Any, path: Path) -> None:
    """Write a PNG atomically, whatever the suffix of the name.

    Raises:
        FashionFlowError: the file cannot be written.
    """
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=140)
