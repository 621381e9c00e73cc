"""Motion clips: photos of figures with true motion channels.

Each clip is one figure that turns at most 36 degrees from its photo, steps and sways, at any position and scale in the
frame, complete or cut off at the knee, the waist or a side. It is determined by the seed. A clip is one safetensors
file: photo, matte and parts on the figure's box, and the motion channels of `KEYS` keyframes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fashionflow_core.errors import FashionFlowError, command
from fashionflow_core.motion.figure_box import GRID, FigureBox
from fashionflow_core.motion.layers import visible_e
from fashionflow_core.motion.timing import SECONDS, SPACING
from fashionflow_core.synthetic.clips import studio_background
from fashionflow_core.synthetic.figure import Figure, sample_figure
from fashionflow_core.synthetic.geometry import Moment
from fashionflow_core.synthetic.motion import Motion
from fashionflow_core.synthetic.scenery import busy_background
from fashionflow_core.synthetic.wardrobe import Wardrobe
from fashionflow_core.utils.files import atomic_path

FORMAT = 1
KEYS = 20  # a window of 12 starts at any of the first 9, so that a model learns to continue motion
CROP = (160, 128)  # rows, columns of photo, matte and parts of the box: 4 pixels per cell
FRAME = (640, 512)  # size of the photo: layers of thin arms depend on whole pixels
_REACH = 36.0  # maximum turn from the photo's pose in degrees, so that little of the learnt motion is scaled down
_STEEPEST = 1.2  # largest |b|: a body deeper than wide, turned by 36 degrees
_THIN = 0.015  # inflation in figure heights below which b is uncertain: half of an arm's
_META = "fashionflow_motion"
_TENSORS = ("channels", "cover", "photo", "matte", "parts", "inflation")


@dataclass(frozen=True, eq=False)
class MotionClip:
    """A figure's photo on its box, and its motion.

    Attributes:
        channels: motion channels ax, ay, b, dz, float32 (4, KEYS, 40, 32), at times 0, SPACING etc.; zero at time 0.
        cover: share of each cell with known channels, float32 (40, 32); elsewhere they are extrapolated.
        photo: photo in the box, uint8 (160, 128, 3); outside the photo its border is repeated.
        matte: matte, float32 (160, 128), 0 to 1.
        parts: indices of `images.parts.PARTS`, uint8 (160, 128).
        inflation: inflation of the visible layer in pixels of `photo`, float32 (160, 128); the factor of `b`.
        info: metadata: seed or source, figure_height (of `photo`, in rows), loop (whether the motion returns at
            2.72 s), attributes; keys, if only the first keyframes are known (the rest repeat the last of them).
    """

    channels: np.ndarray
    cover: np.ndarray
    photo: np.ndarray
    matte: np.ndarray
    parts: np.ndarray
    inflation: np.ndarray
    info: dict[str, Any]

    @property
    def keys(self) -> int:
        """Number of known keyframes; later ones repeat the last of them."""
        return int(self.info.get("keys", self.channels.shape[1]))


@dataclass(frozen=True)
class Placed:
    """A figure of motion data, with gentle motion and a position in the frame.

    Attributes:
        figure: figure with changed motion, size and position.
        loop: whether its motion returns to the photo after `SECONDS`.
        margin: margin of its box, in figure heights.
        busy: whether the background is busy instead of a studio.
    """

    figure: Figure
    loop: bool
    margin: float
    busy: bool


def sample_placed(seed: int) -> Placed:
    """Draw figure, motion and position from a seed."""
    figure = sample_figure(seed)
    rng = np.random.Generator(np.random.PCG64([seed, 7]))
    loop = bool(rng.random() < 0.15)
    figure = replace(figure, motion=gentle_motion(figure.motion, rng, loop))
    figure = _place(figure, rng)
    return Placed(figure, loop, float(rng.uniform(0.03, 0.1)), bool(rng.random() < 0.4))


def gentle_motion(motion: Motion, rng: np.random.Generator, loop: bool = False) -> Motion:
    """Draw turns that a single photo can show: at most 36 degrees from its pose, which is up to 25 from the front.

    Args:
        motion: motion with sway, steps and lag.
        rng: random generator of the rest.
        loop: whether to return to the photo's pose after every `SECONDS`.
    """
    start = float(rng.uniform(-25, 25))
    side = 1.0 if rng.random() < 0.5 else -1.0
    low, high = start - _REACH, start + _REACH
    returns = bool(rng.random() < 0.5)
    times, yaws = [0.0], [start]
    while times[-1] < 6:
        there = loop or returns
        if there and len(yaws) % 2 == 0:
            goal = start if loop else start + float(rng.uniform(-8, 8))
        else:
            goal = float(np.clip(side * rng.uniform(20, 45), low, high))
            if len(yaws) == 1 and abs(goal - start) < 15:
                side = -side
                goal = float(np.clip(side * rng.uniform(25, 45), low, high))
        seconds = float(rng.uniform(0.7, 1.1) * (0.6 + abs(goal - yaws[-1]) / 90))
        if loop:
            seconds = SECONDS / 2 * float(rng.uniform(0.85, 1.15)) if len(times) % 2 else SECONDS - times[-1] % SECONDS
        times.append(times[-1] + seconds)
        yaws.append(goal)
        side = -side
    reach = float(rng.uniform(0.004, 0.022))
    shifts = [0.0] + [float(rng.uniform(0.4, 1)) * reach * (1 if i % 2 else -1) for i in range(1, len(times))]
    changes: dict[str, Any] = {}
    if loop:
        shifts[::2] = [0.0] * len(shifts[::2])
        # Integer periods within the loop; only the body's small turns, at 0.9 of the steps' rate, end 2 degrees off.
        changes = {"sway_hz": round(motion.sway_hz * SECONDS) / SECONDS, "step_hz": 3 / SECONDS}
    return replace(
        motion,
        kind="loop" if loop else "gentle",
        times=tuple(times),
        yaws=tuple(float(np.radians(yaw)) for yaw in yaws),
        shifts=tuple(shifts),
        swing=float(rng.uniform(0.02, 0.1)),
        step=float(rng.uniform(0.2, 0.7)),
        **changes,
    )


def _place(figure: Figure, rng: np.random.Generator) -> Figure:
    """Draw size and position in the frame: unchanged, smaller and off centre, or cut off."""
    kind = rng.choice(["whole", "small", "low", "side"], p=[0.5, 0.2, 0.22, 0.08])
    size, centre, ground = figure.size, figure.centre, figure.ground
    if kind == "small":
        size = float(rng.uniform(0.55, 0.85))
        ground = float(rng.uniform(size + 0.03, 0.98))
        centre = float(rng.uniform(0.3, 0.7))
    elif kind == "low":
        end = float(rng.choice([0.96, 0.78, 0.62, 0.5], p=[0.15, 0.4, 0.3, 0.15]) + rng.uniform(-0.04, 0.04))
        top = float(rng.uniform(0.02, 0.1))
        size = (1 - top) / end  # `end` of the body is at the frame's lower border
        ground = top + size
        centre = 0.5 + float(rng.uniform(-0.12, 0.12))
    elif kind == "side":
        centre = 0.5 + float(rng.choice([-1, 1]) * rng.uniform(0.33, 0.45))
    return replace(figure, size=size, centre=centre, ground=ground)


def draw_photo(placed: Placed, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The photo of a figure, uint8 (h, w, 3), and its true matte, float32 (h, w)."""
    return _photo(placed, Moment(placed.figure, 0.0, height, width))


