"""Bodies of 2-D figures as stacks of ellipses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fashionflow_core.images import parts as labels
from fashionflow_core.synthetic.limbs import arm_stacks, head_stacks, leg_stacks
from fashionflow_core.synthetic.profiles import WAIST
from fashionflow_core.synthetic.raster import Material, Stack
from fashionflow_core.synthetic.wardrobe import Cloth, Wardrobe

Frame = Callable[[np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray, np.ndarray]]


def figure_stacks(wardrobe: Wardrobe, t: float) -> list[Stack]:
    """All parts of the figure `t` seconds into the clip, centres relative to the figure's axis."""
    figure, motion = wardrobe.figure, wardrobe.figure.motion
    hips = float(motion.sideways(t))
    parts: list[Stack] = []

    def yaws(v: np.ndarray, hem: float = 0.0) -> np.ndarray:
        # Shoulders lead the turn, hips follow, the hem of a skirt is last.
        late = 0.05 * np.clip((v - 0.2) / 0.3, 0, 1)
        if hem:
            late = late + motion.lag * np.clip((v - 0.45) / max(0.1, hem - 0.45), 0, 1)
        return motion.yaw(t - late)

    def sway(v: np.ndarray, hem: float = 0.0) -> np.ndarray:
        bend = np.interp(v, (0.1, 0.2, 0.48, 0.75, 1.0), (0.25, -0.35, 1.0, 0.4, 0.0))
        if hem:
            late = motion.lag * np.clip((v - 0.45) / max(0.1, hem - 0.45), 0, 1)
            loose = np.clip(v - 0.5, 0, 1) * 3 * figure.flare
            return motion.sideways(t - late) * bend + loose * (motion.shift(t - late) - motion.shift(t))
        return hips * bend

    # Sway is in image space for any yaw: rotate it into the body's frame.
    def frame(v: np.ndarray, oz: np.ndarray, hem: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        yaw, side = yaws(v, hem), sway(v, hem)
        return side * np.cos(yaw), oz + side * np.sin(yaw), yaw

    ox, oz, yaw = frame(wardrobe.v, wardrobe.trunk_o, 0.0)
    shade = np.interp(wardrobe.v, (0.11, 0.135, 0.155), (0.72, 0.8, 1.0))
    parts.append(
        Stack(wardrobe.place(wardrobe.v), ox, oz, wardrobe.trunk_x, wardrobe.trunk_z, yaw, wardrobe.skin, dark=shade)
    )
    _clothes(wardrobe, parts, frame)
    parts[0].part, parts[0].split = labels.UPPER, float(wardrobe.place(WAIST))
    legs, head = leg_stacks(wardrobe, t, hips), head_stacks(wardrobe, t, hips)
    for stack in legs:
        skin, cloth = stack.material is wardrobe.skin, stack.material is wardrobe.lower
        stack.part = labels.LEGS if skin else labels.LOWER if cloth else labels.SHOES
    for stack in head:
        stack.part = labels.HAIR if stack.material is wardrobe.hair else labels.HEAD
    return parts + legs + arm_stacks(wardrobe, t, hips) + head


def _clothes(wardrobe: Wardrobe, parts: list[Stack], frame: Frame) -> None:
    figure = wardrobe.figure
    long_cut = figure.garment in ("dress", "coat", "tunic")
    end = figure.hem_v if long_cut else 0.56 if figure.garment == "jumpsuit" else 0.392 if wardrobe.tucked else 0.468
    over = 0.006 if figure.garment == "coat" else 0.0 if wardrobe.tucked or figure.garment == "dress" else 0.007
    flare = figure.flare if long_cut or (figure.garment == "top_skirt" and not wardrobe.tucked) else 0.07
    if figure.garment == "jumpsuit":
        cloth = wardrobe.v, wardrobe.cloth_x, wardrobe.cloth_z, wardrobe.trunk_o
    else:
        cloth = wardrobe.skirt(end, over, flare)
    _cloth(wardrobe, parts, frame, cloth, end, wardrobe.upper, flare if long_cut else 0.0, True)
    if figure.garment == "top_skirt":
        cloth = wardrobe.skirt(figure.hem_v, 0.0015, figure.flare)
        keep = cloth[0] > WAIST - 0.005
        kept = (cloth[0][keep], cloth[1][keep], cloth[2][keep], cloth[3][keep])
        _cloth(wardrobe, parts, frame, kept, figure.hem_v, wardrobe.lower, figure.flare, False)
    elif wardrobe.trousers or figure.garment == "top_shorts":
        keep = wardrobe.v > WAIST - 0.005
        kept = (
            wardrobe.v[keep],
            wardrobe.cloth_x[keep] + 0.001,
            wardrobe.cloth_z[keep] + 0.001,
            wardrobe.trunk_o[keep],
        )
        _cloth(wardrobe, parts, frame, kept, 0.0, wardrobe.lower, 0.0, False)


def _cloth(
    wardrobe: Wardrobe,
    parts: list[Stack],
    frame: Frame,
    cloth: Cloth,
    end: float,
    stuff: Material,
    flare: float,
    top: bool,
) -> None:
    figure = wardrobe.figure
    v, rx, rz, centre = cloth
    ox, oz, yaw = frame(v, centre, end if flare else 0.0)
    fold = np.interp(
        v, (0.16, 0.3, WAIST, 0.46, max(end, 0.5)), (0.0, 0.006, 0.012, 0.25 * figure.pleats, figure.pleats)
    )
    stack = Stack(wardrobe.place(v), ox, oz, rx, rz, yaw, stuff, fold=fold, part=labels.UPPER if top else labels.LOWER)
    if top and figure.garment in ("dress", "coat", "tunic", "jumpsuit"):
        stack.split = float(wardrobe.place(WAIST))
    if end:
        stack.hem = float(wardrobe.place(end))
        motion_phase = 40 * float(np.mean(ox[-8:]))
        stack.wave = (0.012 * flare, float(wardrobe.wave_count), motion_phase)
    if top:
        stack.neck, stack.strap = wardrobe.neckline(v)
        stack.bare = wardrobe.skin
    parts.append(stack)
    if flare:
        # The dark inside of the cloth at the back, visible under a hem that curves up.
        lining = replace(stack, inside=True, neck=None, span=(float(wardrobe.place(end)) - 0.03, 2.0))
        parts.append(lining)
    if top and figure.belt is not None:
        at = (v > WAIST - 0.03) & (v < WAIST + 0.03)
        band = Stack(wardrobe.place(v[at]), ox[at], oz[at], rx[at] + 0.0025, rz[at] + 0.0025, yaw[at], wardrobe.belt)
        band.span = (float(wardrobe.place(WAIST - 0.009)), float(wardrobe.place(WAIST + 0.009)))
        band.part = labels.UPPER
        parts.append(band)
    if top and figure.placket is not None:
        at = (v > 0.2 if figure.neckline != "v" else v > 0.24) & (v < end)
        thin = np.full(int(at.sum()), 0.0025)
        front = oz[at] + rz[at]
        line = Stack(wardrobe.place(v[at]), ox[at], front, thin, thin, yaw[at], wardrobe.placket)
        line.part, line.split = stack.part, stack.split
        parts.append(line)
