"""Quality gate: scores of each video, and flags beyond a limit.

The scores are those of `metrics.drift` and need no trained network, so the gate works for every model. Measured rates
of the limits: docs/guides/catalogues.md.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import numpy as np

from fashionflow_core.errors import SettingError

# Frames in which garment and figure are segmented, the slowest step, and their least height.
SCORED_FRAMES, SCORED_HEIGHT = 12, 320
AT = "_at"  # behind a score's name: the number of the frame with its worst value


@dataclass(frozen=True)
class QualityLimits:
    """Limits of scores; a video beyond one is flagged with the name in brackets.

    Attributes:
        drift: maximum mean CIEDE2000 between the garment's colour and the photo's (colour).
        psnr: minimum PSNR of the first frame to the photo, in dB (first frame).
        flicker: maximum temporal energy, in grey levels (flicker).
        still: minimum movement of the figure, in grey levels per frame (still).
        wild: maximum motion, in grey levels per frame (wild).
        figure: minimum share of the first frame's figure, by area, in each frame (figure lost).
        flash: maximum passing change of brightness, in grey levels (flash).
        wall: maximum CIEDE2000 of the background's colour to the first frame's (background).
        fade: maximum share of the figure's contrast lost towards the end (faded).
        zoom: maximum share of the change that a zoom or shift of the whole picture explains (zoom).
        limb: maximum share of the figure that appears at once and stays (limb).
        cells: maximum mean CIEDE2000 between eighths of the garment and the photo's (recoloured).
        pattern: maximum share of the garment's fine structure lost in the first frames (print).
        face: maximum share of the face's structure lost in the first frames (face).
        blur: maximum share of fine detail lost towards the end (blurred).
    """

    drift: float = 10.0
    psnr: float = 20.0
    flicker: float = 20.0
    still: float = 1.3
    wild: float = 15.0
    figure: float = 0.4
    flash: float = 4.6
    wall: float = 2.2
    fade: float = 0.2
    zoom: float = 0.78
    limb: float = 0.01
    cells: float = 5.0
    pattern: float = 0.15
    face: float = 0.15
    blur: float = 0.3

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
        `garment_drift`, `first_psnr`, `flicker`, `motion` and `figure_kept`; motion, `movement`, `zoom`
        (`metrics.motion_faults`) and drift need 2 frames, flicker 3. `figure_kept` is the least area of the figure in a
        frame as a share of that in the first one; 1 without a figure in the photo. Drift, figure and `fade` are
        measured in 12 frames, as `cell_drift` and `blur`; `pattern_lost` and `face_lost` (`metrics.lost_detail`) in the
        first ones, and `flash`, `wall_shift` (`metrics.steadiness`) and
        `doubled_limb` (`metrics.doubled`) in all. Names that end in `AT` are
        the number of the frame with the worst value.

    Raises:
        FashionFlowError: the video cannot be read.
    """
    from fashionflow_core import video
    from fashionflow_core.metrics import doubled, drift, lost_detail, motion_faults, steadiness

    frames = video.read(path, limit)
    first = frames[0, : photo.shape[0], : photo.shape[1]]  # odd sides are stored even
    # No file holds more than 99 dB of 8-bit colours, and JSON has no infinity.
    scores = {"first_psnr": min(drift.psnr(first[None], photo[None]), 99.0)}
    at: dict[str, int] = {}
    half, quarter = frames[:, ::2, ::2], frames[:, ::4, ::4]
    # Means over pixels, of which a quarter suffices.
    if len(frames) > 1:
        # Means over pixels: a quarter of them is enough.
        changes = np.array([np.abs(b.astype(np.int16) - a).mean() for a, b in pairwise(half)])
        scores["motion"], at["motion"] = float(changes.mean()), int(changes.argmax()) + 1
        scores["movement"] = motion_faults.movement(frames)
        found = motion_faults.zoom(frames)
        scores["zoom"] = found.share if found.growth > motion_faults.LEAST_GROWTH else 0.0
    if len(frames) > 2:
        scores["flicker"] = drift.temporal_energy(half)
        seconds = [np.square(a.astype(np.float32) - 2 * b + c).mean() for a, b, c in zip(half, half[1:], half[2:])]
        at["flicker"] = int(np.argmax(seconds)) + 1
    flashes, shifts = steadiness.flashes(quarter), steadiness.wall_shifts(half)
    scores["flash"], at["flash"] = float(flashes.max()), int(flashes.argmax())
    scores["wall_shift"], at["wall_shift"] = float(np.quantile(shifts, 0.9)), int(shifts.argmax())
    limbs = doubled.doubled_limbs(frames)
    scores["doubled_limb"], at["doubled_limb"] = float(limbs.max()), int(limbs.argmax())
    step = max(1, frames.shape[1] // SCORED_HEIGHT)
    chosen = np.unique(np.linspace(0, len(frames) - 1, SCORED_FRAMES).round().astype(int))
    early = _shrunk(frames[: lost_detail.FIRST], step)
    frames = frames[chosen, ::step, ::step]
    _, figure, garment = drift.find_parts(frames)
    if len(early) > lost_detail.EVERY:
        lost = lost_detail.lost_structure(early, figure[0], garment[0])
        scores |= {"pattern_lost": lost.pattern, "face_lost": lost.face}
        at |= dict.fromkeys(("pattern_lost", "face_lost"), len(early) - 1)
    if len(frames) > 1:
        cells = drift.cell_drift(frames[1:], frames[0], garment[1:], garment[0])
        scores |= {"cell_drift": cells, "blur": lost_detail.blur(frames, figure)}
        at |= dict.fromkeys(("cell_drift", "blur"), int(chosen[-1]))
        drifts = drift.garment_drift_over_time(frames, garment)
        scores["garment_drift"], at["garment_drift"] = float(drifts.mean()), int(chosen[drifts.argmax() + 1])
    scores["fade"] = steadiness.fade(frames, figure)
    contrast = steadiness.contrasts(frames, figure)
    at["fade"] = int(chosen[np.nanargmin(contrast)]) if not np.isnan(contrast).all() else 0
    areas = np.count_nonzero(figure, axis=(1, 2))
    # Below a hundredth of the frame it is not a figure.
    there = areas[0] > frames[0].shape[0] * frames[0].shape[1] / 100
    scores["figure_kept"] = float(min(areas.min() / areas[0], 1.0)) if there else 1.0
    at["figure_kept"] = int(chosen[areas.argmin()])
    found_at = {f"{name}{AT}": float(index) for name, index in at.items()}
    return {name: round(value, 3) for name, value in sorted((scores | found_at).items())}


def _shrunk(frames: np.ndarray, step: int) -> np.ndarray:
    """Every `step`-th row and column of uint8 `(f, h, w, 3)`, each the mean of its block: no aliases of fine prints."""
    if step == 1:
        return frames
    height, width = frames.shape[1] // step * step, frames.shape[2] // step * step
    blocks = frames[:, :height, :width].reshape(len(frames), height // step, step, width // step, step, 3)
    return np.rint(blocks.mean((2, 4), dtype=np.float32)).astype(np.uint8)


@dataclass(frozen=True)
class Rule:
    """How a score is judged.

    Attributes:
        flag: name of the reason.
        score: name of the score.
        limit: name of the limit.
        usual: value of a good clip: the median of the clean clips of `scripts/score_gate.py`.
        is_least: the score must be at least the limit, not at most.
        reason: what a viewer sees, in words.
    """

    flag: str
    score: str
    limit: str
    usual: float
    reason: str
    is_least: bool = False


RULES = (
    Rule("colour", "garment_drift", "drift", 1.5, "the garment's colour differs from the photo's"),
    Rule("first frame", "first_psnr", "psnr", 35.0, "the first frame is not the photo", is_least=True),
    Rule("flicker", "flicker", "flicker", 5.0, "the picture flickers"),
    Rule("still", "movement", "still", 10.0, "nothing moves", is_least=True),
    Rule("wild", "motion", "wild", 2.0, "the picture changes too much from frame to frame"),
    Rule("figure lost", "figure_kept", "figure", 0.85, "part of the figure disappears", is_least=True),
    Rule("flash", "flash", "flash", 0.25, "the light flashes"),
    Rule("background", "wall_shift", "wall", 0.0, "the background changes its colour"),
    Rule("faded", "fade", "fade", 0.01, "the figure fades"),
    Rule("zoom", "zoom", "zoom", 0.23, "the picture zooms and the figure does not move"),
    Rule("limb", "doubled_limb", "limb", 0.0, "an arm or leg appears twice"),
    Rule("recoloured", "cell_drift", "cells", 1.6, "part of the garment has another colour than in the photo"),
    Rule("print", "pattern_lost", "pattern", 0.02, "the garment's print or texture is not the photo's"),
    Rule("face", "face_lost", "face", 0.03, "the face is not the photo's"),
    Rule("blurred", "blur", "blur", 0.01, "the figure becomes blurred"),
)


def _value(rule: Rule, scores: Mapping[str, float]) -> float | None:
    """The score of a rule; older manifests have `motion` alone, about a fifth of `movement` for a figure that moves."""
    motion = scores.get("motion")
    return scores.get(rule.score, 5 * motion if rule.score == "movement" and motion is not None else None)


def _excess(rule: Rule, scores: Mapping[str, float], limits: QualityLimits) -> float:
    """A score on a scale on which 0 is a usual clip and 1 the limit."""
    value, limit = _value(rule, scores), float(getattr(limits, rule.limit))
    if value is None:
        return 0.0
    if rule.is_least:
        value, limit, usual = -value, -limit, -rule.usual
    else:
        usual = rule.usual
    if limit <= usual:  # a limit stricter than a usual clip: the distance beyond it, from there on
        return 1 + (value - limit) / max(abs(limit), 1e-6) if value > limit else 0.0
    return (value - usual) / (limit - usual)


def flags(scores: Mapping[str, float], limits: QualityLimits) -> list[str]:
    """Flags of a video by its scores; empty: it passes."""
    found = []
    for rule in RULES:
        value, limit = _value(rule, scores), float(getattr(limits, rule.limit))
        if value is not None and (value < limit if rule.is_least else value > limit):
            found.append(rule.flag)
    return found


def badness(scores: Mapping[str, float], limits: QualityLimits) -> float:
    """Sum of squared scores relative to their limits; of several videos the one with the least is kept.

    On the scale of each score 0 is a usual clip and 1 the limit; with squares, one score beyond its limit outweighs
    several within.
    """
    return sum(max(0.0, _excess(rule, scores, limits)) ** 2 for rule in RULES)


def evidence(flag: str, scores: Mapping[str, float]) -> int | None:
    """Number of the frame that shows a flag best; None: no single frame."""
    for rule in RULES:
        if rule.flag == flag:
            index = 0.0 if rule.score == "first_psnr" else scores.get(rule.score + AT)
            return None if index is None else int(index)
    return None


def reroll_seed(seed: int, number: int) -> int:
    """Seed of the `number`-th retry."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4]) >> 1
