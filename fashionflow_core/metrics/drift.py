"""Weight-free video metrics: garment colour drift, motion, flicker, sharpness, silhouette.

All functions take frames as uint8 `(f, h, w, 3)` sRGB and return plain numbers, without a trained network. A repeated
frame has no drift, no motion and no flicker.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from fashionflow_core.images.lab import ciede2000, srgb_to_lab
from fashionflow_core.images.person import figure_mask, figure_rows
from fashionflow_core.metrics.garment import Outline, Palette, frame_palette, garment_mask
from fashionflow_core.metrics.labels import GARMENT, WORKING_HEIGHT, LabelTracker

__all__ = [
    "Palette",
    "cell_drift",
    "figure_mask",
    "find_parts",
    "frame_palette",
    "garment_colours",
    "garment_drift",
    "garment_drift_over_time",
    "garment_mask",
    "motion",
    "psnr",
    "score_clip",
    "sharpness",
    "silhouette_width",
    "temporal_energy",
]

# Specks: rows below this share of a garment's median width, and parts below this share of its area.
_WIDE, _PART = 0.15, 0.1


def _check(frames: np.ndarray, least: int = 1) -> np.ndarray:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"expected uint8 frames (f, h, w, 3), got {frames.dtype} {frames.shape}")
    if len(frames) < least:
        raise ValueError(f"expected at least {least} frames, got {len(frames)}")
    return frames


def _luma(frame: np.ndarray) -> np.ndarray:
    """Rec. 709 luma of sRGB values, float32 `(h, w)`, 0..255."""
    return frame.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32)


def find_parts(frames: np.ndarray) -> tuple[Palette, np.ndarray, np.ndarray]:
    """Palette, figure and garment masks of a clip.

    Args:
        frames: uint8 `(f, h, w, 3)`.

    Returns:
        the colours of skin, hair and shoes in frame 0, which serve for all frames; `figure_mask` of each frame, and its
        garment by labels that follow in time (`labels.LabelTracker`), bool `(f, h, w)`.
    """
    first = Outline.of(_check(frames)[0])
    palette = frame_palette(first)
    figure, garment = np.empty(frames.shape[:3], bool), np.empty(frames.shape[:3], bool)
    step = max(1, round(frames.shape[1] / WORKING_HEIGHT))
    tracker = LabelTracker(first.every(step))
    for index, frame in enumerate(frames):
        if index and np.array_equal(frame, frames[index - 1]):  # what repeats has the same labels, to the pixel
            figure[index], garment[index] = figure[index - 1], garment[index - 1]
            continue
        seen = Outline.of(frame) if index else first
        found = tracker.add(seen.every(step)) if index else tracker.photo
        large = found.mask(GARMENT).repeat(step, 0).repeat(step, 1)[: frames.shape[1], : frames.shape[2]]
        figure[index], garment[index] = seen.figure, large & seen.figure
    return palette, figure, garment


def garment_colours(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean colour of the garment in each frame.

    Without a garment in a frame its area in frame 0 is measured, so that a vanished garment drifts to the
    colour of the wall instead of dropping out of the mean.

    Args:
        frames: uint8 `(f, h, w, 3)`.
        masks: bool `(f, h, w)` of the garment.

    Returns:
        L*a*b*, float64 `(f, 3)`.
    """
    # No garment in the photo: use everything between its borders.
    first = masks[0] if masks[0].any() else np.ones_like(masks[0])
    return np.stack(
        [
            srgb_to_lab(frame[mask if mask.any() else first]).astype(np.float64).mean(axis=0)
            for frame, mask in zip(frames, masks, strict=True)
        ]
    )


