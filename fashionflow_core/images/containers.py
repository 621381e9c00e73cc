"""Containers of JPEG, PNG and TIFF photos: completeness, repairs, unsupported layouts."""

import io
import mmap
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL import Image, TiffImagePlugin

# Progressive JPEG is written in about ten scans; libjpeg traverses the whole photo for each.
MAX_JPEG_SCANS = 200
# Pillow joins EXIF segments one by one, which takes quadratic time. Cameras write one or a few.
MAX_EXIF_SEGMENTS = 64
_GREY_TAIL = 0.05  # of the height: lower rows of uniform grey, above this share, are missing data

_SOI, _EOI, _SOS = b"\xff\xd8", b"\xff\xd9", 0xDA
# Inside coded data 0xFF is followed by 0 (a stuffed byte), by a restart marker, or by itself (fill bytes).
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)


class Unsupported(Exception):
    """A valid file in an unsupported layout; the message completes "unsupported ..."."""


@dataclass(frozen=True)
class JpegLayout:
    """Properties of a JPEG file, from its markers.

    Attributes:
        ended: whether the coded image has its end marker; data after it (the video of a motion photo) are ignored.
        precision: bits per sample.
        progressive: whether later scans refine the whole image, so that missing data cannot be detected.
    """

    ended: bool
    precision: int
    progressive: bool


def jpeg_layout(file: IO[bytes]) -> JpegLayout:
    """Walk the segments of the coded image.

    Raises:
        ValueError: more scans or EXIF segments than any photo has.
    """
    scans = exif = 0
    precision, progressive = 8, False
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = 2
        while match := _NEXT_MARKER.search(data, at):
            at, kind = match.start(), data[match.start() + 1]
            if kind == _EOI[1]:
                return JpegLayout(True, precision, progressive)
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            if kind == _SOS:
                scans += 1
            elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC) and len(data) > at + 4:  # frame header
                precision, progressive = data[at + 4], kind in (0xC2, 0xC6, 0xCA, 0xCE)
            elif kind == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
                exif += 1
            if scans > MAX_JPEG_SCANS:
                raise ValueError(f"more than {MAX_JPEG_SCANS} scans")
            if exif > MAX_EXIF_SEGMENTS:
                raise ValueError(f"more than {MAX_EXIF_SEGMENTS} EXIF segments")
            at += 2 + max(length, 2)
    return JpegLayout(False, precision, progressive)


def with_end(file: IO[bytes]) -> IO[bytes]:
    """A JPEG file with an end marker appended, so that a decoder returns what is there."""
    file.seek(0)
    return io.BytesIO(file.read() + _EOI)


def missing_rows(image: Image.Image) -> int:
    """Number of missing rows at the bottom of a decoded JPEG; libjpeg fills them with middle grey.

    Args:
        image: a loaded image, before colour conversion.

    Returns:
        0 if fewer than a twentieth of the rows are affected.
    """
    if image.mode not in ("RGB", "L"):
        return 0
    flat = np.abs(np.asarray(image.crop((image.width - 1, 0, image.width, image.height))).astype(int) - 128)
    rows = flat.reshape(image.height, -1).max(axis=1) <= 1
    count = int(np.argmin(rows[::-1])) if not rows.all() else image.height
    while count and not _grey(image, image.height - count):
        count = max(0, count - 8)
    return count if count >= _GREY_TAIL * image.height else 0


def _grey(image: Image.Image, top: int) -> bool:
    part = np.asarray(image.crop((0, top, image.width, image.height))).astype(int)
    return bool(np.abs(part - 128).max() <= 1)


