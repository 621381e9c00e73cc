"""Legs, arms, head and hair as stacks of ellipses."""

from __future__ import annotations

import numpy as np

from fashionflow_core.images.parts import ARM_LEFT, ARM_RIGHT
from fashionflow_core.synthetic.profiles import ARM, LEG, SKULL, profile, smooth
from fashionflow_core.synthetic.raster import Stack
from fashionflow_core.synthetic.wardrobe import Wardrobe

LEG_V = np.linspace(0.46, 0.965, 60)
LEG_R = profile(LEG, LEG_V)
ARM_V = np.linspace(0.168, 0.565, 48)
ARM_R = np.interp(ARM_V, ARM[:, 0], ARM[:, 1])
SKULL_T = np.linspace(0, 1, 40) ** 1.15
SKULL_R = np.interp(SKULL_T, SKULL[:, 0], SKULL[:, 1])
FEET_PITCH = 0.22  # image height per distance of a foot from the axis: the camera looks down on feet


def leg_stacks(wardrobe: Wardrobe, t: float, hips: float) -> list[Stack]:
    """Both legs with their clothes, and shoes. Steps lift and advance the feet in turn."""
    figure, motion, body = wardrobe.figure, wardrobe.figure.motion, wardrobe.figure.body
    yaw = float(motion.yaw(t - 0.06))
    sin, cos = np.sin(yaw), np.cos(yaw)
    heel = {"pumps": 0.034, "boots": 0.012}.get(figure.shoes, 0.006)
    cover = {"top_shorts": 0.635}.get(figure.garment, 0.935 if wardrobe.trousers else 0.0)
    parts: list[Stack] = []
    for side in (-1, 1):
        angle = 2 * np.pi * motion.step_hz * t + motion.phase + (0 if side < 0 else np.pi)
        ahead = 0.022 * motion.step * np.sin(angle)
        lift = 0.011 * motion.step * max(0.0, float(np.cos(angle)))
        foot_x = side * 0.043 * (0.5 + 0.5 * body.hip)
        toe = (foot_x * cos, ahead * cos - foot_x * sin)
        ground = 1.0 + FEET_PITCH * toe[1] - lift
        ankle = ground - 0.026 - heel
        along = (LEG_V - 0.46) / (0.965 - 0.46)
        v = 0.46 + along * (ankle - 0.46)
        knee = np.exp(-(((along - 0.53) / 0.2) ** 2))
        x = np.interp(along, (0.0, 0.2, 1.0), (0.047 * body.hip, 0.048 * body.hip, abs(foot_x))) * side
        z = (
            ahead * along**1.3
            + (0.006 + 1.6 * lift) * knee
            - 0.008 * along
            + 0.005 * np.exp(-(((along - 0.15) / 0.2) ** 2))
        )
        bend = hips * np.interp(along, (0, 1), (0.95, 0.0))
        ox, oz = x + bend * cos, z + bend * sin
        radius = LEG_R * (0.6 + 0.4 * body.limb)
        place = wardrobe.place(v)
        skin_from = figure.hem_v if figure.garment in ("dress", "top_skirt") or not cover else cover
        shade = np.interp(v, (skin_from, skin_from + 0.05), (0.62, 1.0))
        # Legs start just above the hem: higher up a stride would penetrate a narrow skirt.
        end = {"top_trousers": 0.474, "top_shorts": 0.474, "jumpsuit": 0.0}.get(figure.garment, figure.hem_v)
        hidden = end - 0.075 * figure.pitch - 0.002
        start = max(0.47, hidden, cover - 0.03)
        # A hidden leg stays in the list without geometry, so that stacks keep their index over a clip.
        span = (float(wardrobe.place(start)), 2.0) if start < ankle - 0.01 else (2.0, 2.0)
        parts.append(Stack(place, ox, oz, radius, radius, yaw, wardrobe.skin, dark=shade, span=span))
        if cover:
            straight = np.interp(
                LEG_V, (0.47, 0.53, 0.6, 0.95), (0.05, 0.054, 0.047, 0.029)
            ) * figure.leg_width ** np.interp(LEG_V, (0.5, 0.95), (0.15, 1.0))
            if cover < 0.7:
                straight = np.interp(LEG_V, (0.5, 0.65), (0.051, 0.055))
            cloth = np.maximum(radius + 0.004, straight)
            fold = np.full(len(v), 0.6 * figure.pleats)
            late = motion.yaw(t - 0.06 - 0.3 * motion.lag * along)
            leg = Stack(
                place, ox, oz, cloth, cloth, late, wardrobe.lower, fold=fold, span=(float(wardrobe.place(hidden)), 2.0)
            )
            leg.hem = float(wardrobe.place(cover + (ground - 1)))
            parts.append(leg)
        if figure.shoes == "boots" and cover < 0.9:
            top = float(wardrobe.place(0.84))
            boot = np.maximum(radius, 0.0205) + 0.003
            parts.append(Stack(place, ox, oz, boot, boot, yaw, wardrobe.shoe, span=(top, 2.0)))
        parts += _foot(wardrobe, ankle, ground, heel, foot_x, ahead, yaw)
    return parts


