"""Colours of areas that a turn uncovers: texture mirrored at the fold."""

import torch
import torch.nn.functional as F

CREASE = 0.1
"""Stretch at which a pixel counts as uncovered; the texture is mirrored at the line where it is crossed."""
FULL = 0.3
"""Stretch above which only the mirror image is used."""
_SMOOTH = 6
"""Rows above and below over which a fold is averaged, so that mirrored rows are aligned."""
_FIRM = 5
"""Minimum unstretched pixels in a row for a fold; fewer are islands in the uncovered area."""


def mirrored(
    colour: torch.Tensor, stretch: torch.Tensor, cover: torch.Tensor, layer: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Colours of uncovered pixels from their mirror images in the same row, on the other side of the fold.

    Args:
        colour: (3, h, w), the frame's colours.
        stretch: stretch of each pixel's texture, (h, w), 0..1.
        cover: share of each pixel covered by the figure, (h, w), 0..1.
        layer: layer index of each pixel, int (h, w); pixels without cover count as no layer.

    Returns:
        Colours (3, h, w), and bool (h, w): the uncovered pixels that have a mirror image in their own layer.
    """
    height, width = stretch.shape
    columns = torch.arange(width, device=stretch.device, dtype=torch.float32).expand(height, width)
    label = torch.where(cover > 0.999, layer + 1, 0)
    sharp = (label > 0) & (stretch < CREASE)
    wanted = (label > 0) & (stretch >= CREASE)
    # Runs of one layer in a row; a fold and its pixels are in the same run.
    changes = F.pad((label[:, 1:] != label[:, :-1]).int(), (1, 0)).cumsum(1)
    folds, known = [], []
    for flip in (False, True):
        fold, found = _fold(sharp, wanted, stretch, changes, columns, flip)
        folds.append(fold)
        known.append(found)
    left, right = folds
    nearest_left = known[0] & (~known[1] | (columns - left <= right - columns))
    fold = torch.where(nearest_left, left, right)
    found = known[0] | known[1]
    place = 2 * fold - columns
    at = place.round().long().clamp(0, width - 1)
    found &= (place >= 0) & (place <= width - 1)
    found &= sharp.gather(1, at) & (changes.gather(1, at) == changes)
    rows = torch.arange(height, device=stretch.device, dtype=torch.float32)[:, None].expand(height, width)
    grid = torch.stack([(2 * place + 1) / width - 1, (2 * rows + 1) / height - 1], -1)[None]
    colours = F.grid_sample(colour[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    return colours, found


def _fold(
    sharp: torch.Tensor,
    wanted: torch.Tensor,
    stretch: torch.Tensor,
    changes: torch.Tensor,
    columns: torch.Tensor,
    flip: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Column of the fold on the left of each wanted pixel (on its right if `flip`), and where there is one.

    The fold is where the stretch crosses `CREASE`, between two pixels, averaged over nearby rows.
    """
    width = sharp.shape[1]
    if flip:
        sharp, wanted, stretch, changes = (v.flip(1) for v in (sharp, wanted, stretch, changes))
    firm = F.max_pool1d(-F.pad(sharp.float(), (_FIRM - 1, 0)), _FIRM, 1) == -1
    nearest = torch.where(firm, columns, -1).cummax(1).values
    index = nearest.long().clamp(min=0)
    after = (index + 1).clamp(max=width - 1)
    low, high = stretch.gather(1, index), stretch.gather(1, after)
    part = ((CREASE - low) / (high - low).clamp(min=1e-4)).clamp(0, 1)
    found = wanted & (nearest >= 0) & (changes.gather(1, index) == changes)
    fold = (index + part) * found
    fold = _rows_summed(fold) / _rows_summed(found.float()).clamp(min=1e-6)
    if flip:
        fold, found = (width - 1 - fold).flip(1), found.flip(1)
    return fold, found


def _rows_summed(values: torch.Tensor) -> torch.Tensor:
    """Sums over 13 = `2 * _SMOOTH + 1` rows round each row, from sums of 2, 4 and 8: faster than avg_pool2d."""
    one = F.pad(values, (0, 0, _SMOOTH, _SMOOTH))
    two = one[:-1] + one[1:]
    four = two[:-2] + two[2:]
    eight = four[:-4] + four[4:]
    height = len(values)
    return eight[:height] + four[8 : 8 + height] + one[12 : 12 + height]
