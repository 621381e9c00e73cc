"""What a video file says of its making: model, seed, settings, marks, and the command that makes it again."""

import re
import shlex
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from fashionflow_core.errors import FashionFlowError, command
from fashionflow_core.video import boxes, marking, reading, signing

_PREFIX = "fashionflow_"
_TYPE = re.compile(rb"""DigitalSourceType(?:\s*=\s*["']|\s*>\s*)([^"'<\s]+)""")
_MAX_PACKET = 1 << 20
# Key in the file → setting of a request.
_OPTIONS = {
    "guidance": "guidance_scale",
    "interpolate": "interpolate",
    "motion": "motion",
    "turn": "motion_amount",
    "fit": "fit",
    "lock": "lock",
    "conditioning": "conditioning",
    "for": "for",
    **{
        key: key
        for key in (
            *("ratio", "visible_mark", "caption", "font", "logo", "logo_place", "logo_opacity"),
            *("end_card", "end_card_seconds"),
        )
    },
}
_OF_GENERATOR = ("prompt", "negative_prompt", "megapixels")


@dataclass(frozen=True)
class Provenance:
    """What a file says of itself.

    Attributes:
        path: the file.
        source_type: IPTC DigitalSourceType; empty: not marked.
        settings: what FashionFlow wrote: model, seed, scheduler, steps, ...; empty: made by something else.
        other: further metadata, such as a title.
        frames, fps, height, width, codec: of the video; 0 and empty of a picture.
        again: the command that makes the same video of the same photo; empty if the file does not say enough.
        signature: what its C2PA signature is worth, in words; empty: it has none.
    """

    path: str
    source_type: str
    settings: dict[str, str]
    other: dict[str, str]
    frames: int = 0
    fps: float = 0.0
    height: int = 0
    width: int = 0
    codec: str = ""
    again: str = ""
    signature: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)


def inspect(path: Path) -> Provenance:
    """Read what a video or picture says of itself; nothing of it but a signature is verified.

    Raises:
        FashionFlowError: no such file, or neither video nor picture.
    """
    if not path.is_file():
        raise FashionFlowError(f"{path}: not a file", hint="name one video or picture")
    source = source_type(path)
    if is_picture(path):
        return Provenance(str(path), source, {}, {}, signature=signing.state_of(path))
    stored = reading.read_metadata(path)
    settings = {key.removeprefix(_PREFIX): value for key, value in stored.items() if key.startswith(_PREFIX)}
    found = reading.inspect(path, count=False)
    fps = float(found.rate)
    return Provenance(
        str(path),
        source,
        settings,
        {key: value for key, value in stored.items() if not key.startswith(_PREFIX)},
        found.frames,
        fps,
        found.height,
        found.width,
        found.codec,
        _again(path, settings, found.frames, fps, (found.height, found.width)),
        signing.state_of(path),
    )


def is_picture(path: Path) -> bool:
    """Whether a file is a JPEG or PNG, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(8)
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG"))


def _again(path: Path, settings: dict[str, str], frames: int, fps: float, size: tuple[int, int]) -> str:
    if not {"model", "seed", "steps", "scheduler"} <= settings.keys():
        return ""
    # Of finished files these are what was generated.
    frames, shown = _number(settings, "frames", 0) or frames, settings.get("size", f"{size[0]}x{size[1]}")
    rate = settings.get("fps", f"{fps:g}")
    filled, item = (_number(settings, key, default) for key, default in (("interpolate", 1), ("item", 0)))
    # Item 2 of `v.mp4` is the last one of three variations, v-3.mp4.
    name = path.name if item == 0 else path.stem.removesuffix(f"-{item + 1}") + path.suffix
    options: dict[str, Any] = {
        "out": name,
        "model": settings["model"],
        "seed": settings["seed"],
        "frames": frames // filled if settings.get("loop") == "true" else (frames - 1) // filled + 1,
        "fps": rate,
        "steps": settings["steps"],
        "scheduler": settings["scheduler"],
    }
    options |= {name: settings[key] for key, name in _OPTIONS.items() if key in settings}
    # Texts of a stranger's file: pasted into a shell, they are words and nothing else.
    options = {key: shlex.quote(value) if isinstance(value, str) else value for key, value in options.items()}
    if settings.get("loop") == "true":
        options["loop"] = True
    if "motion" in settings:
        options["size"] = shlex.quote(shown)
        options.pop("conditioning", None)
    if settings["scheduler"] == "own" or "prompt" in settings or "megapixels" in settings:  # of a generator
        if "duration" in settings:  # frames are chosen by it
            del options["frames"]
            options["duration"] = shlex.quote(settings["duration"])
        if options["scheduler"] == "own":
            del options["scheduler"]
        options |= {key: shlex.quote(settings[key]) for key in _OF_GENERATOR if key in settings}
    if item:
        options["variations"] = item + 1
    return command("generate", "PHOTO", **options)


def _number(settings: dict[str, str], key: str, default: int) -> int:
    """A whole number above `default` that a file gives; `default` for any other text."""
    text = settings.get(key, "")
    return max(default, int(text)) if text.isascii() and text.isdigit() and len(text) < 6 else default


def source_type(path: Path) -> str:
    """The DigitalSourceType that a video or picture carries; empty without one.

    Raises:
        FashionFlowError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
            file.seek(0)
            if head[4:8] == b"ftyp":
                return _type(_mp4_packet(file))
            if head[:4] == b"\x1aE\xdf\xa3":
                return _webm_type(path)
            if head[:4] == b"GIF8":  # Pillow has no name for it
                _, _, packet = file.read(_MAX_PACKET).partition(marking.GIF_START)
                return _type(packet.partition(marking.GIF_TRAILER[:8])[0])
            return _type(_picture_packet(path))
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        reason = " ".join(str(error).split())
        raise FashionFlowError(f"{path}: cannot be read ({reason})", hint="name a video or picture") from None


def _type(packet: bytes) -> str:
    found = _TYPE.search(packet)
    return found[1].decode("utf-8", "replace") if found else ""


def _mp4_packet(file: IO[bytes]) -> bytes:
    """The XMP of an MP4."""
    for box in boxes.walk(file):
        file.seek(box.start)
        if box.kind == b"uuid" and file.read(16) == marking.UUID:
            return file.read(min(box.end - box.start - 16, _MAX_PACKET))
    return b""


def _webm_type(path: Path) -> str:
    return reading.container_tags(path).get(marking.WEBM_TAG, "")


def _picture_packet(path: Path) -> bytes:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            # Pillow's names: xmp of JPEG and WebP, and the PNG's own key.
            found = picture.info.get("xmp") or picture.info.get(marking.PNG_KEY) or b""
    except UnidentifiedImageError:
        return b""
    return found.encode() if isinstance(found, str) else found