def _foot(wardrobe: Wardrobe, ankle: float, ground: float, heel: float, x: float, z: float, yaw: float) -> list[Stack]:
    figure = wardrobe.figure
    length = 0.072 if figure.group != "child" else 0.064
    cos = float(np.cos(yaw))
    # In front views the toes point at the camera, and are lower in the image than the heel.
    bottom = ground + FEET_PITCH * length * max(cos, -0.1)
    down = np.linspace(0, 1, 16)
    v = ankle - 0.004 + down * (bottom - ankle + 0.004)
    reach = np.interp(down, (0, 0.25, 0.75, 1), (0.016, 0.03, length, length * 0.92))
    back = np.full(16, -0.022)
    if figure.shoes == "pumps":
        back = np.interp(down, (0, 0.35, 0.8, 1.0), (-0.02, -0.021, 0.012, 0.02))
    width = np.interp(down, (0, 0.3, 0.8, 1), (0.0175, 0.019, 0.0225, 0.0185))
    if figure.shoes == "sneakers":
        width = width * 1.12
    place = wardrobe.place(v)
    centre = z + (reach + back) / 2
    deep = (reach - back) / 2
    whole = Stack(place, x, centre, width, deep, yaw, wardrobe.shoe)
    if figure.shoes in ("pumps", "flats"):
        # The instep is bare above the vamp.
        edge = float(place[0] + (0.5 if figure.shoes == "pumps" else 0.36) * (place[-1] - place[0]))
        instep = Stack(place, x, centre, width, deep, yaw, wardrobe.skin, span=(0.0, edge))
        whole.span = (edge, 2.0)
        parts = [instep, whole]
        if figure.shoes == "pumps":
            stick = np.linspace(ankle + 0.006, ground, 6)
            thin = np.interp(np.arange(6), (0, 2, 5), (0.013, 0.006, 0.004))
            parts.append(Stack(wardrobe.place(stick), x, z - 0.016, thin, thin, yaw, wardrobe.shoe))
            cup = np.linspace(ankle, ankle + 0.02, 6)
            parts.append(
                Stack(wardrobe.place(cup), x, z - 0.008, np.full(6, 0.0165), np.full(6, 0.017), yaw, wardrobe.shoe)
            )
        return parts
    if figure.shoes == "sneakers":
        edge = float(place[0] + 0.8 * (place[-1] - place[0]))
        sole = Stack(place, x, centre, width + 0.001, deep + 0.001, yaw, wardrobe.sole, span=(edge, 2.0))
        whole.span = (0.0, edge)
        return [whole, sole]
    return [whole]


