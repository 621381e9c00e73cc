"""Grey of many levels keeps them, and what is transparent shows the background, in every mode that files have."""

import struct
import zlib
from pathlib import Path

import numpy as np
import profiles
import pytest
from photos import blocks, chunk, encoded, loaded, png
from PIL import Image

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_levels(tmp_path: Path, kind: str) -> None:
    values = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    photo = loaded(tmp_path, encoded(values, kind))
    assert np.abs(photo[:, :, 0] - values / 65535 * 255).max() <= 0.5 + 1e-4
    assert (photo == photo[:, :, :1]).all()
    assert len(np.unique(photo)) == 256


def test_sixteen_bit_grey_with_a_profile(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    photo = loaded(tmp_path, encoded(values, "PNG", icc_profile=profiles.grey_profile(1.8)))
    expected = profiles.grey_as_srgb(values / 257, 1.8)
    assert np.abs(photo[:, :, 0].astype(int) - expected).max() <= 2
    assert len(np.unique(photo)) >= 250


def test_white_is_zero(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    photo = loaded(tmp_path, encoded(values, "TIFF", tiffinfo={262: 0}))
    assert np.abs(photo[:, :, 0] - (255 - values / 65535 * 255)).max() <= 0.5 + 1e-4


def test_twelve_bits(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    pairs = values.reshape(-1, 2).astype(np.uint32)
    packed = (pairs[:, 0] << 12 | pairs[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    entries = {256: 64, 257: 64, 258: 12, 259: 1, 262: 1, 273: 122, 277: 1, 278: 64, 279: len(packed)}
    header = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    header += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items()) + bytes(4)
    photo = loaded(tmp_path, header + packed)
    assert np.abs(photo[:, :, 0] - values / 4095 * 255).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_floating_point_tiff(tmp_path: Path, top: float) -> None:
    values = np.linspace(0, top, 40 * 40, dtype=np.float32).reshape(40, 40)
    photo = loaded(tmp_path, encoded(values, "TIFF"))
    assert np.abs(photo[:, :, 0] - values / top * 255).max() <= 0.5 + 1e-3


def test_sixteen_bit_colours(tmp_path: Path) -> None:
    deep = (blocks().astype(np.uint16) * 257).astype(">u2")
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in deep))
    data = png(64, 96, chunk(b"IDAT", rows), chunk(b"IEND", b""), depth=16)
    np.testing.assert_array_equal(loaded(tmp_path, data), blocks())


# Transparency


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (10, 200, 90)])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_on_the_background(tmp_path: Path, mode: str, background: tuple[int, int, int]) -> None:
    alpha = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (96, 1))
    colour = blocks() if mode == "RGBA" else blocks()[:, :, :1]
    data = encoded(Image.fromarray(np.concatenate([colour, alpha[:, :, None]], axis=2), mode=None), "PNG")
    weight = alpha[:, :, None] / 255
    expected = np.broadcast_to(colour * weight + background * (1 - weight), (96, 64, 3))
    assert np.abs(loaded(tmp_path, data, background=background) - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_transparency_shows_the_background(tmp_path: Path, kind: str) -> None:
    indices = (np.arange(40 * 40) % 3).reshape(40, 40)
    image = Image.fromarray(indices.astype(np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 90, 80, 70, 0, 0, 0])
    expected = np.array([[10, 20, 30], [90, 80, 70], [1, 2, 3]])[indices]
    data = encoded(image, kind, transparency=2)
    np.testing.assert_array_equal(loaded(tmp_path, data, background=(1, 2, 3)), expected)


def test_half_transparent_palette(tmp_path: Path) -> None:
    indices = (np.arange(40 * 40) % 2).reshape(40, 40)
    image = Image.fromarray(indices.astype(np.uint8)).convert("P")
    image.putpalette([100, 0, 0, 0, 0, 200])
    photo = loaded(tmp_path, encoded(image, "PNG", transparency=bytes([255, 51])), background=(0, 100, 0))
    np.testing.assert_array_equal(photo, np.array([[100, 0, 0], [0, 80, 40]])[indices])


def test_colour_keys_show_the_background(tmp_path: Path) -> None:
    expected = blocks()
    expected[:48, :32] = 255
    np.testing.assert_array_equal(loaded(tmp_path, encoded(blocks(), "PNG", transparency=(200, 30, 30))), expected)
    deep = (blocks().astype(np.uint16) * 257).astype(">u2")
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in deep))
    key = chunk(b"tRNS", struct.pack(">3H", 200 * 257, 30 * 257, 30 * 257))
    data = png(64, 96, key, chunk(b"IDAT", rows), chunk(b"IEND", b""), depth=16)
    np.testing.assert_array_equal(loaded(tmp_path, data), expected)


def test_sixteen_bit_grey_colour_key(tmp_path: Path) -> None:
    values = RANDOM.choice(np.array([0, 300, 1000, 40000, 65535], ">u2"), (40, 40))
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))
    key = chunk(b"tRNS", struct.pack(">H", 300))
    data = png(40, 40, key, chunk(b"IDAT", rows), chunk(b"IEND", b""), depth=16, colour=0)
    expected = np.select([values == 300], [77], np.rint(values / 257).astype(int))
    np.testing.assert_array_equal(loaded(tmp_path, data, background=(77, 77, 77))[:, :, 1], expected)
