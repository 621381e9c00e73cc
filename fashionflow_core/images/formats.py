"""Photo formats from file headers: type, width and height."""

from typing import IO

_MAGIC = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
)
_BRANDS = dict.fromkeys((b"avif", b"avis"), "AVIF") | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"), "HEIF"
)
# Names of unsupported formats, for error messages.
_REFUSED = (
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (0, b"%PDF", "a PDF"),
    (0, b"BM", "a BMP image"),
    (0, b"<svg", "an SVG drawing"),
    (4, b"jP  ", "a JPEG 2000 image"),
    (4, b"JXL ", "a JPEG XL image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"FUJIFILM", "a camera raw file"),
    (4, b"ftypcrx ", "a camera raw file"),
    (4, b"ftyp", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
)


def sniff(head: bytes) -> str | None:
    """Pillow's name of a supported format, from at least the first 64 bytes of a file; None for others."""
    for at, magic, kind in _MAGIC:
        if head.startswith(magic, at):
            return kind
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        # The major brand, a version number, then the compatible brands: `mif1` alone does not determine the codec.
        size = min(int.from_bytes(head[:4], "big"), len(head))
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, size, 4))]
        kinds = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
        if kinds:
            return "AVIF" if "AVIF" in kinds else "HEIF"
    return None


def describe(head: bytes) -> str | None:
    """Name of an unsupported format, with its article; None if unknown."""
    return next((what for at, magic, what in _REFUSED if head.startswith(magic, at)), None)


def webp_size(head: bytes) -> tuple[int, int] | None:
    """Width and height of the canvas (RFC 9649, sections 2.5 to 2.7)."""
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if head[12:16] == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


def heif_is_turned(file: IO[bytes]) -> bool:
    """Whether a HEIF file contains rotation or mirroring (`irot`, `imir`: boxes of 9 bytes)."""
    file.seek(0)
    data = file.read()
    return b"\0\0\0\x09irot" in data or b"\0\0\0\x09imir" in data
