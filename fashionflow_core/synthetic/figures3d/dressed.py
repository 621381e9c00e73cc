"""Dressed 3-D figures: body, clothes and hair as surfaces over time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fashionflow_core.motion.timing import SECONDS, SPACING
from fashionflow_core.synthetic.figure import Figure
from fashionflow_core.synthetic.figures3d import garments, hair, skirts
from fashionflow_core.synthetic.figures3d.body import BodyMesh
from fashionflow_core.synthetic.figures3d.shoes import shoes
from fashionflow_core.synthetic.figures3d.surface import SurfaceMesh

_PER_KEY = 6  # simulated frames per keyframe
_SETTLE = 24  # frames for cloth to settle before the photo


class Dressed:
    """A figure with surfaces at any time of its motion.

    Args:
        figure: figure of `synthetic.figure.sample_figure`, with motion, clothes and hair.
        seconds: duration of the motion.
        loop: whether the motion returns after `timing.SECONDS`; the cloth then moves as in a later cycle from the
            start.
    """

    def __init__(self, figure: Figure, seconds: float, loop: bool = False) -> None:
        self.figure, self.body = figure, BodyMesh(figure)
        self.frame = SPACING / _PER_KEY
        count = int(np.ceil(seconds / self.frame - 1e-6)) + 1
        moving = np.arange(count) * self.frame
        before = np.zeros(_SETTLE)
        if loop:
            before = np.concatenate([before, np.arange(0, SECONDS - 1e-6, self.frame)])
        self.times = np.concatenate([before, moving])
        self.start = len(before)
        self._simulate()

    def _simulate(self) -> None:
        body, figure = self.body, self.figure
        self.skirt = skirts.skirt(body, figure) if garments.has_skirt(figure) else None
        self.spread = self.skirt.widest if self.skirt else 0.0
        self.pieces = garments.pieces(body, figure)
        self.cloth = self._hair = None
        falls = hair.hangs(figure)
        if self.skirt is None and not falls:
            return
        posed = body.posed(figure, self.times, self.spread)
        yaw = float(figure.motion.yaw(self.times[0]))
        if self.skirt is not None:
            below = [garments.dress(body, p, posed) for p in self.pieces if p.name == "lower"]
            found = skirts.hang(self.skirt, body, posed, yaw, self.frame, below)
            self.cloth = skirts.surface(self.skirt, found[self.start :], body, "skirt")
        if falls:
            found = hair.hang(body, figure, posed, yaw, self.frame)
            self._hair = replace(found, positions=found.positions[self.start :])

    def surfaces(self, times: np.ndarray) -> list[SurfaceMesh]:
        """All surfaces, from the skin outwards, at times in seconds (t,)."""
        times = np.asarray(times, np.float64)
        body, figure = self.body, self.figure
        posed = body.posed(figure, times, self.spread)
        hem = self.skirt.hem if self.skirt else None
        found = [garments.skin(body, figure, self.pieces, posed, hem)]
        found += [garments.dress(body, piece, posed) for piece in self.pieces]
        found.append(shoes(body, figure, posed))
        if self.cloth is not None:
            found.append(self._at(self.cloth, times))
        if figure.hair != "bald":
            found.append(hair.cap(body, figure, posed))
            lag = figure.motion.yaw(times) - figure.motion.yaw(np.maximum(times - 1.5 * figure.motion.lag, 0))
            found += hair.tied(body, figure, posed, -lag)
        if self._hair is not None:
            found.append(self._at(self._hair, times))
        return found

    def _at(self, surface: SurfaceMesh, times: np.ndarray) -> SurfaceMesh:
        """A simulated surface interpolated between its frames."""
        place = np.clip(times / self.frame, 0, len(surface.positions) - 1)
        first = np.minimum(place.astype(int), len(surface.positions) - 2)
        share = (place - first)[:, None, None]
        return replace(surface, positions=surface.positions[first] * (1 - share) + surface.positions[first + 1] * share)
