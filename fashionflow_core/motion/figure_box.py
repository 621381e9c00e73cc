"""Figure box: the part of a photo covered by motion channels.

Motion is learnt and predicted on the figure's bounding box, padded to 4:5, with lengths in figure heights, so that the
network's input does not depend on the figure's position and scale or the photo's aspect ratio.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

GRID = (40, 32)  # rows, columns of the motion channels
ASPECT = GRID[1] / GRID[0]
MARGIN = 0.06  # of the figure's height, above and below it
_SIDE = 0.05  # minimum space next to the figure, as a share of the box's width
_SEEN = 0.5  # minimum alpha of pixels of the figure


@dataclass(frozen=True)
class FigureBox:
    """A rectangle of 4:5 around a figure, in photo pixels; it may exceed the photo.

    Attributes:
        top, left, height, width: position and size of the rectangle; width is 0.8 times height.
        figure_height: height of the matte's bounding box in rows, the unit of lengths of the channels.
    """

    top: float
    left: float
    height: float
    width: float
    figure_height: float

    @classmethod
    def of(cls, alpha: np.ndarray, margin: float = MARGIN) -> FigureBox:
        """Compute the box of a matte.

        Args:
            alpha: matte, (h, w), 0 to 1.
            margin: space above and below the figure, in figure heights; training varies it.

        Raises:
            ValueError: the matte is empty.
        """
        seen = alpha > _SEEN
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        if not len(rows):
            raise ValueError("the matte is empty")
        top, bottom = float(rows[0]), float(rows[-1] + 1)
        left, right = float(columns[0]), float(columns[-1] + 1)
        tall = bottom - top
        height = max(tall * (1 + 2 * margin), (right - left) / (1 - 2 * _SIDE) / ASPECT)
        width = height * ASPECT
        return cls((top + bottom - height) / 2, (left + right - width) / 2, height, width, tall)

    def resample(self, image: np.ndarray, rows: int, columns: int, outside: float | None = None) -> np.ndarray:
        """Image inside the box, averaged over the area of each cell.

        Args:
            image: (h, w) or (h, w, c), of the photo's size, of any type.
            rows, columns: size of the result.
            outside: value beyond the photo; None repeats its border.

        Returns:
            float32 (rows, columns) or (rows, columns, c).
        """
        down = _weights(self.top, self.height, rows, image.shape[0], outside is None)
        across = _weights(self.left, self.width, columns, image.shape[1], outside is None)
        values = image.astype(np.float32)
        flat = values.reshape(len(values), -1)
        made = (down @ flat).reshape(rows, image.shape[1], -1)
        made = np.einsum("cw,rwk->rck", across, made, optimize=True)
        if outside is not None:
            share = down.sum(axis=1)[:, None] * across.sum(axis=1)[None]  # of each cell inside the photo
            made += outside * (1 - share)[..., None]
        return made.reshape(rows, columns, *image.shape[2:]).astype(np.float32)

    def cells(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fractional column and row on `GRID` of points in photo pixels; centres of cells are at +0.5."""
        return (x - self.left) / self.width * GRID[1], (y - self.top) / self.height * GRID[0]

    def enlarge(self, grid: np.ndarray, height: int, width: int) -> np.ndarray:
        """A field on the grid, (c, 40, 32), at the pixels of a photo, (c, height, width): bicubic, border repeated."""
        column, row = self.cells(np.arange(width) + 0.5, np.arange(height) + 0.5)
        x = torch.from_numpy((column / grid.shape[-1] * 2 - 1).astype(np.float32))
        y = torch.from_numpy((row / grid.shape[-2] * 2 - 1).astype(np.float32))
        places = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)[None]
        field = torch.from_numpy(np.ascontiguousarray(grid, np.float32))[None]
        return F.grid_sample(field, places, mode="bicubic", padding_mode="border", align_corners=False)[0].numpy()


def _weights(start: float, length: float, cells: int, pixels: int, repeat: bool) -> np.ndarray:
    """(cells, pixels): share of each pixel in each cell of a row of cells; sums are 1 inside the photo."""
    edges = start + length * np.arange(cells + 1) / cells
    low, high = edges[:-1, None], edges[1:, None]
    place = np.arange(pixels)[None]
    left, right = place.astype(np.float64), place + 1.0
    if repeat:  # the first and the last pixel extend to infinity
        left[0, 0], right[0, -1] = -np.inf, np.inf
    overlap = np.clip(np.minimum(high, right) - np.maximum(low, left), 0, None)
    return (overlap / (length / cells)).astype(np.float32)
