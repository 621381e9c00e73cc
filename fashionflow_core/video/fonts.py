"""Installed fonts by name, for text in videos."""

import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fashionflow_core.errors import FashionFlowError, SettingError, option
from fashionflow_core.utils.nearest import did_you_mean

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

_SUFFIXES = (".ttf", ".otf", ".ttc")
_PLAIN = ("Regular", "Book", "Roman", "Normal", "Medium")
# Without a named font, for characters that Pillow's font lacks: the first installed one that has them.
_WIDE = ("Noto Sans", "DejaVu Sans", "Arial Unicode MS", "Segoe UI", "Arial", "Liberation Sans", "Noto Sans CJK JP")
_COMPLEX = 0x0590  # first code point of scripts with contextual letters or right-to-left order


def load_font(name: str, text: str, size: int) -> "FreeTypeFont":
    """A font for a text.

    Args:
        name: a family such as "DejaVu Sans", a family with a style, or a font file; empty: the font that comes with
            Pillow, the same on every machine, or one of the system that has all characters.
        text: to be drawn.
        size: in pixels.

    Raises:
        UsageError: no such font.
        FashionFlowError: not a font, or it lacks characters of the text.
    """
    if name:
        font = _opened(_found(name), text, size)
        if lacking := _lacking(font, text):
            other = option("font", "'DejaVu Sans'")
            raise FashionFlowError(f"font {name!r} has no {lacking!r}", hint=f"use another one, such as {other}")
        return font
    from PIL import ImageFont

    plain: Any = ImageFont.load_default(size)
    lacking = _lacking(plain, text)
    if not lacking:
        return plain
    known = installed()
    for family in _WIDE:
        if (path := known.get(family.casefold())) and not _lacking(font := _opened(path, text, size), text):
            return font
    raise FashionFlowError(
        f"no installed font has {lacking!r}", hint=f"name a font file that has it: {option('font', 'FILE')}"
    )


def _found(name: str) -> Path:
    if name.lower().endswith(_SUFFIXES) or os.sep in name:
        path = Path(name).expanduser()
        if not path.is_file():
            raise SettingError("font", f"{name}: no such file", hint="name a .ttf or .otf file, or a font's family")
        return path
    known = installed()
    if (path := known.get(name.casefold())) is None:
        near = did_you_mean(name, known)
        raise SettingError("font", f"{name!r} is not installed", hint=f"{near}name its .ttf or .otf file")
    return path


def _opened(path: Path, text: str, size: int) -> "FreeTypeFont":
    from PIL import ImageFont

    # The basic layout gives the same pixels on all machines.
    simple = all(ord(letter) < _COMPLEX for letter in text)
    engine = ImageFont.Layout.BASIC if simple else None
    try:
        return ImageFont.truetype(str(path), size, layout_engine=engine)
    except OSError as error:
        reason = " ".join(str(error).split())
        raise FashionFlowError(f"{path}: not a font ({reason})", hint="name a .ttf or .otf file") from None


def _lacking(font: "FreeTypeFont", text: str) -> str:
    """Characters that a font draws like a missing one."""

    def mask(character: str) -> bytes:
        return bytes(cast("Any", font.getmask(character)))

    none = mask("\U0010ffff")
    return "".join(one for one in dict.fromkeys(text) if not one.isspace() and mask(one) == none)


@cache
def installed() -> dict[str, Path]:
    """Font files of this system by family, by family and style, and by file name, all in lower case."""
    from PIL import ImageFont

    found: dict[str, Path] = {}
    families: dict[str, tuple[int, Path]] = {}
    for path in _files():
        try:
            family, style = ImageFont.truetype(str(path), 10).getname()
        except (OSError, ValueError):
            continue
        if family is None:
            continue
        found.setdefault(path.stem.casefold(), path)
        found.setdefault(f"{family} {style}".casefold(), path)
        rank = _PLAIN.index(style) if style in _PLAIN else len(_PLAIN)
        before = families.get(family.casefold())
        if before is None or rank < before[0]:
            families[family.casefold()] = (rank, path)
    return found | {family: path for family, (_, path) in families.items()}


def _files() -> Iterator[Path]:
    for folder in _folders():
        for here, _, names in sorted(os.walk(folder)):
            yield from (Path(here) / name for name in sorted(names) if name.lower().endswith(_SUFFIXES))


def _folders() -> list[Path]:
    home, env = Path.home(), os.environ
    if os.name == "nt":
        local = Path(env.get("LOCALAPPDATA", str(home))) / "Microsoft" / "Windows" / "Fonts"
        return [local, Path(env.get("WINDIR", "C:\\Windows")) / "Fonts"]
    if sys.platform == "darwin":
        return [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    shared = env.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    data = Path(env.get("XDG_DATA_HOME") or home / ".local/share")
    return [data / "fonts", home / ".fonts", *(Path(one) / "fonts" for one in shared.split(":") if one)]
