"""Photos of other people's devices and programs: small files that are easily read wrongly or refused for nothing."""

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import GOLDEN

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.images.loading import load_photo

CASES = GOLDEN / "cases"


def opened(path: Path) -> tuple[np.ndarray, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        photo = load_photo(path)
    return photo, [str(one.message) for one in caught]


def refused(path: Path) -> str:
    with pytest.raises(FashionFlowError) as caught:
        load_photo(path)
    assert caught.value.hint and "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    "name, shape, warning",
    [
        ("orient6-flir.jpg", (240, 320, 3), ""),
        ("trailing-video-small.jpg", (320, 240, 3), ""),
        ("no-eoi.jpg", (320, 240, 3), "its end is missing"),
        ("cut-eoi.jpg", (320, 240, 3), "part of the image is missing"),
        ("icc-1100kb.png", (320, 240, 3), ""),
        ("ancillary-crc.png", (320, 240, 3), "wrong checksum"),
    ],
)
def test_photos_that_can_be_shown(name: str, shape: tuple[int, int, int], warning: str) -> None:
    photo, found = opened(CASES / name)
    assert photo.shape == shape
    assert len(found) == bool(warning) and warning in "".join(found)
    if name != "cut-eoi.jpg":
        assert np.abs(photo.mean(axis=(0, 1)) - (221, 186, 184)).max() < 2


@pytest.mark.parametrize(
    "name, layout",
    [
        ("rgb16-planar.tif", "RGB, 16 bits per sample, in planes"),
        ("lab16.tif", "L*a*b*, 16 bits per sample"),
        ("gray16-alpha.tif", "grey with alpha, 16 bits per sample"),
    ],
)
def test_valid_layouts_that_are_not_read(name: str, layout: str) -> None:
    message = refused(CASES / name)
    assert f"unsupported TIFF layout: {layout}" in message and "damaged" not in message


def test_signed_grey_is_refused(tmp_path: Path) -> None:
    """TIFF 6.0, SampleFormat 2; Pillow would show negative values as white."""
    path = tmp_path / "signed.tif"
    entries = [(256, 4, 64), (257, 4, 64), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    entries += [(278, 4, 64), (279, 4, 64 * 64 * 2), (339, 3, 2)]
    pixels = np.linspace(-1000, 1000, 64 * 64).astype("<i2").tobytes()
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in entries)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + table + bytes(4))
    assert "signed integers" in refused(path)


def test_a_cut_tiff_is_damaged_and_not_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "cut.tif"
    with io.BytesIO() as file:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)).save(file, "TIFF")
        content = file.getvalue()
    path.write_bytes(content[:8] + content[8 : len(content) // 3] + content[len(content) // 3 :][: len(content) // 3])
    assert "damaged or cut off" in refused(path)


def jpeg(segments: list[bytes] = (), **options: int) -> bytes:  # type: ignore[assignment]
    """A JPEG with APP1 segments before all others."""
    gradient = np.add.outer(np.arange(96), np.arange(64)).astype(np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(np.stack([gradient, 255 - gradient, gradient // 2], -1)).save(file, "JPEG", **options)
        content = file.getvalue()
    app1 = [b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body for body in segments]
    return content[:2] + b"".join(app1) + content[2:]


def orientation(value: int) -> bytes:
    return b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 1, value, 0)


@pytest.mark.parametrize("foreign", [b"FLIR\0\1" + bytes(40), b"http://ns.adobe.com/xap/1.0/\0<x/>", b"", b"XMP\0"])
def test_orientation_is_found_behind_foreign_segments(tmp_path: Path, foreign: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg([foreign] * 5 + [orientation(6)] + [foreign]))
    photo, found = opened(path)
    assert photo.shape == (64, 96, 3) and not found


def test_thousands_of_exif_segments_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg([orientation(1) + bytes(20_000)] * 4000))
    assert "more than 64 EXIF segments" in refused(path)


def test_scans_are_counted_in_the_coded_image_alone(tmp_path: Path) -> None:
    path = tmp_path / "motion.jpg"
    path.write_bytes(jpeg() + b"\0\0\0\x18ftypmp42" + b"\xff\xda" * 5000)
    assert opened(path)[1] == []
    path.write_bytes(jpeg(progressive=True)[:-2] + b"\xff\xda\0\x02\0" * 300 + b"\xff\xd9")
    assert "200 scans" in refused(path)


def test_a_cut_progressive_jpeg_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    content = jpeg(progressive=True)
    path.write_bytes(content[: len(content) * 3 // 4])
    assert "damaged or cut off" in refused(path)


def test_a_grey_photo_is_whole(tmp_path: Path) -> None:
    """Middle grey is what a decoder puts where data are missing; a thin grey border is no sign of it."""
    path = tmp_path / "photo.jpg"
    pixels = np.full((160, 96, 3), 200, np.uint8)
    pixels[-4:] = 128
    Image.fromarray(pixels).save(path, quality=95)
    assert opened(path)[1] == []
