"""Motion clips of 3-D figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fashionflow_core.images import parts as labels
from fashionflow_core.motion.figure_box import FigureBox
from fashionflow_core.motion.layers import visible_e
from fashionflow_core.motion.timing import SPACING
from fashionflow_core.synthetic.clips import studio_background
from fashionflow_core.synthetic.figures3d.dressed import Dressed
from fashionflow_core.synthetic.figures3d.scene import Camera, Hits, Model, StudioRenderer, visible
from fashionflow_core.synthetic.figures3d.surface import FLAT
from fashionflow_core.synthetic.motion_clips import (
    FRAME,
    KEYS,
    MotionClip,
    Pairs,
    Placed,
    assemble,
    fit_channels,
    sample_placed,
    sampled,
)
from fashionflow_core.synthetic.scenery import busy_background

STYLE = "3d"
_CHUNK = 8  # frames per chunk of surfaces


@dataclass(frozen=True, eq=False)
class Captured:
    """Photo, labels and motion of a 3-D figure. Arrays have the photo's size, except those on the grid.

    Attributes:
        photo: photo, uint8 (h, w, 3).
        alpha: matte, float32 (h, w), 0 to 1.
        parts: indices of `images.parts.PARTS`, uint8 (h, w).
        e: half thickness in pixels, float32 (h, w).
        box: box of the figure.
        channels, cover: as in `MotionClip`.
    """

    photo: np.ndarray
    alpha: np.ndarray
    parts: np.ndarray
    e: np.ndarray
    box: FigureBox
    channels: np.ndarray
    cover: np.ndarray


class Figure3d:
    """A 3-D figure: person, clothes, motion and position are drawn as for 2-D figures.

    Args:
        placed: figure, or seed of `sample_placed`.
        seconds: duration of the motion.
        frame: height and width of its photo and frames.
    """

    def __init__(self, placed: Placed | int, seconds: float, frame: tuple[int, int] = FRAME) -> None:
        self.placed = sample_placed(placed) if isinstance(placed, int) else placed
        figure = self.placed.figure
        self.dressed = Dressed(figure, seconds, self.placed.loop)
        self.camera = Camera(figure, self.dressed.body.height, frame)
        self.frame = frame
        self.background = (
            busy_background(figure.seed, *frame) if self.placed.busy else studio_background(figure, *frame)
        )

    def clip(self, keys: int = KEYS) -> MotionClip:
        """The motion clip, with N keyframes."""
        found = self.captured(keys)
        return assemble(
            self.placed, found.channels, found.cover, found.photo, found.alpha, found.parts, found.e, found.box, STYLE
        )

    def captured(self, keys: int = KEYS) -> Captured:
        """Photo, matte, parts and the motion of N keyframes."""
        model = Model(self.dressed.surfaces(np.arange(keys) * SPACING))
        photo, alpha = self.studio(model).draw(0)
        hits = visible(self.camera.project(model.positions(0)), model.faces, self.frame)
        parts = np.zeros(self.frame, np.uint8)
        parts[hits.row, hits.column] = model.part[hits.triangle]
        parts = _as_seen(parts)
        box = FigureBox.of(alpha, self.placed.margin)
        e = visible_e(alpha, parts)
        channels, cover = self._channels(model, hits, keys, box, e)
        return Captured(photo, alpha, parts, e, box, channels, cover)

    def frames(self, count: int, fps: float) -> Iterator[np.ndarray]:
        """Images at the times 0, 1 / fps etc., uint8 (h, w, 3); the first one is the photo."""
        return self.frames_at(np.arange(count) / fps)

    def frames_at(self, times: np.ndarray) -> Iterator[np.ndarray]:
        """Images at times in seconds (n,), uint8 (h, w, 3)."""
        for start in range(0, len(times), _CHUNK):
            studio = self.studio(Model(self.dressed.surfaces(times[start : start + _CHUNK])))
            for k in range(len(studio.model.surfaces[0].positions)):
                yield studio.draw(k)[0]

    def studio(self, model: Model) -> StudioRenderer:
        """The renderer of this figure's frames in a model of its surfaces."""
        figure = self.placed.figure
        return StudioRenderer(model, self.dressed.body, figure, self.camera, self.background, not self.placed.busy)

    def _channels(
        self, model: Model, hits: Hits, keys: int, box: FigureBox, e: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Channels as defined in `true_channels`, with the farthest point of the same solid as the one behind."""
        rest = self.camera.project(model.positions(0))
        seen = np.zeros(self.frame, bool)
        seen[hits.row, hits.column] = True
        known = seen.copy()
        lining = (model.part[hits.triangle] == labels.LOWER) & (model.wound[hits.triangle] == FLAT)
        corners = rest[model.faces[hits.triangle]]
        side, other = corners[:, 1, :2] - corners[:, 0, :2], corners[:, 2, :2] - corners[:, 0, :2]
        lining &= side[:, 0] * other[:, 1] - side[:, 1] * other[:, 0] > 0  # clockwise in rows that go down: its back
        known[hits.row[lining], hits.column[lining]] = False
        chosen = seen & sampled(self.frame)
        use = chosen[hits.row, hits.column]
        front = Hits(hits.row[use], hits.column[use], hits.triangle[use], hits.weights[use])
        back = self._behind(model, rest, front)

        def pairs(moment: int) -> Pairs:
            projected = self.camera.project(model.positions(moment))
            near, far = front.at(projected, model.faces), back.at(projected, model.faces)
            return Pairs(near[:, 0], near[:, 1], near[:, 2], far[:, 0], far[:, 2])

        moving = (pairs(k) if k else None for k in range(keys))
        return fit_channels(chosen, known, pairs(0), moving, box, e)

    def _behind(self, model: Model, rest: np.ndarray, front: Hits) -> Hits:
        """The farthest point of the same solid at each sample."""
        triangle, weights = front.triangle.copy(), front.weights.copy()
        mirrored = rest * np.array([1.0, 1.0, -1.0])
        owner = model.solid[front.triangle]
        for solid in np.unique(owner):
            faces = np.flatnonzero(model.solid == solid)
            hits = visible(mirrored, model.faces[faces], self.frame)
            number = np.full(self.frame, -1)
            number[hits.row, hits.column] = np.arange(len(hits.row))
            on = np.flatnonzero(owner == solid)
            at = number[front.row[on], front.column[on]]
            on, at = on[at >= 0], at[at >= 0]
            triangle[on], weights[on] = faces[hits.triangle[at]], hits.weights[at]
        return Hits(front.row, front.column, triangle, weights)


def _as_seen(parts: np.ndarray) -> np.ndarray:
    """Arm labels by their side in the image, exchanged in back views."""
    columns = [np.nonzero(parts == arm)[1] for arm in (labels.ARM_LEFT, labels.ARM_RIGHT)]
    if all(len(c) for c in columns) and columns[0].mean() > columns[1].mean():
        swap = np.arange(len(labels.PARTS))
        swap[[labels.ARM_LEFT, labels.ARM_RIGHT]] = labels.ARM_RIGHT, labels.ARM_LEFT
        return swap[parts].astype(np.uint8)
    return parts


def make_clip(seed: int, keys: int = KEYS, frame: tuple[int, int] = FRAME) -> MotionClip:
    """The motion clip of a seed; see `synthetic.motion_clips.make_motion_clip`."""
    return Figure3d(seed, (keys - 1) * SPACING, frame).clip(keys)
