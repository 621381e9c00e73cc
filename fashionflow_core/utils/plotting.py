"""Plot style and files."""

from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.utils import extras
from fashionflow_core.utils.files import atomic_path

BLUE, GREY, INK = "#2f6db3", "#9aa3ad", "#22272c"


def check(option: str = "") -> None:
    """Refuse before the work what cannot be drawn after it.

    Args:
        option: that asks for plots, named in the error.

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
    """Small labels, no frame above and on the right."""
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def save(figure: Any, path: Path) -> None:
    """A PNG, whole or not at all, whatever the name ends in.

    Raises:
        FashionFlowError: the file cannot be written.
    """
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=140)