def garment_drift_over_time(frames: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """CIEDE2000 difference of the garment's mean colour from its mean colour in frame 0, frame by frame.

    Args:
        frames: uint8 `(f, h, w, 3)`, f at least 2; frame 0 is the photo.
        masks: bool `(f, h, w)` of the garment; found by `find_parts` if None.

    Returns:
        float64 `(f - 1,)`, frames 1 and on: 0 (unchanged) and up; about 1 is just noticeable, 6 is visible,
        above 20 a different garment.
    """
    _check(frames, 2)
    colours = garment_colours(frames, find_parts(frames)[2] if masks is None else masks)
    return ciede2000(colours[0], colours[1:])


def garment_drift(frames: np.ndarray, masks: np.ndarray | None = None) -> float:
    """The mean over all frames of `garment_drift_over_time`."""
    return float(np.mean(garment_drift_over_time(frames, masks)))


def cell_drift(frames: np.ndarray, photo: np.ndarray, masks: np.ndarray, garment: np.ndarray) -> float:
    """CIEDE2000 difference of the garment's colours from the photo's, cell by cell: a sleeve that fades does not hide
    behind a skirt that darkens.

    Args:
        frames: uint8 `(f, h, w, 3)`.
        photo: uint8 `(h, w, 3)`.
        masks: bool `(f, h, w)`, the garment in the frames.
        garment: bool `(h, w)`, the garment in the photo.

    Returns:
        mean over frames and the cells (4 rows, 2 columns of the garment's box) that both show; 0 and up.
    """
    wanted = _cells(photo, garment)
    found = []
    for frame, mask in zip(frames, masks, strict=True):
        cells = _cells(frame, mask)
        both = ~np.isnan(wanted[:, 0]) & ~np.isnan(cells[:, 0])
        if both.any():
            found.append(float(np.mean(ciede2000(wanted[both], cells[both]))))
    return float(np.mean(found)) if found else 0.0


def _main_rows(mask: np.ndarray) -> np.ndarray:
    """The rows from the first to the last part of a mask; specks on legs or shoes would otherwise move all cells."""
    widths = np.count_nonzero(mask, axis=1)
    if not widths.any():
        return np.zeros(0, int)
    wide = widths >= _WIDE * np.median(widths[widths > 0])
    runs = np.split(np.arange(len(wide)), np.flatnonzero(np.diff(wide)) + 1)
    runs = [run for run in runs if wide[run[0]]]
    kept = [run for run in runs if widths[run].sum() >= _PART * widths.sum()] or runs
    return np.arange(kept[0][0], kept[-1][-1] + 1)


def _cells(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean L*a*b* of 4 x 2 cells, `(8, 3)`; nan where a cell shows fewer than 20 pixels of the mask."""
    cells = np.full((8, 3), np.nan)
    rows = _main_rows(mask)
    if len(rows) < 8:
        return cells
    for row, part in enumerate(np.array_split(np.arange(rows[0], rows[-1] + 1), 4)):
        columns = np.flatnonzero(mask[part].any(axis=0))
        if not len(columns):
            continue
        middle = int(columns[0] + columns[-1] + 1) // 2
        for side, where in enumerate((slice(int(columns[0]), middle), slice(middle, int(columns[-1]) + 1))):
            inside = mask[part, where]
            if inside.sum() >= 20:
                cells[2 * row + side] = srgb_to_lab(frame[part, where][inside]).astype(np.float64).mean(0)
    return cells


def motion(frames: np.ndarray) -> float:
    """Mean absolute difference of consecutive frames over all pixels and channels, in grey levels (0..255)."""
    _check(frames, 2)
    return float(np.mean([np.abs(b.astype(np.int16) - a).mean() for a, b in pairwise(frames)]))


def temporal_energy(frames: np.ndarray) -> float:
    """Flicker: root mean square of the second difference in time over the square root of 6, in grey levels (0..255).

    Independent noise of standard deviation s in every frame gives s; movement at constant speed of smooth brightness
    gives nearly 0.
    """
    _check(frames, 3)
    total = 0.0
    for before, now, after in zip(frames[:-2], frames[1:-1], frames[2:], strict=True):
        second = before.astype(np.float32) - 2 * now.astype(np.float32) + after
        total += float(np.mean(second * second))
    return float(np.sqrt(total / (len(frames) - 2) / 6))


def sharpness(frames: np.ndarray, masks: np.ndarray | None = None) -> float:
    """Root mean square of the luma gradient within the figure, in grey levels per pixel, averaged over frames.

    Only ratios of two clips of the same figure and size are meaningful: with `masks` of the truth both are measured
    at the same place. A frame without a figure counts as a whole.

    Args:
        frames: uint8 `(f, h, w, 3)`.
        masks: bool `(f, h, w)` of the figure; found by `figure_mask` if None.
    """
    _check(frames)
    values = []
    for index, frame in enumerate(frames):
        mask = figure_mask(frame) if masks is None else masks[index]
        luma = _luma(frame)
        dy, dx = luma[1:, :-1] - luma[:-1, :-1], luma[:-1, 1:] - luma[:-1, :-1]
        inside = mask[:-1, :-1]
        square = dy * dy + dx * dx
        values.append(float(np.sqrt(square[inside].mean() if inside.any() else square.mean())))
    return float(np.mean(values))


def silhouette_width(frames: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """Width of the figure's trunk over time: it varies as the figure turns.

    Args:
        frames: uint8 `(f, h, w, 3)`.
        masks: bool `(f, h, w)` of the figure; found by `figure_mask` if None.

    Returns:
        float64 `(f,)`, pixels: figure pixels per row, averaged over 18 to 55 % of the figure's height; 0 where a frame
        has no figure.
    """
    _check(frames)
    widths = np.zeros(len(frames))
    for index, frame in enumerate(frames):
        mask = figure_mask(frame) if masks is None else masks[index]
        top, bottom = figure_rows(mask)
        tall = bottom - top
        if tall >= 8:
            widths[index] = mask[top + int(0.18 * tall) : top + int(0.55 * tall)].sum(axis=1).mean()
    return widths


def psnr(frames: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over the whole clip; infinite for equal clips."""
    if frames.shape != truth.shape:
        raise ValueError(f"clips differ in shape: {frames.shape} and {truth.shape}")
    pairs = zip(_check(frames), _check(truth), strict=True)
    error = np.mean([np.mean((a.astype(np.float32) - b) ** 2) for a, b in pairs])
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def score_clip(frames: np.ndarray, truth: np.ndarray | None = None) -> dict[str, float]:
    """All measures of a clip, with ratios to the true clip of the same figure, if given.

    Args:
        frames: uint8 `(f, h, w, 3)`, f at least 3.
        truth: uint8, same shape.

    Returns:
        `garment_drift`, `motion`, `temporal_energy`, `sharpness`, `silhouette_width` (mean, pixels) and
        `silhouette_range` (largest minus smallest width, pixels); with a truth also `motion_ratio`,
        `temporal_energy_ratio` and `sharpness_ratio` (1 is like the truth; sharpness at the truth's figure),
        `silhouette_error` (mean absolute difference of widths, pixels) and `psnr` (dB).
    """
    _check(frames, 3)
    _, figure, garment = find_parts(frames)
    widths = silhouette_width(frames, figure)
    scores = {
        "garment_drift": garment_drift(frames, garment),
        "motion": motion(frames),
        "temporal_energy": temporal_energy(frames),
        "sharpness": sharpness(frames, figure),
        "silhouette_width": float(widths.mean()),
        "silhouette_range": float(np.ptp(widths)),
    }
    if truth is None:
        return scores

    def ratio(value: float, true: float) -> float:
        return value / true if true > 0 else float("nan")

    scores["psnr"] = psnr(frames, truth)
    figure = np.stack([figure_mask(frame) for frame in truth])
    scores["motion_ratio"] = ratio(scores["motion"], motion(truth))
    scores["temporal_energy_ratio"] = ratio(scores["temporal_energy"], temporal_energy(truth))
    scores["sharpness_ratio"] = ratio(sharpness(frames, figure), sharpness(truth, figure))
    scores["silhouette_error"] = float(np.abs(widths - silhouette_width(truth, figure)).mean())
    return scores
