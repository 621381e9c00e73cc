"""Photos of every kind become upright sRGB pixels with the right colours."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import profiles
import pytest
from photos import CASES, ORIENTATION, STORED_AS, blocks, chunk, encoded, exif, loaded, png, srgb_profile, turned, worn
from PIL import Image

from fashionflow_core.errors import FashionFlowWarning
from fashionflow_core.images.lab import ciede2000, srgb_to_lab
from fashionflow_core.images.loading import load_photo

RANDOM = np.random.default_rng(0)


def distance(photo: np.ndarray, expected: np.ndarray) -> float:
    """The largest CIEDE2000 difference of any pixel."""
    return float(ciede2000(srgb_to_lab(photo), srgb_to_lab(expected)).max())


def test_samples_load_as_pillow_sees_them(golden: Path) -> None:
    for name in ("blue.jpg", "green.jpg"):
        photo = load_photo(golden / name)
        assert photo.shape == (640, 512, 3)
        np.testing.assert_array_equal(photo, np.asarray(Image.open(golden / name).convert("RGB")))


def test_every_kind_of_a_whole_photo_shows_the_same_dress(tmp_path: Path) -> None:
    """Whatever the container, the mode or the orientation: the picture is the sample's, or its grey."""
    expected = np.asarray(worn()).astype(int)
    for name, case in CASES.items():
        if case.fails or case.warns or "transparency" in name or "alpha" in name or "rgba" in name:
            continue
        photo = loaded(tmp_path, case.make())
        assert photo.shape == expected.shape, name
        grey = (photo == photo[:, :, :1]).all()
        reference = expected if not grey else np.repeat(expected @ [[0.299], [0.587], [0.114]], 3, axis=2)
        assert np.abs(photo - reference).mean() < (14 if name == "1-bit" else 3), name


