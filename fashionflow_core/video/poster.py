"""Poster of a video: its sharpest frame away from the first one."""

from dataclasses import dataclass

import numpy as np

# Frame 0 is the photo, the same for all variations: posters show at least this part of the largest change from it.
FAR = 0.5
# Frames held at a time, at most: of those that may still be chosen, the most distant ones.
HELD = 8
STEP = 8  # pixels between those by which distance is measured


@dataclass(frozen=True)
class _Candidate:
    frame: np.ndarray
    distance: float
    sharpness: float


class PosterPicker:
    """Picks a poster from frames as they come."""

    def __init__(self) -> None:
        self._first: np.ndarray | None = None
        # No candidate is both nearer to the first frame and blurrier than another one.
        self.held: list[_Candidate] = []

    def add(self, frame: np.ndarray) -> None:
        """Look at the next frame, uint8 (h, w, 3)."""
        small = frame[::STEP, ::STEP].astype(np.int16)
        if self._first is None:
            self._first = small
        distance = float(np.abs(small - self._first).mean())
        sharpness = _sharpness(frame)
        if any(one.distance >= distance and one.sharpness >= sharpness for one in self.held):
            return
        far = FAR * max([distance, *(one.distance for one in self.held)])
        if distance < far:
            return
        kept = [one for one in self.held if one.distance >= far]
        kept = [one for one in kept if one.distance > distance or one.sharpness > sharpness]
        kept.append(_Candidate(frame.copy(), distance, sharpness))
        self.held = sorted(kept, key=lambda one: one.distance)[-HELD:]

    @property
    def poster(self) -> np.ndarray | None:
        """The sharpest of the frames that are far enough from the first; None before any came."""
        return max(self.held, key=lambda one: one.sharpness).frame if self.held else None


def _sharpness(frame: np.ndarray) -> float:
    """Mean square of the differences between neighbouring pixels, in the green channel."""
    green = frame[..., 1].astype(np.int16)
    across, down = np.diff(green, axis=1), np.diff(green, axis=0)
    return sum(float(np.square(one, dtype=np.int32).mean()) for one in (across, down) if one.size)
