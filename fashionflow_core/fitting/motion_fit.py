"""Fit of motion channels to a filmed figure.

The inflated surface of the figure in frame 0 is known, so a turn is one number per height: it moves the middle of the
trunk against its outline. A keyframe is fitted by Gauss-Newton steps. Each step warps the frame into frame 0 by the
current motion, measures what remains by dense optical flow and by the outline of each row, and solves for the channels
by least squares with smooth priors. The motion of one frame is the start for the next, so flow is always small and is
measured against frame 0: errors of a chain do not add up.

On smooth cloth and round limbs the flow follows the light, which stays when a body turns. Flow therefore counts by its
structure tensor, after a high pass, and only the trunk and the head determine the turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fashionflow_core.lock.flow import opencv
from fashionflow_core.motion.control import trunk, turn_of
from fashionflow_core.motion.figure_box import ASPECT, GRID, MARGIN, FigureBox
from fashionflow_core.motion.handmade import DEPTH_RATIO
from fashionflow_core.motion.layers import seen_e, split
from fashionflow_core.motion.matte import Matte, Parse, find_matte
from fashionflow_core.motion.timing import SPACING
from fashionflow_core.synthetic.motion_clips import KEYS, continued

PURPOSE = "fitting motion to videos"
STEPS = 3
"""Frames per keyframe: motion is followed through the frames between."""
MOST_TURN = 40.0
"""Degrees from frame 0 at which a clip ends: 36, the reach of motion models, and the error of the fit."""
MOST_RESIDUAL = 0.0035
"""Largest mean residual of a clip, in figure heights."""
MOST_UNCERTAINTY = 4.0
"""Largest standard deviation in degrees that the texture of the upper body in frame 0 leaves to a turn.

