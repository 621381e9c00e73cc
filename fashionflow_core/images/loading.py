"""Photo loading: any photo file to upright sRGB pixels (EXIF applied); too large ones refused.

The first bytes decide which one decoder may see a file: nothing else of Pillow's is ever tried on it. Size, proportion
and number of pixels are judged from the header, before anything is decoded.

Limits of the decoders: Pillow keeps the upper 8 of 16 bits in colour images (16-bit grey keeps its levels); PNG's gAMA
and cHRM and the CICP colours of AVIF and HEIC are not read: without an ICC profile, colours are taken for sRGB.
"""

import contextlib
import io
import os
import stat
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, command, option
from fashionflow_core.images.color_management import to_srgb
from fashionflow_core.images.containers import (
    Unsupported,
    check_tiff,
    jpeg_layout,
    missing_rows,
    png_without_broken_notes,
    tiff_layout,
    with_end,
)
from fashionflow_core.images.formats import describe, heif_is_turned, sniff, webp_size
from fashionflow_core.utils import extras

FORMATS = ("JPEG", "PNG", "WebP", "AVIF", "TIFF", "GIF", "HEIC")
STDIN = "-"
MAX_MEGAPIXELS = 50.0
MIN_SIDE = 32  # below this no garment can be made out, at any frame size
MAX_ASPECT = 8  # a longer strip would leave a frame of nothing but bars
MAX_BYTES = 512_000_000  # an uncompressed 16-bit photo of 50 megapixels with alpha has 400 MB
# WebP, AVIF and HEIC decoders take the whole file into memory, and no photo below the megapixel limit needs more.
MAX_COMPRESSED_BYTES = 64_000_000
_MAX_TEXT = 32 * 2**20  # unpacked ICC profiles and texts of a PNG: those of printers have some MB
_ORIENTATION, _SUBFILE, _DNG = 0x0112, 254, 50706

_TURNS = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x.swapaxes(0, 1)[::-1],
}


class Digest(Protocol):
    """A hash object of hashlib."""

    def update(self, data: bytes, /) -> None: ...


# What is switched while a photo is read (stderr, warnings, Pillow's own limit) belongs to the whole process.
_EXCLUSIVE = threading.Lock()


def load_photo(
    source: str | Path,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    max_megapixels: float = MAX_MEGAPIXELS,
    digest: Digest | None = None,
) -> NDArray[np.uint8]:
    """Read a photo as sRGB pixels, upright, transparent parts on `background`.

    JPEG, PNG, WebP, AVIF, TIFF, GIF, and HEIC where pillow-heif is installed (extra `heif`). All EXIF orientations are
    applied; embedded ICC profiles, CMYK and L*a*b* are converted to sRGB (perceptual intent); 16-bit grey is scaled to
    8 bits; of an animation or a file of several pages the first picture is taken.

    Args:
        source: a path, or `-` for standard input.
        background: sRGB 0 to 255, what shows where the photo is transparent.
        max_megapixels: more are refused, above 0.
        digest: a hash object of hashlib, updated with the very bytes that were decoded.

    Returns:
        uint8 (h, w, 3), values 0 to 255, h and w from 32 up, neither more than 8 times the other.

    Warns:
        FashionFlowWarning: damaged EXIF, an unusable ICC profile, CMYK without a profile, several pictures in the file.

    Raises:
        FashionFlowError: no such file, not a regular file, empty, not readable, not one of these formats, damaged or
            cut off, too small, too narrow, above the limit, or (with `digest`) changed while it was read.
    """
    name = "<stdin>" if str(source) == STDIN else str(source)
    if not max_megapixels > 0:
        raise FashionFlowError(f"max megapixels: must be above 0, not {max_megapixels}", hint="such as 50")
    if len(background) != 3 or not all(0 <= value <= 255 for value in background):
        raise FashionFlowError(
            f"background: must be three numbers from 0 to 255, not {background}", hint="such as (255, 255, 255)"
        )
    notes: list[str] = []
    with _opened(source, name) as file, _libraries_quiet(notes):
        image = _decoded(file, name, max_megapixels, notes)
        turn = _orientation(image, file, notes)
        try:
            pixels = to_srgb(image, background, notes)
        except ValueError as error:
            raise FashionFlowError(f"{name}: {error}", hint="save the photo with 8 or 16 bits a sample") from None
        del image  # before the copy that turning makes
        if digest is not None:
            _update(digest, file, name)
        pixels = np.ascontiguousarray(_TURNS[turn](pixels)) if turn in _TURNS else pixels
    for note in notes:
        warnings.warn(f"{name}: {note}", FashionFlowWarning, stacklevel=2)
    return pixels


