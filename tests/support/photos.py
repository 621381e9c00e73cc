"""Photos of every kind, good and bad, as bytes; each is a literal row of `CASES` with what must come of it."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from places import GOLDEN

from fashionflow_core.images.loading import load_photo

ORIENTATION = 0x0112

# What a camera stores for each value, by the EXIF standard: which side of the scene are stored row 0 and column 0.
STORED_AS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda scene: scene,  # row 0: top, column 0: left
    2: lambda scene: scene[:, ::-1],  # top, right
    3: lambda scene: scene[::-1, ::-1],  # bottom, right
    4: lambda scene: scene[::-1],  # bottom, left
    5: lambda scene: scene.swapaxes(0, 1),  # left, top
    6: lambda scene: scene[:, ::-1].swapaxes(0, 1),  # right, top
    7: lambda scene: scene[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda scene: scene[::-1].swapaxes(0, 1),  # left, bottom
}


def blocks(height: int = 96, width: int = 64) -> np.ndarray:
    """Four quadrants in four colours: survives JPEG, and every turn of it looks different."""
    pixels = np.empty((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    pixels[:top, :left], pixels[:top, left:] = (200, 30, 30), (30, 180, 40)
    pixels[top:, :left], pixels[top:, left:] = (40, 50, 210), (230, 220, 120)
    return pixels


def encoded(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    """The image as a file of Pillow's format `kind`; HEIF through pillow-heif."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    if kind == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def worn() -> Image.Image:
    """The sample photo: a dress on a person, 512x640."""
    return Image.open(GOLDEN / "blue.jpg").convert("RGB")


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG of these chunks, whatever they are worth."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks)


def exif(orientation: Any) -> bytes:
    """EXIF with an orientation of any value, and a word that no format keeps elsewhere."""
    block = Image.Exif()
    block[0x010E] = "a dress"
    block[ORIENTATION] = orientation
    return block.tobytes()


def turned(kind: str, orientation: int, scene: np.ndarray | None = None, **options: Any) -> bytes:
    """`blocks()`, as a camera held that way stores it in a file of this format."""
    stored = np.ascontiguousarray(STORED_AS[orientation](blocks() if scene is None else scene))
    return encoded(stored, kind, exif=exif(orientation), **options)


def broken_exif(kind: str) -> bytes:
    """The sample photo with EXIF whose byte order is nonsense."""
    good = encoded(worn(), kind, exif=exif(1))
    at = good.index(b"MM\0*")
    assert good.count(b"MM\0*") == 1
    whole = bytearray(good)
    whole[at : at + 4] = b"XX\0*"
    if kind == "PNG":  # else the chunk's checksum gives the damage away
        at = good.index(b"eXIf")
        (length,) = struct.unpack(">I", good[at - 4 : at])
        end = at + 4 + length
        whole[end : end + 4] = struct.pack(">I", zlib.crc32(whole[at:end]))
    return bytes(whole)


@cache
def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def flipped(data: bytes, at: float, count: int = 40) -> bytes:
    """`data` with `count` bits turned over, from this share of its length on."""
    hurt = bytearray(data)
    first = int(len(hurt) * at)
    for offset in range(count):
        hurt[first + 7 * offset] ^= 1 << offset % 8
    return bytes(hurt)


def with_size(data: bytes, at: int, layout: str, *values: int) -> bytes:
    """`data` with its header's sizes overwritten."""
    return data[:at] + struct.pack(layout, *values) + data[at + struct.calcsize(layout) :]


def huge(kind: str) -> bytes:
    """A small file whose header claims a picture of hundreds of megapixels."""
    small = encoded(worn().resize((64, 80)), kind, **({"lossless": True} if kind == "WEBP" else {}))
    if kind == "PNG":
        return png(30_000, 30_000, chunk(b"IDAT", zlib.compress(b"\0")))
    if kind == "JPEG":
        return with_size(small, small.index(b"\xff\xc0") + 5, ">HH", 60_000, 60_000)
    if kind == "WEBP":
        return with_size(small, 21, "<I", 16_383 | 16_383 << 14)
    if kind == "GIF":
        image = small.index(b",\0\0\0\0") + 5
        return with_size(with_size(small, 6, "<HH", 65_000, 65_000), image, "<HH", 65_000, 65_000)
    if kind == "TIFF":
        (first,) = struct.unpack("<I", small[4:8])
        at = {struct.unpack("<H", small[a : a + 2])[0]: a for a in range(first + 2, first + 2 + 12 * 4, 12)}
        small = with_size(small, at[256] + 2, "<HII", 4, 1, 100_000)
        return with_size(small, at[257] + 2, "<HII", 4, 1, 100_000)
    at = small.index(b"ispe") + 8
    return with_size(small, at, ">II", 16_000, 16_000)


