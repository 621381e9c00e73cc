"""Machine-readable mark of generated videos and pictures: IPTC DigitalSourceType as XMP.

The mark is one XMP packet, the same for every file, so that the same seed keeps giving the same bytes. Where it lies:

- MP4: a `uuid` box at the end (XMP specification part 3, section 2.2; UUID of Adobe).
- WebP: the chunk `XMP ` at the end (WebP Container Specification, "Metadata").
- GIF: the application extension `XMP DataXMP` before the first picture (XMP part 3, section 2.1.2).
- PNG: the text chunk `XML:com.adobe.xmp`; JPEG: an APP1 segment. Pillow writes both.
- WebM: a tag of its own, since neither Matroska nor XMP says where XMP would lie in it.
"""

import re
import struct
import uuid
from pathlib import Path
from typing import IO, TYPE_CHECKING

from fashionflow_core.errors import FashionFlowError

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

# IPTC NewsCodes, "Digital Source Type": media made by a model that was trained on samples.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
WEBM_TAG = "digitalsourcetype"
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="FashionFlow" '
    f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
).encode()
_UUID = uuid.UUID("be7acfcb-97a9-42e8-9c71-999491e3afac").bytes
_GIF_START = b"\x21\xff\x0bXMP DataXMP"
# Readers of sub-blocks that do not know the extension land in this ramp, whichever byte they take for a length.
_GIF_TRAILER = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
_PNG_KEY = "XML:com.adobe.xmp"
_TYPE = re.compile(rb"""DigitalSourceType(?:\s*=\s*["']|\s*>\s*)([^"'<\s]+)""")
_MAX_PACKET = 1 << 20


def mp4_box() -> bytes:
    """The box that an MP4 ends with."""
    return struct.pack(">I4s", 8 + len(_UUID) + len(XMP), b"uuid") + _UUID + XMP


def gif_extension() -> bytes:
    """The extension that goes before the first picture of a GIF."""
    return _GIF_START + XMP + _GIF_TRAILER


def png_text() -> "PngInfo":
    """The mark as Pillow's `pnginfo`."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_itxt(_PNG_KEY, XMP.decode())
    return text


def read(path: Path) -> str:
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
                _, _, packet = file.read(_MAX_PACKET).partition(_GIF_START)
                return _type(packet.partition(_GIF_TRAILER[:8])[0])
            return _type(_picture_packet(path))
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        raise FashionFlowError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None


def _type(packet: bytes) -> str:
    found = _TYPE.search(packet)
    return found[1].decode("utf-8", "replace") if found else ""


def _mp4_packet(file: IO[bytes]) -> bytes:
    """The XMP of an MP4: boxes of the top level are walked, none is read but the right one (ISO 14496-12, 4.2)."""
    at, end = 0, file.seek(0, 2)
    while at + 8 <= end:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            size, header = struct.unpack(">Q", file.read(8))[0], 16
        size = size or end - at
        if size < header:
            return b""
        if kind == b"uuid" and file.read(16) == _UUID:
            return file.read(min(size - header - 16, _MAX_PACKET))
        at += size
    return b""


def _webm_type(path: Path) -> str:
    from fashionflow_core.video.reading import container_tags

    return container_tags(path).get(WEBM_TAG, "")


def _picture_packet(path: Path) -> bytes:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            # Pillow's names: xmp of JPEG and WebP, and the PNG's own key.
            found = picture.info.get("xmp") or picture.info.get(_PNG_KEY) or b""
    except UnidentifiedImageError:
        return b""
    return found.encode() if isinstance(found, str) else found
