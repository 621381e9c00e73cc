"""Posters of videos: the sharpest frame away from the first."""

from pathlib import Path

import numpy as np
import pytest
from command import run
from photos import worn
from PIL import Image

from fashionflow_core.video.poster import HELD, PosterPicker


def picked(*frames: np.ndarray) -> int:
    picker = PosterPicker()
    for frame in frames:
        picker.add(frame)
    poster = picker.poster
    assert poster is not None
    return next(number for number, frame in enumerate(frames) if np.array_equal(frame, poster))


def scene(place: int, blurred: bool = False) -> np.ndarray:
    """A striped block before grey, so many pixels from the left; blurred: without its stripes."""
    frame = np.full((96, 128, 3), 90, np.uint8)
    frame[16:80, place : place + 40] = 160
    if not blurred:
        frame[16:80:2, place : place + 40] = 220
    return frame


def test_the_sharpest_frame_away_from_the_first_is_the_poster() -> None:
    near, far, farther = scene(4), scene(40), scene(60, blurred=True)
    assert picked(scene(0), near, farther, far, near) == 3
    assert picked(scene(0), far, farther, near) == 1
    assert picked(scene(0), near, scene(60, blurred=True)) == 2  # the near one is sharper, and shows the photo


def test_a_poster_is_picked_of_any_video() -> None:
    assert PosterPicker().poster is None
    assert picked(scene(0)) == 0
    assert picked(scene(0), scene(0), scene(0)) == 0
    assert picked(np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 9, np.uint8)) == 1


def test_few_frames_are_held_however_many_come() -> None:
    picker, random = PosterPicker(), np.random.default_rng(0)
    for number in range(200):
        frame = scene(min(number // 3, 80))
        frame[::2] //= 1 + number // 40
        picker.add(np.roll(frame, int(random.integers(0, 9)), axis=0))
        assert len(picker.held) <= HELD


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    worn().resize((160, 200)).save(folder / "red dress.jpg")
    return folder


@pytest.mark.slow
def test_variations_have_different_posters_named_like_the_photo(shop: Path) -> None:
    arguments = ["--variations", "4", "--poster", "--frames", "6", "--fps", "2", "--steps", "2", "-q"]
    result = run("generate", "red dress.jpg", *arguments, cwd=shop)
    assert result.returncode == 0, result.stderr
    posters = [_pixels(shop / f"red dress-{number}-poster.png") for number in (1, 2, 3, 4)]
    photo = _pixels(shop / "red dress.jpg")
    for number, poster in enumerate(posters):
        assert np.abs(poster - photo).mean() > 1, "it shows the photo"
        for other in posters[:number]:
            assert np.abs(poster - other).mean() > 0.3


@pytest.mark.slow
def test_posters_of_a_catalogue_are_picked_alike(shop: Path) -> None:
    arguments = ["--variations", "2", "--frames", "6", "--fps", "2", "--steps", "2", "-q"]
    result = run("generate", "red dress.jpg", "-o", "out/", *arguments, cwd=shop)
    assert result.returncode == 0, result.stderr
    first, second = (_pixels(shop / "out" / f"red dress-{number}-poster.jpg") for number in (1, 2))
    assert np.abs(first - second).mean() > 0.3
    assert np.abs(first - _pixels(shop / "red dress.jpg")).mean() > 1


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)
