"""Colour transfer from the photo to each region of the figure, and the photo's background.

`metrics.labels` tracks the regions. Each has a Gaussian of its colours in the photo and a running one in the video;
the linear map between the two (`transfer`) is applied to the region's pixels. Only differences are added to a frame,
weighted by the probability that a pixel belongs to the region, so that borders stay unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fashionflow_core.images.lab import lab_to_srgb, srgb_to_lab
from fashionflow_core.images.person import CLEAR, background, find_foreground, grow, shrink
from fashionflow_core.lock.options import LockOptions
from fashionflow_core.lock.plate import backdrop, plate_of
from fashionflow_core.lock.structure import ramp, structure_kept
from fashionflow_core.lock.transfer import ColourGaussian, light_change, offset, transfer_matrix
from fashionflow_core.metrics.garment import Outline
from fashionflow_core.metrics.labels import (
    GARMENT,
    HAIR,
    SHOES,
    SKIN,
    WORKING_HEIGHT,
    FrameLabels,
    LabelTracker,
    figure_box,
    photo_labels,
    without_shadow,
)
from fashionflow_core.metrics.tracking import blurred

# Bounds of the change of a region's contrast. Skin and hair are smooth: more gain would amplify artefacts.
_GAINS = {GARMENT: (0.7, 1.5), SKIN: (0.7, 1.25), HAIR: (0.7, 1.25), SHOES: (0.7, 1.3)}
_FOLLOW_CONTRAST = 0.35  # share of a new frame in a region's covariance, which is noisier than its mean
_LEAST_AREA = 0.04  # of the region's area in the photo: below it colours are not measured
_TURN = {GARMENT: 1.5, SKIN: 1.0, HAIR: 3.5, SHOES: 2.0}  # L*a*b* that a turn changes the light of a region by
_CONTRAST = 12.0  # least L*a*b* distance of skin and wall at which fading of one towards the other can be seen
_SAME_PLACE = 0.7  # least share of a region in an early frame that shows the same region in the photo
_MARGIN = 18  # pixels of 320 rows: beyond what the blurs of labels reach
_SIDE = 0.15  # of the frame's width: margin of the columns that are worked on
_ENCLOSED = 0.42  # share of garment around a pixel above which the pixel counts as garment
_EARLY = 4  # frames that the garment's structure is compared in
_REPLACED = (0.5, 0.7)  # correlation of structure up to which a print was replaced, and from which on it was kept
_BAND = 64  # rows
_APART = 16.0  # least L*a*b* distance of two pieces of clothing that are corrected separately


_Map = tuple[np.ndarray, np.ndarray] | None
"""What is added to colours x, L*a*b*: matrix `(3, 3)` @ x + offset `(3, 1)`; None: nothing."""


@dataclass(frozen=True, eq=False)
class Corrected:
    """A frame with corrected colours, within the lock's columns.

    Attributes:
        figure: float32 `(h, w, 3)`, L*a*b* of the figure, also beyond its border.
        back: float32 `(h, w, 3)`, the background that it is put on.
        alpha: float32 `(h, w)`, coverage of each pixel by the figure, 0 to 1.
        weights: float32 `(4, h, w)`, probability of garment, skin, hair and shoes.
        labels: labels of the frame at the working size.
    """

    figure: np.ndarray
    back: np.ndarray
    alpha: np.ndarray
    weights: np.ndarray
    labels: FrameLabels

    def composed(self, figure: np.ndarray | None = None, alpha: np.ndarray | None = None) -> np.ndarray:
        """The frame, L*a*b* `(h, w, 3)`; with another figure or alpha where they are given."""
        figure = self.figure if figure is None else figure
        alpha = self.alpha if alpha is None else alpha
        made = np.empty_like(figure)
        for rows in bands(len(made)):
            made[rows] = self.back[rows] + alpha[rows, :, None] * (figure[rows] - self.back[rows])
        return made


def reduced(frame: np.ndarray, step: int) -> np.ndarray:
    """Means of blocks of `step` x `step` pixels, uint8; odd rests at the border are left out."""
    if step == 1:
        return frame
    height, width = frame.shape[0] // step, frame.shape[1] // step
    total = np.full((height, width, 3), step * step // 2, np.uint16 if step <= 16 else np.uint32)
    for row in range(step):
        for column in range(step):
            total += frame[row : height * step : step, column : width * step : step]
    return (total // (step * step)).astype(np.uint8)


def enlarged(image: np.ndarray, step: int, height: int, width: int, columns: slice | None = None) -> np.ndarray:
    """`(n, h, w)` at `step` times its size, cut or continued to height and width; only some columns of that."""
    columns = columns or slice(0, width)
    if step == 1:
        return image[..., columns]
    # One more column on each side, so that those at the border are interpolated alike.
    first = max(0, columns.start // step - 1)
    part = torch.from_numpy(image[None, ..., first : -(-columns.stop // step) + 1])
    large = F.interpolate(part, scale_factor=step, mode="bilinear", align_corners=False)
    rest = (0, max(0, width - first * step - large.shape[3]), 0, height - large.shape[2])
    large = F.pad(large, rest, mode="replicate") if any(rest) else large
    return large[0, ..., columns.start - first * step : columns.stop - first * step].numpy()


def bands(height: int) -> list[slice]:
    """Ranges of rows to work on one after the other: intermediate results stay in the processor's cache."""
    return [slice(start, start + _BAND) for start in range(0, height, _BAND)]