def _photo(placed: Placed, moment: Moment) -> tuple[np.ndarray, np.ndarray]:
    figure, size = placed.figure, (moment.height, moment.width)
    background = busy_background(figure.seed, *size) if placed.busy else studio_background(figure, *size)
    return moment.draw(background, shadow=not placed.busy)


def make_motion_clip(seed: int, keys: int = KEYS, frame: tuple[int, int] = FRAME) -> MotionClip:
    """Make the clip of a seed.

    Args:
        seed: seed of figure, motion, position and background.
        keys: number of keyframes.
        frame: height and width of the photo that the channels are computed in.
    """
    placed = sample_placed(seed)
    wardrobe = Wardrobe(placed.figure)
    moment = Moment(placed.figure, 0.0, *frame, wardrobe)
    photo, alpha = _photo(placed, moment)
    parts = moment.surface().part
    box = FigureBox.of(alpha, placed.margin)
    e = visible_e(alpha, parts)
    channels, cover = true_channels(placed.figure, np.arange(keys) * SPACING, box, e, frame, wardrobe)
    return assemble(placed, channels, cover, photo, alpha, parts, e, box)


def assemble(
    placed: Placed,
    channels: np.ndarray,
    cover: np.ndarray,
    photo: np.ndarray,
    alpha: np.ndarray,
    parts: np.ndarray,
    e: np.ndarray,
    box: FigureBox,
    style: str = "drawn",
) -> MotionClip:
    """The clip of a sampled figure; see `cut_clip`."""
    attributes = placed.figure.attributes()
    info = {
        "seed": placed.figure.seed,
        "loop": placed.loop,
        "attributes": attributes if style == "drawn" else {"style": style} | attributes,
    }
    return cut_clip(channels, cover, photo, alpha, parts, e, box, info)


