"""Clothes that follow the body: tops, trousers, boots.

They are parts of its mesh, cut at the edge of the pattern, smoothed and offset from the skin.
Hanging clothes are in `skirts`. Fields are metres at rest, above 0 inside the garment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fashionflow_core.images import parts as labels
from fashionflow_core.synthetic.figure import Figure
from fashionflow_core.synthetic.figures3d.body import SIDES, BodyMesh
from fashionflow_core.synthetic.figures3d.shoes import covered
from fashionflow_core.synthetic.figures3d.surface import (
    ARMS,
    EYE,
    HEAD,
    LEGS,
    ROUND_ARM,
    ROUND_LEG,
    ROUND_TRUNK,
    TRUNK,
    Smoother,
    SurfaceMesh,
    cut,
    normals,
)

HIDDEN = 0.014  # distance inside a garment's edge in metres beyond which skin is omitted
_ANGLES = 24  # directions of measurement of a trunk's outline


@dataclass(frozen=True, eq=False)
class Piece:
    """Pattern of a garment.

    Attributes:
        name: `upper`, `lower` or `shoe`, for its material.
        field: field over the body's vertices, float64 (v,).
        offset: distance from the skin in metres, float64 (v,).
        smooth: steps of smoothing, more for stiffer or looser cloth.
        part: label outside arms and legs.
    """

    name: str
    field: np.ndarray
    offset: np.ndarray
    smooth: int
    part: int


def has_skirt(figure: Figure) -> bool:
    """Whether a part of the clothes hangs from the waist."""
    return figure.garment in ("dress", "top_skirt", "coat", "tunic")


def has_trousers(figure: Figure) -> bool:
    """Whether legs are clothed: trousers or shorts."""
    if figure.garment == "coat":
        return figure.group == "man" or figure.fit > 0.5
    return figure.garment in ("top_trousers", "top_shorts", "tunic", "jumpsuit")


def pieces(body: BodyMesh, figure: Figure) -> list[Piece]:
    """All garments of a figure except skirt and shoes, from the skin outwards; includes shafts of boots."""
    found = []
    if has_trousers(figure):
        found.append(_trousers(body, figure))
    found.append(_top(body, figure))
    if figure.shoes == "boots":
        field = np.minimum(covered(body, figure), body.vertices[:, 2] - body.bones["foot.L"][2] + 0.03 * body.size)
        found.append(Piece("shoe", field, np.full(len(field), 0.007 * body.size), 40, labels.SHOES))
    return found


def skin(body: BodyMesh, figure: Figure, garments: list[Piece], posed: np.ndarray, hem: float | None) -> SurfaceMesh:
    """Visible part of the body.

    Args:
        garments: garments, which hide the skin under them.
        posed: posed vertices, float64 (t, v, 3).
        hem: z of a skirt's hem at rest, which hides the hips, or None.
    """
    hidden = covered(body, figure) > 0.006 * body.size
    for piece in garments:
        hidden |= piece.field > HIDDEN * body.size
    if hem is not None:
        z = body.vertices[:, 2]
        hidden |= (z < body.waist) & (z > max(hem + 0.14 * body.size, body.crotch - 0.02)) & (body.arm.sum(0) < 0.5)
    faces = body.faces[~hidden[body.faces].all(1)]
    part, solid, wound = _belongs(body, faces, labels.UPPER)
    neck = body.vertices[faces, 2].mean(1) > body.bones["neck01"][2] - 0.05 * body.size
    part[(part == labels.UPPER) & neck] = labels.HEAD
    part[np.isin(solid, LEGS)] = labels.LEGS
    wound[(solid == HEAD) & body.eye[faces].all(1)] = EYE
    return SurfaceMesh(posed, faces, body.vertices, body.lips, part, solid, wound, "skin")


def dress(body: BodyMesh, piece: Piece, posed: np.ndarray) -> SurfaceMesh:
    """A garment on the posed body."""
    found = cut(body.faces, piece.field)
    count = len(found.first)
    smoother = Smoother(found.faces, count)
    offset = smoother(found.of(piece.offset), 4)
    skin_at = found.at(posed)
    # Vertex axis first, so that all times are smoothed together.
    direction = np.stack([normals(at, found.faces) for at in skin_at], 1)
    direction = smoother(direction, max(4, piece.smooth // 2))
    direction /= np.maximum(np.linalg.norm(direction, axis=2, keepdims=True), 1e-9)
    skin_at = skin_at.transpose(1, 0, 2)
    soft = smoother(skin_at, piece.smooth)
    # Smoothing enters the body at bulges, where cloth must rest on it.
    sunk = np.maximum(((skin_at - soft) * direction).sum(2), 0)
    sunk = smoother(np.maximum(sunk, smoother(sunk, 2)), 2)
    positions = (soft + direction * (offset[:, None] + sunk)[..., None]).transpose(1, 0, 2)
    part, solid, wound = _belongs(body, found.first[found.faces], piece.part)
    if piece.name == "lower":
        part[:] = labels.LOWER
    if piece.name == "shoe":
        part[:] = labels.SHOES
    coords = smoother(found.at(body.vertices), piece.smooth)  # as the cloth, so that stripes stay straight
    return SurfaceMesh(positions, found.faces, coords, np.zeros(count), part, solid, wound, piece.name)


def _belongs(body: BodyMesh, faces: np.ndarray, trunk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Part, solid and winding of triangles by their limb."""
    part = np.full(len(faces), trunk, np.uint8)
    solid = np.full(len(faces), TRUNK, np.uint8)
    wound = np.full(len(faces), ROUND_TRUNK, np.uint8)
    head = body.head[faces].mean(1) > 0.5
    part[head], solid[head] = labels.HEAD, HEAD
    low = body.vertices[faces, 2].mean(1) < body.crotch
    x = body.vertices[faces, 0].mean(1)
    for k, (_, sign) in enumerate(SIDES):
        arm = body.arm[k][faces].mean(1) > 0.5
        part[arm], solid[arm], wound[arm] = (labels.ARM_LEFT, labels.ARM_RIGHT)[k], ARMS[k], ROUND_ARM
        leg = low & (x * sign > 0) & ~arm & (body.arm.sum(0)[faces].mean(1) < 0.5)
        solid[leg], wound[leg] = LEGS[k], ROUND_LEG
    return part, solid, wound


