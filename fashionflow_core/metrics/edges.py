"""Outline quality: halos, foreign colours and patches of background.

A clean outline is as thin as the camera makes it: wall outside, figure inside, and a mixture of both on it. Faults are
measured per frame relative to the photo, so that hair, soft hems and a shadow on the wall do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fashionflow_core.images.lab import srgb_to_lab
from fashionflow_core.images.person import CLEAR, figure_rows, find_foreground, grow, shrink
from fashionflow_core.metrics.tracking import blurred

_NEAR = 0.004  # of the figure's height: half the width of a clean outline
_BAND = 0.022  # of the figure's height: width of the band searched for halos
_KINDS = 24  # nearby figure pixels that may explain a colour on the outline
# Scale of each fault: the excess at which the quality falls to 1 / e.
_HALO, _FOREIGN, _SOFT, _TEETH, _STAIN, _WALL = 2.0, 2.0, 2.0, 0.2, 0.03, 0.2
_CELL = 4.0  # cell size in L*a*b* of the palette of the photo's figure
_BANDS = 12  # of the figure's height: a colour of the hair is strange on a skirt


@dataclass(frozen=True)
class Edges:
    """Faults of one frame's outline, or of a clip's beyond its photo's.

    Attributes:
        halo: root mean square colour difference (CIE 1976, L*a*b*) between wall next to the outline and wall further
            away.
        foreign: mean distance (L*a*b*) of colours on the outline from all mixtures of wall and figure there.
        soft: width of the transition: pixels that are neither wall nor as far from it as what is near them, per pixel
            of the outline's length.
        teeth: roughness: area that smoothing the outline moves, in pixels per pixel of its length.
        stain: share of the figure's inside in colours that the photo's figure does not have at about that height:
            mixtures of wall and figure next to an arm, blur, ghosts.
        wall: share of the figure's area that shows wall: gaps of arms and legs, which may open and close, and false
            patches. Images alone cannot distinguish them, so it has a low weight.
    """

    halo: float
    foreign: float
    soft: float
    teeth: float
    stain: float
    wall: float

    def beyond(self, photo: Edges) -> Edges:
        """Excess over the photo's faults."""
        return Edges(*(max(0.0, a - b) for a, b in zip(self._values(), photo._values())))

    def _values(self) -> tuple[float, ...]:
        return self.halo, self.foreign, self.soft, self.teeth, self.stain, self.wall

    @property
    def quality(self) -> float:
        """0..1; 1 without any fault."""
        scales = (_HALO, _FOREIGN, _SOFT, _TEETH, _STAIN, _WALL)
        return float(np.exp(-sum(value / scale for value, scale in zip(self._values(), scales))))


def _gaps(filled: np.ndarray, away: np.ndarray) -> np.ndarray:
    """Wall that a figure encloses, without specks."""
    return grow(shrink(filled & (away < CLEAR)))