def cut_clip(
    channels: np.ndarray,
    cover: np.ndarray,
    photo: np.ndarray,
    alpha: np.ndarray,
    parts: np.ndarray,
    e: np.ndarray,
    box: FigureBox,
    info: dict[str, Any],
) -> MotionClip:
    """A clip from a full photo: content of its box, and motion.

    Args:
        channels, cover: motion on the box's grid, see `MotionClip`.
        photo: uint8 (h, w, 3).
        alpha: matte, float32 (h, w).
        parts: indices of `images.parts.PARTS`, uint8 (h, w).
        e: inflation of the visible layer, (h, w), pixels of the photo.
        box: box of the figure.
        info: `MotionClip.info` without `figure_height`.
    """
    crop = box.resample(photo, *CROP)
    first, *others = info.items()  # the order of files of earlier versions
    return MotionClip(
        channels=channels,
        cover=cover,
        photo=np.clip(np.rint(crop), 0, 255).astype(np.uint8),
        matte=box.resample(alpha, *CROP, outside=0.0),
        parts=_labels(parts, box),
        inflation=box.resample(e, *CROP, outside=0.0) * (CROP[0] / box.height),
        info=dict([first, ("figure_height", box.figure_height / box.height * CROP[0]), *others]),
    )


def motion_frames(seed: int, count: int, fps: float, frame: tuple[int, int] = FRAME) -> Iterator[np.ndarray]:
    """Frames of a seed's motion clip, uint8 (h, w, 3), at the times 0, 1 / fps etc.; the first is the photo."""
    placed = sample_placed(seed)
    wardrobe = Wardrobe(placed.figure)
    for k in range(count):
        yield _photo(placed, Moment(placed.figure, k / fps, *frame, wardrobe))[0]


def _labels(parts: np.ndarray, box: FigureBox) -> np.ndarray:
    """Labels at the middle of each pixel of the crop."""
    rows = np.floor(box.top + (np.arange(CROP[0]) + 0.5) / CROP[0] * box.height).astype(int)
    columns = np.floor(box.left + (np.arange(CROP[1]) + 0.5) / CROP[1] * box.width).astype(int)
    inside = ((rows >= 0) & (rows < parts.shape[0]))[:, None] & ((columns >= 0) & (columns < parts.shape[1]))[None]
    found = parts[rows.clip(0, parts.shape[0] - 1)][:, columns.clip(0, parts.shape[1] - 1)]
    return np.where(inside, found, 0).astype(np.uint8)


