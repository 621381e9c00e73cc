"""Random figure attributes: body, clothes, motion, studio."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fashionflow_core.synthetic.motion import Motion, pick, sample_motion
from fashionflow_core.synthetic.textures import (
    HAIR_COLOURS,
    SKIN_TONES,
    Fabric,
    Rgb,
    garment_colour,
    hex_code,
    luma,
    rgb,
    sample_fabric,
)

GROUPS = ("woman", "man", "child")
HEMS = {"mini": 0.60, "knee": 0.70, "midi": 0.80, "maxi": 0.915}
SLEEVES = {"none": 0.0, "short": 0.3, "elbow": 0.48, "long": 0.97}


@dataclass(frozen=True)
class Body:
    """Proportions: length of the head in body heights, and factors on an adult woman's widths."""

    head: float
    shoulder: float
    bust: float
    waist: float
    hip: float
    limb: float


@dataclass(frozen=True)
class Figure:
    """All attributes of a clip, drawn by `sample_figure`. Colours are sRGB 0..1, lengths are body heights."""

    seed: int
    group: str
    body: Body
    skin: str
    skin_rgb: Rgb
    hair: str
    hair_colour: str
    hair_rgb: Rgb
    lips: Rgb
    eyes: Rgb
    garment: str
    upper: Fabric
    lower: Fabric
    hem: str
    hem_v: float
    sleeves: str
    sleeve: float
    neckline: str
    fit: float
    flare: float
    pleats: float
    leg_width: float
    belt: Rgb | None
    placket: Rgb | None
    shoes: str
    shoe_rgb: Rgb
    arms: tuple[str, str]
    background: str
    wall: Rgb
    wall_top: Rgb
    floor: float
    shadow: float
    light: str
    light_direction: tuple[float, float, float]
    ambient: float
    tint: tuple[float, float, float]
    pitch: float
    size: float
    centre: float
    ground: float
    motion: Motion

    def attributes(self) -> dict[str, str | float | int]:
        """The attributes, JSON-serializable: colours as `#rrggbb`, angles in degrees."""
        yaws = np.degrees(self.motion.yaws)
        separate = self.garment in ("top_skirt", "top_trousers", "top_shorts", "coat", "tunic")
        found: dict[str, str | float | int] = {
            "seed": self.seed,
            "group": self.group,
            "skin_tone": self.skin,
            "skin_colour": hex_code(self.skin_rgb),
            "hair": self.hair,
            "hair_colour": self.hair_colour,
            "garment": self.garment,
            "fabric": self.upper.kind,
            "colour": hex_code(self.upper.colours[0]),
            "colour_second": hex_code(self.upper.colours[1]) if self.upper.kind != "plain" else "",
            "lower_fabric": self.lower.kind if separate else self.upper.kind,
            "lower_colour": hex_code(self.lower.colours[0] if separate else self.upper.colours[0]),
            "hem": self.hem,
            "sleeves": self.sleeves,
            "neckline": self.neckline,
            "belt": hex_code(self.belt) if self.belt else "",
            "shoes": self.shoes,
            "shoe_colour": hex_code(self.shoe_rgb),
            "background": self.background,
            "background_colour": hex_code(self.wall),
            "light": self.light,
            "light_ambient": round(self.ambient, 3),
            "motion": self.motion.kind,
            "yaw_start_degrees": round(float(yaws[0]), 1),
            "yaw_first_turn_degrees": round(float(yaws[1]), 1),
        }
        return found


def _sample_body(rng: np.random.Generator, group: str) -> Body:
    def near(centre: float, spread: float) -> float:
        return float(centre + spread * rng.uniform(-1, 1))

    build = near(1.0, 0.1)
    if group == "man":
        return Body(
            near(0.13, 0.005), near(1.15, 0.05), 0.0, build * near(1.2, 0.05), near(0.98, 0.04), near(1.16, 0.08)
        )
    if group == "child":
        return Body(
            near(0.178, 0.02), near(0.95, 0.05), 0.0, build * near(1.22, 0.05), near(0.92, 0.04), near(1.1, 0.08)
        )
    return Body(
        near(0.127, 0.006),
        near(0.97, 0.04),
        near(1.0, 0.3),
        build * near(1.0, 0.06),
        build * near(1.02, 0.05),
        near(1.0, 0.08),
    )


