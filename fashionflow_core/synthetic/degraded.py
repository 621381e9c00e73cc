"""Drawn clips degraded as video models degrade a photo, with the true clip beside them.

Users of these models report fading, blur, a region that changes its colour, lost prints, brightness that climbs, walls
that shift, a first frame that the video leaves at once, and flashes. Every clip follows from its seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fashionflow_core.metrics.labels import GARMENT, SKIN
from fashionflow_core.metrics.tracking import blurred
from fashionflow_core.synthetic.labelled import LabelledClip, labelled_clip

DAMAGES = ("fade", "blur", "hue", "texture", "ramp", "background", "jump", "flash")
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)  # from hardly seen to what nobody would publish


@dataclass(frozen=True, eq=False)
class DegradedClip:
    """A clip as a model might have made it.

    Attributes:
        frames: uint8 `(f, h, w, 3)`; frame 0 has the softness of all, and not the damage.
        truth: what it should show; its frame 0 is the photo.
        damage: one of `DAMAGES`.
        strength: 0..1.
    """

    frames: np.ndarray
    truth: LabelledClip
    damage: str
    strength: float


def as_generated(seed: int, frames: int = 40, height: int = 320, width: int = 256, fps: float = 16.0) -> DegradedClip:
    """The degraded clip of a seed: softness and some fading as of every model, and one damage of some strength.

    Args:
        seed: of the true clip and of the damage; the damages take turns.
        frames, height, width, fps: of the clip.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 11]))
    truth = labelled_clip(seed, frames, height, width, fps)
    damage, strength = DAMAGES[seed % len(DAMAGES)], float(rng.choice(STRENGTHS))
    made = _softened(truth.frames, truth.labels > 0, np.full(frames, rng.uniform(0.4, 0.8) * height / 320))
    made = _faded(made, truth.labels > 0, np.linspace(0.02, rng.uniform(0.05, 0.2), frames))
    return DegradedClip(damaged(made, truth.labels, damage, strength, rng), truth, damage, strength)


def damaged(
    frames: np.ndarray, labels: np.ndarray, damage: str, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Frames with one damage, uint8 `(f, h, w, 3)`; frame 0 stays.

    Args:
        frames: uint8 `(f, h, w, 3)`.
        labels: uint8 `(f, h, w)`, indices of `metrics.labels.LABELS`.
        damage: one of `DAMAGES`.
        strength: 0 (none) to 1.
        rng: draws directions and moments.
    """
    count, height = len(frames), frames.shape[1]
    figure, time = labels > 0, np.linspace(0, 1, count)
    soon = np.minimum(np.arange(count) / 3, 1)
    if damage == "fade":
        made = _faded(frames, figure, 0.6 * strength * time)
    elif damage == "blur":
        made = _softened(frames, figure, (0.3 + 2.2 * strength * time) * height / 320)
    elif damage == "hue":
        made = _hued(frames, labels == (GARMENT if rng.random() < 0.7 else SKIN), rng, 70 * strength * soon)
    elif damage == "texture":
        made = _retextured(frames, labels == GARMENT, strength * soon)
    elif damage == "ramp":
        made = _scaled(frames, 1 + (0.3 if rng.random() < 0.5 else -0.3) * strength * time)
    elif damage == "background":
        made = _wall_shifted(frames, figure, rng.uniform(-1, 1, 3) * 40 * strength, soon)
    elif damage == "jump":
        made = _scaled(frames, 1 - 0.18 * strength * np.minimum(np.arange(count), 1))
        made = _faded(made, figure, 0.3 * strength * np.minimum(np.arange(count), 1))
    elif damage == "flash":
        at = int(rng.integers(count // 4, 3 * count // 4))
        made = _scaled(frames, 1 + 0.45 * strength * np.isin(np.arange(count), (at, at + 1)))
    else:
        raise ValueError(f"unknown damage {damage!r}: one of {', '.join(DAMAGES)}")
    made[0] = frames[0]
    return made


def _soft(mask: np.ndarray) -> np.ndarray:
    """A mask `(h, w)` with soft borders, float32 `(h, w, 1)`."""
    return blurred(torch.from_numpy(mask.astype(np.float32))[None], 0.8).numpy()[0, ..., None]


def _blended(frames: np.ndarray, masks: np.ndarray, other: list[np.ndarray]) -> np.ndarray:
    made = np.empty_like(frames)
    for index, (frame, mask, changed) in enumerate(zip(frames, masks, other, strict=True)):
        soft = _soft(mask)
        made[index] = np.rint(np.clip(frame * (1 - soft) + changed * soft, 0, 255))
    return made


def _faded(frames: np.ndarray, masks: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Towards the pale mean of figure and wall."""
    pale = 0.4 * frames[0][masks[0]].mean(0) + 0.6 * frames[0][:, :4].mean((0, 1))
    return _blended(frames, masks, [frame * (1 - s) + pale * s for frame, s in zip(frames, shares)])


def _softened(frames: np.ndarray, masks: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    soft = []
    for frame, sigma in zip(frames, sigmas):
        image = torch.from_numpy(frame.transpose(2, 0, 1).astype(np.float32))
        ones = torch.ones_like(image[:1])
        soft.append((blurred(image, sigma) / blurred(ones, sigma)).permute(1, 2, 0).numpy() if sigma > 0.2 else frame)
    return _blended(frames, masks, soft)


def _hued(frames: np.ndarray, masks: np.ndarray, rng: np.random.Generator, angles: np.ndarray) -> np.ndarray:
    """Turned about the grey axis by degrees (Rodrigues' formula)."""
    side = 1 if rng.random() < 0.5 else -1
    axis = np.full(3, 3**-0.5)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turned = []
    for frame, angle in zip(frames, np.radians(angles) * side):
        turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
        turned.append(frame @ turn.T.astype(np.float32) - 12 * abs(angle))
    return _blended(frames, masks, turned)


def _retextured(frames: np.ndarray, masks: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Checks of the garment's own colours in place of its texture."""
    rows, columns = np.mgrid[: frames.shape[1], : frames.shape[2]]
    check = (((rows // 5 + columns // 5) % 2) - 0.5)[..., None]
    changed = []
    for frame, mask, share in zip(frames, masks, shares):
        inside = frame[mask].astype(np.float32) if mask.any() else np.zeros((1, 3), np.float32)
        other = inside.mean(0) + check * 2 * np.maximum(inside.std(0), 6)
        changed.append(frame * (1 - share) + other * share)
    return _blended(frames, masks, changed)


def _scaled(frames: np.ndarray, gains: np.ndarray) -> np.ndarray:
    return np.stack([np.rint(np.clip(frame * gain, 0, 255)).astype(np.uint8) for frame, gain in zip(frames, gains)])


def _wall_shifted(frames: np.ndarray, figure: np.ndarray, offset: np.ndarray, shares: np.ndarray) -> np.ndarray:
    across = np.linspace(0.6, 1.0, frames.shape[2])[None, :, None]
    return _blended(frames, ~figure, [frame + offset * share * across for frame, share in zip(frames, shares)])
