"""People are found wherever they stand in a photo; clothes on nobody are not taken for them."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from figures import LAID_OUT, clothes_alone, laid_out, on_canvas, worn
from PIL import Image

from fashionflow_core.errors import FashionFlowWarning
from fashionflow_core.images.loading import load_photo
from fashionflow_core.images.person import Box, figure_mask, find_figure, warn_if_no_figure
from fashionflow_core.synthetic.textures import SKIN_TONES


def outside(mask: np.ndarray, box: Box) -> int:
    """Pixels of a mask that a box leaves out."""
    return int(mask.sum() - mask[box.top : box.top + box.height, box.left : box.left + box.width].sum())


def test_samples_show_figures(golden: Path) -> None:
    for name in ("blue.jpg", "green.jpg"):
        photo = load_photo(golden / name)
        figure = find_figure(photo)
        assert figure is not None
        assert outside(figure_mask(photo), figure.box) == 0
        assert 0.15 < figure.share < 0.22
        assert figure.box.width < 200 and figure.box.height > 600


@pytest.mark.parametrize("seeds", [range(1000, 1020), pytest.param(range(1020, 1160), marks=pytest.mark.slow)])
def test_worn_clothes_on_nobody_and_laid_out(seeds: range) -> None:
    """At most 2 percent of worn garments are warned of, at least 90 percent of the others are."""
    seen, missed, left_out = set(), [], 0
    for seed in seeds:
        rendered = worn(seed)
        seen.add(rendered.attributes["skin_tone"])
        figure = find_figure(rendered.photo)
        if figure is None:
            missed.append(seed)
        else:
            left_out += outside(rendered.person, figure.box)
    assert seen == set(SKIN_TONES)
    assert len(missed) <= 0.02 * len(seeds), missed
    assert left_out == 0
    taken = [seed for seed in seeds if find_figure(clothes_alone(seed)) is not None]
    assert len(taken) <= 0.1 * len(seeds), taken
    taken = [(shape, seed) for shape in LAID_OUT for seed in seeds[::8] if find_figure(laid_out(shape, seed))]
    assert len(taken) <= 0.1 * len(LAID_OUT) * len(seeds[::8]), taken


@pytest.mark.parametrize("seed", [1000, 1003, 1010, 1013])
@pytest.mark.parametrize("cut", [0.55, 0.7])
def test_figures_cut_off_below_the_waist_are_figures(seed: int, cut: float) -> None:
    assert find_figure(worn(seed).photo[: int(320 * cut)]) is not None


def test_pictures_of_nothing() -> None:
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:320, :256]
    pictures = {
        "one colour": np.full((320, 256, 3), 200),
        "skin": np.full((320, 256, 3), (224, 172, 132)),
        "noise": random.integers(0, 256, (320, 256, 3)),
        "gradient": np.repeat(rows[:, :, None] * 255 // 319, 3, axis=2),
        "chequered": np.repeat(((rows // 24 + columns // 24) % 2 * 120 + 80)[:, :, None], 3, axis=2),
        "clouds": np.asarray(Image.fromarray(random.integers(0, 256, (20, 16, 3), np.uint8)).resize((256, 320))),
        "tiny": np.zeros((1, 1, 3)),
        "a line": np.zeros((1, 5000, 3)),
    }
    for name, picture in pictures.items():
        assert find_figure(picture.astype(np.uint8)) is None, name


@pytest.mark.parametrize("height, width, top, left", [(320, 900, 0, 20), (320, 900, 0, 620), (1000, 300, 30, 20)])
@pytest.mark.parametrize("seed", [1001, 1004, 1009, 1012])
def test_figures_anywhere_in_the_photo(seed: int, height: int, width: int, top: int, left: int) -> None:
    rendered = worn(seed)
    figure = find_figure(on_canvas(rendered.photo, height, width, top, left))
    assert figure is not None
    assert outside(on_canvas(rendered.person, height, width, top, left), figure.box) == 0
    assert figure.box.width < 200 and figure.box.height < 340


def test_large_photos_are_looked_at_in_a_smaller_size() -> None:
    rendered = worn(1003)
    photo = np.repeat(np.repeat(rendered.photo, 7, axis=0), 7, axis=1)[:-3, :-5]
    large, small = find_figure(photo), find_figure(rendered.photo)
    assert large and small
    for field in ("top", "left", "height", "width"):
        assert abs(getattr(large.box, field) - 7 * getattr(small.box, field)) <= 28
    assert abs(large.share - small.share) < 0.01


def test_the_warning_names_the_photo_and_what_is_missing(golden: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_no_figure(load_photo(golden / "blue.jpg"), "blue.jpg")
    with pytest.warns(FashionFlowWarning, match=r"^shirt\.jpg: no figure found in this photo; the model ") as caught:
        warn_if_no_figure(laid_out("T-shirt", 1), "shirt.jpg")
    assert caught[0].filename == __file__ and "\n" not in str(caught[0].message)
