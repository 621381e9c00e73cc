"""Motion constraints: image border, planted feet, head.

All limits are smooth weights over the photo; they only scale motion down.
"""

from dataclasses import dataclass

import numpy as np
import torch

from fashionflow_core.images.parts import ARM_LEFT, ARM_RIGHT, HAIR, HEAD
from fashionflow_core.motion.handmade import DEPTH_RATIO
from fashionflow_core.motion.regions import components

HEAD_TURN = 15.0
"""Maximum turn of the head in degrees."""
_BORDER = 0.12  # figure heights from a cut-off border over which motion returns
_SOLE = 0.04  # figure heights above the soles that are fixed
_KNEE = 0.26  # figure heights above the soles where motion is free again: legs twist up to the knee
_FOOT = 0.08  # figure heights by which one foot may stand higher in the photo than the other
_SHOULDER = 1.6  # ratio of the width of the shoulders to that of the part above


@dataclass(frozen=True)
class Contact:
    """A part of the photo's border that the figure touches: side, and start and end in pixels."""

    side: str
    start: float
    end: float


@dataclass(frozen=True)
class MotionLimits:
    """Weights at points (v,), 0..1: `across` and `down` scale motion in x and y, `turn` scales b, `head` limits b."""

    across: torch.Tensor
    down: torch.Tensor
    turn: torch.Tensor
    head: torch.Tensor

    def apply(self, channels: torch.Tensor) -> torch.Tensor:
        """Channels (c, n, v) within the limits: ax, ay, b and the rest."""
        limited = channels.clone()
        limited[0] *= self.across
        limited[1] *= self.down
        b = channels[2] * self.turn
        # identity for small turns, never beyond the limit
        most = DEPTH_RATIO * float(np.sin(np.radians(HEAD_TURN)))
        limited[2] = torch.lerp(b, b / (1 + (b / most).abs() ** 6) ** (1 / 6), self.head)
        return limited


class Constraints:
    """Fixed parts of a figure, computed once per photo."""

    def __init__(self, alpha: np.ndarray, parts: np.ndarray | None, tall: float) -> None:
        """Find contacts, feet and head.

        Args:
            alpha: matte, (h, w), 0..1.
            parts: labels of `images.parts`, (h, w), or None.
            tall: height of the figure in pixels.
        """
        figure = alpha > 0.5
        self.height, self.width = alpha.shape
        self.tall = tall
        self.contacts = _contacts(figure)
        sides = {contact.side for contact in self.contacts}
        self.soles = _soles(figure, tall) if "bottom" not in sides else None
        self.head = _head_rows(figure, parts, tall, "top" in sides)

    def at(self, x: np.ndarray, y: np.ndarray, of_body: np.ndarray) -> MotionLimits:
        """Limits at points x, y (v,) in photo pixels; only body points can be part of the head."""
        across, down = np.ones(len(x)), np.ones(len(x))
        for contact in self.contacts:
            if contact.side in ("left", "right"):
                away, along = (x if contact.side == "left" else self.width - x), y
            else:
                away, along = (y if contact.side == "top" else self.height - y), x
            beside = np.maximum(np.maximum(contact.start - along, along - contact.end), 0)
            weight = _smoothstep(np.hypot(away, beside) / (_BORDER * self.tall))
            if contact.side in ("left", "right"):
                across = np.minimum(across, weight)
            else:
                down = np.minimum(down, weight)
        turn = across
        if self.soles is not None:
            above = (np.interp(x, *self.soles) - y) / self.tall
            free = _smoothstep((above - _SOLE) / (_KNEE - _SOLE))
            across, down, turn = across * free, down * free, turn * free
        head = np.zeros(len(x))
        if self.head is not None:
            chin, neck = self.head
            head = np.where(of_body, 1 - _smoothstep((y - chin) / max(neck - chin, 1.0)), 0)
        return MotionLimits(*(torch.from_numpy(v.astype(np.float32)) for v in (across, down, turn, head)))


def _smoothstep(t: np.ndarray) -> np.ndarray:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def _contacts(figure: np.ndarray) -> list[Contact]:
    """Parts of the border with figure, extended by one pixel at both ends; small gaps are bridged."""
    sides = {"top": figure[0], "bottom": figure[-1], "left": figure[:, 0], "right": figure[:, -1]}
    contacts = []
    for side, line in sides.items():
        places = np.flatnonzero(line)
        if not len(places):
            continue
        breaks = np.flatnonzero(np.diff(places) > 8)
        starts, ends = places[np.r_[0, breaks + 1]], places[np.r_[breaks, len(places) - 1]]
        contacts += [Contact(side, float(a - 1), float(b + 2)) for a, b in zip(starts, ends, strict=True)]
    return contacts


def _soles(figure: np.ndarray, tall: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Height of the soles in pixels along x, as points to interpolate between; separately for each foot."""
    rows = np.flatnonzero(figure.any(1))
    if not len(rows):
        return None
    bottom = int(rows[-1]) + 1
    top = max(0, bottom - round(1.5 * _FOOT * tall))
    labels, sizes = components(figure[top:bottom])
    xs, ys = [], []
    for label in range(1, len(sizes)):
        y, x = np.nonzero(labels == label)
        low = top + int(y.max()) + 1
        if low < bottom - _FOOT * tall or sizes[label] < 1e-4 * tall**2:
            continue
        xs += [int(x.min()), int(x.max()) + 1]
        ys += [low, low]
    if not xs:
        return None
    order = np.argsort(xs, kind="stable")
    return np.array(xs, float)[order], np.array(ys, float)[order]


def _head_rows(figure: np.ndarray, parts: np.ndarray | None, tall: float, cut_off: bool) -> tuple[float, float] | None:
    """Row of the chin, above which the limit is full, and row of the neck's base, below which there is none."""
    if parts is not None and (parts == HEAD).sum() > 1e-4 * tall**2:
        rows = np.nonzero(parts == HEAD)[0]
        low, high = np.quantile(rows, (0.01, 0.99))
        return float(low + 0.65 * (high - low)), float(high + 0.02 * tall)
    if cut_off or not figure.any():  # the head is outside the photo, at least in part
        return None
    body = figure
    if parts is not None:
        if not (parts == HAIR).any():
            return None
        body = figure & (parts != ARM_LEFT) & (parts != ARM_RIGHT)
    rows = np.flatnonzero(body.any(1))
    top = int(rows[0])
    widths = body[top : top + max(2, int(0.45 * tall))].sum(1)
    neck = 0.16 * tall
    for row in range(int(0.08 * tall), len(widths)):
        if widths[row] > _SHOULDER * np.median(widths[int(0.03 * tall) : row]):
            neck = float(row)
            break
    return top + 0.72 * neck, top + 1.05 * neck
