"""Labels of garment, skin, hair and shoes, tracked over time.

In a single frame a bare arm in front of a skirt may be nearer to the skirt's colour than to the photo's face, and
colours of generated videos drift slowly. Each frame is therefore labelled by running colour models (a mixture of
Gaussians per label) and by the labels of the previous frame. The first frame, the photo, is labelled by
`garment.garment_mask` and its palette.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from fashionflow_core.images.person import CLEAR, connected, figure_rows, grow, shrink
from fashionflow_core.metrics.garment import Outline, Palette, frame_palette, garment_mask, nearest, shaded
from fashionflow_core.metrics.tracking import blurred

LABELS = ("none", "garment", "skin", "hair", "shoes")
"""Names of the labels; a label is its index."""

NONE, GARMENT, SKIN, HAIR, SHOES = range(len(LABELS))
WORKING_HEIGHT = 320  # rows that frames are labelled at, about

_COMPONENTS = {GARMENT: 5, SKIN: 2, HAIR: 2, SHOES: 2}  # Gaussians of each label
_FLOOR = -14.0  # least log-likelihood, so that an unknown colour does not outweigh the position
_PIECES = 1.5  # largest log-likelihood by which colour decides between two pieces of clothing
_SPREAD = 6.0  # added to each variance, (L*a*b*)^2: noise, compression, shading
_WIDEST = 1.7  # a Gaussian's trace may grow to this times the photo's
_RATE = 0.4  # share of a new frame in what the Gaussians hold
_NEAR, _FAR = 1.5, 6.0  # pixels of 320 rows that a place moves between frames, usually and at most
_LEAST = np.array([0.004, 0.01, 0.002, 0.0005], np.float32)  # of each label anywhere in the figure


@dataclass(frozen=True, eq=False)
class FrameLabels:
    """Labels of one frame.

    Attributes:
        outline: the frame's colours, figure and distance from the background.
        weights: float32 `(n, h, w)`, probability of garment, skin, hair, shoes and of what `LabelTracker` was told to
            hold apart; 0 outside the figure.
        labels: uint8 `(h, w)`, indices of `LABELS`.
    """

    outline: Outline
    weights: np.ndarray
    labels: np.ndarray

    def mask(self, label: int) -> np.ndarray:
        """bool `(h, w)`, where a label is."""
        return self.labels == label


@dataclass(frozen=True, eq=False)
class _Mixture:
    """Gaussians of one label: shares `(k,)`, means `(k, 3)`, covariances `(k, 3, 3)`; L*a*b*."""

    shares: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    @classmethod
    def of(cls, colours: np.ndarray, count: int) -> _Mixture | None:
        """Of a sample `(n, 3)`; None of fewer than 12."""
        if len(colours) < 12:
            return None
        sample = colours[:: max(1, len(colours) // 3000)].astype(np.float64)
        # Farthest points first, then a few rounds of k-means: no random numbers.
        centres = [np.median(sample, axis=0)]
        for _ in range(min(count, len(sample) // 12) - 1):
            away = np.min([np.linalg.norm(sample - centre, axis=1) for centre in centres], axis=0)
            centres.append(sample[np.argsort(away)[int(0.97 * (len(away) - 1))]])
        means = np.stack(centres)
        for _ in range(6):
            near = ((sample[:, None] - means[None]) ** 2).sum(-1).argmin(1)
            kept = [k for k in range(len(means)) if (near == k).sum() >= 6]
            means = np.stack([sample[near == k].mean(0) for k in kept])
        near = ((sample[:, None] - means[None]) ** 2).sum(-1).argmin(1)
        shares = np.bincount(near, minlength=len(means)) / len(near)
        covariances = np.stack(
            [np.cov(sample[near == k].T) if (near == k).sum() > 3 else np.eye(3) for k in range(len(means))]
        )
        return cls(np.maximum(shares, 0.01), means, covariances)

    def log_likelihoods(self, colours: np.ndarray) -> np.ndarray:
        """Of each Gaussian, share included, `(k, n)`."""
        found = []
        for share, mean, covariance in zip(self.shares, self.means, self.covariances):
            factor = np.linalg.cholesky(np.linalg.inv(covariance * 1.3 + np.eye(3) * _SPREAD))
            off = (colours - mean.astype(np.float32)) @ factor.astype(np.float32)
            found.append(-0.5 * (off * off).sum(1) + np.float32(np.log(np.diag(factor)).sum() + np.log(share)))
        return np.stack(found)

    def moved(self, colours: np.ndarray, odds: np.ndarray, widest: np.ndarray) -> _Mixture:
        """Followed to a sample `(n, 3)` whose Gaussians have log-likelihoods `odds` `(k, n)`."""
        owner = odds.argmax(0)
        shares, means, covariances = self.shares.copy(), self.means.copy(), self.covariances.copy()
        for k in range(len(means)):
            own = colours[owner == k].astype(np.float64)
            if len(own) < 20:
                continue
            shares[k] += _RATE * (len(own) / len(colours) - shares[k])
            means[k] += _RATE * (own.mean(0) - means[k])
            covariance = covariances[k] + _RATE * (np.cov(own.T) - covariances[k])
            covariances[k] = covariance * min(1.0, widest[k] / max(np.trace(covariance), 1e-6))
        return _Mixture(np.maximum(shares, 0.01), means, covariances)

    @property
    def traces(self) -> np.ndarray:
        return np.trace(self.covariances, axis1=1, axis2=2)


def photo_labels(outline: Outline, palette: Palette | None = None) -> np.ndarray:
    """Labels of a photo by its own palette, uint8 `(h, w)`; it shows the face."""
    palette = frame_palette(outline) if palette is None else palette
    figure, lab = outline.figure, outline.lab
    labels = np.zeros(figure.shape, np.uint8)
    top, bottom = figure_rows(figure)
    if bottom - top < 8:
        return labels
    y = (np.arange(len(figure))[:, None] - top) / (bottom - top)
    garment = garment_mask(outline, palette)
    clear = figure & (outline.away > 0.5 * CLEAR)
    rest = clear & ~garment
    to_skin, to_hair, to_shoes = (np.full(figure.shape, np.inf, np.float32) for _ in range(3))
    colours = lab[rest]
    to_skin[rest] = np.minimum(nearest(colours, shaded(palette.skin)), 40.0)
    to_hair[rest] = nearest(colours, palette.hair)
    to_shoes[rest] = nearest(colours, palette.shoes)
    labels[rest] = SKIN
    labels[rest & (y < 0.4) & (to_hair < to_skin) & (to_hair < 25)] = HAIR
    labels[rest & (y > 0.88) & (to_shoes < to_skin)] = SHOES
    labels[garment] = GARMENT
    return labels


def without_shadow(outline: Outline) -> Outline:
    """The outline without the shadow on the floor: smooth, and the wall's colour in less light.

    The wall is what lies beside the figure; the shadow is entered from there, so that shoes, which have edges, stay.
    """
    figure, lab = outline.figure, outline.lab
    top, bottom = figure_rows(figure)
    if bottom - top < 8:
        return outline
    first = bottom - int(0.16 * (bottom - top))
    low = lab[first:]
    wall = np.median(np.concatenate([low[:, :4], low[:, -4:]], 1), axis=1)[:, None]
    share = low[..., :1] / np.maximum(wall[..., :1], 1)
    like = (np.abs(low[..., 1:] - share * wall[..., 1:]).max(-1) < 3.5) & (share[..., 0] > 0.5)
    slope = np.zeros(like.shape, np.float32)
    for axis in (0, 1):
        step = np.abs(np.diff(low, axis=axis)).max(-1)
        slope[:-1] = np.maximum(slope[:-1], step) if axis == 0 else slope[:-1]
        slope[:, :-1] = np.maximum(slope[:, :-1], step) if axis == 1 else slope[:, :-1]
    outside = ~figure[first:]
    outside[0] = False  # the wall between two legs is entered from the floor alone
    floor = connected(outside, outside | (like & (slope < 320 * 7.0 / len(figure))))
    cleared = figure.copy()
    cleared[first:] &= ~floor
    cleared[first:] = grow(shrink(cleared[first:])) & cleared[first:]
    return replace(outline, figure=cleared)


class LabelTracker:
    """Labels of frames that come one after the other.

    Args:
        photo: outline of the first frame, which shows the face; about `WORKING_HEIGHT` rows.
        apart: bool `(h, w)`, part of the photo's garment with colours of its own, to be followed by itself: its
            weights come last, and those of the garment are without it.
    """

    def __init__(self, photo: Outline, apart: np.ndarray | None = None) -> None:
        self._scale = len(photo.figure) / WORKING_HEIGHT
        photo = without_shadow(photo)
        labels = photo_labels(photo)
        places = [labels == label for label in range(1, len(LABELS))]
        self._owners = np.arange(1, len(LABELS))
        if apart is not None:
            places = [places[0] & ~apart, *places[1:], places[0] & apart]
            self._owners = np.append(self._owners, GARMENT)
        self._least = _LEAST[self._owners - 1]
        self._prior = np.stack(places).astype(np.float32)
        self._mixtures = [
            _Mixture.of(photo.lab[_core(place)], _COMPONENTS[int(label)])
            for place, label in zip(places, self._owners, strict=True)
        ]
        self._widest = [_WIDEST * np.maximum(one.traces, 20.0) if one else np.zeros(0) for one in self._mixtures]
        self.photo = self._label(photo, learn=False)

    def add(self, outline: Outline) -> FrameLabels:
        """Label the next frame."""
        return self._label(without_shadow(outline), learn=True)

    def _label(self, outline: Outline, learn: bool) -> FrameLabels:
        shape, count = outline.figure.shape, len(self._owners)
        inside = outline.figure & (outline.away > 0.5 * CLEAR)
        weights = np.zeros((count, *shape), np.float32)
        rows = figure_rows(outline.figure)
        if rows[1] - rows[0] < 8 or not inside.any():
            return FrameLabels(outline, weights, np.zeros(shape, np.uint8))
        box = figure_box(outline.figure, int(2 * _FAR * self._scale) + 2)
        inside, colours = inside[box], outline.lab[box][inside[box]]
        prior = self._carried(box, rows)[:, inside]
        likelihoods = np.full((count, len(colours)), -99.0, np.float32)
        odds = [mixture and mixture.log_likelihoods(colours) for mixture in self._mixtures]
        for place, one in enumerate(odds):
            if one is not None:
                likelihoods[place] = np.maximum(_summed(one), _FLOOR - 4)
        posterior = np.exp(likelihoods - likelihoods.max(0)) * prior
        posterior /= posterior.sum(0) + 1e-12
        if count > len(LABELS) - 1:
            # Position decides first between two pieces of clothing: a texture in the colours of both must not mix them.
            pieces = np.flatnonzero(self._owners == GARMENT)
            share = prior[pieces] * np.exp(_piece_evidence(likelihoods[pieces], prior[pieces]))
            posterior[pieces] = posterior[pieces].sum(0) * share / (share.sum(0) + 1e-12)
        if learn:
            owner, sure = posterior.argmax(0), posterior.max(0) > 0.85
            for place, (mixture, one) in enumerate(zip(self._mixtures, odds)):
                own = sure & (owner == place)
                if mixture is not None and one is not None and own.sum() >= 40:
                    self._mixtures[place] = mixture.moved(colours[own], one[:, own], self._widest[place])
        part = np.zeros((count, *inside.shape), np.float32)
        part[:, inside] = posterior
        part = self._connected_hair(part, rows[0] - box[0].start, rows[1] - rows[0])
        weights[(slice(None), *box)] = part
        self._prior = weights
        smooth = blurred(torch.from_numpy(part), 0.8).numpy()
        labels = np.zeros(shape, np.uint8)
        labels[box] = np.where(inside, self._owners[smooth.argmax(0)], NONE)
        return FrameLabels(outline, weights, labels)

    def _carried(self, box: tuple[slice, slice], rows: tuple[int, int]) -> np.ndarray:
        """Prior of each label from the previous frame, `(n, h, w)` of the box."""
        before = torch.from_numpy(np.ascontiguousarray(self._prior[(slice(None), *box)]))
        near, far = (blurred(before, sigma * self._scale).numpy() for sigma in (_NEAR, _FAR))
        prior = 0.75 * near + 0.25 * far + self._least[:, None, None]
        y = (np.arange(box[0].start, box[0].stop) - rows[0]) / (rows[1] - rows[0])
        allowed = np.stack([(y > 0.1) & (y < 0.97), y > -1, y < 0.5, y > 0.85])[self._owners - 1]
        return prior * allowed[:, :, None]

    def _connected_hair(self, part: np.ndarray, top: int, tall: int) -> np.ndarray:
        """Keep only hair connected with the head: edges between garment and skin have the colour of hair."""
        hair = part[HAIR - 1]
        thick = grow(shrink(hair > 0.5))
        head = np.zeros_like(thick)
        head[: max(1, top + int(0.13 * tall))] = True
        kept = grow(connected(thick & head, thick)) if thick.any() else thick
        lost = np.where(kept, 0, hair)
        others = np.flatnonzero(self._owners != HAIR)
        around = blurred(torch.from_numpy(part[others]), 2.0 * self._scale).numpy() + 1e-5
        part[HAIR - 1] = hair - lost
        part[others] += around / around.sum(0) * lost
        return part


def follow_labels(outlines: list[Outline]) -> list[FrameLabels]:
    """Labels of a clip's frames by their outlines; the first is the photo."""
    tracker = LabelTracker(outlines[0])
    return [tracker.photo, *(tracker.add(outline) for outline in outlines[1:])]


