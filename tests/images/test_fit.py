"""Photos fit every frame: whole with pad, about the figure with crop, plainly with stretch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from figures import laid_out, on_canvas, worn
from photos import blocks
from PIL import Image

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.images import fitting
from fashionflow_core.images.fitting import Box, fit
from fashionflow_core.images.loading import load_photo
from fashionflow_core.images.person import find_figure


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


# The figure


def keeps(photo: np.ndarray, mask: np.ndarray, frame: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the outermost lines of `mask` on all four sides can be seen in the cropped frame.

    Each is drawn white on black and fitted as the photo was: the cut is the one that the photo's figure asks for.
    """
    figure = find_figure(photo)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "find_figure", lambda _photo: figure)
        for line in (np.s_[rows[0]], np.s_[rows[-1]], np.s_[:, columns[0]], np.s_[:, columns[-1]]):
            drawn = np.zeros_like(photo)
            drawn[line] = 255
            fitted = fit(drawn, *frame, "crop", "bilinear")
            box = fitted.box
            inner = fitted.pixels[box.top : box.top + box.height, box.left : box.left + box.width]
            if inner.max() < 40:
                return False
    return True


@pytest.mark.parametrize("frame", [(320, 256), (256, 320), (256, 256), (640, 512), (160, 128)])
@pytest.mark.parametrize(
    "height, width, top, left",
    [
        (320, 256, 0, 0),
        (320, 900, 0, 10),
        (320, 900, 0, 630),
        (340, 1200, 10, 470),
        (1000, 280, 8, 12),
        (900, 300, 560, 30),
    ],
)
@pytest.mark.parametrize("seed", [1000, 1005, 1012])
def test_crop_never_cuts_the_figure(
    seed: int,
    height: int,
    width: int,
    top: int,
    left: int,
    frame: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rendered = worn(seed)
    photo = on_canvas(rendered.photo, height, width, top, left)
    person = on_canvas(rendered.person, height, width, top, left)
    fitted = fit(photo, *frame, "crop")
    assert fitted.pixels.shape == (*frame, 3)
    box = fitted.box
    assert box.height % 2 == 0 and box.width % 2 == 0
    assert keeps(photo, person, frame, monkeypatch)
    figure = find_figure(photo)
    assert figure is not None
    scale = max(frame[0] / height, frame[1] / width)
    held = figure.box.height * scale <= frame[0] and figure.box.width * scale <= frame[1]
    # Bars come only where the frame cannot hold the figure otherwise.
    assert (box == Box(0, 0, *frame)) == held


def test_crop_without_a_figure_is_about_the_centre() -> None:
    flat = laid_out("T-shirt", 1)
    photo = on_canvas(flat, 320, 900, 0, 30)
    centre = photo[:, 450 - 128 : 450 + 128]
    np.testing.assert_array_equal(fit(photo, 320, 256, "crop").pixels, centre)


def test_crop_puts_the_figure_in_the_middle() -> None:
    rendered = worn(1005)
    for left in (30, 300, 600):
        pixels = fit(on_canvas(rendered.photo, 320, 900, 0, left), 320, 256, "crop").pixels
        figure = find_figure(pixels)
        assert figure is not None
        assert abs(figure.box.left + figure.box.width / 2 - 128) <= 4