def true_channels(
    figure: Figure,
    times: np.ndarray,
    box: FigureBox,
    e: np.ndarray,
    frame: tuple[int, int],
    wardrobe: Wardrobe | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Motion channels from a figure's exact geometry.

    A point of the visible (front) surface moves to x + ax + b e, the one directly behind it to x + ax - b e: ax is
    the mean of both displacements, and b, over a cell, the least-squares factor of e in half their difference.

    Args:
        figure: figure, whose photo is at time 0.
        times: times in seconds, (n,).
        box: box of the figure in the photo.
        e: inflation at each pixel of the photo, (h, w), pixels.
        frame: height and width of the photo.

    Returns:
        Channels, float32 (4, n, 40, 32), extrapolated to cells without a figure, and the share of each cell where
        they are known, float32 (40, 32).
    """
    wardrobe = wardrobe or Wardrobe(figure)
    rest = Moment(figure, 0.0, *frame, wardrobe)
    surface = rest.surface()
    chosen = surface.seen & sampled(frame)
    front = surface.points(chosen)
    back = rest.behind(front)

    def pairs(moment: Moment) -> Pairs:
        near, behind = moment.places(front), moment.places(back)
        return Pairs(near.x, near.y, near.z * rest.body, behind.x, behind.z * rest.body)

    def moving() -> Iterator[Pairs | None]:
        for t in times:
            yield pairs(Moment(figure, float(t), *frame, wardrobe)) if t else None

    return fit_channels(chosen, surface.seen & ~surface.lining, pairs(rest), moving(), box, e)


def sampled(frame: tuple[int, int]) -> np.ndarray:
    """Pixels of a photo for the fit of channels, bool (h, w): a fifth, evenly; about fifty per cell."""
    y, x = np.indices(frame)
    return (x + 2 * y) % 5 == 0


@dataclass(frozen=True, eq=False)
class Pairs:
    """Visible points and those directly behind them at one time, each float64 (n,), in pixels of the photo.

    Attributes:
        x, y, z: column, row and depth (towards the camera) of the visible points.
        back_x, back_z: column and depth of those behind.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    back_x: np.ndarray
    back_z: np.ndarray


def fit_channels(
    chosen: np.ndarray,
    known: np.ndarray,
    rest: Pairs,
    moments: Iterable[Pairs | None],
    box: FigureBox,
    e: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Motion channels from positions of surface points of any figure; see `true_channels`.

    Args:
        chosen: pixels of the photo whose points are given, row by row, bool (h, w).
        known: pixels of the figure with front and back, bool (h, w): the lining of a skirt, visible
            through its hem, has none that the shell could render.
        rest: points in the photo.
        moments: same points at each time; None: as in the photo.
        box, e: box and inflation of the photo.
    """
    row_at, column_at = np.nonzero(chosen)
    column, row = box.cells(column_at + 0.5, row_at + 0.5)
    column, row = np.floor(column).astype(int), np.floor(row).astype(int)
    held = (column >= 0) & (column < GRID[1]) & (row >= 0) & (row < GRID[0])
    cell = np.where(held, row * GRID[1] + column, GRID[0] * GRID[1])
    solid = known[chosen].astype(np.float64)
    bulge = np.maximum(e[chosen].astype(np.float64), 1e-3)

    def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return _cells(cell, values * weights) / np.maximum(_cells(cell, weights), 1e-9)

    cover = box.resample(known.astype(np.float32), *GRID, outside=0.0)
    # Sums include neighbours: at hems and rims, where e falls to 0, b of a single cell is a ratio of small numbers.
    thickness = _spread(_cells(cell, solid * bulge**2))
    still = np.zeros((4, *GRID), np.float64)
    fields = []
    for now in moments:
        if now is None:
            fields.append(still)
            continue
        dx, dxb = now.x - rest.x, now.back_x - rest.back_x
        depth = (now.z - rest.z + now.back_z - rest.back_z) / 2
        b = _spread(_cells(cell, solid * bulge * (dx - dxb) / 2)) / np.maximum(thickness, 1e-9)
        fields.append(np.stack([mean((dx + dxb) / 2, solid), mean(now.y - rest.y, solid), b, mean(depth, solid)]))
    channels = np.stack(fields, 1)
    channels[[0, 1, 3]] /= box.figure_height
    channels[2] = np.clip(channels[2], -_STEEPEST, _STEEPEST)
    # With only the figure's rim in a cell, b is a ratio of two small numbers: use its neighbours.
    depth = np.sqrt(_cells(cell, solid * bulge**2) / np.maximum(_cells(cell, solid), 1e-9)) / box.figure_height
    filled = continued(channels, cover)
    filled[2] = continued(channels[2], cover * np.minimum(depth / _THIN, 1) ** 2)
    return filled.astype(np.float32), cover.astype(np.float32)


def _cells(cell: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.bincount(cell, values, GRID[0] * GRID[1] + 1)[:-1].reshape(GRID)


def _spread(x: np.ndarray) -> np.ndarray:
    """Binomial weights (1, 2, 1) over rows and columns; nothing beyond the border."""
    x = np.pad(x, 1)
    x = x[:-2] + 2 * x[1:-1] + x[2:]
    return x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]


def continued(fields: np.ndarray, cover: np.ndarray, sweeps: int = 60) -> np.ndarray:
    """Fields (..., h, w) extrapolated smoothly to cells with little `cover` (h, w).

    Initialized by weighted means over growing squares, then relaxed towards the mean of the neighbours.
    """
    known = np.minimum(cover / 0.3, 1)
    total, weight = fields * known, known
    made, done, scale = total.copy(), known, 1
    height, width = cover.shape
    while weight.shape != (1, 1):
        total, weight, scale = _halved(total), _halved(weight), scale * 2
        mean = total / np.maximum(weight, 1e-9)
        large = mean.repeat(scale, axis=-2).repeat(scale, axis=-1)[..., :height, :width]
        reached = (weight > 0).repeat(scale, axis=-2).repeat(scale, axis=-1)[:height, :width]
        made += large * (1 - done) * reached
        done = np.where(reached, 1, done)
    own = made.copy()
    for _ in range(sweeps):
        padded = np.pad(made, [(0, 0)] * (made.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
        around = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
        made = own * known + around / 4 * (1 - known)
    return made


def _halved(x: np.ndarray) -> np.ndarray:
    """Sums of squares of 2 x 2, an odd border padded with zeros."""
    pad = [(0, 0)] * (x.ndim - 2) + [(0, x.shape[-2] % 2), (0, x.shape[-1] % 2)]
    x = np.pad(x, pad)
    return x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]


# ---- files


def write_motion_clip(clip: MotionClip, path: Path) -> None:
    """Write a clip; the same clip gives the same bytes."""
    tensors = {
        "channels": clip.channels.astype(np.float16),
        "cover": np.rint(clip.cover * 255).astype(np.uint8),
        "photo": clip.photo,
        "matte": np.rint(clip.matte * 255).astype(np.uint8),
        "parts": clip.parts,
        "inflation": clip.inflation.astype(np.float16),
    }
    # One key: safetensors does not keep the order of several.
    content = save(tensors, {_META: json.dumps({"format": FORMAT} | clip.info)})
    with atomic_path(path) as made:
        made.write_bytes(content)


def read_motion_info(path: Path) -> dict[str, Any]:
    """`MotionClip.info` of a file, without its arrays.

    Raises:
        FashionFlowError: not a motion clip, damaged, or of another version.
    """
    try:
        with safe_open(path, "numpy") as file:
            info = json.loads((file.metadata() or {})[_META])
    except (OSError, SafetensorError, KeyError, ValueError):
        raise _broken(path) from None
    if info.pop("format", None) != FORMAT:
        raise _broken(path)
    return info


def read_motion_clip(path: Path) -> MotionClip:
    """Read a clip.

    Raises:
        FashionFlowError: not a motion clip, damaged, or of another version.
    """
    info = read_motion_info(path)
    try:
        with safe_open(path, "numpy") as file:
            found = {name: file.get_tensor(name) for name in _TENSORS}
    except (OSError, SafetensorError):
        raise _broken(path) from None
    return MotionClip(
        channels=found["channels"].astype(np.float32),
        cover=found["cover"].astype(np.float32) / 255,
        photo=found["photo"],
        matte=found["matte"].astype(np.float32) / 255,
        parts=found["parts"],
        inflation=found["inflation"].astype(np.float32),
        info=info,
    )


def _broken(path: Path) -> FashionFlowError:
    return FashionFlowError(
        f"{path}: not a motion clip of this version",
        hint=f"create it again: {command('data synth', motion=True, overwrite=True)}",
    )
