"""Gallery page `index.html` of an output folder.

Each page is one file with its styles and script, and loads only photos, posters and videos by relative paths.
"""

import base64
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote_from_bytes

from fashionflow_core.catalogue.jobs import DONE
from fashionflow_core.catalogue.manifest import MANIFEST, latest, record_at
from fashionflow_core.catalogue.reviews import Review, read_reviews
from fashionflow_core.errors import FashionFlowError, command, option
from fashionflow_core.utils.files import write_text

PAGE = "index.html"
PER_PAGE = 2_000
TEMPLATE = "gallery.html.j2"
SHOWN = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif")  # photos that browsers show
GROUPS = FAILED, FLAGGED, CHECK, FINE = "failed", "flagged", "check", "fine"  # in the order of attention
# Name in the manifest → label, unit and meaning.
SCORES = {
    "garment_drift": ("colour drift", "", "difference of the garment's colour from the photo's; above 6 is visible"),
    "first_psnr": ("first frame", " dB", "similarity of the first frame to the photo; higher is better"),
    "flicker": ("flicker", "", "change between frames that is not motion; lower is better"),
    "motion": ("motion", "", "amount of motion; near 0 is a still picture"),
    "figure_kept": ("figure kept", "", "smallest share of the figure in any frame; 1 is all of it"),
}


@dataclass(frozen=True)
class Card:
    """One item on the page; paths are escaped for links, `photo_box` is that of the manifest, in percent."""

    name: str
    caption: str
    group: str
    status: str
    video: str
    poster: str
    photo: str
    photo_box: str
    is_picture: bool
    model: str
    seed: str
    width: int
    height: int
    verdict: str
    flags: tuple[str, ...]
    warnings: tuple[str, ...]
    scores: tuple[tuple[str, str, str], ...]
    drift: float
    details: tuple[tuple[str, str], ...]
    stage: str
    message: str
    hint: str

    @property
    def summary(self) -> str:
        """The two most telling scores."""
        values = {label: value for label, value, _ in self.scores}
        return " · ".join(f"{label} {values[label]}" for label in ("colour drift", "motion") if label in values)

    @property
    def search(self) -> str:
        """Text that the search field matches."""
        return f"{self.name} {self.caption} {self.verdict} {self.message} {' '.join(self.warnings)}".casefold()


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
    if not (out / MANIFEST).is_file():
        raise FashionFlowError(
            f"{out}: contains no {MANIFEST}",
            hint=f"name the folder that {command('generate')} wrote with {option('out')}",
        )
    videos = None if everything_is_there else out
    pages = []
    with (out / MANIFEST).open("rb") as manifest:
        # Only the keys for sorting are held: there may be a million items.
        starts = latest(out / MANIFEST)
        reviews = read_reviews(out)
        found = [(_group(record_at(manifest, start), videos), _order(name), start) for name, start in starts.items()]
        counts = Counter(group for group, _, _ in found)
        several = len(found) > PER_PAGE
        found.sort(key=lambda one: (GROUPS.index(one[0]) if several else 0, one[1]))
        parts = [found[start : start + PER_PAGE] for start in range(0, len(found), PER_PAGE)] or [[]]
        names = [PAGE if number == 1 else f"index-{number}.html" for number in range(1, len(parts) + 1)]
        template = _template()
        for number, (part, name) in enumerate(zip(parts, names)):
            cards = [_card(record_at(manifest, start), group, videos, reviews) for group, _, start in part]
            text = template.render(
                title=_printable(os.path.basename(os.path.realpath(out))),
                cards=cards,
                counts=counts,
                models=sorted({card.model for card in cards if card.model}),
                seeds=sorted({card.seed for card in cards if card.seed}, key=lambda seed: (len(seed), seed)),
                pages=names,
                page=number,
                built=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            )
            write_text(out / name, _locked_down(text))
            pages.append(out / name)
    for old in _surplus(out, len(parts)):
        old.unlink()
    return pages


def _locked_down(page: str) -> str:
    """The page with a Content-Security-Policy: local files and its own script only."""
    script = re.search("<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode() if script else ""
    # Browsers differ in whether 'self' includes local files; file: names them.
    policy = (
        "default-src 'none'; img-src 'self' file: data:; media-src 'self' file:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    charset = '<meta charset="utf-8">'
    return page.replace(charset, f'{charset}\n<meta http-equiv="Content-Security-Policy" content="{policy}">', 1)


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fashionflow_core.catalogue", "."),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE)


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


def _card(record: dict[str, Any], group: str, videos: Path | None, reviews: Mapping[str, Review]) -> Card:
    status, message = str(record["status"]), str(record.get("message", ""))
    if group == FAILED and status == DONE:
        status, message = "missing", "the video is gone; the next run makes it again"
    output, poster = str(record.get("output", "")), str(record.get("poster", ""))
    found = record.get("scores") or {}
    review = reviews.get(str(record["item"]))
    scores = tuple(
        (SCORES[key][0], f"{found[key]:.3g}{SCORES[key][1]}", SCORES[key][2]) for key in SCORES if key in found
    )
    return Card(
        name=str(record["item"]),
        caption=str(record.get("caption", "")),
        group=group,
        status=status,
        video=_link(output) if group != FAILED else "",
        poster=_link(poster) if poster and group != FAILED else "",
        photo=_photo(str(record.get("source", "")), videos),
        photo_box=_photo_box(record.get("photo_box")),
        is_picture=output.lower().endswith((".gif", ".webp")),
        model=str(record.get("model", "")),
        seed=str(record.get("seed", "")),
        width=int(record.get("width", 3)),
        height=int(record.get("height", 4)),
        verdict=review.of(int(record.get("seed", -1))) if review else "",
        flags=tuple(map(str, record.get("flags") or ())),
        warnings=tuple(_without_name(str(line), record) for line in record.get("warnings") or ()),
        scores=scores,
        drift=float(found.get("garment_drift", -1)),
        details=tuple(_details(record)) if group != FAILED else (),
        stage=str(record.get("stage", "")),
        message=message,
        hint=str(record.get("hint", "")),
    )


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
    """Text without lone surrogates and control characters, which file names and manifests may contain."""
    return re.sub("[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", value) if isinstance(value, str) else value


def _link(relative: str) -> str:
    """URL of a path inside the folder; empty for a path that leads elsewhere."""
    path = PurePosixPath(relative.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in relative:
        return ""
    return quote_from_bytes(os.fsencode(relative))
