"""Gallery page `index.html` of an output folder.

It is the page of the server (`page/`) with styles, script and the list of videos in one file, and loads nothing but
posters, videos and photos of this disk.
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote_from_bytes

from fashionflow_core.catalogue.jobs import DONE
from fashionflow_core.catalogue.manifest import latest, manifest_of, record_at
from fashionflow_core.catalogue.quality_gate import RULES, evidence
from fashionflow_core.catalogue.reviews import Review, read_reviews
from fashionflow_core.utils.files import write_text
from fashionflow_core.utils.pages import clean, locked_down

PAGE = "index.html"
PER_PAGE = 2_000
FILES = Path(__file__).parent / "page"  # what this page and the server's are made of
SHOWN = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif")  # photos that browsers open
GROUPS = FAILED, FLAGGED, CHECK, FINE = "failed", "flagged", "check", "fine"  # in the order of attention
# Name in the manifest → label, unit and meaning.
SCORES = {
    "garment_drift": ("colour drift", "", "difference of the garment's colour from the photo's; above 6 is visible"),
    "first_psnr": ("first frame", " dB", "similarity of the first frame to the photo; higher is better"),
    "flicker": ("flicker", "", "change between frames that is not motion; lower is better"),
    "motion": ("motion", "", "amount of motion; near 0 is a still picture"),
    "movement": ("movement", "", "change of the parts that move most, without noise; below the limit nothing moves"),
    "zoom": ("zoom", "", "share of the change that a zoom of the picture explains; near 1 the figure does not move"),
    "flash": ("flash", "", "largest passing change of brightness; lower is better"),
    "wall_shift": ("background", "", "difference of the background's colour from the photo's; lower is better"),
    "doubled_limb": ("doubled limb", "", "share of the figure that appears at once and stays; 0 without a second limb"),
    "fade": ("fade", "", "contrast of the figure lost at the end; lower is better"),
    "cell_drift": ("colour by parts", "", "difference of the garment's parts from the photo's; above 4 is visible"),
    "pattern_lost": ("print lost", "", "share of the garment's fine structure lost in the first frames; 0 is best"),
    "face_lost": ("face lost", "", "share of the face's structure lost in the first frames; 0 is best"),
    "blur": ("blur", "", "share of fine detail lost at the end; lower is better"),
    "figure_kept": ("figure kept", "", "smallest share of the figure in any frame; 1 is all of it"),
}


@dataclass(frozen=True)
class Reason:
    """Why a video is flagged.

    Attributes:
        flag: name of the flag.
        words: what a viewer sees.
        frame: number of the frame that shows it best; None: no single one does.
        seconds: time of that frame.
    """

    flag: str
    words: str
    frame: int | None
    seconds: float


def build(out: str | Path, everything_is_there: bool = False) -> list[Path]:
    """Write the page, or pages, of an output folder from its manifest.

    Args:
        out: the folder.
        everything_is_there: do not check that videos exist; they are on remote storage.

    Returns:
        The pages; the first one is `index.html`. With several pages, failed and flagged items come first.

    Raises:
        FashionFlowError: no manifest there, or the page cannot be written.
    """
    out = Path(out)
    path = manifest_of(out)
    videos = None if everything_is_there else out
    pages = []
    with path.open("rb") as manifest:
        # Only the keys for sorting are held: there may be a million items.
        starts = latest(path)
        reviews = read_reviews(out)
        found = [(_group(record_at(manifest, start), videos), _order(name), start) for name, start in starts.items()]
        counts = Counter(group for group, _, _ in found)
        several = len(found) > PER_PAGE
        found.sort(key=lambda one: (GROUPS.index(one[0]) if several else 0, one[1]))
        parts = [found[start : start + PER_PAGE] for start in range(0, len(found), PER_PAGE)] or [[]]
        names = [PAGE if number == 1 else f"index-{number}.html" for number in range(1, len(parts) + 1)]
        title = _printable(os.path.basename(os.path.realpath(out)))
        for number, (part, name) in enumerate(zip(parts, names)):
            shown = [_shown(record_at(manifest, start), group, videos, reviews) for group, _, start in part]
            content = {"title": title, "about": _about(counts), "pages": names, "page": number, "scores": SCORES}
            write_text(out / name, _page({**content, "videos": shown}))
            pages.append(out / name)
    for old in _surplus(out, len(parts)):
        old.unlink()
    return pages


def _about(counts: Mapping[str, int]) -> str:
    videos, failed = counts[FINE] + counts[CHECK] + counts[FLAGGED], counts[FAILED]
    parts = [f"{videos:,} video{'' if videos == 1 else 's'}"]
    parts += [f"{counts[FLAGGED]} of them flagged"] if counts[FLAGGED] else []
    parts += [f"{counts[CHECK]} to check"] if counts[CHECK] else []
    parts += [f"{failed} photo{'' if failed == 1 else 's'} failed"] if failed else []
    return f"{', '.join(parts)} · {datetime.now(UTC).strftime('%Y-%m-%d %H:%M UTC')}"


def _page(content: Mapping[str, Any]) -> str:
    """The page as one file, which may load only what lies beside it, and run only its own script (CSP)."""
    page, style, script = ((FILES / name).read_text("utf-8") for name in ("index.html", "page.css", "page.js"))
    data = json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")  # no text may end the element
    parts = {
        "<title>FashionFlow</title>": f"<title>{escape(content['title'])} · FashionFlow</title>",
        '<link rel="stylesheet" href="/page.css">': f"<style>\n{style}</style>",
        '<script src="/page.js" defer></script>\n': "",
        "</body>": f'<script type="application/json" id="folder">{data}</script>\n<script>\n{script}</script>\n</body>',
    }
    for before, after in parts.items():
        page = page.replace(before, after, 1)
    return locked_down(page)


def _surplus(out: Path, pages: int) -> Iterator[Path]:
    """Surplus pages of an earlier build."""
    number = pages + 1
    while (path := out / f"index-{max(number, 2)}.html").is_file():
        yield path
        number += 1


def _group(record: dict[str, Any], videos: Path | None) -> str:
    """One of `GROUPS`; a done item without its video counts as failed."""
    if record["status"] != DONE or (videos is not None and not (videos / str(record.get("output", ""))).is_file()):
        return FAILED
    if record.get("flags"):
        return FLAGGED
    return CHECK if record.get("warnings") else FINE


def _order(name: str) -> str:
    """Sort key: dress-2 before dress-10."""
    return re.sub(r"[0-9]+", lambda digits: digits[0].zfill(20), name.casefold())


def _shown(record: dict[str, Any], group: str, videos: Path | None, reviews: Mapping[str, Review]) -> dict[str, Any]:
    """An item as the page's script takes it: as the server describes its videos, with links to files of this disk."""
    status, message, hint = str(record["status"]), str(record.get("message", "")), str(record.get("hint", ""))
    failed = group == FAILED
    if failed and status == DONE:
        message, hint = "the video is gone; the next run makes it again", ""
    output, poster, name = str(record.get("output", "")), str(record.get("poster", "")), str(record["item"])
    review, scores = reviews.get(name), record.get("scores") or {}
    found = {
        "id": name,
        "group": name,
        "created": 0,
        "version": 0,
        "status": "failed" if failed else "completed",
        "photo_name": name,
        "prompt": str(record.get("caption", "")),
        "model": str(record.get("model", "")),
        "seed": str(record.get("seed", "")),
        "size": f"{record.get('width', 4)}x{record.get('height', 5)}",
        "photo_box": photo_box(record.get("photo_box")),
        "review": review.of(int(record.get("seed", -1))) if review else "",
        "flags": list(map(str, record.get("flags") or ())),
        "reasons": [asdict(reason) for reason in _reasons(record)],
        "warnings": [_without_name(str(line), record) for line in record.get("warnings") or ()],
        "to_check": group == CHECK,
        "scores": {} if failed else {key: float(scores[key]) for key in SCORES if key in scores},
        "details": [] if failed else list(_details(record)),
        "error": {"message": "; ".join(filter(None, (message, hint)))},
        "is_picture": output.lower().endswith((".gif", ".webp")),
        "suffix": os.path.splitext(output)[1],
        "files": {
            "video": "" if failed else _link(output),
            "thumbnail": _link(poster) if poster and not failed else "",
            "photo": _photo(str(record.get("source", "")), videos),
        },
    }
    return _printable(found)