# ---- patterns


def _along_arm(body: BodyMesh) -> np.ndarray:
    """float64 (v,), share of the way from the shoulder to the wrist; below 0 on the trunk."""
    along = np.full(len(body.vertices), -1.0)
    for k, (name, _) in enumerate(SIDES):
        shoulder, elbow, wrist = (body.bones[f"{bone}.{name}"] for bone in ("upperarm01", "lowerarm01", "wrist"))
        upper, lower = np.linalg.norm(elbow - shoulder), np.linalg.norm(wrist - elbow)
        first = (body.vertices - shoulder) @ (elbow - shoulder) / upper
        second = upper + (body.vertices - elbow) @ (wrist - elbow) / lower
        # Rounded at the elbow, so that no line of the pattern has a corner there.
        mix = np.clip((first - upper) / (0.2 * upper) + 0.5, 0, 1)
        distance = (first * (1 - mix) + second * mix) / (upper + lower)
        along = np.where(body.arm[k] > 0.3, distance, along)
    return along


def _top(body: BodyMesh, figure: Figure) -> Piece:
    v, size = body.vertices, body.size
    field = _neckline(body, figure)
    coat = figure.garment == "coat"
    tucked = has_skirt(figure) or figure.garment == "jumpsuit" or figure.belt is not None or figure.fit > 0.6
    waist = body.waist if has_skirt(figure) else belt_line(body, figure)
    hem = waist - 0.03 * size
    if not tucked:
        hem = body.crotch + (0.01 + 0.09 * figure.fit) * size
    trunk = body.arm.sum(0) < 0.4
    field = np.where(trunk, np.minimum(field, v[:, 2] - hem), field)
    along = _along_arm(body)
    length = float(np.linalg.norm(body.bones["wrist.L"] - body.bones["upperarm01.L"]))
    bare = (0.42 - body.arm.sum(0)) * 0.12 * size
    if figure.sleeve > 0:
        end = {"short": 0.38, "elbow": 0.6, "long": 0.99}[figure.sleeves]
        sleeve = np.where(along > -0.5, (end - along) * length, 0.2)
        field = np.minimum(field, sleeve)
    else:
        field = np.minimum(field, bare)
    loose = {"coat": 1.0, "tunic": 0.6}.get(figure.garment, (1 - figure.fit) * (0.5 if has_skirt(figure) else 1.0))
    offset = np.full(len(v), (0.014 if coat else 0.004 + 0.003 * loose) * size)
    offset += trunk * loose * _hollow(body)
    # Sleeves widen towards their end, an untucked hem hangs from the hips.
    wide = float(np.clip(0.012 * loose + 0.004, 0, 0.02)) * size
    offset += wide * np.clip(along / max(figure.sleeve, 0.3), 0, 1) * (along > 0)
    if tucked:  # into the garment below
        offset = np.where(trunk, np.minimum(offset, (0.0015 + 0.25 * np.maximum(v[:, 2] - waist, 0)) * size), offset)
    else:
        offset += (
            (0.006 + 0.014 * loose) * size * trunk * np.clip((body.waist + 0.1 * size - v[:, 2]) / 0.2 / size, 0, 1)
        )
    return Piece("upper", field, offset, 24 if coat else 10 + round(16 * loose), labels.UPPER)


