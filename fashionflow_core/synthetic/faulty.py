"""Drawn clips with faults of motion: figures that do not move, zoom in place of movement.

Faults of colour and texture are in `degraded`. Strengths are those of `degraded.STRENGTHS`; from `VISIBLE` on a viewer
notices the fault without knowing of it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from fashionflow_core.synthetic.degraded import STRENGTHS, damaged
from fashionflow_core.synthetic.labelled import LabelledClip, labelled_clip

FAULTS = ("still", "zoom", "flash", "background", "fade")
VISIBLE = {"still": 0.8, "zoom": 0.4, "flash": 0.4, "background": 0.4, "fade": 0.6}
_SLOWER = dict(zip(STRENGTHS, (0.5, 0.25, 0.1, 0.03, 0.0)))  # share of the true speed that a still clip keeps
_ZOOM = 0.25  # growth over a clip at full strength


def faulty(clip: LabelledClip, fault: str, strength: float, seed: int, fps: float = 16.0) -> np.ndarray:
    """A clip with one fault, uint8 `(f, h, w, 3)`; frame 0 stays.

    Args:
        clip: the clip of `seed` without faults.
        fault: one of `FAULTS`.
        strength: one of `degraded.STRENGTHS`.
        seed: of the clip and of the fault.
        fps: frames per second of the clip.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 13]))
    if fault == "still":
        return _slowed(clip, _SLOWER[strength], seed, fps, rng)
    if fault == "zoom":
        return _zoomed(clip.frames[0], len(clip.frames), _ZOOM * strength, rng)
    if fault not in FAULTS:
        raise ValueError(f"unknown fault {fault!r}: one of {', '.join(FAULTS)}")
    return damaged(clip.frames, clip.labels, fault, strength, rng)


def _noisy(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of one grey level, as of a codec: what is still is not equal."""
    noise = rng.normal(0, 0.7, frames.shape)
    noise[0] = 0
    return np.rint(np.clip(frames + noise, 0, 255)).astype(np.uint8)


def _slowed(clip: LabelledClip, share: float, seed: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    count, height, width = clip.frames.shape[:3]
    if share == 0:
        return _noisy(clip.frames[:1].repeat(count, 0), rng)
    return _noisy(labelled_clip(seed, count, height, width, fps / share).frames, rng)


def _zoomed(photo: np.ndarray, count: int, growth: float, rng: np.random.Generator) -> np.ndarray:
    """The photo, larger and larger, towards a point near its middle."""
    image = torch.from_numpy(photo.transpose(2, 0, 1)[None].astype(np.float32))
    centre = torch.tensor(rng.uniform(-0.2, 0.2, 2), dtype=torch.float32)
    frames = []
    for time in np.linspace(0, 1, count):
        share = 1 / (1 + growth * float(time))
        turn = torch.tensor([[share, 0, 0], [0, share, 0]], dtype=torch.float32)
        turn[:, 2] = centre * (1 - share)
        grid = F.affine_grid(turn[None], list(image.shape), align_corners=False)
        frames.append(F.grid_sample(image, grid, padding_mode="border", align_corners=False)[0])
    made = torch.stack(frames).permute(0, 2, 3, 1).numpy()
    made[0] = photo
    return _noisy(made, rng)