def animation(kind: str, **options: Any) -> bytes:
    frames = [worn().resize((128, 160)), worn().resize((128, 160)).rotate(90)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def cutout(mode: str) -> Image.Image:
    """The sample photo with a transparent left third."""
    image = worn().resize((256, 320))
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, 85, 320))
    if mode == "P":
        image = image.quantize(64)
        image.info["transparency"] = 0
        return image
    image = image.convert(mode[:-1])
    image.putalpha(alpha)
    return image


def deep() -> np.ndarray:
    """The sample photo in 16-bit grey."""
    return np.asarray(worn().convert("L")).astype(np.uint16) * 257


@dataclass(frozen=True)
class Case:
    """A photo's bytes, and what comes of it: a video, a video and a warning like `warns`, or an error like `fails`.

    A made photo may say nothing but that no figure is found in it.
    """

    make: Callable[[], bytes]
    warns: str | None = None
    fails: str | None = None
    suffix: str = ".jpg"


def _photo(kind: str, **options: Any) -> Callable[[], bytes]:
    return lambda: encoded(worn(), kind, **options)


DAMAGED, NO_PHOTO = "damaged or cut off", "not a photo"
CASES: dict[str, Case] = {
    "jpeg": Case(_photo("JPEG")),
    "progressive jpeg": Case(_photo("JPEG", progressive=True)),
    "png": Case(_photo("PNG"), suffix=".png"),
    "webp": Case(_photo("WEBP"), suffix=".webp"),
    "avif": Case(_photo("AVIF"), suffix=".avif"),
    "tiff": Case(_photo("TIFF"), suffix=".tif"),
    "tiff lzw": Case(_photo("TIFF", compression="tiff_lzw"), suffix=".tif"),
    "heic": Case(_photo("HEIF"), suffix=".heic"),
    "gif": Case(_photo("GIF"), suffix=".gif"),
    "upside down": Case(lambda: turned("JPEG", 3, np.asarray(worn()))),
    "lying png": Case(lambda: turned("PNG", 6, np.asarray(worn())), suffix=".png"),
    "corrupt exif": Case(lambda: broken_exif("JPEG"), warns="EXIF"),
    "corrupt exif png": Case(lambda: broken_exif("PNG"), warns="EXIF", suffix=".png"),
    "corrupt exif webp": Case(lambda: broken_exif("WEBP"), warns="EXIF", suffix=".webp"),
    "corrupt exif avif": Case(lambda: broken_exif("AVIF"), warns="EXIF", suffix=".avif"),
    "corrupt exif heic": Case(lambda: broken_exif("HEIF"), warns="EXIF", suffix=".heic"),
    "exif orientation 9": Case(lambda: encoded(worn(), "JPEG", exif=exif(9)), warns="EXIF orientation"),
    "cmyk": Case(lambda: encoded(worn().convert("CMYK"), "JPEG"), warns="CMYK without an ICC profile"),
    "srgb profile": Case(lambda: encoded(worn(), "JPEG", icc_profile=srgb_profile())),
    "corrupt icc": Case(lambda: encoded(worn(), "JPEG", icc_profile=b"no profile" * 40), warns="ICC profile"),
    "rgb icc in cmyk": Case(
        lambda: encoded(worn().convert("CMYK"), "JPEG", icc_profile=srgb_profile()), warns="ICC profile"
    ),
    "grey": Case(lambda: encoded(worn().convert("L"), "JPEG")),
    "16-bit grey png": Case(lambda: encoded(deep(), "PNG"), suffix=".png"),
    "16-bit grey tiff": Case(lambda: encoded(deep(), "TIFF"), suffix=".tif"),
    "1-bit": Case(lambda: encoded(worn().convert("1"), "PNG"), suffix=".png"),
    "palette with transparency": Case(lambda: encoded(cutout("P"), "PNG"), suffix=".png"),
    "rgba": Case(lambda: encoded(cutout("RGBA"), "PNG"), suffix=".png"),
    "rgba webp": Case(lambda: encoded(cutout("RGBA"), "WEBP"), suffix=".webp"),
    "grey with alpha": Case(lambda: encoded(cutout("LA"), "PNG"), suffix=".png"),
    "animated gif": Case(lambda: animation("GIF"), warns="more than one frame", suffix=".gif"),
    "animated png": Case(lambda: animation("PNG"), warns="more than one frame", suffix=".png"),
    "animated webp": Case(lambda: animation("WEBP"), warns="more than one frame", suffix=".webp"),
    "animated avif": Case(lambda: animation("AVIF"), warns="more than one frame", suffix=".avif"),
    "pages of tiff": Case(lambda: animation("TIFF"), warns="more than one page", suffix=".tif"),
    "wrong suffix": Case(_photo("PNG")),
    "flat-lay": Case(lambda: encoded(blocks(320, 256), "JPEG"), warns="no figure found"),
    "empty": Case(lambda: b"", fails=r"is empty"),
    "text": Case(lambda: b"this is a text\n" * 50, fails=NO_PHOTO),
    "html": Case(lambda: b"<!DOCTYPE html><html>404</html>", fails=NO_PHOTO),
    "zeros": Case(lambda: bytes(5000), fails=NO_PHOTO),
    "one byte": Case(lambda: b"\xff", fails=NO_PHOTO),
    "truncated jpeg": Case(lambda: encoded(worn(), "JPEG")[:5000], fails=DAMAGED),
    "truncated png": Case(lambda: encoded(worn(), "PNG")[:50_000], fails=DAMAGED, suffix=".png"),
    "truncated webp": Case(lambda: encoded(worn(), "WEBP")[:3000], fails=DAMAGED, suffix=".webp"),
    "truncated avif": Case(lambda: encoded(worn(), "AVIF")[:3000], fails=DAMAGED, suffix=".avif"),
    "truncated tiff": Case(lambda: encoded(worn(), "TIFF")[:9000], fails=DAMAGED, suffix=".tif"),
    "truncated heic": Case(lambda: encoded(worn(), "HEIF")[:3000], fails=DAMAGED, suffix=".heic"),
    "truncated gif": Case(lambda: encoded(worn(), "GIF")[:9000], fails=DAMAGED, suffix=".gif"),
    "header alone": Case(lambda: encoded(worn(), "JPEG")[:20], fails=DAMAGED),
    "bits flipped in jpeg header": Case(lambda: flipped(encoded(worn(), "JPEG"), 0.002), fails=DAMAGED),
    "bits flipped in png": Case(lambda: flipped(encoded(worn(), "PNG"), 0.5, 1), fails=DAMAGED, suffix=".png"),
    "bits flipped in webp": Case(lambda: flipped(encoded(worn(), "WEBP"), 0.004), fails=DAMAGED, suffix=".webp"),
    "bits flipped in avif": Case(lambda: flipped(encoded(worn(), "AVIF"), 0.01), fails=DAMAGED, suffix=".avif"),
    "bits flipped in tiff": Case(
        lambda: flipped(encoded(worn(), "TIFF", compression="tiff_lzw"), 0.4), fails=DAMAGED, suffix=".tif"
    ),
    "huge png": Case(lambda: huge("PNG"), fails=r"30000x30000.*50 megapixels", suffix=".png"),
    "huge jpeg": Case(lambda: huge("JPEG"), fails=r"60000x60000.*50 megapixels"),
    "huge webp": Case(lambda: huge("WEBP"), fails=r"16384x16384.*50 megapixels", suffix=".webp"),
    "huge gif": Case(lambda: huge("GIF"), fails=r"65000x65000.*50 megapixels", suffix=".gif"),
    "huge tiff": Case(lambda: huge("TIFF"), fails=r"100000x100000.*50 megapixels", suffix=".tif"),
    "huge avif": Case(lambda: huge("AVIF"), fails=r"16000x16000.*50 megapixels", suffix=".avif"),
    "huge heic": Case(lambda: huge("HEIF"), fails=r"16000x16000.*50 megapixels", suffix=".heic"),
    "1x1": Case(lambda: encoded(blocks(1, 1), "PNG"), fails=r"too small \(1x1 ", suffix=".png"),
    "20000x1": Case(lambda: encoded(blocks(1, 20_000), "PNG"), fails=r"too small \(20000x1 ", suffix=".png"),
    "20000x40": Case(lambda: encoded(blocks(40, 20_000), "JPEG"), fails=r"too narrow \(20000x40 "),
    "eps": Case(lambda: encoded(worn(), "EPS"), fails=r"format: a PostScript file", suffix=".eps"),
    "psd": Case(lambda: b"8BPS\0\1" + bytes(500), fails=r"format: a Photoshop file", suffix=".psd"),
    "bmp": Case(lambda: encoded(worn(), "BMP"), fails=r"format: a BMP image", suffix=".bmp"),
    "pdf": Case(lambda: encoded(worn(), "PDF"), fails=r"format: a PDF", suffix=".pdf"),
    "svg": Case(lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", fails=r"format: an SVG drawing", suffix=".svg"),
    "jpeg 2000": Case(lambda: encoded(worn(), "JPEG2000"), fails=r"format: a JPEG 2000 image", suffix=".jp2"),
    "icon": Case(lambda: encoded(worn().resize((64, 64)), "ICO"), fails=NO_PHOTO, suffix=".ico"),
    "bomb in png text": Case(
        lambda: png(64, 80, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000))), chunk(b"IDAT", b"")),
        fails=DAMAGED,
        suffix=".png",
    ),
}


def loaded(folder: Path, data: bytes, **options: Any) -> np.ndarray:
    """The pixels of a file of these bytes; a warning fails the test."""
    path = folder / "photo"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        photo = load_photo(path, **options)
    assert photo.dtype == np.uint8 and photo.ndim == 3 and photo.flags.c_contiguous
    return photo