def arm_stacks(wardrobe: Wardrobe, t: float, hips: float) -> list[Stack]:
    """Both arms: bare, or sleeved down to the sleeve's end. They swing from the shoulder, against each other."""
    figure, motion, body = wardrobe.figure, wardrobe.figure.motion, wardrobe.figure.body
    yaw = float(motion.yaw(t - 0.01))
    sin, cos = np.sin(yaw), np.cos(yaw)
    along = (ARM_V - 0.168) / (0.565 - 0.168)
    parts: list[Stack] = []
    for side, pose in zip((-1, 1), figure.arms, strict=True):
        swing = motion.swing * np.sin(2 * np.pi * motion.step_hz * t + motion.phase + (np.pi if side < 0 else 0))
        part = ARM_RIGHT if side * cos > 0 else ARM_LEFT  # sides of the image: swapped in back views
        root = wardrobe.shoulder - 0.013
        clear = wardrobe.arm_clearance
        if pose == "hip":
            joints = np.array(
                [
                    (root, 0.172, 0.0),
                    (root + 0.076, 0.335, -0.025),
                    (clear[0] + 0.004, 0.415, 0.02),
                    (clear[0] - 0.012, 0.462, 0.045),
                ]
            )
            swing *= 0.15
        elif pose == "bent":
            joints = np.array(
                [
                    (root, 0.172, 0.0),
                    (root + 0.036, 0.35, -0.012),
                    (clear[1] - 0.004, 0.455, 0.05),
                    (clear[1] - 0.01, 0.53, 0.075),
                ]
            )
        else:
            joints = np.array(
                [
                    (root, 0.172, 0.0),
                    (root + 0.037, 0.35, -0.008),
                    (clear[1] + 0.004, 0.48, 0.01),
                    (clear[1] + 0.004, 0.565, 0.022),
                ]
            )
        spots = (0.0, 0.4584, 0.7859, 1.0)
        x, v, z = (smooth(np.interp(along, spots, joints[:, k]), 6) for k in range(3))
        # Turn about the shoulder: forwards and up.
        drop = v - 0.185
        lower = np.clip(drop, 0, None)
        z = z + lower * np.sin(swing) * (1 + 0.5 * along)
        v = 0.185 + drop * np.where(drop > 0, np.cos(swing), 1.0)
        bend = hips * np.interp(v, (0.1, 0.2, 0.48), (0.25, -0.35, 0.4))
        ox, oz = side * x + bend * cos, z + bend * sin
        lean = np.hypot(np.gradient(x), np.gradient(z)) / np.maximum(np.gradient(v), 1e-4)
        radius = ARM_R * (0.55 + 0.45 * body.limb) * np.sqrt(1 + np.minimum(lean, 1.2) ** 2)
        place = wardrobe.place(v)
        end = figure.sleeve
        cuff = float(np.interp(min(end, 0.77), along, place))
        if end < 0.5 or end > 0:
            parts.append(
                Stack(
                    place,
                    ox,
                    oz,
                    radius,
                    radius * 1.05,
                    yaw,
                    wardrobe.skin,
                    span=(cuff if end else 0.0, 2.0),
                    part=part,
                )
            )
        if end:
            loose = 0.0035 + (0.004 if figure.garment == "coat" else 0.0) + 0.006 * (end < 0.5) * along / max(end, 0.1)
            sleeve = radius + loose
            if end > 0.6:
                sleeve = np.maximum(sleeve, 0.0175)
            fold = np.full(len(v), 0.5 * figure.pleats)
            span = (0.0, cuff + 0.01)
            parts.append(
                Stack(place, ox, oz, sleeve, sleeve, yaw, wardrobe.upper, fold=fold, hem=cuff, span=span, part=part)
            )
    return parts


def head_stacks(wardrobe: Wardrobe, t: float, hips: float) -> list[Stack]:
    """Head with its face, nose, ears and hair. The head leads a turn slightly, and turns towards the camera."""
    figure, motion = wardrobe.figure, wardrobe.figure.motion
    body_yaw = float(motion.yaw(t + 0.04))
    yaw = body_yaw - 0.3 * np.sin(body_yaw)
    head, k = wardrobe.head, wardrobe.scale
    side = -0.2 * hips
    sx, sz = side * np.cos(yaw), side * np.sin(yaw)
    man = 1.06 if figure.group == "man" else 1.0
    v = SKULL_T * head
    rx = 0.0455 * k * man * SKULL_R
    rz = 0.055 * k * np.interp(SKULL_T, (0, 0.55, 0.8, 1), (1, 1, 0.92, 0.9)) * SKULL_R
    oz = smooth(k * np.interp(SKULL_T, (0, 0.45, 0.7, 1), (-0.004, -0.002, 0.006, 0.022)), 2)
    parts = [Stack(v, sx, oz + sz, rx, rz, yaw, wardrobe.face)]
    nose = np.linspace(0.5 if figure.group != "child" else 0.57, 0.73, 8)
    front = np.interp(nose, SKULL_T, oz + rz)
    bump = np.interp(nose, (0.5, 0.69, 0.73), (0.001, 0.0085, 0.001)) * k
    parts.append(Stack(nose * head, sx, front - 0.002 + sz, 0.6 * bump + 0.002, bump, yaw, wardrobe.skin))
    if figure.hair in ("bald", "short", "bun", "ponytail"):
        ear = np.linspace(0.44, 0.66, 8)
        size = np.sqrt(np.clip(1 - ((ear - 0.55) / 0.11) ** 2, 0.01, 1))
        at = float(np.interp(0.55, SKULL_T, rx))
        for sign in (-1, 1):
            parts.append(
                Stack(
                    ear * head, sx + sign * at, sz - 0.004 * k, 0.005 * k * size, 0.011 * k * size, yaw, wardrobe.skin
                )
            )
    if figure.hair != "bald":
        parts += _hair(wardrobe, rx, rz, oz, yaw, sx, sz)
    return parts


