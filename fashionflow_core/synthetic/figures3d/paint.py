"""Materials: colours of skin, face, fabrics, hair and shoes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fashionflow_core.synthetic.figure import Figure
from fashionflow_core.synthetic.figures3d.body import SIDES, BodyMesh
from fashionflow_core.synthetic.figures3d.garments import belt_line, has_skirt
from fashionflow_core.synthetic.figures3d.hair import head_size, scalp
from fashionflow_core.synthetic.figures3d.surface import EYE, FLAT, ROUND_ARM, ROUND_LEG, ROUND_TRUNK
from fashionflow_core.synthetic.textures import Fabric, fabric_tile

_STRANDS = 2048


@dataclass(frozen=True)
class _Cloth:
    """A fabric's tile, float32 (rows, columns, 3), and its repeat in metres."""

    tile: np.ndarray
    repeat: float


class Painter:
    """Colours at points of a figure's surfaces.

    Args:
        body: body of the figure.
        figure: figure with colours, fabrics and details.
    """

    def __init__(self, body: BodyMesh, figure: Figure) -> None:
        self.body, self.figure = body, figure
        rng = np.random.Generator(np.random.PCG64([figure.seed, 41]))
        upper = self._cloth(figure.upper)
        separate = figure.garment in ("top_skirt", "top_trousers", "top_shorts", "tunic")
        self._fabrics = {"upper": upper, "lower": self._cloth(figure.lower) if separate else upper}
        # Coats and tunics are worn over trousers of another fabric.
        self._fabrics["skirt"] = upper if figure.garment in ("coat", "tunic") else self._fabrics["lower"]
        if figure.garment == "coat":
            self._fabrics["lower"] = self._cloth(figure.lower)
        self._folds = rng.normal(0, 1, (9, 3)) * np.array([38.0, 38.0, 17.0])
        self._phases = rng.uniform(0, 2 * np.pi, 9)
        self._strands = np.convolve(rng.normal(0, 1, _STRANDS), np.ones(3) / 3, "same")
        v = body.vertices
        self._trunk_y = float(v[(np.abs(v[:, 2] - body.waist) < 0.03) & (body.arm.sum(0) < 0.2), 1].mean())
        edge = np.flatnonzero((scalp(body) > 0) & (body.head > 0.5))
        self._head_y = float(v[edge, 1].mean())

    def _cloth(self, fabric: Fabric) -> _Cloth:
        return _Cloth(fabric_tile(fabric), fabric.repeat * self.body.height)

    def colours(
        self, material: str, coords: np.ndarray, wound: np.ndarray, mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Colours of points.

        Args:
            material: material of their surface.
            coords, wound, mask: fields of `SurfaceMesh` at the points, float64 (n, 3), uint8 (n,), float64 (n,).

        Returns:
            Colours, float64 (n, 3), sRGB 0 to 1; factors on light from folds, float64 (n,); and the strength of
            highlights.
        """
        if material == "skin":
            return self._skin(coords, wound, mask), np.ones(len(coords)), 0.05
        if material == "hair":
            return self._hair(coords, wound)
        if material == "shoe":
            colour = np.tile(np.array(self.figure.shoe_rgb), (len(coords), 1))
            if self.figure.shoes == "sneakers":
                colour[coords[:, 2] < self.body.sole + 0.008 * self.body.size] = (0.93, 0.92, 0.9)
            return colour, np.ones(len(coords)), 0.18
        return self._fabric(material, coords, wound)

    # ---- skin and face

    def _skin(self, coords: np.ndarray, wound: np.ndarray, mask: np.ndarray) -> np.ndarray:
        body, figure = self.body, self.figure
        size, eye = head_size(body), body.bones["eye.L"]
        base = np.array(figure.skin_rgb)
        colour = np.tile(base, (len(coords), 1))
        x, z = np.abs(coords[:, 0]), coords[:, 2]
        face = (coords[:, 1] < eye[1] + 0.04 * size) & (z > eye[2] - 0.13 * size)
        across, up = (x - eye[0]) / size, (z - eye[2]) / size
        # Cheeks and nose are redder.
        blush = np.exp(-(((across - 0.012) / 0.016) ** 2) - ((up + 0.038) / 0.016) ** 2) * face
        colour = colour * (1 - 0.25 * blush[:, None] * np.array([0.0, 0.55, 0.5]))
        lips = np.clip(1.6 * mask, 0, 1)[:, None]
        colour = colour * (1 - lips) + np.array(figure.lips) * lips
        # Brows: an arc over each eye, thinner outwards.
        arch = 0.0215 + 0.0035 * np.sin(np.clip((across + 0.022) / 0.05, 0, 1) * np.pi * 0.85)
        thick = 0.0036 * np.clip(1 - (across + 0.022) / 0.065, 0.25, 1)
        brow = np.clip((thick - np.abs(up - arch)) / 0.0012 + 0.5, 0, 1) * (across > -0.019) * (across < 0.026) * face
        hair = 0.75 * np.array(figure.hair_rgb) + 0.25 * base * 0.5
        colour += (0.8 * brow)[:, None] * (np.minimum(hair, base) - colour)
        # Lashes: the skin around the eye's opening is darker.
        socket = np.exp(-((across / 0.019) ** 2) - (((up + 0.001) / 0.0085) ** 2)) * face
        colour *= 1 - 0.35 * socket[:, None]
        if figure.group == "man" or figure.hair == "short":
            near = np.clip((up - 0.045) / 0.03, 0, 1) * (coords[:, 1] > eye[1]) * 0.2
            colour += near[:, None] * (np.minimum(hair, base) - colour) * (figure.hair != "bald")
        return np.where((wound == EYE)[:, None], self._eyes(across, up, coords[:, 1] < eye[1]), colour)

    def _eyes(self, across: np.ndarray, up: np.ndarray, ahead: np.ndarray) -> np.ndarray:
        radius = np.hypot(across, up)
        colour = np.tile(np.array([0.88, 0.86, 0.84]), (len(across), 1))
        iris = np.clip((0.0062 - radius) / 0.0012 + 0.5, 0, 1) * ahead
        colour += iris[:, None] * (np.array(self.figure.eyes) - colour)
        pupil = np.clip((0.0028 - radius) / 0.0008 + 0.5, 0, 1) * ahead
        return colour * (1 - 0.9 * pupil[:, None])

    # ---- hair and fabrics

    def _hair(self, coords: np.ndarray, wound: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        flat = wound == FLAT
        angle = np.arctan2(coords[:, 0], self._head_y - coords[:, 1])
        place = np.where(flat, coords[:, 0] * 2500, angle * 190 + coords[:, 2] * 60)
        strand = self._strands[place.astype(int) % _STRANDS] + self._strands[(place * 0.23).astype(int) % _STRANDS]
        colour = np.tile(np.array(self.figure.hair_rgb), (len(coords), 1))
        return colour, 1 + 0.14 * np.clip(strand, -2, 2), 0.14

    def _fabric(self, material: str, coords: np.ndarray, wound: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        figure, body = self.figure, self.body
        across, down = self._wound(coords, wound)
        cloth = self._fabrics[material]
        rows, columns, _ = cloth.tile.shape
        i = np.floor(down / cloth.repeat * rows).astype(int) % rows
        j = np.floor(across / cloth.repeat * columns).astype(int) % columns
        colour = cloth.tile[i, j].astype(np.float64)
        middle = (wound == ROUND_TRUNK) | (wound == FLAT)
        if figure.placket is not None and material in ("upper", "skirt"):
            turn = 2 * np.pi * 0.2 * body.size  # a coat's skirt spans from front to front
            near = np.minimum(np.abs(across), np.abs(across - turn)) < 0.012 * body.size
            colour[middle & near & (coords[:, 1] < self._trunk_y + 1e-6)] = figure.placket
        belt, line = ("skirt", body.waist) if has_skirt(figure) else ("lower", belt_line(body, figure))
        if figure.belt is not None and material == belt:
            colour[middle & (down < -line + 0.035 * body.size)] = figure.belt
        folds = np.zeros(len(coords))
        for wave, phase in zip(self._folds, self._phases):
            folds += np.cos(coords @ wave + phase)
        strength = 0.012 if material == "skirt" else 0.016 + 0.1 * figure.pleats
        return colour, 1 + strength * folds, 0.03

    def _wound(self, coords: np.ndarray, wound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Metres across and down the cloth."""
        body, size = self.body, self.body.size
        a, b = 0.165 * size, 0.115 * size
        turn = np.arctan2(coords[:, 0] / a, (self._trunk_y - coords[:, 1]) / b)
        across, down = turn * (a + b) / 2, -coords[:, 2]
        flat = wound == FLAT
        across = np.where(flat, coords[:, 0], across)
        for name, sign in SIDES:
            here = coords[:, 0] * sign > 0
            shoulder, elbow, wrist = (body.bones[f"{bone}.{name}"] for bone in ("upperarm01", "lowerarm01", "wrist"))
            on = np.flatnonzero(here & (wound == ROUND_ARM))
            if len(on):
                axis = (wrist - shoulder) / np.linalg.norm(wrist - shoulder)
                p = coords[on] - shoulder
                side = np.cross(axis, [0.0, 1.0, 0.0])
                side /= np.linalg.norm(side)
                other = np.cross(side, axis)
                bow = np.clip((p @ axis) / np.linalg.norm(elbow - shoulder), 0, 2)
                bow = (1 - np.abs(bow - 1)) * ((elbow - shoulder) @ other)
                across[on] = np.arctan2(p @ side, p @ other - bow) * 0.05 * size
                down[on] = p @ axis
            on = np.flatnonzero(here & (wound == ROUND_LEG))
            if len(on):
                hip, foot = body.bones[f"upperleg01.{name}"], body.bones[f"foot.{name}"]
                share = (coords[on, 2] - hip[2]) / (foot[2] - hip[2])
                middle = hip + share[:, None] * (foot - hip)
                turned = np.arctan2(coords[on, 0] - middle[:, 0], middle[:, 1] - coords[on, 1])
                across[on] = turned * 0.08 * size
        return across, down
