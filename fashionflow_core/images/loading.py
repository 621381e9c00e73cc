"""Photo loading: image files to upright sRGB pixels, with EXIF orientation and size limits.

The first bytes select the only decoder that opens a file; no other decoder of Pillow is tried. Size, aspect ratio and
number of pixels are checked from the header, before decoding.

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
MIN_SIDE = 32  # below this a garment is unrecognizable at any frame size
MAX_ASPECT = 8  # a longer strip would fill the frame with bars
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
    """Protocol of hashlib's hash objects."""

    def update(self, data: bytes, /) -> None: ...


# stderr, warnings and Pillow's limit are global to the process, so photos are read one at a time.
_EXCLUSIVE = threading.Lock()


def load_photo(
    source: str | Path,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    max_megapixels: float = MAX_MEGAPIXELS,
    digest: Digest | None = None,
) -> NDArray[np.uint8]:
    """Read a photo as sRGB pixels, upright, transparent areas on `background`.

    JPEG, PNG, WebP, AVIF, TIFF, GIF, and HEIC where pillow-heif is installed (extra `heif`). All EXIF orientations are
    applied; embedded ICC profiles, CMYK and L*a*b* are converted to sRGB (perceptual intent); 16-bit grey is scaled to
    8 bits; of an animation or a file of several pages the first image is read.

    Args:
        source: a path, or `-` for standard input.
        background: background colour for transparent areas, sRGB 0 to 255.
        max_megapixels: maximum size, above 0.
        digest: a hash object of hashlib, updated with the bytes that are decoded.

    Returns:
        uint8 (h, w, 3), values 0 to 255, h and w from 32 up, neither more than 8 times the other.

    Warns:
        FashionFlowWarning: damaged EXIF, an unusable ICC profile, CMYK without a profile, several images in the file.

    Raises:
        FashionFlowError: no such file, not a regular file, empty, unreadable, not one of these formats, damaged or
            cut off, too small, too narrow, above the limit, or (with `digest`) changed while it was read.
    """
    name = "<stdin>" if str(source) == STDIN else str(source)
    if not max_megapixels > 0:
        raise FashionFlowError(f"max megapixels: must be above 0, not {max_megapixels}", hint="pass one such as 50")
    if len(background) != 3 or not all(0 <= value <= 255 for value in background):
        raise FashionFlowError(
            f"background: must be three numbers from 0 to 255, not {background}",
            hint="pass three numbers, such as (255, 255, 255)",
        )
    notes: list[str] = []
    with _opened(source, name) as file, _libraries_quiet(notes):
        image = _decoded(file, name, max_megapixels, notes)
        turn = _orientation(image, file, notes)
        try:
            pixels = to_srgb(image, background, notes)
        except ValueError as error:
            raise FashionFlowError(f"{name}: {error}", hint="save the photo with 8 or 16 bits per sample") from None
        del image  # frees memory before rotation makes a copy
        if digest is not None:
            _update(digest, file, name)
        pixels = np.ascontiguousarray(_TURNS[turn](pixels)) if turn in _TURNS else pixels
    for note in notes:
        warnings.warn(f"{name}: {note}", FashionFlowWarning, stacklevel=2)
    return pixels


def _update(digest: Digest, file: IO[bytes], name: str) -> None:
    """Hash an open file; unaffected if the path is replaced meanwhile."""
    before = os.fstat(file.fileno())
    file.seek(0)
    left = before.st_size  # another process may still append to it
    while left > 0 and (block := file.read(min(left, 1 << 20))):
        digest.update(block)
        left -= len(block)
    after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise FashionFlowError(f"{name}: changed while it was read", hint="run the same command again")