def _toward(colour: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Distance of `colour` from the segment between `one` and `other`, each `(n, 3)`."""
    along = other - one
    share = ((colour - one) * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-6)
    return np.linalg.norm(colour - one - np.clip(share, 0, 1)[:, None] * along, axis=-1)


def _local_wall(lab: np.ndarray, sure: np.ndarray, reach: float) -> np.ndarray:
    """Wall colour everywhere, a weighted mean of certain wall pixels; float32 `(h, w, 3)`."""
    known = torch.from_numpy(sure.astype(np.float32))[None]
    image = torch.from_numpy(lab).permute(2, 0, 1)
    result, left = torch.zeros_like(image), torch.ones_like(known)
    for wider in (1.0, 3.0, 9.0):  # wider where nothing is near
        sums, weight = blurred(image * known, reach * wider), blurred(known, reach * wider)
        share = left * (weight / 0.05).clamp(max=1)
        result += share * sums / weight.clamp(min=1e-6)
        left = left - share
    return (result / (1 - left).clamp(min=1e-3)).permute(1, 2, 0).numpy()


class Colours:
    """Colours of a photo's figure by height, in any light from half to a little more."""

    def __init__(self, photo: np.ndarray) -> None:
        """Colours of a photo, uint8 `(h, w, 3)`."""
        lab = srgb_to_lab(photo)
        figure, away = find_foreground(lab)
        top, bottom = figure_rows(figure)
        # Outline pixels are mixtures with the wall, so they are excluded.
        outline = max(1, round(_NEAR * (bottom - top))) + 1
        rows, columns = np.nonzero(shrink(figure, outline) & ~grow(_gaps(figure, away), outline))
        colours = lab[rows, columns]
        place = (rows - top) / max(1, bottom - top)
        # Cells of L* 0..100, a* and b* -128..128, with a margin.
        self.known = np.zeros((_BANDS, 30, 68, 68), bool)
        for band in range(_BANDS):
            near = colours[np.abs(place - (band + 0.5) / _BANDS) < 1.2 / _BANDS]
            table = self.known[band]
            for light in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.08):
                table[_cells(near * np.float32(light))] = True
            for axis in range(3):  # one cell more to each side
                before = table.copy()
                forward, back = (
                    tuple(part if a == axis else slice(None) for a in range(3)) for part in (slice(1, None), slice(-1))
                )
                table[forward] |= before[back]
                table[back] |= before[forward]

    def strange(self, lab: np.ndarray, figure: np.ndarray) -> np.ndarray:
        """Pixels of a figure in colours that the photo's has not at that height, bool `(h, w)`."""
        top, bottom = figure_rows(figure)
        rows, columns = np.nonzero(figure)
        band = np.clip((rows - top) * _BANDS // max(1, bottom - top), 0, _BANDS - 1)
        found = np.zeros_like(figure)
        found[rows, columns] = ~self.known[(band, *_cells(lab[rows, columns]))]
        return found


def _cells(lab: np.ndarray) -> tuple[np.ndarray, ...]:
    cells = np.rint(lab / _CELL).astype(int) + np.array([2, 34, 34])
    return tuple(np.clip(cells, 0, [29, 67, 67]).T)


def frame_edges(frame: np.ndarray, colours: Colours) -> Edges | None:
    """Faults of one frame's outline.

    Args:
        frame: uint8 `(h, w, 3)`, one figure before a plain wall.
        colours: colours of the photo's figure.

    Returns:
        None if no figure is found.
    """
    lab = srgb_to_lab(frame)
    filled, away = find_foreground(lab)
    top, bottom = figure_rows(filled)
    tall = bottom - top
    if tall < 16:
        return None
    gaps = _gaps(filled, away)
    figure = filled & ~gaps
    near = max(1, round(_NEAR * tall))
    band = max(near + 2, round(_BAND * tall))
    wall = _local_wall(lab, ~grow(figure, band), 1.5 * band)
    # Shadows surround the feet.
    above = np.zeros_like(figure)
    above[: top + int(0.9 * tall)] = True

    beside = grow(figure, band) & ~grow(figure, near) & above & ~filled
    # Root mean square: a fringe at one arm counts, however clean the rest.
    halo = float(np.sqrt(((lab[beside] - wall[beside]) ** 2).sum(-1).mean())) if beside.any() else 0.0
    edge = grow(figure, near) & ~shrink(figure, near) & above
    length = max(1, int((figure & ~shrink(figure)).sum()))
    foreign = _foreign(lab, edge, shrink(figure, near), wall, 2 * near + 2)
    share = away / np.maximum(_largest(away, band), 2 * CLEAR)
    between = (share > 0.1) & (share < 0.75) & grow(figure, band) & grow(~figure, 2 * band) & above
    soft = float(between.sum()) / length
    teeth = float((figure ^ _smoothed(figure, max(1.0, 0.005 * tall))).sum()) / length
    inside = shrink(filled, near + 1) & ~grow(gaps, near + 1)
    # A line one or two pixels wide is an inner edge at shifted pixels.
    strange = grow(shrink(colours.strange(lab, figure) & inside, near), near)
    area = max(1, int(filled.sum()))
    return Edges(halo, foreign, soft, teeth, float(strange.sum()) / area, float(gaps.sum()) / area)


def _foreign(lab: np.ndarray, edge: np.ndarray, inner: np.ndarray, wall: np.ndarray, reach: int) -> float:
    rows, columns = np.nonzero(edge)
    if not len(rows):
        return 0.0
    colour, behind = lab[rows, columns], wall[rows, columns]
    least = np.full(len(rows), np.inf, np.float32)
    height, width = edge.shape
    # Golden angle: directions and distances both evenly spread.
    turn = np.arange(_KINDS) * np.pi * (3 - np.sqrt(5))
    distance = reach * np.sqrt((np.arange(_KINDS) + 0.5) / _KINDS)
    for dy, dx in zip(np.rint(distance * np.sin(turn)).astype(int), np.rint(distance * np.cos(turn)).astype(int)):
        r, c = np.clip(rows + dy, 0, height - 1), np.clip(columns + dx, 0, width - 1)
        there = inner[r, c]
        found = _toward(colour[there], behind[there], lab[r[there], c[there]])
        least[there] = np.minimum(least[there], found)
    seen = np.isfinite(least)
    return float(least[seen].mean()) if seen.any() else 0.0


def _largest(values: np.ndarray, reach: int) -> np.ndarray:
    """Largest value within a square of `reach` pixels to each side."""
    x = torch.from_numpy(values)[None, None]
    x = F.max_pool2d(x, (2 * reach + 1, 1), 1, (reach, 0))
    return F.max_pool2d(x, (1, 2 * reach + 1), 1, (0, reach))[0, 0].numpy()


def _smoothed(mask: np.ndarray, sigma: float) -> np.ndarray:
    return blurred(torch.from_numpy(mask.astype(np.float32))[None], sigma)[0].numpy() > 0.5


def edge_faults(frames: np.ndarray, every: int = 2) -> Edges:
    """Excess faults of a clip's outlines over its photo's, averaged over each `every`-th frame.

    Args:
        frames: uint8 `(f, h, w, 3)`, f at least 2; frame 0 is the photo.

    Returns:
        zeros for a repeated photo. A frame without any figure counts as 100 percent of every fault.
    """
    colours = Colours(frames[0])
    photo = frame_edges(frames[0], colours) or Edges(0, 0, 0, 0, 0, 0)
    chosen = frames[every::every] if len(frames) > every else frames[-1:]
    lost = Edges(100, 100, 10, 1, 1, 1)
    found = [(frame_edges(frame, colours) or lost).beyond(photo)._values() for frame in chosen]
    return Edges(*(float(value) for value in np.mean(found, axis=0)))


def edge_quality(frames: np.ndarray, every: int = 2) -> float:
    """Outline quality of a clip: 1 as clean as the photo's, lower with halos, teeth and patches of wall.

    Args:
        frames: uint8 `(f, h, w, 3)`, f at least 2; frame 0 is the photo, one figure before a plain wall.
        every: step between evaluated frames.

    Returns:
        0..1, `Edges.quality` of `edge_faults`.
    """
    return edge_faults(frames, every).quality