def _update(digest: Digest, file: IO[bytes], name: str) -> None:
    """Hash an open file, which stays the same one when another takes its name."""
    before = os.fstat(file.fileno())
    file.seek(0)
    left = before.st_size  # a file that something still appends to has no end
    while left > 0 and (block := file.read(min(left, 1 << 20))):
        digest.update(block)
        left -= len(block)
    after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise FashionFlowError(f"{name}: changed while it was read", hint="run the same command again")


@contextlib.contextmanager
def _opened(source: str | Path, name: str) -> Iterator[IO[bytes]]:
    """The photo's bytes as a regular file, those of a pipe by way of a temporary one."""
    again = "copy or download the photo again"
    try:
        if name == "<stdin>":
            with tempfile.TemporaryFile() as file:
                _copy_stdin(file, name)
                yield file
            return
        info = os.stat(source)
        if stat.S_ISDIR(info.st_mode):
            raise FashionFlowError(f"{name}: is a folder, not a photo", hint="name a photo inside it")
        if not stat.S_ISREG(info.st_mode):
            raise FashionFlowError(
                f"{name}: is a pipe or device, not a regular file", hint="pass - to read the photo from standard input"
            )
        if info.st_size == 0:
            raise FashionFlowError(f"{name}: is empty (0 bytes)", hint=again)
        if info.st_size > MAX_BYTES:
            raise _too_many_bytes(name, MAX_BYTES)
        file = open(source, "rb")  # noqa: SIM115 (closed below; only opening it is tried here)
    except (FileNotFoundError, NotADirectoryError):
        raise FashionFlowError(f"{name}: no such file", hint="check the spelling of the path") from None
    except PermissionError:
        raise FashionFlowError(f"{name}: may not be read", hint=f"check its permissions: ls -l {name}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise FashionFlowError(f"{name}: could not be opened ({_reason(error)})", hint="check the path") from None
    with file:
        yield file


def _copy_stdin(file: IO[bytes], name: str) -> None:
    stream: Any = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.isatty():
        raise FashionFlowError(f"{name}: no photo is piped in", hint=command("generate", "- < dress.jpg"))
    head = stream.read(4096)
    if not head:
        raise FashionFlowError(f"{name}: is empty (0 bytes)", hint="check the command that writes the photo")
    _kind(head, name)  # refuse what is no photo without waiting for its end
    file.write(head)
    size = len(head)
    while block := stream.read(1 << 20):
        size += len(block)
        if size > MAX_BYTES:
            raise _too_many_bytes(name, MAX_BYTES)
        file.write(block)
    file.seek(0)


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split())[:200] or type(error).__name__


def _too_many_bytes(name: str, limit: int) -> FashionFlowError:
    return FashionFlowError(f"{name}: is too large (above {limit // 1_000_000} MB)", hint="scale the photo down")


