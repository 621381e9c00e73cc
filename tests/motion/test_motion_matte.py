"""The figure's matte: gaps stay open, limbs stay on, shadows stay out, and doubtful photos are not trusted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from figures import LAID_OUT, clothes_alone, laid_out
from PIL import Image

from fashionflow_core.images.parts import LEGS, LOWER, SHOES
from fashionflow_core.motion.background import without_figure
from fashionflow_core.motion.matte import find_matte
from fashionflow_core.motion.matte_edges import guided, soft_alpha
from fashionflow_core.motion.matte_gaps import find_gaps
from fashionflow_core.motion.matte_trust import overlap
from fashionflow_core.motion.matte_wall import wall_matte
from fashionflow_core.motion.regions import box_mean, components, dilate, erode, fill_small
from fashionflow_core.training.parser_data import parser_sample

SEEDS = range(30_000_000, 30_000_004)


def real(golden: Path, name: str) -> np.ndarray:
    return np.array(Image.open(golden / "photos" / f"{name}.jpg").convert("RGB"))


# Row, column and half-widths of places that a person sees at once, in the photos of 640 x 512.
WALL = {
    "blue": [(212, 180, 5, 1), (500, 224, 30, 6), (620, 200, 6, 30)],
    "green": [(200, 194, 8, 2), (200, 286, 8, 1), (292, 180, 4, 0), (520, 240, 40, 8), (630, 240, 6, 60)],
}
FIGURE = {
    "blue": [(80, 227, 20, 15), (200, 164, 40, 3), (255, 280, 15, 1), (480, 194, 30, 6), (480, 258, 30, 4)],
    "green": [(80, 240, 20, 20), (200, 178, 40, 3), (200, 300, 40, 3), (480, 207, 30, 7), (480, 281, 30, 7)],
}


@pytest.mark.parametrize("name", ["blue", "green"])
def test_real_photos(golden: Path, name: str) -> None:
    """Wall is seen between arm and body and between the legs; no limb is cut off; the floor's mirror image is none."""
    photo = real(golden, name)
    matte = find_matte(photo)
    assert matte.trusted, matte.reason
    assert matte.alpha.shape == photo.shape[:2] and matte.alpha.dtype == np.float32
    assert 0.14 < matte.alpha.mean() < 0.19
    for row, column, tall, wide in WALL[name]:
        assert matte.alpha[row - tall : row + tall + 1, column - wide : column + wide + 1].max() < 0.5, (row, column)
    for row, column, tall, wide in FIGURE[name]:
        assert matte.alpha[row - tall : row + tall + 1, column - wide : column + wide + 1].min() > 0.5, (row, column)
    sizes = components(matte.alpha > 0.5)[1][1:]
    assert sizes.max() > 0.99 * sizes.sum()
    edge = (matte.alpha > 0.02) & (matte.alpha < 0.98)
    assert 0.002 < edge.mean() < 0.03, "edges are soft, and narrow"


def test_size_of_the_photo_matters_little(golden: Path) -> None:
    photo = real(golden, "green")
    small = find_matte(photo).alpha
    large = find_matte(np.array(Image.fromarray(photo).resize((1024, 1280), Image.Resampling.BICUBIC)))
    assert large.trusted
    halved = large.alpha.reshape(640, 2, 512, 2).mean(axis=(1, 3))
    assert overlap(halved > 0.5, small > 0.5) > 0.97


@pytest.mark.parametrize("seed", SEEDS)
def test_drawn_figures_before_plain_walls(seed: int) -> None:
    sample = parser_sample(seed, busy=False, hard=False)
    matte = find_matte(sample.photo)
    if matte.trusted:  # a hard shadow on the wall counts as figure without a network
        assert overlap(matte.alpha > 0.5, sample.alpha > 127) > 0.7


def test_most_drawn_figures_before_plain_walls_are_trusted() -> None:
    found = [find_matte(parser_sample(seed, busy=False, hard=False).photo).trusted for seed in SEEDS]
    assert sum(found) >= len(found) - 1