def _core(mask: np.ndarray) -> np.ndarray:
    inner = shrink(mask)
    return inner if inner.sum() >= 40 else mask


def figure_box(figure: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of a mask that is not empty, with so many pixels around."""
    rows, columns = np.flatnonzero(figure.any(1)), np.flatnonzero(figure.any(0))
    return (
        slice(max(0, int(rows[0]) - margin), min(len(figure), int(rows[-1]) + margin + 1)),
        slice(max(0, int(columns[0]) - margin), min(figure.shape[1], int(columns[-1]) + margin + 1)),
    )


def _piece_evidence(likelihoods: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Log-likelihoods by which colour decides between two pieces of clothing, `(2, n)`, from `-_PIECES` to `_PIECES`.

    0 where the two have become alike: the one with the wider Gaussians would take over the other.
    """
    odds = likelihoods[0] - likelihoods[1]
    share = prior[0] / (prior.sum(0) + 1e-9)
    one, other = odds[share > 0.8], odds[share < 0.2]
    if len(one) < 40 or len(other) < 40 or one.mean() - other.mean() < _PIECES:
        return np.zeros_like(likelihoods)
    odds = np.clip(odds - (one.mean() + other.mean()) / 2, -_PIECES, _PIECES) / 2
    return np.stack([odds, -odds])


def _summed(odds: np.ndarray) -> np.ndarray:
    most = odds.max(0)
    return most + np.log(np.exp(odds - most).sum(0))
