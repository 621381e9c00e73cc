"""Quality gate: scores of each video, and flags beyond a limit.

The scores are those of `metrics.drift` and need no trained network, so the gate works for every model. Measured rates
of the limits: docs/guides/catalogues.md.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from fashionflow_core.errors import SettingError

# Frames in which garment and figure are segmented, the slowest step, and their least height.
SCORED_FRAMES, SCORED_HEIGHT = 12, 320


@dataclass(frozen=True)
class QualityLimits:
    """Limits of scores; a video beyond one is flagged with the name in brackets.

    Attributes:
        drift: maximum mean CIEDE2000 between the garment's colour and the photo's (colour).
        psnr: minimum PSNR of the first frame to the photo, in dB (first frame).
        flicker: maximum temporal energy, in grey levels (flicker).
        still: minimum motion, in grey levels per frame (still).
        wild: maximum motion, in grey levels per frame (wild).
        figure: minimum share of the first frame's figure, by area, in each frame (figure lost).
        flash: maximum passing change of brightness, in grey levels (flash).
        wall: maximum CIEDE2000 of the background's colour to the first frame's (background).
        fade: maximum share of the figure's contrast lost towards the end (faded).
    """

    drift: float = 10.0
    psnr: float = 20.0
    flicker: float = 20.0
    still: float = 0.3
    wild: float = 15.0
    figure: float = 0.4
    flash: float = 5.0
    wall: float = 3.0
    fade: float = 0.18

    @classmethod
    def parse(cls, text: str) -> "QualityLimits":
        """`drift=6,still=0.5` → QualityLimits; other limits keep their defaults.

        Raises:
            UsageError: no such limit, or not a number.
        """
        known = [field.name for field in fields(cls)]
        values: dict[str, float] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            name, _, value = part.partition("=")
            if name.strip() not in known:
                raise SettingError("gate_limits", f"unknown limit {name!r}", hint=f"limits: {', '.join(known)}")
            try:
                values[name.strip()] = float(value)
            except ValueError:
                raise SettingError("gate_limits", f"{part!r} is not NAME=NUMBER", hint="such as drift=6") from None
            if not values[name.strip()] >= 0:
                raise SettingError("gate_limits", f"{part!r} must be 0 or more")
        return cls(**values)


def score(path: str | Path, photo: np.ndarray, limit: int | None = None) -> dict[str, float]:
    """Score a video file.

    Args:
        path: the video.
        photo: uint8 (h, w, 3): what its first frame should show.
        limit: number of frames from the start to look at; None: all.

    Returns:
        `garment_drift`, `first_psnr`, `flicker`, `motion` and `figure_kept`; motion and drift need 2 frames, flicker
        3. `figure_kept` is the least area of the figure in a frame as a share of that in the first one; 1 without a
        figure in the photo. Drift, figure and `fade` are measured in 12 frames, and
        `flash` and `wall_shift` in all (`metrics.steadiness`).

    Raises:
        FashionFlowError: the video cannot be read.
    """
    from fashionflow_core import video
    from fashionflow_core.metrics import drift, steadiness

    frames = video.read(path, limit)
    first = frames[0, : photo.shape[0], : photo.shape[1]]  # odd sides are stored even
    # No file holds more than 99 dB of 8-bit colours, and JSON has no infinity.
    scores = {"first_psnr": min(drift.psnr(first[None], photo[None]), 99.0)}
    # Means over pixels, of which a quarter suffices.
    if len(frames) > 1:
        scores["motion"] = drift.motion(frames[:, ::2, ::2])
    if len(frames) > 2:
        scores["flicker"] = drift.temporal_energy(frames[:, ::2, ::2])
    scores["flash"] = steadiness.flash(frames[:, ::4, ::4])
    scores["wall_shift"] = steadiness.wall_shift(frames[:, ::2, ::2])
    step = max(1, frames.shape[1] // SCORED_HEIGHT)
    chosen = np.unique(np.linspace(0, len(frames) - 1, SCORED_FRAMES).round().astype(int))
    frames = frames[chosen, ::step, ::step]
    _, figure, garment = drift.find_parts(frames)
    if len(frames) > 1:
        scores["garment_drift"] = drift.garment_drift(frames, garment)
    scores["fade"] = steadiness.fade(frames, figure)
    areas = np.count_nonzero(figure, axis=(1, 2))
    # Below a hundredth of the frame it is not a figure.
    there = areas[0] > frames[0].shape[0] * frames[0].shape[1] / 100
    scores["figure_kept"] = float(min(areas.min() / areas[0], 1.0)) if there else 1.0
    return {name: round(value, 3) for name, value in sorted(scores.items())}


def flags(scores: Mapping[str, float], limits: QualityLimits) -> list[str]:
    """Names of the limits that the scores of a video exceed."""
    beyond = {
        "colour": scores.get("garment_drift", 0) > limits.drift,
        "first frame": scores.get("first_psnr", 99) < limits.psnr,
        "flicker": scores.get("flicker", 0) > limits.flicker,
        "still": scores.get("motion", limits.still) < limits.still,
        "wild": scores.get("motion", 0) > limits.wild,
        "figure lost": scores.get("figure_kept", 1) < limits.figure,
        "flash": scores.get("flash", 0) > limits.flash,
        "background": scores.get("wall_shift", 0) > limits.wall,
        "faded": scores.get("fade", 0) > limits.fade,
    }
    return [name for name, is_so in beyond.items() if is_so]


def badness(scores: Mapping[str, float], limits: QualityLimits) -> float:
    """Sum of relative excesses over all limits; of several videos the one with the least is kept."""
    parts = (
        scores.get("garment_drift", 0) / max(limits.drift, 1e-6) - 1,
        1 - scores.get("first_psnr", 99) / max(limits.psnr, 1e-6),
        scores.get("flicker", 0) / max(limits.flicker, 1e-6) - 1,
        1 - scores.get("motion", limits.still) / max(limits.still, 1e-6),
        scores.get("motion", 0) / max(limits.wild, 1e-6) - 1,
        1 - scores.get("figure_kept", 1) / max(limits.figure, 1e-6),
        scores.get("flash", 0) / max(limits.flash, 1e-6) - 1,
        scores.get("wall_shift", 0) / max(limits.wall, 1e-6) - 1,
        scores.get("fade", 0) / max(limits.fade, 1e-6) - 1,
    )
    return sum(max(0.0, part) for part in parts)


def reroll_seed(seed: int, number: int) -> int:
    """Seed of the `number`-th retry."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4]) >> 1