# Orientation


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize(
    "kind, options",
    [
        ("JPEG", {"quality": 95}),
        ("PNG", {}),
        ("WEBP", {"quality": 95}),
        ("AVIF", {"quality": 95}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_exif_orientation_is_applied_once(tmp_path: Path, orientation: int, kind: str, options: dict[str, Any]) -> None:
    photo = loaded(tmp_path, turned(kind, orientation, **options))
    assert photo.shape == blocks().shape
    assert np.abs(photo.astype(int) - blocks()).mean() < 6


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("named", [True, False], ids=["in the container", "in EXIF alone"])
def test_heic_is_turned_once(tmp_path: Path, orientation: int, named: bool) -> None:
    """pillow-heif writes the container's own rotation for EXIF bytes, and only EXIF for an `Image.Exif`."""
    block = Image.Exif()
    block[ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED_AS[orientation](blocks()))
    data = encoded(stored, "HEIF", quality=95, exif=block.tobytes() if named else block)
    assert (b"irot" in data or b"imir" in data) == (named and orientation > 1)
    photo = loaded(tmp_path, data)
    assert photo.shape == blocks().shape
    assert np.abs(photo.astype(int) - blocks()).mean() < 6


def test_orientation_from_xmp_when_exif_has_none(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = encoded(np.ascontiguousarray(STORED_AS[6](blocks())), "JPEG", quality=95, xmp=xmp)
    assert np.abs(loaded(tmp_path, data).astype(int) - blocks()).mean() < 6


@pytest.mark.parametrize("value", [0, 9, 65535])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientations_that_mean_nothing(tmp_path: Path, kind: str, value: int) -> None:
    path = tmp_path / "photo"
    path.write_bytes(encoded(blocks(), kind, exif=exif(value), quality=95))
    with pytest.warns(FashionFlowWarning, match="invalid EXIF orientation"):
        assert load_photo(path).shape == blocks().shape


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF"])
@pytest.mark.parametrize(
    "block",
    [b"Exif\0\0" + bytes(range(200)), b"Exif\0\0" + bytes(50), bytes(range(200)), exif(1)[:20], exif(1)[:-8]],
    ids=["nonsense", "zeros", "no EXIF", "an end", "half an end"],
)
def test_damaged_exif_costs_a_warning(tmp_path: Path, kind: str, block: bytes) -> None:
    if kind == "JPEG" and not block.startswith(b"Exif"):
        pytest.skip("in a JPEG this is a segment of another program")
    path = tmp_path / "photo"
    path.write_bytes(encoded(blocks(), kind, exif=block, quality=95))
    with pytest.warns(FashionFlowWarning, match=r"photo: its EXIF data is damaged") as caught:
        photo = load_photo(path)
    assert len(caught) == 1
    assert np.abs(photo.astype(int) - blocks()).mean() < 6


def test_exif_whose_entries_point_nowhere(tmp_path: Path) -> None:
    """The orientation stands before the damage, and counts."""
    entries = struct.pack("<HHIHH", ORIENTATION, 3, 1, 6, 0) + struct.pack("<HHII", 0x010E, 2, 5000, 60_000)
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(np.ascontiguousarray(STORED_AS[6](blocks())), "JPEG", exif=block))
    with pytest.warns(FashionFlowWarning, match=r"photo\.jpg: its EXIF data is damaged") as caught:
        assert load_photo(path).shape == blocks().shape
    assert len(caught) == 1 and "\n" not in str(caught[0].message)


# Colours


@pytest.mark.parametrize(
    "primaries, gamma", [(profiles.DISPLAY_P3, 2.2), (profiles.ADOBE_RGB, 2.2), (profiles.DISPLAY_P3, 1.8)]
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "AVIF", "JPEG", "HEIF"])
def test_rgb_profiles_become_srgb(tmp_path: Path, primaries: Any, gamma: float, kind: str) -> None:
    # Colours that sRGB holds too: what it does not, each renderer clips in its own way.
    colours = RANDOM.integers(40, 216, (4, 8, 3)).astype(np.uint8)
    pixels = np.repeat(np.repeat(colours, 16, axis=0), 16, axis=1)
    expected = profiles.rgb_as_srgb(pixels, primaries, gamma)
    assert distance(pixels, expected) > 2.5
    lossless: dict[str, dict[str, Any]] = {
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
        "JPEG": {"quality": 100, "subsampling": 0},
        "HEIF": {"quality": 100, "chroma": 444},
    }
    data = encoded(pixels, kind, icc_profile=profiles.rgb_profile(primaries, gamma), **lossless.get(kind, {}))
    assert distance(loaded(tmp_path, data), expected) <= 2


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "L"])
def test_profiles_reach_every_mode(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RANDOM.integers(60, 200, (40, 40, 3)).astype(np.uint8)).convert(mode)
    if mode[-1] == "A":
        image.putalpha(255)
    expected = profiles.rgb_as_srgb(np.asarray(image.convert("RGB")), profiles.DISPLAY_P3, 1.8)
    data = encoded(image, "PNG", icc_profile=profiles.rgb_profile(profiles.DISPLAY_P3, 1.8))
    assert distance(loaded(tmp_path, data), expected) <= 2


def test_cmyk_with_a_profile(tmp_path: Path) -> None:
    inks = RANDOM.integers(0, 256, (40, 40, 4)).astype(np.uint8)
    inks[:, :, 3] //= 3
    expected = profiles.srgb_bytes(profiles.inks_linear(inks / 255))
    image = Image.frombytes("CMYK", (40, 40), inks.tobytes())
    assert distance(np.asarray(image.convert("RGB")), expected) > 20  # without it, colours are far off
    for data in (
        encoded(image, "TIFF", icc_profile=profiles.cmyk_profile()),
        encoded(image, "TIFF", icc_profile=profiles.cmyk_profile(), compression="tiff_lzw"),
    ):
        assert distance(loaded(tmp_path, data), expected) <= 2


