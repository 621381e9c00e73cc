"""Figure matting: alpha, parts and reliability for a photo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from fashionflow_core.images.parts import LOWER, UPPER
from fashionflow_core.images.person import check_frame, find_figure
from fashionflow_core.motion.matte_edges import guided, soft_alpha
from fashionflow_core.motion.matte_gaps import between_legs, find_gaps
from fashionflow_core.motion.matte_parts import label_parts, labelled
from fashionflow_core.motion.matte_trust import net_doubts, overlap, shape_doubts
from fashionflow_core.motion.matte_wall import FLOOR, WallMatte, wall_matte
from fashionflow_core.motion.regions import dilate, erode, fill_small, keep_large

WORKING_SIDE = 960  # pixels of the longer side for the outline; edges are solved at full size
CLUTTER = 0.04  # share of the surroundings that may differ from a plain wall
AGREED = 0.85  # overlap (intersection over union) of both methods' masks above which they confirm each other
# Guided filters for busy backgrounds: window radii for a photo 640 pixels high, and slack. The best of radii 10 to 40
# and slacks 1e-5 to 1e-3 on 16 synthetic figures of seeds from 20,000,000.
WIDE, NEAR, SLACK = 28.0, 10.0, 1e-4
STRONG = 25.0  # distance from the wall, in L*a*b*, above that of shadows


class Parsed(Protocol):
    """Prediction of a parser network for a photo, at the photo's size.

    Attributes:
        matte: probability of the figure, float32 `(h, w)`.
        parts: probabilities of `PARTS`, float32 `(9, h, w)`.
    """

    @property
    def matte(self) -> np.ndarray: ...

    @property
    def parts(self) -> np.ndarray: ...


Parse = Callable[[np.ndarray], Parsed]


@dataclass(frozen=True, eq=False)
class Matte:
    """Matte of a photo's figure.

    Attributes:
        alpha: share of the figure in each pixel, float32 `(h, w)`, 0..1.
        parts: labels of `PARTS`, uint8 `(h, w)`, above 0 wherever alpha is; None if unknown.
        trusted: whether the figure may be moved; otherwise only the camera.
        reason: reason why it is not trusted, for the user; empty if it is.
    """

    alpha: np.ndarray
    parts: np.ndarray | None
    trusted: bool
    reason: str


def find_matte(photo: np.ndarray, parse: Parse | None = None, given: np.ndarray | None = None) -> Matte:
    """Find the figure in a photo.

    Before a plain wall the outline is the distance from the wall's colour, and the network corrects large
    errors; otherwise only the network is used. Edges are solved from the colours on both sides.

    Args:
        photo: photo, uint8 `(h, w, 3)` sRGB.
        parse: parser network, see `fashionflow_core.models.parser`; None: the wall must be plain, and parts are
            unknown.
        given: mask to use, float `(h, w)` in 0..1; hard edges are softened.

    Raises:
        ValueError: `photo` is another array, or `given` has another size or values outside 0..1.
    """
    check_frame(photo)
    step = max(1, -(-max(photo.shape[:2]) // WORKING_SIDE))
    small = shrink(photo, step)
    parsed = _refined(small, parse(small)) if parse is not None else None
    if given is not None:
        alpha, reason = _given_alpha(photo, given)
    else:
        alpha, reason = _found_alpha(photo, small, parsed)
    parts = None
    if parsed is not None and (alpha > 0.5).any():
        parts = label_parts(small, shrink_plane(alpha, step), parsed.parts)
        if parts is not None:
            parts = np.where(alpha > 0, np.maximum(enlarge(parts, photo.shape[:2]), 0), 0).astype(np.uint8)
    return Matte(alpha, parts, not reason, reason)


@dataclass(frozen=True, eq=False)
class _Planes:
    matte: np.ndarray
    parts: np.ndarray


def _found_alpha(photo: np.ndarray, small: np.ndarray, parsed: Parsed | None) -> tuple[np.ndarray, str]:
    """Alpha at the photo's size, and the reason why it is unreliable."""
    found = wall_matte(small)
    plain = found.clutter <= CLUTTER
    doubts = "" if plain else "the background is not plain"
    doubts = doubts or shape_doubts(found.mask)
    if not doubts and find_figure(small) is None:
        doubts = "no person wearing the garment was found in the photo"
    if parsed is None:
        gaps = find_gaps(found)
        return _wall_alpha(photo, found.mask & ~gaps, gaps), doubts
    predicted = fill_small(parsed.matte > 0.5, 12)
    predicted = keep_large(predicted, 0.05 * float(predicted.sum()))
    unsure = net_doubts(parsed.matte, parsed.parts, predicted)
    if plain:
        labels = labelled(parsed.parts)
        mask = _corrected(found, parsed.matte, labels)
        gaps = find_gaps(replace(found, mask=mask), parsed.matte, labels)
        mask &= ~gaps
        mask = keep_large(mask, 0.002 * float(mask.sum()))
        agreed = overlap(mask, predicted)
        if not doubts or (agreed > AGREED and not unsure):
            alpha = _bounded(_wall_alpha(photo, mask, gaps), parsed.matte, dilate(gaps, 3))
            # Two touching people have one outline.
            return alpha, unsure if "several" in unsure else shape_doubts(mask)
    matte = _edged(small, parsed.matte)
    outlined = fill_small(matte > 0.5, 12)
    outlined = keep_large(outlined, 0.05 * float(outlined.sum()))
    return _predicted_alpha(photo, small, matte, outlined), unsure or shape_doubts(outlined)