Of 28 drawn clips, those above turned by 0.06 to 1.11 times the truth, those below by 0.75 to 1.17 times.
"""
LEAST_KEYS = 6
"""Keyframes of the shortest usable clip."""
_WORST = 0.0045  # residual of a keyframe at which a clip ends, in figure heights
_CELL = 10  # pixels per cell of the grid
_PAD = (4, 6)  # rows and columns of cells around the box
_INNER = (slice(_PAD[0] * _CELL, -_PAD[0] * _CELL), slice(_PAD[1] * _CELL, -_PAD[1] * _CELL))
_SIZE = ((GRID[0] + 2 * _PAD[0]) * _CELL, (GRID[1] + 2 * _PAD[1]) * _CELL)
_HIGH_PASS = 3.0  # pixels; light on a limb varies more slowly
_NOISE = 300.0  # squared grey levels of gradient at which flow counts half
_FLOW = 1.0  # standard deviation of flow in pixels
_CORRELATED = 20.0  # samples of flow per independent one
_OUTLIER = 4.0  # pixels of residual that count half
_ITERATIONS = 3  # of a keyframe
_HEAD = 0.16  # figure heights from the crown that belong to the head
_UPPER = 0.45  # figure heights from the crown to the end of the upper body
_ROW_KNOTS, _TURN_KNOTS, _ARM_KNOTS = 9, 7, 5


@dataclass(frozen=True, eq=False)
class FittedMotion:
    """Motion of a figure against frame 0.

    Attributes:
        channels: ax, ay, b, dz, float32 (4, k, 40, 32), at the times 0, `SPACING` etc.; zero at time 0.
        cover: share of the figure in each cell, float32 (40, 32).
        box: box of the figure in frame 0.
        matte: matte of frame 0.
        inflation: inflation of the visible layer, float32 (h, w), pixels of frame 0.
        turns: turn of the trunk in degrees, (k,).
        residuals: rms of flow and outline that the motion leaves unexplained, in figure heights, (k,).
        uncertainty: standard deviation of a turn in degrees that the texture of frame 0 leaves.
        ended: reason why later keyframes are missing; empty if none are.
    """

    channels: np.ndarray
    cover: np.ndarray
    box: FigureBox
    matte: Matte
    inflation: np.ndarray
    turns: np.ndarray
    residuals: np.ndarray
    uncertainty: float
    ended: str

    @property
    def residual(self) -> float:
        """Mean residual of the keyframes after the first, in figure heights."""
        return float(self.residuals[1:].mean()) if len(self.residuals) > 1 else 0.0

    @property
    def refusal(self) -> str:
        """Reason not to learn from this motion; empty if it is usable."""
        if not self.matte.trusted:
            return self.matte.reason
        if _cut_off(self.matte.alpha, self.box):
            return "the figure is cut off at a side in its first frame"
        if self.uncertainty > MOST_UNCERTAINTY:
            return (
                f"too little texture in the first frame: a turn is known to {self.uncertainty:.1f} degrees, "
                f"above {MOST_UNCERTAINTY:.1f}"
            )
        if len(self.turns) < LEAST_KEYS:
            return f"only {len(self.turns)} of at least {LEAST_KEYS} keyframes fit: {self.ended or 'the video ends'}"
        if self.residual > MOST_RESIDUAL:
            return f"residual {100 * self.residual:.2f} % of the figure's height, above {100 * MOST_RESIDUAL:.2f} %"
        return ""


def fit_motion(
    frames: Iterable[np.ndarray], parse: Parse | None = None, margin: float = MARGIN, most: int = KEYS
) -> FittedMotion:
    """Fit motion channels to the frames of a video.

    Args:
        frames: frames, uint8 (h, w, 3), `SPACING` / `STEPS` seconds apart; the first is the photo.
        parse: parser network; None: the wall must be plain, and arms are not separate.
        margin: margin of the figure's box, in figure heights.
        most: maximum number of keyframes.

    Returns:
        The leading keyframes that fit: at most `most`, up to a turn of `MOST_TURN` degrees.

    Raises:
        FashionFlowError: the extra `lock` is not installed.
        ValueError: no frames.
    """
    cv2 = opencv(PURPOSE, "")
    remaining = iter(frames)
    photo = next(remaining, None)
    if photo is None:
        raise ValueError("no frames")
    matte = find_matte(photo, parse)
    if not matte.trusted or not (matte.alpha > 0.5).any():
        return _unfitted(matte)
    box = FigureBox.of(matte.alpha, margin)
    fit = _Fit(cv2, photo, matte, box)
    uncertainty = fit.uncertainty()
    if uncertainty > MOST_UNCERTAINTY or _cut_off(matte.alpha, box):
        remaining = iter(())
    channels, turns, residuals, ended = [np.zeros((4, *GRID), np.float32)], [0.0], [0.0], ""
    for number, frame in enumerate(remaining, start=1):
        image = fit.window(frame)
        if number % STEPS:
            fit.step(image, None)
            continue
        found = find_matte(image, parse)
        alpha = found.alpha if found.trusted else None
        residual = [fit.step(image, alpha) for _ in range(_ITERATIONS)][-1]
        made = fit.channels()
        turn = float(np.degrees(turn_of(torch.from_numpy(made[:, None]), fit.cells, box))[0])
        seconds = number / STEPS * SPACING
        if abs(turn) > MOST_TURN:
            ended = f"turned more than {MOST_TURN:.0f} degrees at {seconds:.1f} s"
        elif residual > _WORST:
            ended = f"residual {100 * residual:.2f} % of the figure's height at {seconds:.1f} s"
        if ended:
            break
        channels.append(made)
        turns.append(turn)
        residuals.append(residual)
        if len(channels) == most:
            break
    return FittedMotion(
        channels=np.stack(channels, axis=1),
        cover=fit.cells,
        box=box,
        matte=matte,
        inflation=fit.inflation,
        turns=np.array(turns),
        residuals=np.array(residuals),
        uncertainty=uncertainty,
        ended=ended,
    )


def _cut_off(alpha: np.ndarray, box: FigureBox) -> bool:
    """Whether the figure touches the left or the right border of the photo: its outline there is unknown."""
    return bool((alpha[:, [0, -1]] > 0.5).sum(axis=0).max() > 0.05 * box.figure_height)


def _unfitted(matte: Matte) -> FittedMotion:
    rows, columns = matte.alpha.shape
    box = FigureBox(0.0, 0.0, float(rows), rows * ASPECT, float(rows))
    zero = np.zeros(1)
    nothing = np.zeros((4, 1, *GRID), np.float32)
    return FittedMotion(nothing, nothing[0, 0], box, matte, np.zeros((rows, columns), np.float32), zero, zero, 0.0, "")


class _Fit:
    """State of a fit: smooth fields of ax, b and ay over the figure's window in frame 0.

    Sideways motion of a visible point is ``ax + b e`` and of the point behind it ``ax - b e``. ax and ay are, in each
    row, linear across the body, with an offset for each arm; b depends on the row. Rows are cubic B-splines.
    """

    def __init__(self, cv2: Any, photo: np.ndarray, matte: Matte, box: FigureBox) -> None:
        self.cv2, self.box = cv2, box
        rows, columns = (1 + 2 * pad / side for pad, side in zip(_PAD, GRID, strict=True))
        self.view = FigureBox(
            box.top - box.height * (rows - 1) / 2,
            box.left - box.width * (columns - 1) / 2,
            box.height * rows,
            box.width * columns,
            box.figure_height,
        )
        scale = GRID[0] * _CELL / box.height
        self.tall = box.figure_height * scale  # pixels of the figure in the window
        layers = split(matte.alpha, matte.parts)
        self.inflation = seen_e(layers)
        self.alpha = self.view.resample(matte.alpha, *_SIZE, outside=0.0)
        self.e = self.view.resample(self.inflation, *_SIZE, outside=0.0) * scale
        within = self.view.resample(np.ones(matte.alpha.shape, np.float32), *_SIZE, outside=0.0) > 0.999
        self.within = cv2.erode(within.astype(np.uint8), _square(3)) > 0
        figure = matte.alpha > 0.5
        arms = [
            self.view.resample((layer.seen & figure).astype(np.float32), *_SIZE, outside=0.0) > 0.5
            for layer in layers[1:]
        ]
        self.cells = box.resample(matte.alpha, *GRID, outside=0.0)
        held = np.flatnonzero((self.alpha > 0.5).any(axis=1))
        self.top, self.bottom = int(held[0]), int(held[-1]) + 1
        self.x, self.y = np.meshgrid(*(np.arange(side, dtype=np.float32) + 0.5 for side in _SIZE[::-1]))
        middle = trunk(self.cells)
        centre = (middle * (np.arange(GRID[1]) + 0.5)).sum() / max(float(middle.sum()), 1e-6)
        self.across = (self.x - (centre + _PAD[1]) * _CELL) / self.tall
        self._bases([arm for arm in arms if arm.any()])
        self._samples(photo, [arm for arm in arms if arm.any()])
        self.flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self.flow.setFinestScale(1)
        self.flow.setGradientDescentIterations(25)

    def _bases(self, arms: list[np.ndarray]) -> None:
        """Basis functions of the fields at each pixel, in pixels of motion, and the precision of their priors."""
        v = (self.y[:, 0] - self.top) / self.tall
        end = (self.bottom - self.top) / self.tall
        rows, turns = _splines(v, _ROW_KNOTS, 0.0, end), _splines(v, _TURN_KNOTS, 0.0, end)
        level = np.broadcast_to(rows[:, None], (*_SIZE, _ROW_KNOTS))
        slope = level * (3 * self.across)[..., None]
        fields = [level, slope]
        # standard deviation of a coefficient, of its second and of its first difference between knots
        across = [_prior(_ROW_KNOTS, 0.1, 0.004, 0.01), _prior(_ROW_KNOTS, 0.15, 0.01, 0.01)]
        down = [_prior(_ROW_KNOTS, 0.02, 0.002), _prior(_ROW_KNOTS, 0.01, 0.004)]
        for arm in arms:
            held = np.flatnonzero(arm.any(axis=1))
            along = _splines(v, _ARM_KNOTS, (held[0] - self.top) / self.tall, (held[-1] + 1 - self.top) / self.tall)
            fields.append(along[:, None] * arm[..., None])
            across.append(_prior(_ARM_KNOTS, 0.03, 0.006))
            down.append(_prior(_ARM_KNOTS, 0.01, 0.006))
        self.moves = np.concatenate(fields, axis=-1) * np.float32(self.tall)
        self.turns = np.broadcast_to(turns[:, None], (*_SIZE, _TURN_KNOTS))
        self.split = self.moves.shape[-1]
        self.precision = _diagonal([*across, _prior(_TURN_KNOTS, 1.0, None, 0.03), *down])
        self.state = np.zeros(len(self.precision))  # coefficients of ax, b and ay

    def _samples(self, photo: np.ndarray, arms: list[np.ndarray]) -> None:
        """Pixels where flow is used, the share of it that texture determines, and where it determines the turn."""
        cv2 = self.cv2
        image = self.window(photo)
        grey = self._high_pass(image)
        self.grey = _bytes(grey)
        dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(grey, cv2.CV_32F, 0, 1) / 8
        xx, xy, yy = (cv2.GaussianBlur(a, (0, 0), 2.5) for a in (dx * dx, dx * dy, dy * dy))
        largest = (xx + yy) / 2 + np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
        self.tensor = np.stack([xx, xy, yy], axis=-1) / (largest + _NOISE)[..., None]
        solid = (self.alpha > 0.9).astype(np.uint8)
        steep = np.abs(np.gradient(cv2.GaussianBlur(self.e, (0, 0), 1.0), axis=1)) >= 1
        used = (cv2.erode(solid, _square(2)) > 0) & ~steep & self.within
        trunk_only = np.clip((self.e / max(np.quantile(self.e[solid > 0], 0.95), 1e-3) - 0.55) / 0.15, 0, 1)
        for arm in arms:
            around = cv2.dilate(arm.astype(np.uint8), _square(2)) > 0
            trunk_only[around] = 0
        trunk_only[((self.y - self.top) < _HEAD * self.tall) & (solid > 0)] = 1
        for arm in arms:
            byte = arm.astype(np.uint8)
            used &= ~((cv2.dilate(byte, _square(5)) > 0) & ~(cv2.erode(byte, _square(2)) > 0))
        used[1::2], used[:, 1::2] = False, False
        self.at = np.nonzero(used)
        self.turning = trunk_only[self.at][:, None]
        self.solid = np.nonzero(self.alpha > 0.5)

    def window(self, frame: np.ndarray) -> np.ndarray:
        """A frame in the figure's window, uint8."""
        return np.rint(self.view.resample(frame, *_SIZE)).clip(0, 255).astype(np.uint8)

    def _high_pass(self, image: np.ndarray) -> np.ndarray:
        lightness = self.cv2.cvtColor(image, self.cv2.COLOR_RGB2LAB)[..., 0].astype(np.float32)
        return lightness - self.cv2.GaussianBlur(lightness, (0, 0), _HIGH_PASS)

    def _fields(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ax, b, ay at each pixel; ax and ay in pixels."""
        state = self.state.astype(np.float32)
        between = self.split + _TURN_KNOTS
        return self.moves @ state[: self.split], self.turns @ state[self.split : between], self.moves @ state[between:]

    def step(self, image: np.ndarray, alpha: np.ndarray | None) -> float:
        """One Gauss-Newton step.

        Args:
            image: frame in the window, uint8.
            alpha: its matte; None: the outline is not used.

        Returns:
            Residual before the step, in figure heights.
        """
        cv2, at = self.cv2, self.at
        ax, b, ay = self._fields()
        sideways = ax + b * self.e
        places = self.x + sideways - 0.5, self.y + ay - 0.5
        warped = self._remap(_bytes(self._high_pass(image)), *places)
        off = self.flow.calc(self.grey, warped, None)
        seen = self._remap(warped, self.x + off[..., 0] - 0.5, self.y + off[..., 1] - 0.5)
        change = cv2.GaussianBlur(seen.astype(np.float32) - self.grey, (0, 0), 1.5)
        facing = 1 + np.gradient(sideways, axis=1)
        inside = (places[0] > 0) & (places[0] < _SIZE[1] - 1)
        trust = (np.exp(-((change / 20) ** 2)) * (facing > 0.5) * inside)[at]
        trust /= 1 + (off[at] ** 2).sum(axis=-1) / _OUTLIER**2
        xx, xy, yy = (self.tensor[at] * trust[:, None]).astype(np.float64).T
        dx = (off[..., 0] * np.clip(facing, 0.3, 1.5))[at].astype(np.float64)
        dy = off[..., 1][at].astype(np.float64)
        left = (xx * dx**2 + 2 * xy * dx * dy + yy * dy**2).sum() / max((xx + yy).sum(), 1e-9)
        across = np.concatenate([self.moves[at], self._depth(at, self.turning)], axis=1).astype(np.float64)
        down = self.moves[at].astype(np.float64)
        count = across.shape[1]
        mixed = (across * xy[:, None]).T @ down
        normal = np.block([[(across * xx[:, None]).T @ across, mixed], [mixed.T, (down * yy[:, None]).T @ down]])
        gradient = np.r_[across.T @ (xx * dx + xy * dy), down.T @ (xy * dx + yy * dy)]
        normal /= _FLOW**2 * _CORRELATED
        gradient /= _FLOW**2 * _CORRELATED
        parts = [left]
        if alpha is not None and (ends := self._outline(ax, b, ay, alpha)) is not None:
            basis, error, weight = ends
            normal[:count, :count] += (basis * weight[:, None]).T @ basis
            gradient[:count] += basis.T @ (weight * error)
            parts.append(float((weight * error**2).sum() / weight.sum()))
        self.state += np.linalg.solve(normal + self.precision, gradient - self.precision @ self.state)
        return float(np.sqrt(np.mean(parts)) / self.tall)

    def uncertainty(self) -> float:
        """Standard deviation of the turn in degrees that the texture of the upper body in frame 0 leaves."""
        at = self.at
        xx, xy, yy = self.tensor[at].astype(np.float64).T
        v = (self.y[at] - self.top) / self.tall  # a head may turn alone; stripes of trousers repeat
        upper = self.turning * ((v > _HEAD) & (v < _UPPER))[:, None]
        across = np.concatenate([self.moves[at], self._depth(at, upper)], axis=1).astype(np.float64)
        down = self.moves[at].astype(np.float64)
        mixed = (across * xy[:, None]).T @ down
        normal = np.block([[(across * xx[:, None]).T @ across, mixed], [mixed.T, (down * yy[:, None]).T @ down]])
        covariance = np.linalg.inv(normal / (_FLOW**2 * _CORRELATED) + self.precision)
        mean = np.zeros(len(covariance))
        mean[self.split : self.split + _TURN_KNOTS] = 1 / _TURN_KNOTS
        return float(np.degrees(np.sqrt(mean @ covariance @ mean) / DEPTH_RATIO))

    def _depth(self, at: tuple[np.ndarray, ...], sign: np.ndarray) -> np.ndarray:
        """Basis of b e at pixels, (n, knots), times a factor (n, 1)."""
        return self.turns[at] * self.e[at][:, None] * sign

    def _remap(self, image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        cv2 = self.cv2
        x, y = x.astype(np.float32), y.astype(np.float32)
        return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _outline(
        self, ax: np.ndarray, b: np.ndarray, ay: np.ndarray, alpha: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Basis (n, p), error in pixels (n,) and weight (n,) of the figure's left and right ends in each row.

        The point of front and back that is farthest out determines an end; its position is stationary, so the end
        moves as this point does.
        """
        at, count = self.solid, len(self.solid[0])
        middle, depth = (self.x + ax)[at], (b * self.e)[at]
        x = np.concatenate([middle + depth, middle - depth])
        row = np.clip(np.tile((self.y + ay)[at], 2).astype(int), 0, _SIZE[0] - 1)
        order = np.lexsort((x, row))
        ordered = row[order]
        first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        last = np.r_[first[1:], len(ordered)] - 1
        figure = alpha > 0.5
        used = figure.any(axis=1) & (np.arange(_SIZE[0]) > self.top + 2) & (np.arange(_SIZE[0]) < self.bottom - 3)
        bases, errors, weights = [], [], []
        for ends, side in ((first, -1), (last, 1)):
            point = order[ends][used[row[order[ends]]]]
            rows = row[point]
            if side < 0:
                column = figure[rows].argmax(axis=1)
                seen = column + 1 - alpha[rows, column]
            else:
                column = _SIZE[1] - 1 - figure[rows, ::-1].argmax(axis=1)
                seen = column + alpha[rows, column]
            error = seen - (x[point] + 0.5 * side)
            pixel = tuple(a[point % count] for a in at)
            sign = np.where(point < count, 1, -1)[:, None]
            bases.append(np.concatenate([self.moves[pixel], self._depth(pixel, sign)], axis=1))
            errors.append(error)
            weights.append(self.within[rows, column] / (1 + (error / _OUTLIER) ** 2) / 4)  # rows are correlated
        weight = np.concatenate(weights).astype(np.float64)
        if weight.sum() <= 0:
            return None
        return np.concatenate(bases).astype(np.float64), np.concatenate(errors).astype(np.float64), weight

    def channels(self) -> np.ndarray:
        """The fields on the grid, float32 (4, 40, 32), extrapolated to cells without a figure."""
        ax, b, ay = self._fields()
        yaw = np.clip(b / DEPTH_RATIO, -0.95, 0.95)  # sine of the turn
        fields = [ax / self.tall, ay / self.tall, b, -self.across * yaw]
        weights = [self.alpha, self.alpha, self.alpha * self.e**2 + 1e-6, self.alpha]
        made = np.stack([_mean(field[_INNER], weight[_INNER]) for field, weight in zip(fields, weights, strict=True)])
        return continued(made, self.cells).astype(np.float32)


def _square(radius: int) -> np.ndarray:
    return np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)


