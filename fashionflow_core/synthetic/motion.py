"""Motion of figures: turns, steps and sway as functions of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def pick(rng: np.random.Generator, options: dict[str, float]) -> str:
    """One of the options, drawn by weight."""
    weights = np.array(list(options.values()))
    return list(options)[int(rng.choice(len(weights), p=weights / weights.sum()))]


@dataclass(frozen=True)
class Motion:
    """Motion in seconds and radians: eased keys of yaw and of sideways travel, sway, arm swing and steps."""

    kind: str
    times: tuple[float, ...]
    yaws: tuple[float, ...]
    shifts: tuple[float, ...]
    sway: float
    sway_hz: float
    swing: float
    step: float
    step_hz: float
    phase: float
    lag: float

    def _eased(self, t: np.ndarray | float, values: tuple[float, ...]) -> np.ndarray:
        # After the last key the motion is reversed, so that it is continuous for clips of any length.
        end = self.times[-1]
        t = np.abs((np.asarray(t, np.float64) + end) % (2 * end) - end)
        times, keys = np.array(self.times), np.array(values)
        i = np.clip(np.searchsorted(times, t, side="right") - 1, 0, len(times) - 2)
        x = np.clip((t - times[i]) / (times[i + 1] - times[i]), 0, 1)
        x = 0.5 - 0.5 * np.cos(np.pi * x)
        return keys[i] + (keys[i + 1] - keys[i]) * x

    def yaw(self, t: np.ndarray | float) -> np.ndarray:
        """Angle of the body about its axis in radians; 0 faces the camera, positive turns the front to the right."""
        small = 0.035 * np.sin(2 * np.pi * 0.9 * self.step_hz * np.asarray(t, np.float64) + self.phase)
        return self._eased(t, self.yaws) + small

    def shift(self, t: np.ndarray | float) -> np.ndarray:
        """Sideways travel in body heights."""
        return self._eased(t, self.shifts)

    def sideways(self, t: np.ndarray | float) -> np.ndarray:
        """Sway of the hips in body heights."""
        return self.sway * np.sin(2 * np.pi * self.sway_hz * np.asarray(t, np.float64) + self.phase)


def sample_motion(rng: np.random.Generator) -> Motion:
    """Draw a motion: a turn and back, from side to side, or (15 % of clips) a full turn; steps, sway and swing."""
    kind = pick(rng, {"turn_and_back": 0.45, "side_to_side": 0.4, "full_turn": 0.15})
    start = float(rng.uniform(-25, 25))
    side = 1.0 if rng.random() < 0.5 else -1.0
    times, yaws = [0.0], [start]
    if kind == "full_turn":
        times += [float(rng.uniform(2.0, 2.6))]
        yaws += [start + 360 * side]
    else:
        peak = float(rng.uniform(30, 100))
        # Turns have at least 35 degrees.
        side = -side if abs(side * peak - start) < 35 else side
        times += [float(rng.uniform(0.85, 1.25) * (0.8 + peak / 250))]
        yaws += [side * peak]
    while times[-1] < 8:
        previous = yaws[-1] if kind != "full_turn" else yaws[-1] - 360 * side
        other = -side if kind == "side_to_side" else 0.0
        goal = (
            float(rng.uniform(-20, 20))
            if abs(previous) > 28 and not other
            else float(rng.uniform(30, 80)) * (-np.sign(previous) if previous else side)
        )
        times.append(times[-1] + float(rng.uniform(0.95, 1.4) * (0.75 + abs(goal - previous) / 250)))
        yaws.append(yaws[-1] - previous + goal)
    reach = float(rng.uniform(0.006, 0.028))
    shifts = [0.0] + [float(rng.uniform(0.4, 1.0)) * reach * (1 if i % 2 else -1) for i in range(1, len(times))]
    return Motion(
        kind=kind,
        times=tuple(times),
        yaws=tuple(float(np.radians(value)) for value in yaws),
        shifts=tuple(shifts),
        sway=float(rng.uniform(0.004, 0.011)),
        sway_hz=float(rng.uniform(0.5, 0.85)),
        swing=float(rng.uniform(0.06, 0.24)),
        step=float(rng.uniform(0.4, 1.0)),
        step_hz=float(rng.uniform(0.8, 1.15)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        lag=float(rng.uniform(0.06, 0.2)),
    )