@contextlib.contextmanager
def _libraries_quiet(notes: list[str]) -> Iterator[None]:
    """Keep the decoders' own words off stderr: Python warnings become one note, what C code prints is dropped."""
    with _EXCLUSIVE, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours is the one that counts
        text, PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_CHUNK, _MAX_TEXT
        try:
            saved = os.dup(2)
        except OSError:  # stderr is closed
            saved = None
        try:
            if saved is not None:
                sink = os.open(os.devnull, os.O_WRONLY)
                os.dup2(sink, 2)
                os.close(sink)
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
            PngImagePlugin.MAX_TEXT_CHUNK = text
            if saved is not None:
                os.dup2(saved, 2)
                os.close(saved)
    if caught and not any("EXIF" in note for note in notes):
        # Pillow parses EXIF with its TIFF reader, where all but a few of its warnings come from.
        part = "EXIF data" if caught[0].filename.endswith("TiffImagePlugin.py") else "metadata"
        notes.append(f"its {part} is damaged in places, which were passed over")


def _kind(head: bytes, name: str) -> str:
    kind, what = sniff(head), describe(head)
    if kind is not None:
        return kind
    raise FashionFlowError(
        f"{name}: is {what}, not a photo in a format that is read" if what else f"{name}: is not a photo",
        hint=f"save the photo as one of: {', '.join(FORMATS)}",
    )


def _decoded(file: IO[bytes], name: str, max_megapixels: float, notes: list[str]) -> Image.Image:
    """The first picture, its pixels decoded, after everything that can be refused without."""
    head = file.read(4096)
    kind = _kind(head, name)
    if kind in ("WEBP", "AVIF", "HEIF") and file.seek(0, os.SEEK_END) > MAX_COMPRESSED_BYTES:
        raise _too_many_bytes(name, MAX_COMPRESSED_BYTES)
    file.seek(0)
    if kind == "WEBP" and (size := webp_size(head)):
        _check_size(*size, name, max_megapixels)  # Pillow's decoder allocates its canvas as it opens
    jpeg = None
    try:
        if kind == "PNG":
            file, broken = png_without_broken_notes(file)
            if broken:
                notes.append("its text or metadata is damaged (wrong checksum), which was omitted")
        if kind == "TIFF":
            check_tiff(file)
        jpeg = jpeg_layout(file) if kind == "JPEG" else None
        if jpeg is not None and not (jpeg.ended or jpeg.progressive):
            file = with_end(file)
        image = _open(kind, file, name, notes)
        _check_size(*image.size, name, max_megapixels)
        _note_extras(image, kind, name, notes)
        image.load()  # verify() misses files that are cut off
        if jpeg is not None:
            _note_missing(image, jpeg.ended, notes)
    except FashionFlowError:
        raise
    except Unsupported as error:
        raise _unsupported(name, str(error)) from None
    except Exception as error:  # the kinds of exceptions that decoders raise on damaged files have no end
        if kind == "TIFF" and (layout := tiff_layout(file)) and not _ends_early(error):
            raise _unsupported(name, f"TIFF layout: {layout}") from None
        if jpeg is not None and jpeg.precision > 8:
            raise _unsupported(name, f"JPEG layout: {jpeg.precision} bits a sample") from None
        reason = "its header makes no sense" if isinstance(error, UnidentifiedImageError) else _reason(error)
        raise FashionFlowError(
            f"{name}: is damaged or cut off ({reason})", hint="copy or download the photo again"
        ) from None
    _check_size(*image.size, name, max_megapixels)
    return image


def _unsupported(name: str, what: str) -> FashionFlowError:
    return FashionFlowError(f"{name}: unsupported {what}", hint="save the photo as RGB with 8 bits a sample")


def _ends_early(error: Exception) -> bool:
    """Whether a decoder met the end of a TIFF file, not a layout that it does not know."""
    return any(word in str(error) for word in ("truncated", "not enough", "decoder error", "broken data"))


def _note_missing(image: Image.Image, ended: bool, notes: list[str]) -> None:
    """Say what a JPEG lacks that is shown all the same.

    Raises:
        ValueError: it ends in the middle.
    """
    rows = missing_rows(image)
    if rows and not ended:
        raise ValueError(f"the lower {rows} of {image.height} rows are missing")
    if rows:
        notes.append(f"part of the picture is missing: its lower {rows} of {image.height} rows are grey")
    elif not ended:
        notes.append("its end is missing; what is there is shown")


