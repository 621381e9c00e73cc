"""Photos of every kind become upright RGB, what is no photo is refused in one line, and fits keep their promises."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.image import Box, fit, load_photo, write_png

ORIENTATION = 0x0112


def blocks(height: int = 48, width: int = 32) -> np.ndarray:
    """Four quadrants in four colours: survives JPEG, and every turn of it looks different."""
    pixels = np.empty((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    pixels[:top, :left], pixels[:top, left:] = (200, 30, 30), (30, 180, 40)
    pixels[top:, :left], pixels[top:, left:] = (40, 50, 210), (230, 220, 120)
    return pixels


def refused(path: Path) -> str:
    with pytest.raises(FashionFlowError) as caught:
        load_photo(path)
    message = caught.value.message
    assert str(path) in message
    assert "\n" not in message
    assert caught.value.hint
    return message


def test_samples_load_as_pillow_sees_them(golden: Path) -> None:
    for name in ("blue.jpg", "green.jpg"):
        photo = load_photo(golden / name)
        assert photo.shape == (640, 512, 3)
        assert photo.dtype == np.uint8
        np.testing.assert_array_equal(photo, np.asarray(Image.open(golden / name).convert("RGB")))


# What a camera stores for each value, by the EXIF standard: which side of the scene are stored row 0 and column 0.
STORED_AS = {
    1: lambda scene: scene,  # row 0: top, column 0: left
    2: lambda scene: scene[:, ::-1],  # top, right
    3: lambda scene: scene[::-1, ::-1],  # bottom, right
    4: lambda scene: scene[::-1],  # bottom, left
    5: lambda scene: scene.swapaxes(0, 1),  # left, top
    6: lambda scene: scene[:, ::-1].swapaxes(0, 1),  # right, top
    7: lambda scene: scene[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda scene: scene[::-1].swapaxes(0, 1),  # left, bottom
}


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = blocks()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"photo{suffix}"
    stored = np.ascontiguousarray(STORED_AS[orientation](upright))
    Image.fromarray(stored).save(path, exif=exif, quality=95)
    photo = load_photo(path)
    assert photo.shape == upright.shape
    assert np.abs(photo.astype(int) - upright).mean() < 3


def test_unreadable_exif_does_not_cost_the_photo(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(blocks()).save(path, quality=95, exif=b"Exif\0\0neither II nor MM, so no TIFF header")
    assert load_photo(path).shape == (48, 32, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_on_white(tmp_path: Path, mode: str) -> None:
    alpha = np.tile(np.linspace(0, 255, 32).round().astype(np.uint8), (48, 1))
    colour = blocks() if mode == "RGBA" else blocks()[:, :, :1]
    path = tmp_path / "cutout.png"
    Image.fromarray(np.concatenate([colour, alpha[:, :, None]], axis=2), mode=None).save(path)
    weight = alpha[:, :, None] / 255
    expected = np.broadcast_to(colour * weight + 255 * (1 - weight), (48, 32, 3))
    assert np.abs(load_photo(path) - expected).max() <= 1


def test_palette_transparency_is_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) % 3).convert("P")
    image.putpalette([10, 20, 30, 90, 80, 70, 0, 0, 0])
    path = tmp_path / "palette.png"
    image.save(path, transparency=2)
    expected = np.array([[10, 20, 30], [90, 80, 70], [255, 255, 255]])[np.arange(16).reshape(4, 4) % 3]
    np.testing.assert_array_equal(load_photo(path), expected)


def test_rgb_colour_key_is_white(tmp_path: Path) -> None:
    path = tmp_path / "key.png"
    Image.fromarray(blocks()).save(path, transparency=(200, 30, 30))
    expected = blocks()
    expected[:24, :16] = 255
    np.testing.assert_array_equal(load_photo(path), expected)


def test_grey_one_bit_and_cmyk_become_rgb(tmp_path: Path) -> None:
    grey = blocks()[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(load_photo(tmp_path / "grey.png"), np.repeat(grey[:, :, None], 3, axis=2))
    Image.fromarray(grey > 100).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(load_photo(tmp_path / "bit.png")[:, :, 1], np.where(grey > 100, 255, 0))
    Image.fromarray(blocks()).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert np.abs(load_photo(tmp_path / "cmyk.jpg").astype(int) - blocks()).mean() < 3


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    path = tmp_path / "deep.png"
    Image.fromarray(values).save(path)
    photo = load_photo(path)
    assert np.abs(photo[:, :, 0] - values / 65535 * 255).max() <= 0.5
    assert (photo == photo[:, :, :1]).all()


def test_sixteen_bit_grey_colour_key_is_white(tmp_path: Path) -> None:
    values = np.array([[0, 300, 65535], [300, 1000, 40000]], np.uint16)
    plain = io.BytesIO()
    Image.fromarray(values).save(plain, "PNG")
    data = plain.getvalue()
    body = b"tRNS" + struct.pack(">H", 300)
    at = data.index(b"IDAT") - 4
    path = tmp_path / "deep-key.png"
    path.write_bytes(data[:at] + struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body)) + data[at:])
    np.testing.assert_array_equal(load_photo(path)[:, :, 0], [[0, 255, 255], [255, 4, 156]])


def test_embedded_profile_does_no_harm(tmp_path: Path) -> None:
    for name, profile in (("real", None), ("nonsense", b"not a profile")):
        if profile is None:
            from PIL import ImageCms

            profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        path = tmp_path / f"{name}.png"
        Image.fromarray(blocks()).save(path, icc_profile=profile)
        np.testing.assert_array_equal(load_photo(path), blocks())


def test_what_is_no_photo_is_refused_in_one_line(tmp_path: Path, golden: Path) -> None:
    assert "no such file" in refused(tmp_path / "missing.jpg")
    assert "is a folder" in refused(tmp_path)
    empty = tmp_path / "empty.jpg"
    empty.touch()
    assert "is empty" in refused(empty)
    text = tmp_path / "text.jpg"
    text.write_text("this is a text\n" * 50)
    assert "not a JPEG or PNG" in refused(text)
    for suffix, kind in ((".bmp", "BMP"), (".gif", "GIF"), (".tif", "TIFF"), (".webp", "WEBP")):
        disguised = tmp_path / f"{kind}.jpg"
        Image.fromarray(blocks()).save(disguised, kind)
        assert "not a JPEG or PNG" in refused(disguised), suffix


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.99])
def test_truncated_photos_are_refused(tmp_path: Path, golden: Path, kind: str, kept: float) -> None:
    whole = io.BytesIO()
    Image.open(golden / "blue.jpg").save(whole, kind)
    path = tmp_path / "cut.img"
    path.write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * kept)])
    assert "damaged or cut off" in refused(path)


def test_damaged_photos_never_escape_as_other_errors(tmp_path: Path, golden: Path) -> None:
    """Files with random bytes overwritten either still decode or are refused in one line."""
    random = np.random.default_rng(0)
    small = Image.open(golden / "green.jpg").resize((64, 80))
    path = tmp_path / "hurt.img"
    for kind in ("JPEG", "PNG"):
        whole = io.BytesIO()
        small.save(whole, kind)
        for _ in range(150):
            data = bytearray(whole.getvalue())
            for at in random.integers(0, len(data), 4):
                data[at] = random.integers(256)
            path.write_bytes(data)
            try:
                assert load_photo(path).ndim == 3
            except FashionFlowError as error:
                assert str(path) in error.message
                assert "\n" not in error.message


@pytest.mark.parametrize("side", [7072, 11_000, 30_000])
def test_too_many_megapixels_are_refused_from_the_header(tmp_path: Path, side: int) -> None:
    """The file ends after its header: nothing but the header can have been read."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = b""
    for body in (b"IHDR" + header, b"IDAT" + zlib.compress(b"\0")):
        chunks += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    path = tmp_path / "huge.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    assert "50 megapixels" in refused(path)


