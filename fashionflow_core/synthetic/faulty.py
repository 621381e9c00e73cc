"""Drawn clips with one fault: figures that do not move, zoom in place of movement, doubled limbs, melted faces.

Faults of colour and texture are those of `degraded`. Strengths are those of `degraded.STRENGTHS`; from `VISIBLE` on a
viewer notices the fault without knowing of it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from fashionflow_core.images import parts
from fashionflow_core.images.lab import lab_to_srgb, srgb_to_lab
from fashionflow_core.images.person import figure_rows
from fashionflow_core.metrics.face import face_mask
from fashionflow_core.metrics.labels import GARMENT
from fashionflow_core.metrics.tracking import blurred
from fashionflow_core.synthetic.degraded import STRENGTHS, damaged
from fashionflow_core.synthetic.figure import sample_figure
from fashionflow_core.synthetic.geometry import Moment
from fashionflow_core.synthetic.labelled import LabelledClip, labelled_clip
from fashionflow_core.synthetic.wardrobe import Wardrobe

FAULTS = ("still", "zoom", "flash", "background", "fade", "limb", "blur", "texture", "colour", "face")
VISIBLE = dict(zip(FAULTS, (0.8, 0.4, 0.4, 0.4, 0.6, 0.6, 0.4, 0.4, 0.4, 0.6), strict=True))
_SLOWER = dict(zip(STRENGTHS, (0.5, 0.25, 0.1, 0.03, 0.0)))  # share of the true speed that a still clip keeps
_ZOOM = 0.25  # growth over a clip at full strength
_BESIDE = dict(zip(STRENGTHS, (0.02, 0.04, 0.07, 0.11, 0.16)))  # shift of a limb's copy, share of the figure's height
_DOUBLED_FROM = 10  # first frame with a doubled limb
_RECOLOURED = 30.0  # distance of the colour in a*b* at full strength
_MELTED = 0.16  # root mean square displacement of a face's features at full strength, share of its height
_LEAST_LIMB = 0.025  # share of the figure that a limb covers in each of these frames


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
    if fault == "limb":
        return _doubled(clip, _BESIDE[strength], seed, fps, rng)
    soon = strength * np.minimum(np.arange(len(clip.frames)) / 3, 1)
    if fault == "face":
        return _melted(clip, soon, rng)
    if fault == "colour":
        return _recoloured(clip, _RECOLOURED * soon, rng)
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


def _recoloured(clip: LabelledClip, distances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The garment in another hue: a shift in a*b*, which grey garments show as well."""
    angle = rng.uniform(0, 2 * np.pi)
    made = clip.frames.copy()
    for index, distance in enumerate(distances):
        lab = srgb_to_lab(clip.frames[index])
        lab[..., 1:] += np.float32(distance) * np.array([np.cos(angle), np.sin(angle)], np.float32)
        other = lab_to_srgb(lab).astype(np.float32)
        place = torch.from_numpy((clip.labels[index] == GARMENT).astype(np.float32))[None]
        soft = blurred(place, 0.8).numpy()[0, ..., None]
        made[index] = np.rint(clip.frames[index] * (1 - soft) + other * soft)
    made[0] = clip.frames[0]
    return made


def _melted(clip: LabelledClip, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Features of the face drawn out of place and softened, as models lose them."""
    made = clip.frames.copy()
    photo = clip.labels[0] > 0
    tall = max(8, int(np.ptp(np.flatnonzero(face_mask(photo).any(1))) + 1) if face_mask(photo).any() else 8)
    noise = torch.from_numpy(rng.normal(size=(2, *photo.shape)).astype(np.float32))
    field = blurred(noise, 0.18 * tall)
    field = field / field.square().mean().sqrt()
    height, width = photo.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for index, share in enumerate(shares):
        place = face_mask(clip.labels[index] > 0)
        if not place.any() or share == 0:
            continue
        image = torch.from_numpy(clip.frames[index].transpose(2, 0, 1)[None].astype(np.float32))
        step = _MELTED * tall * float(share) * field
        grid = torch.stack(((columns + step[0]) * 2 / (width - 1) - 1, (rows + step[1]) * 2 / (height - 1) - 1), -1)
        moved = F.grid_sample(image, grid[None], padding_mode="border", align_corners=True)[0]
        moved = blurred(moved, max(0.3, 0.06 * tall * float(share)))
        soft = blurred(torch.from_numpy(place.astype(np.float32))[None], 1.0).numpy()[0, ..., None]
        made[index] = np.rint(clip.frames[index] * (1 - soft) + moved.permute(1, 2, 0).numpy() * soft)
    return made


def limbs(clip: LabelledClip, seed: int, fps: float = 16.0, first: int = 0) -> dict[str, np.ndarray]:
    """Arms with sleeves and hands, and legs with shoes below the garment, as seen in a drawn clip.

    Args:
        clip: the clip of `seed`.
        seed: of the clip.
        fps: frames per second of the clip.
        first: the frame to start at.

    Returns:
        masks bool `(f - first, h, w)` by name: `arm left`, `arm right`, `leg left`, `leg right`, sides of the image.
    """
    count, height, width = clip.frames.shape[:3]
    figure = sample_figure(seed)
    wardrobe = Wardrobe(figure)
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("arm left", "arm right", "leg left", "leg right")}
    for index in range(first, count):
        part = Moment(figure, index / fps, height, width, wardrobe).surface().part
        found["arm left"].append(part == parts.ARM_LEFT)
        found["arm right"].append(part == parts.ARM_RIGHT)
        low = np.isin(part, (parts.LEGS, parts.SHOES))
        columns = np.flatnonzero(low.any(0))
        middle = int(columns[0] + columns[-1] + 1) // 2 if len(columns) else 0
        left = np.arange(width)[None] < middle
        found["leg left"].append(low & left)
        found["leg right"].append(low & ~left)
    return {name: np.stack(masks) for name, masks in found.items()}


def _doubled(clip: LabelledClip, shift: float, seed: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """A second arm or leg outside of the first, from a frame on to the end."""
    count = len(clip.frames)
    first = min(_DOUBLED_FROM, count - 1)
    areas = (clip.labels[first:] > 0).sum((1, 2))
    known = limbs(clip, seed, fps, first)
    shares = {name: float((masks.sum((1, 2)) / np.maximum(areas, 1)).min()) for name, masks in known.items()}
    seen = [name for name, share in shares.items() if share > _LEAST_LIMB]
    name = str(rng.choice(seen or [max(shares, key=lambda one: shares[one])]))
    made = clip.frames.copy()
    for index, mask in enumerate(known[name], first):
        top, bottom = figure_rows(clip.labels[index] > 0)
        step = round(shift * (bottom - top)) * (-1 if name.endswith("left") else 1)
        copy, place = np.roll(clip.frames[index], step, 1), np.roll(mask, step, 1)
        place[:, (slice(0, step) if step > 0 else slice(step, None))] = False
        soft = blurred(torch.from_numpy(place.astype(np.float32))[None], 0.8).numpy()[0, ..., None]
        made[index] = np.rint(clip.frames[index] * (1 - soft) + copy * soft)
    return made