def _refined(photo: np.ndarray, parsed: Parsed) -> _Planes:
    """The network's coarse planes fitted to the photo's edges."""
    scale = max(photo.shape[:2]) / 640
    half = 2 if min(photo.shape[:2]) >= 64 else 1
    coarse = guided(photo[::half, ::half], parsed.matte[None, ::half, ::half], max(2, round(5 * scale)))
    parts = guided(photo, parsed.parts, max(2, round(NEAR * scale)), SLACK, half)
    return _Planes(np.clip(_resized(coarse[0], photo.shape[:2]), 0, 1), np.clip(parts, 0, 1))


def _bounded(alpha: np.ndarray, matte: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Alpha limited by certain predictions of the network, to avoid notches at stripes as pale as the wall.

    Gaps are excluded, as they are finer than the network's resolution.
    """
    shape = alpha.shape
    least = np.where(gaps, 0, np.clip((matte - 0.85) / 0.1, 0, 1)).astype(np.float32)
    edge = (alpha > 0) & (alpha < 1) | dilate(alpha > 0.5, 2) & (alpha < 1)
    return np.where(edge, np.maximum(alpha, np.clip(_resized(least, shape), 0, 1)), alpha).astype(np.float32)


def _wall_alpha(photo: np.ndarray, mask: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Alpha of a figure before a plain wall; narrow gaps are solved as a whole."""
    scale = max(mask.shape) / 640
    doubtful = dilate(gaps, max(1, round(1.5 * scale))) & ~erode(gaps, max(2, round(2.5 * scale)))
    return soft_alpha(photo, enlarge(mask, photo.shape[:2]), enlarge(doubtful, photo.shape[:2]))


def _edged(photo: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """The network's matte aligned with the photo's edges, for busy backgrounds: a wide guided filter finds the side
    that each colour nearby belongs to, a narrow one the outline."""
    scale = max(photo.shape[:2]) / 640
    wide = guided(photo, matte[None], max(2, round(WIDE * scale)), SLACK)
    steep = np.clip((wide - 0.5) * 4 + 0.5, 0, 1).astype(np.float32)
    return np.clip(guided(photo, steep, max(2, round(NEAR * scale)), SLACK)[0], 0, 1)


def _predicted_alpha(photo: np.ndarray, small: np.ndarray, matte: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Alpha from the network only: its probability, steepened, inside a band around its outline."""
    steep = np.clip((matte - 0.5) * 2.5 + 0.5, 0, 1)
    scale = max(small.shape[:2]) / 640
    radius = max(2, round(4 * scale))
    alpha = np.where(erode(mask, radius), 1, np.where(dilate(mask, radius), steep, 0)).astype(np.float32)
    return np.clip(_resized(alpha, photo.shape[:2]), 0, 1)


def _corrected(found: WallMatte, matte: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """The mask of background subtraction with large errors corrected by the network.

    Large means thicker than the network's resolution; areas that differ strongly from the wall (a bag, a hat) are kept
    regardless of the prediction.
    """
    mask = found.mask.copy()
    thick = max(2, round(max(mask.shape) / 160))
    least = 0.002 * float(mask.sum())

    def large(area: np.ndarray) -> np.ndarray:
        return keep_large(dilate(erode(area, thick), thick) & area, least)

    mask &= ~large(mask & (matte < 0.3) & (found.away < STRONG))
    # Shadows around the feet.
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows):
        low = np.zeros_like(mask)
        low[rows[0] + int(0.85 * (rows[-1] - rows[0])) :] = True
        shadow = low & mask & (matte < 0.35) & (found.away < FLOOR)
        mask &= ~dilate(erode(shadow, 1), 1) | ~shadow
    # Stripes and dots as pale as the wall make notches in the outline.
    reach = max(2, round(max(mask.shape) / 110))
    mask |= erode(dilate(mask, reach), reach) & (matte > 0.85)
    # Clothes as pale as the wall; but wall next to bare legs is wall.
    missed = large(~mask & (matte > 0.9) & ((parts == UPPER) | (parts == LOWER)))
    if missed.any() and not between_legs(missed, parts, mask):
        mask |= missed
    return mask


def _given_alpha(photo: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, str]:
    alpha = np.asarray(given, np.float32)
    if alpha.shape != photo.shape[:2]:
        raise ValueError(f"mask is {alpha.shape}, photo is {photo.shape[:2]}")
    if not np.isfinite(alpha).all() or alpha.min() < 0 or alpha.max() > 1:
        raise ValueError("a mask's values must be in 0..1")
    share = float(alpha.mean())
    if share < 0.002:
        return alpha, "the given mask is empty"
    if share > 0.98:
        return alpha, "the given mask covers the whole photo"
    if ((alpha < 0.02) | (alpha > 0.98)).mean() > 0.9995:
        alpha = soft_alpha(photo, alpha > 0.5)
    return alpha, ""


def shrink(photo: np.ndarray, step: int) -> np.ndarray:
    """The photo at 1/step of its size, by averages of blocks; remainders at the right and bottom are dropped."""
    if step == 1:
        return photo
    return np.rint(np.stack([shrink_plane(plane, step) for plane in np.moveaxis(photo, 2, 0)], 2)).astype(np.uint8)


def shrink_plane(plane: np.ndarray, step: int) -> np.ndarray:
    """Averages of blocks of step x step pixels, float32."""
    height, width = plane.shape[0] // step, plane.shape[1] // step
    blocks = plane[: height * step, : width * step].reshape(height, step, width, step)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def enlarge(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The mask or labels at a larger size, nearest pixels."""
    if mask.shape == shape:
        return mask
    step = max(1, shape[0] // mask.shape[0])
    rows = np.minimum(np.arange(shape[0]) // step, mask.shape[0] - 1)
    columns = np.minimum(np.arange(shape[1]) // step, mask.shape[1] - 1)
    return mask[rows[:, None], columns]


def _resized(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A plane at a larger size, bilinearly; pixels of both sizes cover the same area."""
    if plane.shape == shape:
        return plane
    for axis, count in enumerate(shape):
        place = np.clip((np.arange(count) + 0.5) * plane.shape[axis] / count - 0.5, 0, plane.shape[axis] - 1)
        first = np.minimum(place.astype(int), max(0, plane.shape[axis] - 2))
        part = (place - first).astype(np.float32)
        part = part[:, None] if axis == 0 else part[None]
        second = np.minimum(first + 1, plane.shape[axis] - 1)
        plane = np.take(plane, first, axis) * (1 - part) + np.take(plane, second, axis) * part
    return plane
