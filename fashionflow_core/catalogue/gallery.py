"""Gallery page `index.html` of an output folder.

One file a page that asks nothing of anybody: styles and script are in it, posters and videos are beside it.
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
from fashionflow_core.catalogue.quality_gate import RULES, evidence
from fashionflow_core.catalogue.reviews import Review, read_reviews
from fashionflow_core.errors import FashionFlowError, command, option
from fashionflow_core.utils.files import write_text

PAGE = "index.html"
PER_PAGE = 2_000
TEMPLATE = "gallery.html.j2"
SHOWN = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif")  # photos that browsers open
GROUPS = FAILED, FLAGGED, CHECK, FINE = "failed", "flagged", "check", "fine"  # what needs a look first
# Name in the manifest → how a page calls it, with its unit, and what it says.
SCORES = {
    "garment_drift": ("colour drift", "", "how far the garment's colour is from the photo's; above 6 is visible"),
    "first_psnr": ("first frame", " dB", "how like the photo the first frame is; more is better"),
    "flicker": ("flicker", "", "change from frame to frame that is no movement; less is better"),
    "motion": ("motion", "", "how much moves; near 0 is a still picture"),
    "movement": ("movement", "", "change of the parts that move most, without noise; below the limit nothing moves"),
    "zoom": ("zoom", "", "share of the change that a zoom of the picture explains; near 1 the figure does not move"),
    "flash": ("flash", "", "largest passing change of brightness; less is better"),
    "wall_shift": ("background", "", "how far the background's colour goes from the photo's; less is better"),
    "fade": ("fade", "", "contrast that the figure has lost at the end; less is better"),
    "figure_kept": ("figure kept", "", "the least of the figure that any frame shows; 1 is all"),
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


@dataclass(frozen=True)
class Card:
    """One item on the page; paths are escaped for links."""

    name: str
    caption: str
    group: str
    status: str
    video: str
    poster: str
    photo: str
    is_picture: bool
    model: str
    seed: str
    width: int
    height: int
    verdict: str
    reasons: tuple[Reason, ...]
    warnings: tuple[str, ...]
    scores: tuple[tuple[str, str, str], ...]
    drift: float
    details: tuple[tuple[str, str], ...]
    stage: str
    message: str
    hint: str

    @property
    def summary(self) -> str:
        """The two scores that say most."""
        values = {label: value for label, value, _ in self.scores}
        return " · ".join(f"{label} {values[label]}" for label in ("colour drift", "motion") if label in values)

    @property
    def search(self) -> str:
        """What the search field looks in."""
        reasons = " ".join(f"{reason.flag} {reason.words}" for reason in self.reasons)
        return (
            f"{self.name} {self.caption} {self.verdict} {self.message} {reasons} {' '.join(self.warnings)}".casefold()
        )


def build(out: str | Path, everything_is_there: bool = False) -> list[Path]:
    """Write the page, or pages, of an output folder from its manifest.

    Args:
        out: the folder.
        everything_is_there: do not look for the videos, which are somewhere else.

    Returns:
        The pages; the first one is `index.html`. Where there are several, what failed or is flagged comes first.

    Raises:
        FashionFlowError: no manifest there, or the page cannot be written.
    """
    out = Path(out)
    if not (out / MANIFEST).is_file():
        raise FashionFlowError(
            f"{out}: holds no {MANIFEST}", hint=f"name the folder that {command('generate')} wrote with {option('out')}"
        )
    videos = None if everything_is_there else out
    pages = []
    with (out / MANIFEST).open("rb") as manifest:
        # Of all items only what orders them is held: there may be a million.
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
                reasons=Counter((reason.flag, reason.words) for card in cards for reason in card.reasons).most_common(),
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
    """A page that may load only what lies beside it, and run only its own script (Content-Security-Policy)."""
    script = re.search("<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode() if script else ""
    # Browsers differ in whether a page of a disk is its own 'self'; file: names what is on the disk.
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
    """Pages of an earlier, longer page set."""
    number = pages + 1
    while (path := out / f"index-{max(number, 2)}.html").is_file():
        yield path
        number += 1


def _group(record: dict[str, Any], videos: Path | None) -> str:
    """Which of `GROUPS` an item is in; what is done but not among the videos has failed, too."""
    if record["status"] != DONE or (videos is not None and not (videos / str(record.get("output", ""))).is_file()):
        return FAILED
    if record.get("flags"):
        return FLAGGED
    return CHECK if record.get("warnings") else FINE


def _order(name: str) -> str:
    """By which dress-2 is before dress-10."""
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
        is_picture=output.lower().endswith((".gif", ".webp")),
        model=str(record.get("model", "")),
        seed=str(record.get("seed", "")),
        width=int(record.get("width", 3)),
        height=int(record.get("height", 4)),
        verdict=review.of(int(record.get("seed", -1))) if review else "",
        reasons=tuple(_reasons(record)),
        warnings=tuple(_without_name(str(line), record) for line in record.get("warnings") or ()),
        scores=scores,
        drift=float(found.get("garment_drift", -1)),
        details=tuple(_details(record)) if group != FAILED else (),
        stage=str(record.get("stage", "")),
        message=message,
        hint=str(record.get("hint", "")),
    )


def _reasons(record: dict[str, Any]) -> Iterator[Reason]:
    words = {rule.flag: rule.reason for rule in RULES}
    for flag in map(str, record.get("flags") or ()):
        frame = evidence(flag, record.get("scores") or {})
        # Half a frame later: browsers round times down.
        seconds = 0.0 if frame is None else (frame + 0.5) / max(float(record.get("fps") or 0), 1.0)
        yield Reason(flag, words.get(flag, flag), frame, round(seconds, 3))


def _photo(source: str, videos: Path | None) -> str:
    """The photo as an address relative to the page; empty where it is not on this disk, or of no kind for browsers."""
    if videos is None or os.path.splitext(source)[1].lower() not in SHOWN:
        return ""
    try:
        if not os.path.isfile(source):
            return ""
        relative = os.path.relpath(os.path.realpath(source), os.path.realpath(videos))
        return quote_from_bytes(os.fsencode(relative.replace(os.sep, "/")))
    except ValueError:  # another drive of Windows, or characters that no file name can have
        return ""


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
    """A warning without the photo that it begins with: its card names that."""
    return warning.removeprefix(f"{record.get('source', '')}: ")


def _printable(value: Any) -> Any:
    """Text that UTF-8 can hold, without control characters: names of files and lines of manifests may have any."""
    return re.sub("[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", value) if isinstance(value, str) else value


def _link(relative: str) -> str:
    """A path inside the folder as an address; empty for one that leads elsewhere, which a manifest may claim."""
    path = PurePosixPath(relative.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in relative:
        return ""
    return quote_from_bytes(os.fsencode(relative))
