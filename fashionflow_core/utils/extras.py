"""Install commands of optional dependencies (extras).

The package is not published on an index, so the command names the checkout that it was installed from, or, if that is
gone, the extra's packages.
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
    """`pip install -e '/home/me/fashionflow[onnx]'`, valid in any folder."""
    from importlib.metadata import PackageNotFoundError, distribution  # slow to import, needed only in errors

    pip = "pip install --force-reinstall" if force else "pip install"
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:  # not installed: run from source files
        return f"{pip} -e '.[{','.join(extras)}]'"
    found = None if force else checkout(package)  # other packages of the checkout stay unchanged
    if found:
        place, editable = found
        return f"{pip} {'-e ' if editable else ''}'{place}[{','.join(extras)}]'"
    return f"{pip} {' '.join(map(shlex.quote, _requirements(package, extras)))}"


def reinstall() -> str:
    """The command that restores missing or damaged files of this package."""
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
    """The folder that a package was installed from, if it still exists, and whether the installation is editable."""
    try:
        origin = json.loads(package.read_text("direct_url.json") or "{}")
        place = Path(unquote(urlsplit(origin["url"]).path))
        editable = bool(origin["dir_info"].get("editable"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return (place, editable) if (place / "pyproject.toml").is_file() else None


def _requirements(package: "Distribution", extras: tuple[str, ...]) -> list[str]:
    """Requirements of the extras on this machine."""
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