def test_cmyk_jpeg_as_adobe_stores_it(tmp_path: Path) -> None:
    """Inverted, with Adobe's marker; Pillow writes them so."""
    inks = np.repeat(np.repeat(RANDOM.integers(0, 160, (4, 4, 4)), 16, axis=0), 16, axis=1).astype(np.uint8)
    image = Image.frombytes("CMYK", (64, 64), inks.tobytes())
    data = encoded(image, "JPEG", quality=100, subsampling=0, icc_profile=profiles.cmyk_profile())
    assert b"Adobe" in data
    expected = profiles.srgb_bytes(profiles.inks_linear(inks / 255))
    assert distance(loaded(tmp_path, data), expected) <= 2


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_grey_profiles(tmp_path: Path, kind: str) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    options = {"quality": 100} if kind == "JPEG" else {}
    photo = loaded(tmp_path, encoded(ramp, kind, icc_profile=profiles.grey_profile(1.8), **options))
    assert np.abs(photo - profiles.grey_as_srgb(ramp, 1.8)[:, :, None].astype(int)).max() <= 2


def test_lab_tiff(tmp_path: Path) -> None:
    """The TIFF standard stores a* and b* signed, and so does Pillow; white is D50."""
    lab = np.zeros((48, 48, 3), np.uint8)
    lab[:16], lab[16:32], lab[32:] = (255, 128, 128), (138, 195, 178), (102, 128, 64)
    signed = lab ^ np.array([0, 128, 128], np.uint8)
    photo = loaded(tmp_path, encoded(Image.frombytes("LAB", (48, 48), signed.tobytes()), "TIFF"))
    f = lab[:, :, :1] / 255 * 100 / 116 + 16 / 116 + (lab - 128.0)[:, :, [1, 0, 2]] * [1 / 500, 0, -1 / 200]
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * profiles.D50
    linear = xyz @ np.linalg.inv(profiles.to_d50() @ profiles.to_xyz(profiles.SRGB)).T
    assert distance(photo, profiles.srgb_bytes(linear)) <= 2


def test_an_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    np.testing.assert_array_equal(loaded(tmp_path, encoded(blocks(), "PNG", icc_profile=srgb_profile())), blocks())


@pytest.mark.parametrize(
    "profile",
    [b"", b"not a profile", srgb_profile()[:200], bytes(3000), profiles.cmyk_profile(), profiles.grey_profile(2.2)],
    ids=["empty", "nonsense", "cut off", "zeros", "for CMYK", "for grey"],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_unusable_profiles_leave_srgb(tmp_path: Path, profile: bytes, kind: str) -> None:
    path = tmp_path / "photo"
    path.write_bytes(encoded(blocks(), kind, icc_profile=profile, **({"quality": 95} if kind == "JPEG" else {})))
    if profile:
        with pytest.warns(FashionFlowWarning, match="ICC profile .* sRGB is assumed"):
            photo = load_photo(path)
    else:
        photo = load_photo(path)
    assert np.abs(photo.astype(int) - blocks()).mean() < 3


def test_png_profile_that_does_not_unpack(tmp_path: Path) -> None:
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in blocks()))
    path = tmp_path / "photo.png"
    path.write_bytes(png(64, 96, chunk(b"iCCP", b"a\0\0nonsense"), chunk(b"IDAT", rows), chunk(b"IEND", b"")))
    with pytest.warns(FashionFlowWarning, match="ICC profile is damaged"):
        np.testing.assert_array_equal(load_photo(path), blocks())


# Several pictures


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF", "HEIF"])
def test_the_first_of_several_pictures_is_taken(tmp_path: Path, kind: str) -> None:
    first = Image.fromarray(blocks())
    path = tmp_path / "photo"
    path.write_bytes(encoded(first, kind, save_all=True, append_images=[first.rotate(180), first.rotate(180)]))
    with pytest.warns(FashionFlowWarning, match="contains more than one (frame|page|image); the first is used"):
        photo = load_photo(path)
    assert np.abs(photo.astype(int) - blocks()).mean() < 6