def _hollow(body: BodyMesh) -> np.ndarray:
    """float64 (v,), metres from the trunk's skin out to the straight line from chest to hips."""
    v = body.vertices
    trunk = np.flatnonzero(body.arm.sum(0) < 0.3)
    top = 0.72 * body.bones["upperarm01.L"][2] + 0.28 * body.waist
    low = body.bones["upperleg01.L"][2]
    heights = np.linspace(low, top, 16)
    centre = np.array([0.0, v[trunk][np.abs(v[trunk, 2] - body.waist) < 0.03, 1].mean()])
    p = v[trunk]
    radius = np.hypot(p[:, 0] - centre[0], p[:, 1] - centre[1])
    angle = np.arctan2(p[:, 0] - centre[0], -(p[:, 1] - centre[1]))
    bins = ((angle / (2 * np.pi) + 0.5) * _ANGLES).astype(int) % _ANGLES
    table = np.zeros((len(heights), _ANGLES))
    half = (heights[1] - heights[0]) * 0.75
    for i, z in enumerate(heights):
        near = np.abs(p[:, 2] - z) < half
        np.maximum.at(table[i], bins[near], radius[near])
    line = table[0] + (table[-1] - table[0]) * np.linspace(0, 1, len(heights))[:, None]
    need = np.maximum(line - table, 0)
    need = (np.roll(need, 1, 1) + 2 * need + np.roll(need, -1, 1)) / 4
    found = np.zeros(len(v))
    place = np.clip((p[:, 2] - low) / (top - low) * (len(heights) - 1), 0, len(heights) - 1.001)
    row, part = place.astype(int), place % 1
    inside = (p[:, 2] > low) & (p[:, 2] < top)
    found[trunk] = inside * (need[row, bins] * (1 - part) + need[row + 1, bins] * part)
    return found


def _neckline(body: BodyMesh, figure: Figure) -> np.ndarray:
    v, size = body.vertices, body.size
    collar = body.bones["clavicle.L"][2] + 0.035 * size  # the pit of the neck
    neck = body.bones["neck01"]
    x, z = np.abs(v[:, 0]) / size, (v[:, 2] - collar) / size
    kind = figure.neckline

    def hole(half: float, depth: float, power: float) -> np.ndarray:
        below = np.maximum(-z, 0) / depth
        return ((x / half) ** power + below**power) ** (1 / power) - 1

    if kind == "high":
        return neck[2] + 0.008 * size - v[:, 2]
    width, depth, power = {
        "v": (0.075, 0.15, 1.0),
        "boat": (0.1, 0.03, 3.0),
        "square": (0.082, 0.085, 9.0),
        "straps": (0.1, 0.12, 9.0),
    }.get(kind, (0.075, 0.055, 2.2))
    ahead = hole(width, depth, power) * min(width, depth)
    behind = hole(max(width * 0.95, 0.07), 0.09 if kind == "straps" else 0.022, max(power, 2.0)) * 0.04
    # One field all around: both halves meet on the shoulder.
    side = np.clip((v[:, 1] - neck[1]) / (0.05 * size) + 0.3, 0, 1)
    field = (ahead * (1 - side) + behind * side) * size
    above = v[:, 2] > neck[2] + 0.005 * size
    field = np.where(above & (body.arm.sum(0) < 0.3), np.minimum(field, -0.01), field)
    return field


def belt_line(body: BodyMesh, figure: Figure) -> float:
    """z at which trousers begin: men's lower than women's."""
    return body.waist - (0.0 if figure.group == "woman" and figure.fit > 0.4 else 0.055) * body.size


def _trousers(body: BodyMesh, figure: Figure) -> Piece:
    v, size = body.vertices, body.size
    short = figure.garment == "top_shorts"
    ankle, knee = body.bones["foot.L"][2], body.bones["lowerleg01.L"][2]
    hem = knee + 0.1 * size if short else ankle - 0.03 * size
    field = np.minimum(v[:, 2] - hem, belt_line(body, figure) - v[:, 2])
    field = np.where(body.arm.sum(0) > 0.2, -0.05, field)
    wide = figure.leg_width
    offset = (0.005 + 0.005 * np.clip(1 - (belt_line(body, figure) - v[:, 2]) / 0.06, 0, 1)) * size
    for k, (name, _) in enumerate(SIDES):
        hip, joint, foot = (body.bones[f"{bone}.{name}"] for bone in ("upperleg01", "lowerleg01", "foot"))
        z = v[:, 2]
        axis = np.stack([np.interp(z, (foot[2], joint[2], hip[2]), (foot[i], joint[i], hip[i])) for i in (0, 1)], 1)
        radius = np.hypot(v[:, 0] - axis[:, 0], v[:, 1] - axis[:, 1])
        target = np.interp(z, (ankle, knee, body.crotch - 0.05), (0.052 * wide, 0.066 * wide**0.7, 0.078)) * size
        if short:
            target = np.full(len(z), 0.1 * size)
        # The inner thighs are kept apart.
        fade = np.clip((body.crotch - 0.03 * size - z) / (0.12 * size), 0, 1)
        offset += (body.leg[k] > 0.5) * fade * np.clip(target - radius, 0, 0.05 * size)
    return Piece("lower", field, offset, 24, labels.LOWER)