def photo_box(stored: Any) -> list[float] | None:
    """Where a video shows its photo: left, top, width and height as shares of the video; None: unknown."""
    numbers = [float(share) for share in stored if isinstance(share, (int, float))] if isinstance(stored, list) else []
    return numbers if len(numbers) == 4 and all(map(math.isfinite, numbers)) else None


def _reasons(record: dict[str, Any]) -> Iterator[Reason]:
    words = {rule.flag: rule.reason for rule in RULES}
    for flag in map(str, record.get("flags") or ()):
        frame = evidence(flag, record.get("scores") or {})
        # Half a frame later: browsers round times down.
        seconds = 0.0 if frame is None else (frame + 0.5) / max(float(record.get("fps") or 0), 1.0)
        yield Reason(flag, words.get(flag, flag), frame, round(seconds, 3))


def _photo(source: str, videos: Path | None) -> str:
    """URL of the photo relative to the page; empty if it is not a local file of a kind that browsers show."""
    if videos is None or os.path.splitext(source)[1].lower() not in SHOWN:
        return ""
    try:
        if not os.path.isfile(source):
            return ""
        relative = os.path.relpath(os.path.realpath(source), os.path.realpath(videos))
        return quote_from_bytes(os.fsencode(relative.replace(os.sep, "/")))
    except ValueError:  # another drive of Windows, or an invalid path
        return ""