@contextlib.contextmanager
def _opened(source: str | Path, name: str) -> Iterator[IO[bytes]]:
    """The photo as an open regular file; a pipe is copied to a temporary one."""
    again = "copy or download the photo again"
    try:
        if name == "<stdin>":
            with tempfile.TemporaryFile() as file:
                _copy_stdin(file, name)
                yield file
            return
        info = os.stat(source)
        if stat.S_ISDIR(info.st_mode):
            raise FashionFlowError(f"{name}: is a folder, not a photo", hint="pass a photo inside it")
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
        raise FashionFlowError(f"{name}: permission denied", hint=f"check its permissions: ls -l {name}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise FashionFlowError(f"{name}: cannot be opened ({_reason(error)})", hint="check the path") from None
    with file:
        yield file


def _copy_stdin(file: IO[bytes], name: str) -> None:
    stream: Any = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.isatty():
        raise FashionFlowError(f"{name}: no photo on stdin", hint=f"run {command('generate', '- < dress.jpg')}")
    head = stream.read(4096)
    if not head:
        raise FashionFlowError(f"{name}: is empty (0 bytes)", hint="check the command that writes the photo")
    _kind(head, name)  # reject other files before reading to the end
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
    return FashionFlowError(f"{name}: too large (above {limit // 1_000_000} MB)", hint="scale the photo down")


@contextlib.contextmanager
def _libraries_quiet(notes: list[str]) -> Iterator[None]:
    """Suppress output of decoders: Python warnings become one note, output of C code is dropped."""
    with _EXCLUSIVE, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # replaced by `max_megapixels`
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
        # Pillow parses EXIF with its TIFF reader, which issues almost all of its warnings.
        part = "EXIF data" if caught[0].filename.endswith("TiffImagePlugin.py") else "metadata"
        notes.append(f"its {part} is damaged; unreadable entries were skipped")


def _kind(head: bytes, name: str) -> str:
    kind, what = sniff(head), describe(head)
    if kind is not None:
        return kind
    raise FashionFlowError(
        f"{name}: unsupported format: {what}" if what else f"{name}: not a photo",
        hint=f"save the photo as one of: {', '.join(FORMATS)}",
    )


def _decoded(file: IO[bytes], name: str, max_megapixels: float, notes: list[str]) -> Image.Image:
    """The first image, decoded after all checks that need no pixels."""
    head = file.read(4096)
    kind = _kind(head, name)
    if kind in ("WEBP", "AVIF", "HEIF") and file.seek(0, os.SEEK_END) > MAX_COMPRESSED_BYTES:
        raise _too_many_bytes(name, MAX_COMPRESSED_BYTES)
    file.seek(0)
    if kind == "WEBP" and (size := webp_size(head)):
        _check_size(*size, name, max_megapixels)  # Pillow's decoder allocates its canvas on open
    jpeg = None
    try:
        if kind == "PNG":
            file, broken = png_without_broken_notes(file)
            if broken:
                notes.append("its text or metadata is damaged (wrong checksum) and was skipped")
        if kind == "TIFF":
            check_tiff(file)
        jpeg = jpeg_layout(file) if kind == "JPEG" else None
        if jpeg is not None and not (jpeg.ended or jpeg.progressive):
            file = with_end(file)
        image = _open(kind, file, name, notes)
        _check_size(*image.size, name, max_megapixels)
        _note_extras(image, kind, name, notes)
        image.load()  # verify() does not detect files that are cut off
        if jpeg is not None:
            _note_missing(image, jpeg.ended, notes)
    except FashionFlowError:
        raise
    except Unsupported as error:
        raise _unsupported(name, str(error)) from None
    except Exception as error:  # decoders raise all kinds of exceptions on damaged files
        if kind == "TIFF" and (layout := tiff_layout(file)) and not _ends_early(error):
            raise _unsupported(name, f"TIFF layout: {layout}") from None
        if jpeg is not None and jpeg.precision > 8:
            raise _unsupported(name, f"JPEG layout: {jpeg.precision} bits per sample") from None
        reason = "invalid header" if isinstance(error, UnidentifiedImageError) else _reason(error)
        raise FashionFlowError(
            f"{name}: damaged or cut off ({reason})", hint="copy or download the photo again"
        ) from None
    _check_size(*image.size, name, max_megapixels)
    return image


def _unsupported(name: str, what: str) -> FashionFlowError:
    return FashionFlowError(f"{name}: unsupported {what}", hint="save the photo as RGB with 8 bits per sample")


def _ends_early(error: Exception) -> bool:
    """Whether a TIFF decoder reached the end of the file, rather than an unsupported layout."""
    return any(word in str(error) for word in ("truncated", "not enough", "decoder error", "broken data"))


def _note_missing(image: Image.Image, ended: bool, notes: list[str]) -> None:
    """Note missing parts of a JPEG that is accepted nevertheless.

    Raises:
        ValueError: it ends in the middle.
    """
    rows = missing_rows(image)
    if rows and not ended:
        raise ValueError(f"the lower {rows} of {image.height} rows are missing")
    if rows:
        notes.append(f"part of the image is missing: its lower {rows} of {image.height} rows are grey")
    elif not ended:
        notes.append("its end is missing; the rest is used")


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
    # libavif fails on damaged EXIF; with its item type renamed, the item is ignored.
    file.seek(0)
    image = Image.open(io.BytesIO(file.read().replace(b"Exif", b"none", 1)), formats=[kind])
    notes.append("its EXIF data is damaged; orientation is ignored")
    return image


def _check_size(width: int, height: int, name: str, max_megapixels: float) -> None:
    size = f"{width}x{height}"
    if min(width, height) < MIN_SIDE:
        raise FashionFlowError(
            f"{name}: too small ({size} pixels; at least {MIN_SIDE} on each side)", hint="use a larger photo"
        )
    if width * height > max_megapixels * 1e6:
        raise FashionFlowError(
            f"{name}: too large ({size} pixels, above {max_megapixels:g} megapixels)",
            hint=f"scale the photo down, or pass {option('max_megapixels', -(-width * height // 1_000_000))}",
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise FashionFlowError(
            f"{name}: too narrow ({size} pixels; one side may be at most {MAX_ASPECT} times the other)",
            hint="crop the photo to the garment",
        )


def _note_extras(image: Image.Image, kind: str, name: str, notes: list[str]) -> None:
    tags: Any = getattr(image, "tag_v2", {}) if kind == "TIFF" else {}
    if tags.get(_SUBFILE, 0) == 1 or _DNG in tags:
        raise FashionFlowError(
            f"{name}: camera raw file (only a preview can be read)", hint="develop it and save it as JPEG"
        )
    # Phones store previews and gain maps after the photo (MPO); no warning.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        what = "page" if kind == "TIFF" else "image" if kind == "HEIF" else "frame"
        notes.append(f"contains more than one {what}; the first is used")


def _orientation(image: Image.Image, file: IO[bytes], notes: list[str]) -> int:
    """The remaining EXIF orientation, 1 to 8: Pillow already rotates TIFF, libheif HEIC.

    Where HEIC contains no rotation of its own, EXIF's is used. ISO 23008-12 requires readers to ignore it, but
    converters write such files with the camera's orientation.
    """
    try:
        # JPEG has one EXIF segment among any number of others (XMP, thermal cameras); Pillow joins them.
        segments: list[tuple[str, bytes]] = getattr(image, "applist", [])
        own = [body for name, body in segments if name == "APP1" and body.startswith(b"Exif\0\0")]
        # Some plugins have read it already and suppressed errors.
        exif = Image.Exif()
        exif.load(own[0] if own else image.info.get("exif") or b"")
        value = exif.get(_ORIENTATION) or image.getexif().get(_ORIENTATION, 1)
        if image.format == "HEIF" and not heif_is_turned(file):
            value = image.info.get("original_orientation") or value
    except Exception:  # damaged bytes raise anything
        notes.append("its EXIF data is damaged; orientation is ignored")
        return 1
    if isinstance(value, int) and 1 <= value <= 8:
        return value
    notes.append("invalid EXIF orientation (not 1 to 8); ignored")
    return 1
