"""3-D bodies of all ages and builds, posed by motion.

The body is MakeHuman's (CC0), from the package `anny`.

Lengths are metres in the body's space: x to the image's right, y away from the camera, z up; the rest pose has
arms and legs apart. Only data inside the package is read; nothing is downloaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from PIL import Image

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.synthetic.figure import Figure

SIDES = (("R", -1.0), ("L", 1.0))  # the body's right side is the image's left
HEELS = {"pumps": 0.42, "boots": 0.1}  # angle of the sole in radians
_ARM = ("upperarm", "lowerarm", "wrist", "finger", "metacarpal")
_LEG = ("upperleg", "lowerleg", "foot", "toe")
_HEAD_TURN = 0.85  # share of the trunk's turn: the eyes stay near the camera


@lru_cache(maxsize=1)
def body_model() -> Any:
    """The body model; its first use on a machine takes two minutes, later ones three seconds.

    Raises:
        FashionFlowError: the extra is not installed.
    """
    try:
        import warp  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise missing_extra() from None
    warp.config.log_level = warp.LOG_ERROR  # stdout is for results of commands
    with _no_stderr():  # warp warns of a missing CUDA driver at any log level
        warp.init()
    try:
        import anny  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise missing_extra() from None
    torch.set_num_threads(1)  # figures are made in several processes
    return anny.Anny().to(torch.float32)


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Discard what native code writes to stderr."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def missing_extra() -> FashionFlowError:
    """The error for an installation without `anny` and `warp`."""
    return FashionFlowError(
        "3-D figures need the extra synth3d", hint="install it from the checkout: make setup EXTRAS=dev,synth3d"
    )


@dataclass(frozen=True)
class BodyShape:
    """Parameters of a body, each 0 to 1: `gender` 0 is male, `age` 0.33 a child of ten, 0.67 an adult of 25."""

    gender: float
    age: float
    muscle: float
    weight: float
    height: float
    proportions: float


def sample_shape(figure: Figure) -> BodyShape:
    """Draw a build for a figure's group."""
    rng = np.random.Generator(np.random.PCG64([figure.seed, 31]))

    def near(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    if figure.group == "child":
        girl = figure.garment in ("dress", "top_skirt") or rng.random() < 0.4
        return BodyShape(float(girl), near(0.27, 0.46), 0.5, near(0.35, 0.6), near(0.4, 0.6), near(0.4, 0.8))
    if figure.group == "man":
        return BodyShape(
            near(0, 0.1), near(0.6, 0.85), near(0.45, 0.75), near(0.35, 0.65), near(0.3, 0.6), near(0.5, 0.9)
        )
    return BodyShape(near(0.88, 1), near(0.6, 0.82), near(0.35, 0.6), near(0.25, 0.65), near(0.3, 0.6), near(0.5, 0.95))


class BodyMesh:
    """A figure's body at rest.

    Attributes:
        vertices: rest pose, float64 (v, 3).
        faces: triangles, int64 (f, 3), counter-clockwise from outside.
        bones: rest position of each bone's head, by name.
        arm, leg, foot, toes: share of each vertex that follows these limbs, float64 (2, v), right side first.
        head: share that follows head and neck, float64 (v,).
        eye: mask of the eyeballs, bool (v,).
    """

    def __init__(self, figure: Figure) -> None:
        self.model = body_model()
        self.shape = sample_shape(figure)
        labels = list(self.model.bone_labels)
        self.index = {label: number for number, label in enumerate(labels)}
        self.faces = np.asarray(self.model.faces).astype(np.int64)
        rest, heads = self._run(np.tile(np.eye(4), (1, len(labels), 1, 1)))
        self.vertices = rest[0]
        self.bones = dict(zip(labels, heads[0]))
        owners = self.model.vertex_bone_indices.numpy()
        weights = self.model.vertex_bone_weights.numpy().astype(np.float64)

        def share(*starts: str, side: str = "") -> np.ndarray:
            chosen = np.array([label.startswith(starts) and label.endswith(side) for label in labels])
            return (weights * chosen[owners]).sum(1)

        self.arm = np.stack([share(*_ARM, side=side) for side, _ in SIDES])
        self.leg = np.stack([share(*_LEG, side=side) for side, _ in SIDES])
        self.foot = np.stack([share("foot", side=side) for side, _ in SIDES])
        self.toes = np.stack([share("toe", side=side) for side, _ in SIDES])
        self.head = share("head", "neck", "eye")
        self.eye = share("eye") > 0.5

    def _run(self, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kinds = {k: torch.full((len(pose),), float(v)) for k, v in vars(self.shape).items()}
        with torch.no_grad():
            found = self.model(pose_parameters=torch.tensor(pose, dtype=torch.float32), phenotype_kwargs=kinds)
        return found["vertices"].numpy().astype(np.float64), found["bone_poses"][..., :3, 3].numpy().astype(np.float64)

    @cached_property
    def height(self) -> float:
        """From sole to crown."""
        return float(np.ptp(self.vertices[:, 2]))

    @cached_property
    def size(self) -> float:
        """Factor on lengths of an adult of 1.7 m."""
        return self.height / 1.7

    @cached_property
    def sole(self) -> float:
        """Lowest z of the rest pose."""
        return float(self.vertices[:, 2].min())

    @cached_property
    def crown(self) -> float:
        """Highest z of the rest pose."""
        return float(self.vertices[:, 2].max())

    @cached_property
    def waist(self) -> float:
        """z of the waist."""
        return float(0.66 * self.bones["upperleg01.L"][2] + 0.34 * self.bones["upperarm01.L"][2])

    @cached_property
    def crotch(self) -> float:
        """z of the crotch."""
        middle = (np.abs(self.vertices[:, 0]) < 0.01 * self.size) & (self.vertices[:, 2] < self.waist)
        return float(self.vertices[middle, 2].min())

    @cached_property
    def lips(self) -> np.ndarray:
        """float64 (v,), share of lip at each vertex: MakeHuman's own mask, sampled at the vertices."""
        with (files("anny") / "data/mpfb2/textures/mpfb_lips.jpg").open("rb") as file, Image.open(file) as image:
            mask = np.asarray(image.convert("L"), np.float64) / 255
        uv = self.model.texture_coordinates.numpy()
        corners = np.asarray(self.model.face_texture_coordinate_indices)
        at = uv[corners]
        rows = ((1 - at[..., 1]) * (len(mask) - 1)).round().astype(int).clip(0, len(mask) - 1)
        columns = (at[..., 0] * (mask.shape[1] - 1)).round().astype(int).clip(0, mask.shape[1] - 1)
        total = np.bincount(self.faces.ravel(), mask[rows, columns].ravel(), len(self.vertices))
        return total / np.maximum(np.bincount(self.faces.ravel(), minlength=len(self.vertices)), 1)

    def posed(self, figure: Figure, times: np.ndarray, spread: float = 0.0) -> np.ndarray:
        """Vertices at times, float64 (t, v, 3); the lower foot stands at z = 0, the axis of turning is x = y = 0.

        Args:
            figure: figure with motion, arms and shoes.
            times: times in seconds, (t,).
            spread: half-width in metres at the height of the hands, which they must not enter.
        """
        vertices, _ = self._run(_Pose(self, figure, np.asarray(times, np.float64), spread).matrices)
        vertices[..., 2] -= vertices[..., 2].min(1)[:, None]
        return vertices


def rigid(rest: np.ndarray, posed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (t, 3, 3) and shifts (t, 3) that bring points (n, 3) nearest to posed ones (t, n, 3) (Kabsch)."""
    a, b = rest.mean(0), posed.mean(1)
    u, _, v = np.linalg.svd(np.einsum("tni,nj->tij", posed - b[:, None], rest - a))
    u[:, :, 2] *= np.sign(np.linalg.det(u @ v))[:, None]
    rotation = u @ v
    return rotation, b - rotation @ a


class _Pose:
    """Rotations of all bones at all times, (t, bones, 4, 4), in the axes of the rest pose, carried by the parent."""

    def __init__(self, body: BodyMesh, figure: Figure, times: np.ndarray, spread: float) -> None:
        self.body, self.figure, self.t = body, figure, times
        self.matrices = np.tile(np.eye(4), (len(times), len(body.index), 1, 1))
        motion = figure.motion
        height = body.height
        hips = motion.yaw(times - 0.05)
        chest = motion.yaw(times)
        side = motion.sideways(times)
        tilt = -2.5 * side  # the pelvis rises over the supporting leg
        # The pelvis moves sideways in the image, the feet are fixed.
        self._set("root", _rz(hips) @ _ry(tilt))
        self.matrices[:, 0, 0, 3] = (motion.shift(times) + side) * height
        for bone in ("spine05", "spine03"):
            self._set(bone, _ry(-0.7 * tilt))
        for bone in ("spine04", "spine02"):
            self._set(bone, _rz((chest - hips) / 2))
        head = (_HEAD_TURN - 1) * (motion.yaw(times - 0.08) - motion.yaw(0.0))
        for bone in ("neck01", "neck03"):
            self._set(bone, _rz(head / 2) @ _ry(0.2 * tilt))
        for number, (name, sign) in enumerate(SIDES):
            angle = 2 * np.pi * motion.step_hz * times + motion.phase + (0 if sign < 0 else np.pi)
            self._leg(name, sign, angle, side, tilt)
            self._arm(name, sign, figure.arms[number], angle, spread)

    def _set(self, bone: str, rotation: np.ndarray) -> None:
        self.matrices[:, self.body.index[bone], :3, :3] = rotation

    def _leg(self, name: str, sign: float, angle: np.ndarray, side: np.ndarray, tilt: np.ndarray) -> None:
        body, motion = self.body, self.figure.motion
        hip, foot = body.bones[f"upperleg01.{name}"], body.bones[f"foot.{name}"]
        length = float(hip[2] - foot[2])
        stance = (0.075 + 0.02 * motion.step) * body.size * sign
        now = np.arctan2(foot[0] - hip[0], length)
        wanted = np.arctan2(stance - hip[0] - side * body.height, length)
        lift = 0.16 * motion.step * np.maximum(0.0, np.cos(angle))
        ahead = 0.06 * motion.step * np.sin(angle)
        self._set(f"upperleg01.{name}", _ry(now - wanted - tilt) @ _rx(-ahead - lift))
        self._set(f"lowerleg01.{name}", _rx(2.1 * lift + 0.02))
        heel = HEELS.get(self.figure.shoes, 0.0)
        self._set(f"foot.{name}", _rx(ahead - 1.1 * lift - 0.02 + heel) @ _ry(wanted - now))
        for toe in range(1, 6):
            self._set(f"toe{toe}-1.{name}", _rx(np.full(len(self.t), -heel)))

    def _arm(self, name: str, sign: float, kind: str, angle: np.ndarray, spread: float) -> None:
        body, motion = self.body, self.figure.motion
        rng = np.random.Generator(np.random.PCG64([self.figure.seed, 33, int(sign > 0)]))
        shoulder, elbow, wrist = (body.bones[f"{bone}.{name}"] for bone in ("upperarm01", "lowerarm01", "wrist"))
        upper, lower = float(np.linalg.norm(elbow - shoulder)), float(np.linalg.norm(wrist - elbow))
        swing = -motion.swing * np.sin(angle)
        reach = float(np.arcsin(np.clip((spread + 0.03 * body.size - abs(shoulder[0])) / (upper + lower), -0.1, 0.5)))
        out = max(float(rng.uniform(0.13, 0.24)), reach)
        bend = float(rng.uniform(0.12, 0.35)) + 0.3 * motion.swing * np.cos(angle)
        inward = float(rng.uniform(0.02, 0.1))
        forward = swing + float(rng.uniform(-0.06, 0.06))
        if kind == "hip":
            # The wrist is at the side of the waist; the elbow follows from the lengths of both bones.
            target = np.array([sign * 0.165 * body.size, 0.01, body.waist - 0.04 * body.size])
            across = target - shoulder
            far = float(np.clip(np.linalg.norm(across), 0.2 * upper, 0.97 * (upper + lower)))
            at = (far**2 + upper**2 - lower**2) / (2 * far)
            off = np.sqrt(max(upper**2 - at**2, 0.0))
            along = across / np.linalg.norm(across)
            outward = np.array([sign * 0.9, 0.45, 0.0])
            outward -= along * (outward @ along)
            middle = along * at + outward / np.linalg.norm(outward) * off
            first = np.tile(middle / upper, (len(self.t), 1))
            second = np.tile((along * far - middle) / lower, (len(self.t), 1))
        else:
            if kind == "bent":
                bend = float(rng.uniform(0.9, 1.5)) + 0.3 * swing
                inward = float(rng.uniform(0.2, 0.5))
            first = _direction(sign * np.full(len(self.t), out), forward)
            second = _direction(sign * (out - inward) * np.ones(len(self.t)), forward + bend)
        turn = _align(elbow - shoulder, first)
        self._set(f"upperarm01.{name}", turn)
        # In the frame of the upper arm, the parent of the lower one.
        self._set(f"lowerarm01.{name}", _align(wrist - elbow, np.einsum("tji,tj->ti", turn, second)))


def _direction(out: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """Unit vectors (t, 3) hanging down, turned outwards and forwards by angles."""
    found = np.stack([np.sin(out), -np.sin(forward) * np.cos(out), -np.cos(forward) * np.cos(out)], -1)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def _axes(angle: np.ndarray, first: int, second: int) -> np.ndarray:
    angle = np.atleast_1d(np.asarray(angle, np.float64))
    found = np.tile(np.eye(3), (len(angle), 1, 1))
    found[:, first, first] = found[:, second, second] = np.cos(angle)
    found[:, first, second], found[:, second, first] = -np.sin(angle), np.sin(angle)
    return found


def _rx(angle: np.ndarray) -> np.ndarray:
    """About x: positive lowers points in front (-y) of the joint and swings a hanging limb back."""
    return _axes(angle, 1, 2)


def _ry(angle: np.ndarray) -> np.ndarray:
    return _axes(angle, 2, 0)


def _rz(angle: np.ndarray) -> np.ndarray:
    """About z: positive turns the front to the image's right."""
    return _axes(angle, 0, 1)


def _align(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Shortest rotations (t, 3, 3) that bring a direction (3,) to directions (t, 3)."""
    a = source / np.linalg.norm(source)
    b = target / np.linalg.norm(target, axis=-1, keepdims=True)
    v, c = np.cross(a, b), b @ a
    cross = np.zeros((len(b), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -v[:, 2], v[:, 1], -v[:, 0]
    cross -= cross.transpose(0, 2, 1)
    return np.eye(3) + cross + cross @ cross / (1 + c)[:, None, None]