def _photo_box(stored: Any) -> str:
    """`photo_box` of a record as percentages; those of the whole video where it has none, or no four numbers."""
    numbers = isinstance(stored, list) and [share for share in stored if isinstance(share, (int, float))]
    shares = numbers if numbers and len(numbers) == 4 else (0, 0, 1, 1)
    return " ".join(f"{100 * float(share):g}%" for share in shares)


def _details(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "photo", str(record.get("source", ""))
    if more := record.get("more_outputs"):
        yield "also", ", ".join(map(str, more))
    yield "seed", str(record.get("seed", ""))
    yield "model", f"{record.get('model', '')} ({record.get('model_revision', '')})"
    if "steps" in record:
        yield "sampling", f"{record['steps']} steps, {record.get('scheduler', '')}"
    yield (
        "video",
        (
            f"{record.get('width')} × {record.get('height')}, {record.get('frames')} frames, "
            f"{float(record.get('fps', 0)):g} a second, {record.get('codec', '')}"
        ),
    )
    if seconds := record.get("seconds"):
        yield "seconds", ", ".join(f"{stage} {float(value):.3g}" for stage, value in seconds.items())
    if takes := record.get("takes"):
        yield "takes", f"{len(takes)}, the best is shown"


def _without_name(warning: str, record: dict[str, Any]) -> str:
    """A warning without the name of the photo, which its card shows."""
    return warning.removeprefix(f"{record.get('source', '')}: ")


def _printable(value: Any) -> Any:
    """Text, or all text of a list or dictionary, that UTF-8 can hold, without control characters: names of files and
    lines of manifests may have any."""
    if isinstance(value, dict):
        return {key: _printable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable(inner) for inner in value]
    return clean(value)


def _link(relative: str) -> str:
    """URL of a path inside the folder; empty for a path that leads elsewhere."""
    path = PurePosixPath(relative.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in relative:
        return ""
    return quote_from_bytes(os.fsencode(relative))
