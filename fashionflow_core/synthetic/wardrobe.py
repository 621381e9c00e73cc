"""Clothes of a figure: materials, cross-sections, cut."""

from __future__ import annotations

import numpy as np

from fashionflow_core.synthetic.figure import Figure
from fashionflow_core.synthetic.profiles import TRUNK, WAIST, profile, smooth
from fashionflow_core.synthetic.raster import TABLE, material
from fashionflow_core.synthetic.textures import fabric_tile, face_map

Cloth = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _relief(rng: np.random.Generator, low: int, high: int, terms: int) -> np.ndarray:
    angle = np.linspace(-np.pi, np.pi, TABLE, endpoint=False)
    waves = [np.cos(int(rng.integers(low, high)) * angle + rng.uniform(0, 2 * np.pi)) for _ in range(terms)]
    return (np.sum(waves, axis=0) / np.sqrt(terms)).astype(np.float32)


class Wardrobe:
    """Constant properties of a figure in a clip. Lengths are body heights, `v` is an adult's height."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.head = figure.body.head
        self.scale = self.head / 0.13  # width of the head relative to an adult's
        rng = np.random.Generator(np.random.PCG64([figure.seed, 1]))
        fold = _relief(rng, 5, 15, 4)
        self.skin = material(np.array(figure.skin_rgb), sheen=0.05)
        child = figure.group == "child"
        self.face = material(
            face_map(figure.skin_rgb, figure.hair_rgb, figure.lips, figure.eyes, child), mapped=True, sheen=0.05
        )
        self.hair = material(np.array(figure.hair_rgb), sheen=0.12, relief=_relief(rng, 14, 46, 5))
        self.upper = material(fabric_tile(figure.upper), figure.upper.repeat, garment=True, relief=fold)
        separate = figure.garment in ("top_skirt", "top_trousers", "top_shorts", "coat", "tunic")
        self.lower = self.upper
        if separate:
            self.lower = material(fabric_tile(figure.lower), figure.lower.repeat, garment=True, relief=fold)
        self.shoe = material(np.array(figure.shoe_rgb), sheen=0.18)
        self.belt = material(np.array(figure.belt or (0.0, 0.0, 0.0)), garment=True, sheen=0.1)
        self.placket = material(np.array(figure.placket or (0.0, 0.0, 0.0)), garment=True)
        self.sole = material(np.array((0.93, 0.92, 0.9)))
        self.wave_count = int(rng.integers(5, 9))
        self.hair_end = float(rng.uniform(0.2, 0.3))
        self.tucked = figure.belt is not None or (figure.garment in ("top_skirt", "top_trousers") and figure.fit > 0.55)
        self.trousers = figure.garment in ("top_trousers", "tunic", "jumpsuit") or (
            figure.garment == "coat" and (figure.group == "man" or figure.fit > 0.5)
        )
        self._trunk()

    def place(self, v: np.ndarray | float) -> np.ndarray:
        """Convert an adult's height on the body to this figure's, whose head has another share."""
        v = np.asarray(v, np.float64)
        return np.where(v < 0.13, v * self.scale, self.head + (v - 0.13) / 0.87 * (1 - self.head))

    def _trunk(self) -> None:
        figure, body = self.figure, self.figure.body
        self.v = np.linspace(0.11, 0.56, 114)
        factors = (1.0 if figure.group != "man" else 1.22, body.shoulder, (1 + body.shoulder) / 2, body.waist, body.hip)
        wide = smooth(np.interp(self.v, (0.155, 0.185, 0.27, WAIST, 0.49), factors), 3)
        self.trunk_x = profile(TRUNK, self.v, 1) * wide
        self.trunk_z = profile(TRUNK, self.v, 2) * (0.5 + 0.5 * wide)
        self.trunk_o = profile(TRUNK, self.v, 3)
        bust = body.bust * np.exp(-(((self.v - 0.268) / 0.026) ** 2))
        self.trunk_z += 0.006 * bust
        self.trunk_o += 0.007 * bust
        if figure.group == "child":
            belly = np.exp(-(((self.v - 0.38) / 0.06) ** 2))
            self.trunk_z += 0.006 * belly
        self.shoulder = float(np.interp(0.195, self.v, self.trunk_x))
        # The looser the cut, the more cloth spans the waist.
        at = (self.v > 0.265) & (self.v < 0.485)
        self.cloth_x, self.cloth_z = self.trunk_x + 0.004, self.trunk_z + 0.004
        loose = 1 - figure.fit if figure.group == "woman" else 0.5 + 0.5 * (1 - figure.fit)
        for cloth in (self.cloth_x, self.cloth_z):
            ends = np.interp(self.v, (0.265, 0.485), (np.interp(0.265, self.v, cloth), np.interp(0.485, self.v, cloth)))
            cloth[at] += (loose * 0.9 * np.maximum(ends - cloth, 0))[at]

        # Hands hang outside the cloth: half-widths at the waist and at the hands.
        skirt = self.cloth_x
        wide_cut = figure.garment in ("dress", "coat", "tunic", "top_skirt")
        heights = self.v
        if wide_cut:
            heights, skirt, _, _ = self.skirt(max(figure.hem_v, 0.58), 0.0, figure.flare)
        hand = float(np.max(np.interp((0.44, 0.48, 0.53), heights, skirt)))
        self.arm_clearance = (float(np.interp(0.42, heights, skirt)) + 0.014, max(hand + 0.015, self.shoulder + 0.018))

    def skirt(self, hem: float, extra: float, flare: float) -> Cloth:
        """Cloth from the neck to a hem: heights, half-widths, half-depths, offsets; `extra` is the room inside."""
        v = np.concatenate([self.v[self.v < 0.48], np.linspace(0.48, max(hem, 0.51) + 0.03, 60)])
        rx, rz, oz = (np.interp(v, self.v, values) for values in (self.cloth_x, self.cloth_z, self.trunk_o))
        hip_x, hip_z = np.interp(0.48, self.v, self.cloth_x), np.interp(0.48, self.v, self.cloth_z)
        waist_x, waist_z = np.interp(WAIST, self.v, self.cloth_x), np.interp(WAIST, self.v, self.cloth_z)
        down = np.clip(v - 0.48, 0, None)
        line = np.clip(v - WAIST, 0, None) * (v > WAIST)
        below = v >= 0.48
        rx = np.where(below, np.maximum(hip_x + 0.12 * flare * down, 0), rx)
        rz = np.where(below, np.maximum(hip_z + 0.3 * flare * down, 0.066), rz)
        rx = np.maximum(rx, (waist_x + flare * line) * (v > WAIST))
        rz = np.maximum(rz, (waist_z + 0.95 * flare * line) * (v > WAIST))
        soft = smooth(rx, 6) + extra, smooth(rz, 6) + extra
        return v, soft[0], soft[1], np.interp(v, (0.4, 0.55), (1, 0)) * oz

    def neckline(self, v: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], float | None]:
        """Half-widths of the neckline at heights `v`, front and back, and positions of straps, if any."""
        kind = self.figure.neckline
        wide = 1.25 if self.figure.group == "man" else 1.0

        def cut(top: float, depth: float, half: float, power: float) -> np.ndarray:
            x = np.clip((v - top) / depth, 0, 1)
            return np.where(v < top, 1.0, np.where(x < 1, half * wide * (1 - x**power) ** (1 / power), 0.0))

        back = cut(0.155, 0.012, 0.04, 2)
        if kind == "high":
            high = cut(0.136, 0.004, 0.05, 2)
            return (high, high), None
        if kind == "straps":
            top = np.where(v < 0.222, 1.0, np.where(v < 0.235, 0.03 * (0.235 - v) / 0.013, 0.0))
            return (top, np.where(v < 0.235, 1.0, 0.0)), 0.05
        if kind == "v":
            return (cut(0.156, 0.085, 0.041, 1), back), None
        if kind == "boat":
            return (cut(0.158, 0.018, 0.058, 2.5), back), None
        if kind == "square":
            return (cut(0.158, 0.055, 0.046, 8), back), None
        return (cut(0.155, 0.036, 0.042, 2.2), back), None
