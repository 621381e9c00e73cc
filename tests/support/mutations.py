"""Photos with damage of every kind, each from its number: `python mutations.py FOLDER FIRST LAST` reads them all."""

import faulthandler
import json
import random
import re
import struct
import sys
import time
import warnings
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import profiles
from photos import animation, blocks, chunk, cutout, deep, encoded, exif, srgb_profile, worn
from PIL import Image

SECONDS = 10.0  # of a processor, that a file may take
HANGS = 240.0  # seconds, also on a busy machine
INTERESTING = (0, 1, 2, 7, 8, 16, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)


@cache
def seeds() -> tuple[bytes, ...]:
    """Small good files of all formats and of most of their features: damage to them hits something."""
    small = worn().resize((64, 80))
    p3 = profiles.rgb_profile(profiles.DISPLAY_P3, 2.2)
    cmyk = small.convert("CMYK")
    grey = Image.fromarray(deep()[::8, ::8].copy())
    cut = {mode: cutout(mode).resize((64, 80)) for mode in ("RGBA", "LA", "P")}
    tiff: list[tuple[Any, dict[str, Any]]] = [
        (small, {"exif": exif(6), "icc_profile": p3}),
        *((small, {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
        (small.convert("1"), {"compression": "group4"}),
        (cmyk, {"icc_profile": profiles.cmyk_profile()}),
        (small.convert("YCbCr"), {"compression": "jpeg"}),
        (grey, {"compression": "tiff_lzw"}),
        (Image.fromarray(np.linspace(0, 1, 5120, dtype=np.float32).reshape(80, 64)), {}),
        (cut["RGBA"], {"big_tiff": True}),
    ]
    return (
        encoded(small, "JPEG", exif=exif(6), icc_profile=p3),
        encoded(small, "JPEG", progressive=True),
        encoded(small, "JPEG", restart_marker_rows=1, subsampling=0),
        encoded(cmyk, "JPEG", icc_profile=profiles.cmyk_profile()),
        encoded(small.convert("L"), "JPEG", icc_profile=profiles.grey_profile(1.8)),
        encoded(small, "PNG", exif=exif(3), icc_profile=p3),
        encoded(cut["P"], "PNG"),
        encoded(cut["RGBA"], "PNG"),
        encoded(grey, "PNG", icc_profile=profiles.grey_profile(1.8)),
        encoded(small.convert("1"), "PNG"),
        animation("PNG")[:60_000],
        encoded(small, "PNG", transparency=(255, 255, 255)),
        encoded(small, "GIF"),
        animation("GIF")[:40_000],
        encoded(cut["P"], "GIF", transparency=0),
        encoded(small, "WEBP", exif=exif(8), icc_profile=p3),
        encoded(cut["RGBA"], "WEBP", lossless=True),
        animation("WEBP"),
        encoded(small, "AVIF", exif=exif(5), icc_profile=p3),
        encoded(cut["RGBA"], "AVIF"),
        animation("AVIF"),
        encoded(small, "HEIF", exif=exif(6), icc_profile=srgb_profile()),
        encoded(cut["RGBA"], "HEIF"),
        encoded(blocks(), "HEIF", save_all=True, append_images=[small]),
        *(encoded(image, "TIFF", **options) for image, options in tiff),
        animation("TIFF", compression="tiff_lzw"),
    )


def mutated(number: int) -> bytes:
    """The photo of this number: one of the seeds with one to four kinds of damage."""
    rng = random.Random(number)
    files = seeds()
    first = number % len(files)
    data = bytearray(files[first])
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        if len(data) < 8:
            break
        # Headers are where damage leads somewhere: half of it goes there.
        reach = min(len(data), rng.choice((32, 128, 600, len(data), len(data), len(data))))
        at = rng.randrange(reach)
        kind = rng.randrange(9)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            for _ in range(rng.randrange(1, 30)):
                data[rng.randrange(reach)] = rng.randrange(256)
        elif kind == 2:
            del data[at + 1 :]
        elif kind == 3:  # the rest of another file, or of this one from elsewhere
            other = files[rng.choice((first, rng.randrange(len(files))))]
            data[at:] = other[rng.randrange(len(other)) :]
        elif kind == 4:
            size = rng.choice((1, 4, 12, 64, 500))
            data[at:at] = data[at : at + size] * rng.choice((1, 2, 50))
        elif kind == 5:
            del data[at : at + rng.choice((1, 2, 4, 12, 100))]
        elif kind == 6:
            value, layout = rng.choice(INTERESTING), rng.choice((">I", "<I", ">H", "<H", "B"))
            size = struct.calcsize(layout)
            data[at : at + size] = struct.pack(layout, value & (1 << 8 * size) - 1)
        elif kind == 7:
            size = rng.choice((4, 16, 200))
            data[at : at + size] = bytes([rng.choice((0, 255))]) * size
        elif data.startswith(b"\x89PNG"):
            data = _repacked(data, rng)
    if data.startswith(b"\x89PNG") and rng.random() < 0.8:
        _resealed(data)
    return bytes(data)


def _resealed(data: bytearray) -> None:
    """Right checksums for PNG's chunks as they now are: else those alone find all damage."""
    at = 8
    while at + 12 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        end = at + 8 + size
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4


def _repacked(data: bytearray, rng: random.Random) -> bytearray:
    """PNG whose rows are damaged inside their compression."""
    match = re.search(rb"IDAT", data)
    if not match:
        return data
    (size,) = struct.unpack(">I", data[match.start() - 4 : match.start()])
    try:
        rows = bytearray(zlib.decompress(data[match.end() : match.end() + size]))
    except zlib.error:
        return data
    for _ in range(rng.randrange(1, 20)):
        rows[rng.randrange(len(rows))] = rng.randrange(256)
    body = chunk(b"IDAT", zlib.compress(bytes(rows[: rng.choice((len(rows), len(rows) // 2))])))
    return data[: match.start() - 4] + body + data[match.end() + size + 4 :]


def peak() -> int:
    """Bytes of memory this process has had at most. (What getrusage reports begins with the parent's.)"""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) * 1024


def read_all(folder: Path, first: int, last: int) -> dict[str, Any]:
    """Read the photos of these numbers; what came out. A crash or a hang ends the process, `folder` tells where."""
    from fashionflow_core.errors import FashionFlowError
    from fashionflow_core.images.loading import load_photo

    warnings.simplefilter("ignore")
    path, at = folder / f"photo{first}", folder / f"number{first}"
    found: dict[str, Any] = {"read": 0, "refused": 0, "wrong": [], "slowest": [0.0, -1], "largest": [peak(), -1]}
    for number in range(first, last):
        path.write_bytes(mutated(number))
        at.write_text(str(number))
        faulthandler.dump_traceback_later(HANGS, exit=True)
        start = time.process_time()
        try:
            photo = load_photo(path)
            found["read"] += 1
            if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
                found["wrong"].append([number, f"{photo.dtype} {photo.shape}"])
        except FashionFlowError as error:
            found["refused"] += 1
            if "\n" in error.message or not error.message.startswith(f"{path}: ") or not error.hint:
                found["wrong"].append([number, error.message])
        except Exception as error:
            found["wrong"].append([number, repr(error)])
        found["slowest"] = max(found["slowest"], [time.process_time() - start, number])
        found["largest"] = max(found["largest"], [peak(), number])
    faulthandler.cancel_dump_traceback_later()
    return found


if __name__ == "__main__":
    print(json.dumps(read_all(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
