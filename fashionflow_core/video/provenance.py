"""Provenance of a video file: model, seed, settings, marks and signature, as stored in it."""

import re
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.video import boxes, marking, reading, signing
from fashionflow_core.video.reproduction import again

_PREFIX = "fashionflow_"
_TYPE = re.compile(rb"""DigitalSourceType(?:\s*=\s*["']|\s*>\s*)([^"'<\s]+)""")
_MAX_PACKET = 1 << 20


@dataclass(frozen=True)
class Provenance:
    """Provenance as stored in a file.

    Attributes:
        path: the file.
        source_type: IPTC DigitalSourceType; empty: not marked.
        settings: metadata of FashionFlow: model, seed, scheduler, steps, ...; empty: made by something else.
        other: further metadata, such as a title.
        frames, fps, height, width, codec: of the video; 0 and empty of a picture.
        again: the command that makes the same video from the same photo; empty if the file does not state enough.
        signature: the state of its C2PA signature, in words; empty: it has none.
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
    """Read the provenance of a video or picture; only a signature is verified.

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
        again(path, settings, found.frames, fps, (found.height, found.width), bool(source)),
        signing.state_of(path),
    )


def is_picture(path: Path) -> bool:
    """Whether a file is a JPEG or PNG, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(8)
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG"))


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
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from None
    return found.encode() if isinstance(found, str) else found