def _bytes(high: np.ndarray) -> np.ndarray:
    return np.clip(128 + 1.5 * high, 0, 255).astype(np.uint8)


def _mean(field: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted mean over each cell."""

    def total(values: np.ndarray) -> np.ndarray:
        return values.reshape(GRID[0], _CELL, GRID[1], _CELL).sum(axis=(1, 3))

    return total(field * weight) / np.maximum(total(weight), 1e-6)


def _splines(v: np.ndarray, knots: int, start: float, end: float) -> np.ndarray:
    """Uniform cubic B-splines at places (n,), float32 (n, knots); constant beyond both ends."""
    place = (np.clip(v, start, end) - start) / max(end - start, 1e-6) * (knots - 3)
    d = np.abs(place[:, None] - (np.arange(knots) - 1))
    return np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.clip(2 - d, 0, None) ** 3 / 6).astype(np.float32)


def _prior(knots: int, size: float, bend: float | None, slope: float | None = None) -> np.ndarray:
    """Precision (knots, knots) of coefficients: standard deviation of value, second and first difference."""
    precision = np.eye(knots) / size**2
    for order, deviation in ((2, bend), (1, slope)):
        if deviation is not None:
            change = np.diff(np.eye(knots), order, axis=0)
            precision += change.T @ change / deviation**2
    return precision


def _diagonal(blocks: list[np.ndarray]) -> np.ndarray:
    made = np.zeros((sum(map(len, blocks)),) * 2)
    start = 0
    for block in blocks:
        made[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return made