@pytest.mark.filterwarnings("error")
def test_refusing_a_large_photo_prints_no_warning(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (10_000, 10_000)).save(path)
    assert "10000x10000" in refused(path)


# Fitting


def test_published_convention_is_a_plain_bilinear_resize(golden: Path) -> None:
    photo = load_photo(golden / "blue.jpg")
    for height, width in ((640, 512), (320, 256), (333, 777)):
        fitted = fit(photo, height, width, "stretch", "bilinear")
        expected = Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(fitted.pixels, np.asarray(expected))
        assert fitted.box == Box(0, 0, height, width)


@pytest.mark.parametrize("mode", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (1, 500), (500, 1), (640, 512), (511, 400), (300, 801)])
@pytest.mark.parametrize("frame", [(320, 256), (64, 96), (2, 2)])
def test_any_photo_fits_any_frame(mode: str, shape: tuple[int, int], frame: tuple[int, int]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    fitted = fit(photo, *frame, mode=mode)
    assert fitted.pixels.shape == (*frame, 3)
    assert fitted.pixels.dtype == np.uint8
    box = fitted.box
    assert box.height % 2 == 0 and box.width % 2 == 0
    assert box.height >= 2 and box.width >= 2
    assert box.top >= 0 and box.top + box.height <= frame[0]
    assert box.left >= 0 and box.left + box.width <= frame[1]
    if mode == "pad":
        assert box.height == frame[0] or box.width == frame[1]
    else:
        assert box == Box(0, 0, *frame)


@pytest.mark.parametrize("shape", [(200, 100), (100, 200), (401, 257), (640, 512)])
def test_pad_keeps_the_whole_photo_in_proportion(shape: tuple[int, int]) -> None:
    fitted = fit(blocks(*shape), 320, 256, "pad")
    box = fitted.box
    scale = min(320 / shape[0], 256 / shape[1])
    assert abs(box.height - shape[0] * scale) <= 1
    assert abs(box.width - shape[1] * scale) <= 1
    inner = fitted.pixels[box.top : box.top + box.height, box.left : box.left + box.width]
    # All four quadrants are there, each about a quarter of the box.
    for colour in blocks()[[0, 0, -1, -1], [0, -1, 0, -1]]:
        share = (np.abs(inner.astype(int) - colour).max(axis=2) < 30).mean()
        assert 0.22 < share < 0.27


def test_pad_bars_take_the_colour_of_the_edge_they_touch() -> None:
    random = np.random.default_rng(1)
    photo = np.zeros((100, 40, 3), np.uint8)
    photo[:, :20], photo[:, 20:] = (240, 238, 230), (200, 205, 210)
    photo[30:70, 10:30] = (180, 20, 60)
    photo[random.integers(0, 100, 15), 0] = 0  # specks, which a mean would smear into the bar
    fitted = fit(photo, 64, 64, "pad")
    box = fitted.box
    assert box.left > 0
    left, right = fitted.pixels[:, : box.left], fitted.pixels[:, box.left + box.width :]
    assert (left == left[0, 0]).all() and (right == right[0, 0]).all()
    assert np.abs(left[0, 0].astype(int) - (240, 238, 230)).max() <= 12
    assert np.abs(right[0, 0].astype(int) - (200, 205, 210)).max() <= 2


def test_pad_bars_disappear_into_a_studio_background(golden: Path) -> None:
    fitted = fit(load_photo(golden / "blue.jpg"), 320, 512, "pad")
    box = fitted.box
    assert (box.height, box.width) == (320, 256)
    for seam in (box.left, box.left + box.width):
        step = fitted.pixels[:, seam].astype(int) - fitted.pixels[:, seam - 1]
        assert np.median(np.abs(step)) <= 2


def test_crop_keeps_proportions_about_the_centre() -> None:
    rows, columns = np.mgrid[:300, :200]
    photo = np.stack([rows * 255 / 299, columns * 255 / 199, rows * 0], axis=2).round().astype(np.uint8)
    pixels = fit(photo, 100, 100, "crop", "bilinear").pixels.astype(float)
    # The full width, and rows 50 to 250.
    assert pixels[:, 0, 1].max() <= 2 and pixels[:, -1, 1].min() >= 253
    assert abs(pixels[0, :, 0].mean() - 50 * 255 / 299) <= 2
    assert abs(pixels[-1, :, 0].mean() - 249 * 255 / 299) <= 2


def test_unknown_modes_filters_and_pixels_are_refused() -> None:
    with pytest.raises(FashionFlowError, match="fit: unknown mode 'squash'"):
        fit(blocks(), 64, 64, "squash")
    with pytest.raises(FashionFlowError, match="resample: unknown filter 'nearest'"):
        fit(blocks(), 64, 64, "pad", "nearest")
    bad_pixels: list[Any] = [blocks()[:, :, 0], blocks().astype(np.float32), blocks()[:0]]
    for bad in bad_pixels:
        with pytest.raises(FashionFlowError, match="photo: pixels must be uint8"):
            fit(bad, 64, 64)
    with pytest.raises(FashionFlowError, match="too small"):
        fit(blocks(), 64, 1)


# Writing


def test_png_round_trip_is_exact_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "poster.png"
    path.write_text("old")
    write_png(path, blocks())
    assert [p.name for p in tmp_path.iterdir()] == ["poster.png"]
    np.testing.assert_array_equal(load_photo(path), blocks())


def test_png_refuses_other_names_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(FashionFlowError, match=r"poster\.jpg: only PNG"):
        write_png(tmp_path / "poster.jpg", blocks())
    with pytest.raises(FashionFlowError, match="does not exist"):
        write_png(tmp_path / "no" / "poster.png", blocks())
    assert list(tmp_path.iterdir()) == []
