"""Machine-readable mark of generated videos and pictures: IPTC DigitalSourceType as XMP.

The mark is one constant XMP packet, so that the same seed gives the same bytes. Its place:

- MP4: a `uuid` box at the end (XMP specification part 3, section 2.2; UUID of Adobe).
- WebP: the chunk `XMP ` at the end (WebP Container Specification, "Metadata").
- GIF: the application extension `XMP DataXMP` before the first picture (XMP part 3, section 2.1.2).
- PNG: the text chunk `XML:com.adobe.xmp`; JPEG: an APP1 segment. Pillow writes both.
- WebM: a tag, since neither Matroska nor XMP defines a place for XMP.
"""

import struct
import uuid
from typing import TYPE_CHECKING

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
UUID = uuid.UUID("be7acfcb-97a9-42e8-9c71-999491e3afac").bytes
GIF_START = b"\x21\xff\x0bXMP DataXMP"
# Readers of sub-blocks that do not know the extension end in this ramp, whichever byte they read as a length.
GIF_TRAILER = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
PNG_KEY = "XML:com.adobe.xmp"


def mp4_box() -> bytes:
    """The box at the end of an MP4."""
    return struct.pack(">I4s", 8 + len(UUID) + len(XMP), b"uuid") + UUID + XMP


def gif_extension() -> bytes:
    """The extension before the first picture of a GIF."""
    return GIF_START + XMP + GIF_TRAILER


def png_text() -> "PngInfo":
    """The mark as Pillow's `pnginfo`."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_itxt(PNG_KEY, XMP.decode())
    return text