class ColourLock:
    """Colour correction of the frames of one video, in order.

    Args:
        photo: uint8 `(h, w, 3)` sRGB, of the video's size: a figure before a plain wall.
        options: rates.
    """

    def __init__(self, photo: np.ndarray, options: LockOptions) -> None:
        self.options, self.photo = options, photo
        self.height, self.width = photo.shape[:2]
        self.step = max(1, round(self.height / WORKING_HEIGHT))
        outline = Outline.of(reduced(photo, self.step))
        self._tracker = LabelTracker(outline, _second_piece(outline))
        self.first = self._tracker.photo
        owners = [GARMENT, SKIN, HAIR, SHOES, *[GARMENT] * (len(self.first.weights) - 4)]
        self._owners, self._blur = owners, len(outline.figure) / WORKING_HEIGHT
        self.lab = srgb_to_lab(photo)
        figure = enlarged(outline.figure[None].astype(np.float32), self.step, self.height, self.width)[0] > 0.01
        self._plate = plate_of(self.lab, figure)
        self._empty = lab_to_srgb(self._plate)
        cores = _cores(self._regions(self.first))
        self._wanted = [ColourGaussian.of(outline.lab[core]) for core in cores]
        self._area = [int(core.sum()) for core in cores]
        self._photo_cores, self._photo_lab = cores, outline.lab
        self._wall = background(outline.lab).mean((0, 1))
        self._early = 0
        self._now: list[ColourGaussian | None] = [None] * len(owners)
        garment = self.first.mask(GARMENT)
        self._print = outline.lab[..., 0]
        self._kept: list[float] = []  # correlation of the garment's structure with the photo's, in the first frames
        self._is_pale = bool(garment.any() and (outline.away[garment] < CLEAR).mean() > 0.1)
        self.columns = self._around(outline.figure)

    def _around(self, figure: np.ndarray) -> slice:
        """Columns of the frame that hold the figure, with a margin."""
        if not figure.any():
            return slice(0, self.width)
        columns, margin = figure_box(figure, 0)[1], int(_SIDE * self.width)
        return slice(max(0, columns.start * self.step - margin), min(self.width, columns.stop * self.step + margin))

    def _solid(self, labels: FrameLabels) -> np.ndarray:
        """The figure without enclosed wall between legs or arms; a garment as pale as the wall is kept."""
        figure, away = labels.outline.figure, labels.outline.away
        wall = figure & (away <= 0.5 * CLEAR)
        if self._is_pale:
            around = blurred(torch.from_numpy(labels.weights), 4.0).numpy()
            worn = around[0] + around[4:].sum(0)
            wall &= worn < around[1:4].sum(0)
        return figure & ~(grow(shrink(wall)) & wall)

    def _regions(self, labels: FrameLabels) -> np.ndarray:
        """Probability of each region, `(n, h, w)`, as it is corrected.

        Pixels closely surrounded by garment count as garment: stripes in the colour of skin, hair or wall would
        otherwise be missing in some frames, which would shift the garment's statistics.
        """
        found = np.zeros_like(labels.weights)
        if not labels.outline.figure.any():
            return found
        box = figure_box(labels.outline.figure, round(_MARGIN * len(labels.labels) / WORKING_HEIGHT))
        weights = _within_surroundings(np.ascontiguousarray(labels.weights[(slice(None), *box)]), self._blur)
        garment = (labels.labels[box] == GARMENT) & labels.outline.figure[box]
        pieces = [index for index, owner in enumerate(self._owners) if owner == GARMENT]
        around = blurred(torch.from_numpy(weights[pieces]), 5.0 * self._blur).numpy()
        total = around.sum(0)
        missed = ~garment & labels.outline.figure[box] & (total > _ENCLOSED)
        weights[:, missed] = 0
        for index, piece in zip(pieces, around):
            weights[index][missed] = piece[missed] / (total[missed] + 1e-9)
        found[(slice(None), *box)] = weights
        return found

    def correct(self, frame: np.ndarray) -> Corrected:
        """Correct the next frame; `columns` may have become wider.

        Args:
            frame: uint8 `(h, w, 3)` sRGB.
        """
        small_lab = srgb_to_lab(reduced(frame, self.step))
        wall = background(small_lab)
        small = Outline(small_lab, *find_foreground(small_lab, wall))
        labels = self._tracker.add(small)
        if small.figure.any():
            columns = figure_box(small.figure, 0)[1]
            if columns.start * self.step < self.columns.start or columns.stop * self.step > self.columns.stop:
                self.columns = slice(0, self.width)
        columns = self.columns
        lab = srgb_to_lab(frame[:, columns])
        self._look_at_print(small, labels)
        regions = self._regions(labels)
        # A little of every region's surroundings, so that each pixel of the figure has a weight.
        smooth = torch.from_numpy(regions)
        smooth = (smooth + 1e-3 * blurred(smooth, 4.0)).numpy()
        mask = torch.from_numpy(shrink(self._solid(labels)).astype(np.float32))[None]
        planes = np.concatenate([smooth, blurred(mask, 0.9).numpy()])
        planes = enlarged(planes, self.step, self.height, self.width, columns)
        weights, alpha = planes[:-1], planes[-1]
        figure = lab.copy()
        maps = self._maps(small_lab, wall.mean((0, 1)), regions)
        for rows in bands(self.height):
            place = np.flatnonzero(alpha[rows] > 0.004)
            if len(place):
                pixels = figure[rows].reshape(-1, 3)
                pixels[place] += _shift(pixels[place], weights[:, rows].reshape(len(weights), -1)[:, place], maps)
        merged = weights[:4]
        for extra in weights[4:]:
            merged[GARMENT - 1] += extra
        back = backdrop(lab, self._whole_wall(wall, columns), self._plate[:, columns])
        return Corrected(figure, back, alpha, merged, labels)

    def _whole_wall(self, wall: np.ndarray, columns: slice) -> np.ndarray:
        """Columns of the empty wall at the frame's size, from that at the working size."""
        wide = wall.shape[1] * self.step
        wall = wall[:, np.minimum(np.arange(columns.start, columns.stop), wide - 1) // self.step]
        return wall[np.minimum(np.arange(self.height) // self.step, len(wall) - 1)]

    def _look_at_print(self, small: Outline, labels: FrameLabels) -> None:
        """Compare the garment's structure with the photo's in the first frames, while it has hardly moved."""
        if len(self._kept) < _EARLY:
            place = self.first.mask(GARMENT) & labels.mask(GARMENT)
            kept = structure_kept(self._print, small.lab[..., 0], place)
            self._kept.append(1.0 if kept is None else kept)

    def _gains(self, owner: int) -> tuple[float, float]:
        """Bounds of a region's contrast gain; a print that the model replaced is not amplified."""
        least, most = _GAINS[owner]
        if owner != GARMENT:
            return least, most
        return least, 1 + (most - 1) * float(ramp(np.median(self._kept[-2:]), *_REPLACED))

    def _maps(self, small: np.ndarray, wall: np.ndarray, regions: np.ndarray) -> list[_Map]:
        """Correction of each region's colours."""
        cores = _cores(regions)
        if self._early < _EARLY:
            self._early += 1
            self._compare_like(cores)
        for index, core in enumerate(cores):
            seen = ColourGaussian.of(small[core]) if core.sum() > _LEAST_AREA * self._area[index] else None
            before = self._now[index]
            if seen is not None and self._wanted[index] is not None:
                follow = (self.options.follow, _FOLLOW_CONTRAST)
                self._now[index] = seen if before is None else before.mixed(seen, *follow)
        faded = self._faded()
        return [self._map(index, wall, faded) for index in range(len(cores))]

    def _faded(self) -> float | None:
        """Share by which the skin has faded towards the wall, 0 to 0.9; None if that cannot be seen.

        Skin shows fading best: a turn hardly changes its light.
        """
        wanted, now = self._wanted[SKIN - 1], self._now[SKIN - 1]
        if wanted is None or now is None:
            return None
        way = self._wall - wanted.mean
        size = float(way @ way)
        return float(np.clip((now.mean - wanted.mean) @ way / size, 0, 0.9)) if size > _CONTRAST**2 else None

    def _compare_like(self, cores: list[np.ndarray]) -> None:
        """Measure a region's colours in the photo where the first frames show that region, too.

        Labels of a single photo may be wrong, such as a dark arm beside dark stripes; those that follow in time are
        better. In the first frames the figure has hardly moved, so that both can be compared pixel by pixel.
        """
        for index, core in enumerate(cores):
            both = core & self._photo_cores[index]
            if both.sum() > _SAME_PLACE * core.sum():
                self._wanted[index] = ColourGaussian.of(self._photo_lab[both]) or self._wanted[index]

    def _map(self, index: int, wall: np.ndarray, faded: float | None) -> _Map:
        """Correction of a region; with the video's wall `(3,)`, and the share by which the skin faded, if known."""
        wanted, now, owner = self._wanted[index], self._now[index], self._owners[index]
        if wanted is None or now is None:
            return None
        matrix = transfer_matrix(now.covariance, wanted.covariance, *self._gains(owner)) - np.eye(3)
        known = owner == SKIN or faded is None
        explained = None if known else light_change(wanted.mean, self._wall, wall, faded or 0.0)
        off = offset(wanted.mean, now.mean, explained, _TURN[owner], self.options.least_shift)
        return matrix.astype(np.float32), (off - matrix @ now.mean).astype(np.float32)[:, None]

    def finished(self, lab: np.ndarray) -> np.ndarray:
        """The whole frame, uint8 `(h, w, 3)`, from the L*a*b* of the lock's columns."""
        frame = self._empty.copy()
        frame[:, self.columns] = lab_to_srgb(lab)
        return frame


def _cores(regions: np.ndarray) -> list[np.ndarray]:
    return [shrink(weight > 0.6) for weight in regions]


def _shift(colours: np.ndarray, weights: np.ndarray, maps: list[_Map]) -> np.ndarray:
    """Correction of colours `(n, 3)`, which belong to the regions by `weights` `(k, n)`."""
    planes = np.ascontiguousarray(colours.T)
    total, weight = np.zeros_like(planes), np.full(len(colours), 1e-6, np.float32)
    for share, found in zip(weights, maps, strict=True):
        if found is not None:
            matrix, offset = found
            total += share * (matrix @ planes + offset)
            weight += share
    return (total / weight).T


def _within_surroundings(weights: np.ndarray, scale: float) -> np.ndarray:
    """Weights `(n, h, w)` with dots and lines of a print assigned to the region around them, whatever their colour."""
    inside = weights.sum(0)
    around = blurred(torch.from_numpy(weights), 4.0 * scale).numpy()
    sure = weights * around**2 + 1e-9
    return sure / sure.sum(0) * inside


def _second_piece(outline: Outline) -> np.ndarray | None:
    """The garment's lower or upper piece where the two have colours of their own, bool `(h, w)`."""
    outline = without_shadow(outline)
    garment = photo_labels(outline) == GARMENT
    if garment.sum() < 200:
        return None
    weight = torch.from_numpy(garment.astype(np.float32))[None]
    image = torch.from_numpy(outline.lab).permute(2, 0, 1)
    # Means over a print's repeat: pieces differ in these, a print's own colours do not.
    sigma = 6.0 * len(garment) / WORKING_HEIGHT
    mean = (blurred(image * weight, sigma) / blurred(weight, sigma).clamp(min=1e-3)).permute(1, 2, 0).numpy()
    rows = np.nonzero(garment)[0]
    sample = mean[garment]
    low, high = np.quantile(rows, (0.15, 0.85))
    centres = np.stack([np.median(sample[rows <= low], axis=0), np.median(sample[rows >= high], axis=0)])
    near = np.zeros(len(sample), np.int64)
    for _ in range(6):
        near = ((sample[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
        if not 0.12 < near.mean() < 0.88:
            return None
        centres = np.stack([sample[near == k].mean(0) for k in (0, 1)])
    apart = np.median(rows[near == 1]) - np.median(rows[near == 0])
    if np.linalg.norm(centres[0] - centres[1]) < _APART or apart < 0.25 * np.ptp(rows):
        return None
    piece = np.zeros_like(garment)
    piece[garment] = near == 1
    # Wide stripes have two colours, too, but side by side: pieces lie one above the other.
    share = piece.sum(1) / np.maximum(garment.sum(1), 1)
    purity = float((np.maximum(share, 1 - share) * garment.sum(1)).sum() / garment.sum())
    return piece if purity > 0.92 else None