def _sample_background(rng: np.random.Generator) -> tuple[str, Rgb, Rgb]:
    kind = pick(rng, {"white": 0.34, "grey": 0.3, "coloured": 0.2, "gradient": 0.16})
    if kind == "white":
        value = rng.uniform(0.95, 1.0)
        wall = (value, value, min(1.0, value + rng.uniform(-0.01, 0.01)))
        return kind, wall, wall
    if kind == "grey":
        value = rng.uniform(0.74, 0.94)
        wall = (value, value, value + rng.uniform(-0.015, 0.02))
        return kind, wall, wall
    hue = rng.random()
    level, strength = rng.uniform(0.72, 0.95), rng.uniform(0.05, 0.2)
    wave = [level * (1 - strength * (0.5 + 0.5 * np.cos(2 * np.pi * (hue - k / 3)))) for k in range(3)]
    wall = (float(wave[0]), float(wave[1]), float(wave[2]))
    if kind == "coloured":
        return kind, wall, wall
    factor = rng.uniform(0.76, 0.9)
    return kind, wall, (wall[0] * factor, wall[1] * factor, wall[2] * factor)


def sample_figure(seed: int) -> Figure:
    """Draw a figure, its clothes, its studio and its motion.

    Args:
        seed: any non-negative integer, for `numpy.random.Generator(PCG64(seed))`, so that the same seed
            gives the same figure on every machine.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    group = pick(rng, {"woman": 0.62, "man": 0.22, "child": 0.16})
    skin = list(SKIN_TONES)[int(rng.integers(len(SKIN_TONES)))]
    skin_rgb = rgb(SKIN_TONES[skin])
    body = _sample_body(rng, group)
    girl = group == "woman" or (group == "child" and rng.random() < 0.5)
    if group == "man":
        hair = pick(rng, {"short": 0.66, "bald": 0.16, "afro": 0.08, "bob": 0.05, "bun": 0.05})
    elif girl:
        hair = pick(rng, {"long": 0.36, "bob": 0.2, "bun": 0.14, "ponytail": 0.12, "short": 0.1, "afro": 0.08})
    else:
        hair = pick(rng, {"short": 0.75, "bob": 0.1, "afro": 0.15})
    grey_share = 0.0 if group == "child" else 0.06
    natural = {name: grey_share if name in ("grey", "white") else 0.15 for name in HAIR_COLOURS}
    if luma(skin_rgb) < 0.45:
        natural.update(black=0.5, darkbrown=0.3, auburn=0.07, blond=0.05, lightblond=0.02)
    hair_colour = pick(rng, natural)
    hair_rgb = rgb(HAIR_COLOURS[hair_colour])
    makeup = rng.uniform(0.2, 0.8) if group == "woman" else 0.1
    rouge = (0.66, 0.16, 0.2)
    lips = tuple(
        float((1 - makeup) * a * b + makeup * c) for a, b, c in zip(skin_rgb, (0.86, 0.62, 0.6), rouge, strict=True)
    )
    eyes = (rgb("#2b1d14"), rgb("#4a3320"), rgb("#4f6b7d"), rgb("#55663f"))[int(rng.integers(4))]

    size = float(rng.uniform(0.835, 0.885))
    pixels = 320 * size
    if girl:
        choices = {
            "dress": 0.46,
            "top_skirt": 0.18,
            "top_trousers": 0.12,
            "coat": 0.07,
            "tunic": 0.05,
            "jumpsuit": 0.08,
        }
        garment = pick(rng, {**choices, "top_shorts": 0.04 if group == "woman" else 0.12})
    else:
        garment = pick(rng, {"top_trousers": 0.6, "top_shorts": 0.14, "coat": 0.1, "tunic": 0.1, "jumpsuit": 0.06})
    upper = sample_fabric(rng, pixels)
    lower_kind = "plain" if upper.kind != "plain" and rng.random() < 0.75 else None
    if garment in ("coat", "tunic", "top_trousers", "top_shorts") and rng.random() < 0.7:
        lower_kind = "plain"
    lower = sample_fabric(rng, pixels, lower_kind)
    if garment == "coat" and upper.kind in ("print", "dots"):
        upper = sample_fabric(rng, pixels, str(rng.choice(["plain", "checks", "vertical_stripes"])))
    if garment in ("dress", "top_skirt"):
        hem = pick(rng, {"mini": 0.22, "knee": 0.4, "midi": 0.23, "maxi": 0.15})
    elif garment == "coat":
        hem = pick(rng, {"mini": 0.45, "knee": 0.4, "midi": 0.15})
    else:
        hem = {"tunic": "mini", "top_shorts": "mini"}.get(garment, "maxi")
    hem_v = HEMS[hem] + float(rng.uniform(-0.025, 0.025))
    if garment == "coat":
        sleeves = "long"
    else:
        bare = 0.36 if girl else 0.06
        sleeves = pick(rng, {"none": bare, "short": 0.32, "elbow": 0.08, "long": 0.26})
    if girl and sleeves == "none":
        neckline = pick(rng, {"round": 0.32, "v": 0.2, "boat": 0.14, "square": 0.14, "straps": 0.2})
    elif garment == "coat":
        neckline = pick(rng, {"v": 0.6, "high": 0.4})
    else:
        neckline = pick(rng, {"round": 0.5, "v": 0.22, "boat": 0.1 if girl else 0.0, "high": 0.16})
    pencil = garment == "dress" and rng.random() < 0.3
    flare = float(
        rng.uniform(0.02, 0.08) if pencil or (hem == "mini" and garment == "coat") else rng.uniform(0.08, 0.34)
    )
    if hem == "maxi":
        flare *= 0.55
    accent = upper.colours[2] if rng.random() < 0.5 else garment_colour(rng)
    belt = accent if garment in ("dress", "jumpsuit", "coat", "top_trousers") and rng.random() < 0.35 else None
    placket = None
    if garment == "coat" or (garment in ("tunic", "dress", "top_trousers") and rng.random() < 0.2):
        shade = 0.55 if luma(upper.colours[0]) > 0.25 else 1.9
        red, green, blue = (min(1.0, shade * value + 0.02) for value in upper.colours[0])
        placket = (red, green, blue)
    if group == "woman":
        shoes = pick(rng, {"pumps": 0.5, "flats": 0.25, "sneakers": 0.1, "boots": 0.15})
    else:
        shoes = pick(rng, {"sneakers": 0.5, "flats": 0.35, "boots": 0.15})
    shoe_rgb = rgb(
        ("#1a1718", "#efece6", "#8a5a38", "#c9a27e", "#5b1f24", "#2b3350", "#b5b0a8", "#a8322e")[int(rng.integers(8))]
    )
    arm = {"relaxed": 0.62, "bent": 0.28, "hip": 0.1}
    arms = (pick(rng, arm), pick(rng, arm))
    background, wall, wall_top = _sample_background(rng)
    azimuth, elevation = np.radians(rng.uniform(-65, 65)), np.radians(rng.uniform(15, 55))
    direction = (
        float(np.sin(azimuth) * np.cos(elevation)),
        float(np.sin(elevation)),
        float(np.cos(azimuth) * np.cos(elevation)),
    )
    light = pick(rng, {"soft": 0.5, "medium": 0.35, "hard": 0.15})
    ambient = {"soft": 0.62, "medium": 0.47, "hard": 0.34}[light] + float(rng.uniform(-0.05, 0.05))
    warmth = float(rng.uniform(-0.03, 0.03))
    return Figure(
        seed=seed, group=group, body=body, skin=skin, skin_rgb=skin_rgb, hair=hair, hair_colour=hair_colour,
        hair_rgb=hair_rgb, lips=(lips[0], lips[1], lips[2]), eyes=eyes, garment=garment, upper=upper, lower=lower,
        hem=hem, hem_v=hem_v, sleeves=sleeves, sleeve=SLEEVES[sleeves], neckline=neckline,
        fit=float(rng.uniform(0.0, 1.0)), flare=flare, pleats=float(rng.uniform(0.02, 0.1)),
        leg_width=float(rng.uniform(1.08, 1.7)), belt=belt, placket=placket, shoes=shoes, shoe_rgb=shoe_rgb, arms=arms,
        background=background, wall=wall, wall_top=wall_top, floor=float(rng.uniform(-0.05, 0.03)),
        shadow=float(rng.uniform(0.14, 0.4)), light=light, light_direction=direction, ambient=ambient,
        tint=(1 + warmth, 1.0, 1 - warmth), pitch=float(rng.uniform(0.05, 0.13)), size=size,
        centre=float(0.5 + rng.uniform(-0.04, 0.04)), ground=float(1 - rng.uniform(0.045, 0.075)),
        motion=sample_motion(rng),
    )  # fmt: skip