def png_without_broken_notes(file: IO[bytes]) -> tuple[IO[bytes], bool]:
    """Verify the checksums of a PNG; Pillow does not verify those of pixel data.

    Returns:
        the file without ancillary chunks of a wrong checksum, and whether there were any.

    Raises:
        ValueError: a critical chunk is cut off or has a wrong checksum.
    """
    file.seek(8)
    broken: list[tuple[int, int]] = []
    while len(header := file.read(8)) == 8:
        left, kind, start = int.from_bytes(header[:4], "big"), header[4:], file.tell() - 8
        checksum = zlib.crc32(kind)
        while left and (block := file.read(min(left, 1 << 20))):
            checksum, left = zlib.crc32(block, checksum), left - len(block)
        what = "pixel data" if kind == b"IDAT" else "header"
        ancillary = bool(kind[0] & 0x20)
        if left and not ancillary:
            raise ValueError(f"{what} ends early")
        if file.read(4) != checksum.to_bytes(4, "big"):
            if not ancillary:
                raise ValueError(f"wrong checksum of {what}")
            broken.append((start, file.tell()))
        if kind == b"IEND":
            break
    if not broken:
        return file, False
    file.seek(0)
    data = file.read()
    kept, at = [], 0
    for start, end in broken:
        kept.append(data[at:start])
        at = end
    return io.BytesIO(b"".join([*kept, data[at:]])), True


# TIFF tags and their relevant values (TIFF 6.0; Adobe's and Aperio's compressions).
_BITS, _COMPRESSION, _COLOURS, _SAMPLES, _PLANES, _FORMAT = 258, 259, 262, 277, 284, 339
_COLOUR_NAMES = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "L*a*b*", 9: "L*a*b*"}
_COLOUR_SAMPLES = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3, 9: 3}
_FORMAT_NAMES = {2: "signed integers", 3: "floating-point numbers", 5: "complex integers", 6: "complex numbers"}
_COMPRESSION_NAMES = {34712: "JPEG 2000", 33003: "JPEG 2000", 33005: "JPEG 2000", 50000: "Zstandard", 34887: "LERC"}


@dataclass(frozen=True)
class TiffLayout:
    """Sample layout of the first image of a TIFF.

    Attributes:
        bits, samples: bits per sample, samples per pixel.
        colours, compression, format: values of the TIFF tags.
        planes: whether each sample is stored in its own plane.
    """

    bits: int
    samples: int
    colours: int
    compression: int
    format: int
    planes: bool

    def __str__(self) -> str:
        name = _COLOUR_NAMES.get(self.colours, f"colours of kind {self.colours}")
        alpha = " with alpha" if self.samples > _COLOUR_SAMPLES.get(self.colours, self.samples) else ""
        parts = [f"{name}{alpha}", f"{self.bits} bits per sample"]
        if self.format in _FORMAT_NAMES:
            parts.append(_FORMAT_NAMES[self.format])
        if self.planes:
            parts.append("in planes")
        if self.compression in _COMPRESSION_NAMES:
            parts.append(f"{_COMPRESSION_NAMES[self.compression]} inside")
        return ", ".join(parts)


def tiff_layout(file: IO[bytes]) -> TiffLayout | None:
    """The layout of the first image; None if the header is invalid."""
    with suppress(Exception):  # damaged bytes raise anything
        file.seek(0)
        head = file.read(8)
        if head[2:4] in (b"\x2b\0", b"\0\x2b"):
            head += file.read(8)  # BigTIFF
        tags: Any = TiffImagePlugin.ImageFileDirectory_v2(head)
        file.seek(tags.next)
        tags.load(file)

        def first(tag: int, default: int) -> int:
            value = tags.get(tag, default)
            return int(value[0] if isinstance(value, tuple) else value)

        bits = tags.get(_BITS, (1,))
        return TiffLayout(
            bits=max(bits) if isinstance(bits, tuple) else int(bits),
            samples=first(_SAMPLES, 1),
            colours=int(tags[_COLOURS]),
            compression=first(_COMPRESSION, 1),
            format=first(_FORMAT, 1),
            planes=first(_PLANES, 1) == 2 and first(_SAMPLES, 1) > 1,
        )
    return None


def check_tiff(file: IO[bytes]) -> None:
    """Reject layouts that Pillow decodes wrongly without an error.

    Raises:
        Unsupported: samples of 16 bits in planes, compressed grey with alpha in planes, signed integers.
    """
    layout = tiff_layout(file)
    if layout is None:
        return
    deep_planes = layout.planes and layout.bits != 8
    grey_planes = layout.planes and layout.samples == 2 and layout.compression != 1
    if deep_planes or grey_planes or layout.format == 2:
        raise Unsupported(f"TIFF layout: {layout}")
