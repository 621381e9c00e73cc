"""Optional dependencies (extras): the command that installs one.

This package is on no package index, so the command names the checkout that it was installed from, or, where that is
gone, the packages themselves.
"""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from importlib.metadata import Distribution

PACKAGE = "fashionflow"


def install(*extras: str, force: bool = False) -> str:
    """`pip install -e '/home/me/fashionflow[onnx]'`, a command that can be run in any folder."""
    from importlib.metadata import PackageNotFoundError, distribution  # slow, and needed in errors alone

    pip = "pip install --force-reinstall" if force else "pip install"
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:  # run from files that were not installed
        return f"{pip} -e '.[{','.join(extras)}]'"
    found = None if force else checkout(package)  # the rest of the checkout's packages stays as it is
    if found:
        place, editable = found
        return f"{pip} {'-e ' if editable else ''}'{place}[{','.join(extras)}]'"
    return f"{pip} {' '.join(map(shlex.quote, _requirements(package, extras)))}"


def reinstall() -> str:
    """The command that brings back files of this package that are missing or damaged."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = checkout(distribution(PACKAGE))
    except PackageNotFoundError:
        found = (Path(__file__).parents[2], True)
    if found is None:
        return "install fashionflow again, from its checkout or wheel"
    place, editable = found
    if editable and (place / ".git").exists():  # an editable installation uses the checkout's own files
        return f"git -C '{place}' restore fashionflow_core"
    return f"pip install --force-reinstall --no-deps {'-e ' if editable else ''}'{place}'"


def checkout(package: "Distribution") -> tuple[Path, bool] | None:
    """The folder that a package was installed from, if it is still there, and whether the installation is editable."""
    try:
        origin = json.loads(package.read_text("direct_url.json") or "{}")
        place = Path(unquote(urlsplit(origin["url"]).path))
        editable = bool(origin["dir_info"].get("editable"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return (place, editable) if (place / "pyproject.toml").is_file() else None


def _requirements(package: "Distribution", extras: tuple[str, ...]) -> list[str]:
    """The packages that the extras need on this machine."""
    from packaging.requirements import Requirement

    found = []
    for requirement in map(Requirement, package.requires or []):
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}):
            continue
        if any(marker.evaluate({"extra": extra}) for extra in extras):
            wanted = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
            found.append(f"{requirement.name}{wanted}{requirement.specifier}")
    return found