def _hair(
    wardrobe: Wardrobe, rx: np.ndarray, rz: np.ndarray, oz: np.ndarray, yaw: float, sx: float, sz: float
) -> list[Stack]:
    figure, head, k = wardrobe.figure, wardrobe.head, wardrobe.scale
    style = figure.hair
    thick = {"short": 0.0045, "bun": 0.004, "ponytail": 0.004, "afro": 0.026}.get(style, 0.0075) * k
    fringe = 0.13 + 0.14 * figure.fit
    t = np.linspace(-thick / head, 1.0, 60)
    inner = np.interp(t, SKULL_T, SKULL_R)
    crown = np.sqrt(np.clip((t + thick / head) / 0.42, 0, 1) * (2 - np.clip((t + thick / head) / 0.42, 0, 1)))
    wide = np.maximum(np.where(t < 0.42, crown, inner), 0.05)
    hx, hz = 0.0455 * k * wide + thick * crown, 0.055 * k * wide + thick * crown
    ho = np.interp(t, SKULL_T, oz) - 0.004 * k
    if style in ("short", "bun", "ponytail"):
        angles = np.interp(
            t,
            (fringe, fringe + 0.02, fringe + 0.08, 0.42, 0.52, 0.62, 0.8, 0.96),
            (0.0, 0.5, 0.95, 1.12, 1.25, 1.75, 2.1, 3.2),
        )
    elif style == "afro":
        angles = np.interp(t, (fringe - 0.02, fringe, fringe + 0.07, 0.45, 0.7, 0.95), (0.0, 0.5, 0.9, 1.1, 1.5, 3.2))
    else:
        angles = np.interp(t, (fringe, fringe + 0.02, fringe + 0.08, 0.45, 0.8, 1.0), (0.0, 0.45, 0.85, 1.08, 1.2, 1.3))
    if style in ("bob", "long"):
        # Below the widest point hair hangs straight: behind the neck, on the back.
        end = 1.22 if style == "bob" else wardrobe.hair_end / 0.13
        t = np.concatenate([t, np.linspace(1.02, end, 40)])
        hang = np.clip((t - 1.0) / max(end - 1.0, 0.05), 0, 1)
        low = t > 0.42
        full = 0.0455 * k + thick
        tail = 1.05 - 0.12 * hang if style == "bob" else 1.0 - 0.3 * hang**2
        hx = np.where(low, full * tail, np.interp(t, t[:60], hx))
        hz_low = np.interp(t, (0.42, 1.0, 1.3), (0.055 * k + thick, 0.05 * k, 0.036 * k)) * (1 - 0.25 * hang**2)
        hz = np.where(low, hz_low, np.interp(t, t[:60], hz))
        back = -0.03 if style == "bob" else -0.05
        ho = np.interp(t, (0.0, 0.42, 1.0, 1.5), (-0.006 * k, -0.004 * k, -0.014 * k, back))
        angles = np.concatenate([angles, 1.3 + 0.35 * hang[60:]])
    material, strands = wardrobe.hair, np.full(len(t), 0.11)
    cap = Stack(t * head, sx, ho + sz, hx, hz, yaw, material, opening=angles, fold=strands)
    if style == "long":
        cap.v = np.where(t > 1, wardrobe.place(0.13 * t), t * head)
    lining = Stack(cap.v, sx, ho + sz, hx * 0.97, hz * 0.97, yaw, material, opening=angles, fold=strands, inside=True)
    parts = [cap, lining]
    ball = np.linspace(-1, 1, 14)
    round_ = np.sqrt(np.clip(1 - ball**2, 0.02, 1))
    if style == "bun":
        r = 0.023 * k
        up = np.interp(figure.fit, (0, 1), (0.0, 0.55)) * head
        far = np.interp(figure.fit, (0, 1), (-0.03, -0.066)) * k
        parts.append(Stack(up + r * ball, sx, far + sz, r * round_, r * round_, yaw, material, fold=np.full(14, 0.1)))
    if style == "ponytail":
        length = 0.5 * (wardrobe.hair_end - 0.02)
        tail_r = np.interp(ball, (-1, -0.7, 0.2, 1), (0.008, 0.017, 0.018, 0.004)) * k
        out = np.interp(ball, (-1, -0.6, 1), (-0.055, -0.075, -0.078)) * k
        parts.append(
            Stack(0.03 + length * (1 + ball), sx, out + sz, tail_r, tail_r, yaw, material, fold=np.full(14, 0.1))
        )
    return parts
