"""Output names: unique, inside the output folder, valid on all file systems."""

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashionflow_core.catalogue.inputs import OTHER_PICTURES, PHOTOS, Entry, relative_name
from fashionflow_core.config import VIDEO_SUFFIXES

HIDDEN = ".fashionflow"  # subfolder of the output folder: lock, logs, unfinished files
POSTER = "-poster.jpg"
MAX_BYTES = 255 - len(POSTER)  # of one part of a path on common file systems; the poster has the longest suffix


@dataclass(frozen=True, slots=True)
class Item:
    """One video to make.

    Attributes:
        name: of the video in the output folder, `/` between folders, without suffix; unique.
        source, caption, settings, problem, columns: of its `Entry`.
        variation: determines all randomness together with the seed.
    """

    name: str
    source: str
    variation: int = 0
    caption: str = ""
    settings: Mapping[str, Any] | None = None
    problem: str | None = None
    columns: Mapping[str, str] | None = None


def plan_items(
    entries: Sequence[Entry], variations: int = 1, known: Mapping[str, Sequence[str]] | None = None
) -> Iterator[Item]:
    """Name the videos, in order.

    `a.jpg` gives `a`; a later `a.png` gives `a.png`, and a third one `a.png-2`. Names that differ only in case or in
    the encoding of accents count as equal, as on some file systems. A name from a list is not changed: the second photo
    with the same name is refused.

    Args:
        entries: of `inputs.read_inputs`.
        variations: videos per photo, numbered from 1 after the name.
        known: earlier names by source, which photos keep when others are added or removed.
    """
    taken: set[int] = set()
    kept = {source: list(names) for source, names in (known or {}).items()}
    reserved = {_key(name) for names in kept.values() for name in names}
    for entry in entries:
        problem, wanted = entry.problem, entry.name
        if entry.own_name:
            path = relative_name(entry.name)
            if path is None:
                problem = problem or f"its output name {entry.name!r} would leave the output folder"
                wanted = os.path.basename(entry.source)
            elif path.parts[0].casefold() == HIDDEN:
                problem = problem or f"its output name {entry.name!r} is in the hidden folder of the run"
                wanted = os.path.basename(entry.source)
            else:
                # "dress.mp4" means the same as "dress".
                wanted = str(path.with_suffix("") if path.suffix.lower() in VIDEO_SUFFIXES else path)
        for variation in range(variations):
            full = wanted if variations == 1 else f"{wanted}-{variation + 1}"
            before = kept.get(entry.source, [])
            mine = {_key(name) for name in before}

            def free(name: str, mine: set[int] = mine, own: bool = entry.own_name) -> bool:
                key = _key(name)
                return key not in taken and (own or key not in reserved or key in mine)

            name, why = next((old for old in before if not entry.own_name and free(old)), None), problem
            if entry.own_name and why is None:
                name = shortened(full)  # also if another photo had it in an earlier run
                if _key(name) in taken:
                    name, why = None, f"its output name {entry.name!r} is already that of another photo"
            name = name or _free(shortened(full), entry.source, free)
            taken.add(_key(name))
            yield Item(name, entry.source, variation, entry.caption, entry.settings, why, entry.columns)


def _free(name: str, source: str, free: Callable[[str], bool]) -> str:
    """The name, or a similar one that is free."""
    if free(name):
        return name
    suffix = os.path.splitext(source)[1].lower()
    base = name + suffix if suffix in PHOTOS | OTHER_PICTURES else name
    number, candidate = 1, shortened(base)
    while not free(candidate):
        number += 1
        candidate = shortened(f"{base}-{number}")
    return candidate


def _key(name: str) -> int:
    # A hash instead of the name keeps a set of a million small.
    return hash(unicodedata.normalize("NFC", name).casefold())


def shortened(name: str) -> str:
    """The name with each overlong part cut at a whole character and followed by a hash of it."""
    if len(name) <= MAX_BYTES // 4:  # no character has more than 4 bytes
        return name
    return "/".join(_shortened(part) for part in name.split("/"))


def _shortened(part: str) -> str:
    data = os.fsencode(part)
    if len(data) <= MAX_BYTES:
        return part
    digest = hashlib.sha256(data).hexdigest()[:10]
    kept = data[: MAX_BYTES - len(digest) - 1]
    while kept and (data[len(kept)] & 0xC0) == 0x80:  # inside a character of UTF-8
        kept = kept[:-1]
    return f"{os.fsdecode(kept)}-{digest}"


def inside(out: Path, relative: str) -> Path | None:
    """`relative` in `out`; None if a link on the way leads out of it."""
    path = out / relative
    real = Path(os.path.realpath(path.parent))  # Path.resolve fails where links lead in a circle
    return path if real.is_relative_to(os.path.realpath(out)) else None