def _open(kind: str, file: IO[bytes], name: str, notes: list[str]) -> Image.Image:
    """Read the header."""
    file.seek(0)
    if kind == "HEIF":
        try:
            from pillow_heif import HeifImageFile
        except ImportError:
            raise FashionFlowError(
                f"{name}: HEIC photos need the extra 'heif'",
                hint=f"{extras.install('heif')}, or save the photo as JPEG first",
            ) from None
        return HeifImageFile(file)
    if kind != "AVIF":
        return Image.open(file, formats=[kind])
    try:
        return Image.open(file, formats=[kind])
    except ValueError as error:
        if "Exif" not in str(error):
            raise
    # libavif gives the photo up with its EXIF; with that item's type renamed, it is one nobody asks for.
    file.seek(0)
    image = Image.open(io.BytesIO(file.read().replace(b"Exif", b"none", 1)), formats=[kind])
    notes.append("its EXIF data is damaged; the photo is taken as it is stored")
    return image


def _check_size(width: int, height: int, name: str, max_megapixels: float) -> None:
    size = f"{width}x{height}"
    if min(width, height) < MIN_SIDE:
        raise FashionFlowError(
            f"{name}: is too small ({size} pixels; at least {MIN_SIDE} on each side)", hint="use a larger photo"
        )
    if width * height > max_megapixels * 1e6:
        raise FashionFlowError(
            f"{name}: is too large ({size} pixels, above {max_megapixels:g} megapixels)",
            hint=f"scale the photo down, or pass {option('max_megapixels', -(-width * height // 1_000_000))}",
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise FashionFlowError(
            f"{name}: is too narrow ({size} pixels; one side may be {MAX_ASPECT} times the other at most)",
            hint="crop the photo to the garment",
        )


def _note_extras(image: Image.Image, kind: str, name: str, notes: list[str]) -> None:
    tags: Any = getattr(image, "tag_v2", {}) if kind == "TIFF" else {}
    if tags.get(_SUBFILE, 0) == 1 or _DNG in tags:
        raise FashionFlowError(
            f"{name}: is a camera raw file, whose first picture is a preview", hint="develop it and save it as JPEG"
        )
    # Phones store previews and gain maps behind the photo (MPO); they say nothing about it.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        what = "page" if kind == "TIFF" else "picture" if kind == "HEIF" else "frame"
        notes.append(f"holds more than one {what}; the first is used")


def _orientation(image: Image.Image, file: IO[bytes], notes: list[str]) -> int:
    """What is left to do, 1 to 8 as the EXIF standard numbers it: Pillow turns TIFF upright itself, libheif HEIC.

    Where HEIC names no rotation of its own, EXIF's is used. ISO 23008-12 has readers pass over it, yet such files come
    from converters that store what the camera stored.
    """
    try:
        # JPEG has one segment of EXIF among any number of others (XMP, thermal cameras); Pillow joins what it finds.
        segments: list[tuple[str, bytes]] = getattr(image, "applist", [])
        own = [body for name, body in segments if name == "APP1" and body.startswith(b"Exif\0\0")]
        # Some plugins have read it before and kept quiet about what they met.
        exif = Image.Exif()
        exif.load(own[0] if own else image.info.get("exif") or b"")
        value = exif.get(_ORIENTATION) or image.getexif().get(_ORIENTATION, 1)
        if image.format == "HEIF" and not heif_is_turned(file):
            value = image.info.get("original_orientation") or value
    except Exception:  # as with decoders: whatever damaged bytes lead to
        notes.append("its EXIF data is damaged; the photo is taken as it is stored")
        return 1
    if isinstance(value, int) and 1 <= value <= 8:
        return value
    notes.append("its EXIF orientation is none of 1 to 8; the photo is taken as it is stored")
    return 1