def test_busy_walls_need_a_network() -> None:
    for seed in SEEDS:
        matte = find_matte(parser_sample(seed, busy=True, hard=False).photo)
        assert not matte.trusted and matte.reason


def untrusted_photos(golden: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    photo = real(golden, "green")
    return {
        "wall": np.full((320, 256, 3), 240, np.uint8),
        "noise": rng.integers(0, 256, (320, 256, 3)).astype(np.uint8),
        "two": np.concatenate([photo, photo], axis=1),
        "two close": np.concatenate([photo[:, 140:340], photo[:, 140:340]], axis=1),
        "laid out": laid_out(next(iter(LAID_OUT)), 3),
        "clothes alone": clothes_alone(1001),
    }


@pytest.mark.parametrize("case", ["wall", "noise", "two", "two close", "laid out", "clothes alone"])
def test_no_trust_without_a_single_person(golden: Path, case: str) -> None:
    matte = find_matte(untrusted_photos(golden)[case])
    assert not matte.trusted
    assert matte.reason and matte.reason[0].islower() and "\n" not in matte.reason


def test_given_mask_is_used_as_it_is(golden: Path) -> None:
    photo = real(golden, "green")
    soft = box_mean((np.arange(512) > 250)[None].repeat(640, 0).astype(np.float32), 8)
    matte = find_matte(photo, given=soft)
    assert matte.trusted and np.array_equal(matte.alpha, soft)
    hard = find_matte(photo).alpha > 0.5
    matte = find_matte(photo, given=hard.astype(np.float32))
    assert matte.trusted and overlap(matte.alpha > 0.5, hard) > 0.97
    assert ((matte.alpha > 0.1) & (matte.alpha < 0.9)).any(), "hard edges are softened"
    for level in (0.0, 1.0):
        assert not find_matte(photo, given=np.full((640, 512), level, np.float32)).trusted


def test_refusals(golden: Path) -> None:
    photo = real(golden, "green")
    with pytest.raises(ValueError, match="mask is"):
        find_matte(photo, given=np.zeros((5, 5), np.float32))
    with pytest.raises(ValueError, match=r"0\.\.1"):
        find_matte(photo, given=np.full((640, 512), 255, np.float32))
    with pytest.raises(ValueError, match="uint8"):
        find_matte(photo.astype(np.float32))
    with pytest.raises(ValueError, match="alpha"):
        without_figure(photo, np.zeros((3, 3), np.float32))


def test_plain_wall_without_its_figure(golden: Path) -> None:
    photo = real(golden, "green")
    alpha = find_matte(photo).alpha
    plate = without_figure(photo, alpha)
    far = ~dilate(alpha > 0, 12)
    assert np.array_equal(plate[far], photo[far].astype(np.float32))
    assert plate[:560].min() > 235, "a white wall stays white, without any ghost"
    assert np.array_equal(without_figure(photo, np.zeros_like(alpha)), photo.astype(np.float32))
    assert np.isfinite(without_figure(photo, np.ones_like(alpha))).all()


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_no_outline_of_the_figure_is_left_before_busy_walls(seed: int) -> None:
    """Steps across the figure's outline are hardly larger than those beside it."""
    sample = parser_sample(seed, busy=True, hard=False)
    alpha = (sample.alpha / 255).astype(np.float32)
    plate = without_figure(sample.photo, alpha)
    step = np.abs(np.diff(plate.mean(axis=2), axis=1))
    figure = alpha > 0.5
    outline = dilate(figure, 1) & ~erode(figure, 1)
    near = dilate(figure, 14) & ~dilate(figure, 9)
    photo_step = np.abs(np.diff(sample.photo.astype(float).mean(axis=2), axis=1))
    assert step[outline[:, 1:]].mean() < 1.6 * step[near[:, 1:]].mean() + 0.5
    assert step[outline[:, 1:]].mean() < 0.7 * photo_step[outline[:, 1:]].mean()


def test_edge_of_known_coverage() -> None:
    """A disc drawn with exact coverage in two colours: alpha is its coverage."""
    y, x = np.ogrid[0:2560, 0:2560]
    cover = ((y - 1280) ** 2 + (x - 1280) ** 2 < 760**2).reshape(640, 4, 640, 4).mean(axis=(1, 3))
    photo = np.rint(np.array([200, 60, 60]) * cover[..., None] + 235 * (1 - cover[..., None])).astype(np.uint8)
    alpha = soft_alpha(photo, cover > 0.5)
    assert np.abs(alpha - cover).max() < 0.08
    # A mask that is wrong by a pixel is put right by the colours.
    assert np.abs(soft_alpha(photo, dilate(cover > 0.5, 1)) - cover).max() < 0.12


def test_guided_planes_follow_the_photo() -> None:
    photo = np.full((64, 80, 3), 230, np.uint8)
    photo[:, 40:] = (40, 90, 160)
    coarse = np.clip((np.arange(80) - 43) / 12 + 0.5, 0, 1).astype(np.float32)
    plane = guided(photo, np.tile(coarse, (64, 1))[None], 8)[0]
    assert plane[:, 39].mean() < 0.5 < plane[:, 40].mean()


def test_components_agree_with_a_search() -> None:
    rng = np.random.default_rng(1)
    for density in (0.2, 0.5, 0.7):
        mask = rng.random((23, 31)) < density
        labels, sizes = components(mask)
        assert np.array_equal(np.bincount(labels.ravel(), minlength=len(sizes)), sizes)
        assert np.array_equal(labels > 0, mask)
        seen = np.zeros_like(mask)
        for row, column in zip(*np.nonzero(mask)):
            if seen[row, column]:
                continue
            reached, before = np.zeros_like(mask), 0
            reached[row, column] = True
            while reached.sum() != before:
                before = int(reached.sum())
                cross = np.zeros_like(mask)
                cross[1:] |= reached[:-1]
                cross[:-1] |= reached[1:]
                cross[:, 1:] |= reached[:, :-1]
                cross[:, :-1] |= reached[:, 1:]
                reached |= cross & mask
            assert np.array_equal(labels == labels[row, column], reached)
            seen |= reached
    assert components(np.zeros((3, 4), bool))[1].tolist() == [12]
    ring = dilate(np.eye(9, dtype=bool)[:, ::-1] & np.eye(9, dtype=bool), 2)
    ring[4, 4] = False
    assert fill_small(ring, 5)[4, 4] and not fill_small(ring, 1)[4, 4]


def test_the_ends_of_a_gap_between_legs_are_wall() -> None:
    """A network that opens the middle of a gap leaves its ends: they are as wall, and bare legs are beside them."""
    photo = np.full((320, 256, 3), (196, 232, 220), np.uint8)
    parts = np.zeros((320, 256), np.uint8)
    for rows, columns, colour, part in (
        ((80, 200), (90, 166), (70, 110, 180), LOWER),
        ((200, 296), (100, 122), (130, 88, 60), LEGS),
        ((200, 296), (134, 156), (130, 88, 60), LEGS),
        ((290, 304), (100, 156), (40, 40, 60), SHOES),
    ):
        photo[slice(*rows), slice(*columns)] = colour
        parts[slice(*rows), slice(*columns)] = part
    gap = np.zeros((320, 256), bool)
    gap[200:290, 122:134] = True
    parts[gap] = LEGS
    found = wall_matte(photo)
    assert found.mask[gap].all(), "holes are closed first"
    matte = np.where(parts > 0, 0.95, 0.02).astype(np.float32)
    matte[gap] = 0.45
    opened = found.mask.copy()
    opened[225:280, 122:134] = False
    gaps = find_gaps(replace(found, mask=opened), matte, parts)
    assert (gaps | ~opened)[gap].mean() > 0.95
    assert not gaps[parts == LOWER].any() and gaps[~gap].sum() < 20
