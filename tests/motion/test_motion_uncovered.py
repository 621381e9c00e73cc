"""Bands that a turn uncovers show the texture mirrored at the fold."""

import numpy as np
import torch

from fashionflow_core.motion.uncovered import CREASE, mirrored


def _scene(
    fold: float, height: int = 40, width: int = 60
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random colours, a layer over columns 10 to 49 whose texture is stretched left of `fold`."""
    colour = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (3, height, width)).astype(np.float32))
    columns = torch.arange(width, dtype=torch.float32).expand(height, width)
    stretch = (CREASE + (fold - columns) * 0.05).clamp(0, 1)
    cover = ((columns >= 10) & (columns < 50)).float()
    return colour, stretch, cover, torch.zeros(height, width, dtype=torch.int32)


def test_uncovered_pixels_are_mirror_images_in_their_row() -> None:
    colour, stretch, cover, layer = _scene(20)
    copied, found = mirrored(colour, stretch, cover, layer)
    wanted = torch.zeros_like(found)
    wanted[:, 10:20] = True
    assert torch.equal(found, wanted)
    for column in range(10, 20):
        assert torch.allclose(copied[:, :, column], colour[:, :, 40 - column], atol=0.05)


def test_a_fold_between_pixels_moves_the_mirror_image_by_the_same_share() -> None:
    colour, stretch, cover, layer = _scene(20.25)
    copied, found = mirrored(colour, stretch, cover, layer)
    expected = 0.5 * (colour[:, :, 25] + colour[:, :, 26])  # 2 * 20.25 - 15 = 25.5
    assert found[:, 15].all() and torch.allclose(copied[:, :, 15], expected, atol=0.05)


def test_no_other_layer_and_no_wall_is_copied() -> None:
    colour, stretch, cover, layer = _scene(20)
    layer[:, 27:] = 1  # an arm: mirror images of columns 10 to 13 would lie on it
    _, found = mirrored(colour, stretch, cover, layer)
    assert not found[:, :14].any() and found[:, 14:20].all()
    cover[:, 27:] = 0
    _, found = mirrored(colour, stretch, cover, torch.zeros_like(layer))
    assert not found[:, :14].any() and found[:, 14:20].all()


def test_both_sides_are_mirrored_and_nothing_where_all_is_stretched() -> None:
    colour, stretch, cover, layer = _scene(20)
    flipped = [v.flip(-1) for v in (colour, stretch, cover, layer)]
    left, found_left = mirrored(colour, stretch, cover, layer)
    right, found_right = mirrored(*flipped)
    assert torch.equal(found_left, found_right.flip(-1))
    assert torch.allclose(left[:, found_left], right.flip(-1)[:, found_left], atol=0.05)
    assert not mirrored(colour, torch.ones_like(stretch), cover, layer)[1].any()


def test_islands_of_texture_make_no_fold() -> None:
    colour, stretch, cover, layer = _scene(20)
    stretch[:, 13:16] = 0
    copied, found = mirrored(colour, stretch, cover, layer)
    assert found[:, 12].all() and torch.allclose(copied[:, :, 12], colour[:, :, 28], atol=0.05)
