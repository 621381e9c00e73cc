"""Evaluation protocol: all settings that results depend on."""

import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fashionflow_core.config import RESAMPLING
from fashionflow_core.errors import SettingError
from fashionflow_core.evaluate.sources import FITS
from fashionflow_core.metrics.features import BN_MODES, FVD_FRAMES, FVD_SIDE, VFID_FRAMES
from fashionflow_core.metrics.random_features import RFD_FEATURES, RFD_SEED, RFD_SIDE
from fashionflow_core.store.registry import metrics_home

# Distances of two sets; scores of one set; comparisons frame by frame with the real clip of the same name; measures
# that need no real clips.
DISTANCES, SCORES, PAIRED = ("fvd", "vfid", "fid", "rfd"), ("is",), ("psnr", "ssim", "silhouette")
FREE = ("drift", "skin", "pattern", "flicker", "garment")
METRICS = (*DISTANCES, *SCORES, *PAIRED, *FREE)
NETWORKS = {"fvd": "i3d", "vfid": "i3d", "fid": "inception", "is": "inception"}
OF_16_FRAMES = ("fvd", "vfid", "rfd")
FVD_WINDOWS = ("random", "first", "middle", "last", "spread")
ENCODER = "encoder"  # sub-folder of the weights' folder that is used if no encoder is given


@dataclass(frozen=True)
class Protocol:
    """The settings of an evaluation.

    Attributes:
        metrics: names from `METRICS`; None: all that can be computed here (`availability.resolve`).
        clip_frames: use at most N consecutive frames per clip; a longer clip has a window at a position drawn from
            `seed` and the clip's name.
        fvd_window: the 16 frames that FVD uses: consecutive ones drawn from seed and name (random), the first, middle
            or last ones, or 16 evenly spaced. The paper does not specify it.
        bn_mode: BatchNorm mode of VFID: train (published script) or eval.
        is_splits: number of splits of the Inception Score.
        inception_frames: frames per clip for FID and IS, evenly spaced; None: all.
        resize: height and width that all clips are resized to; None: unchanged.
        fit, resample: resizing: stretch (published), pad or crop; bilinear (published), bicubic or lanczos.
        seed: random seed of windows, halves and bootstrap.
        bootstrap: replicates for the intervals; 0: no intervals.
    """

    metrics: tuple[str, ...] | None = None
    clip_frames: int = 70
    fvd_window: str = "random"
    bn_mode: str = "train"
    is_splits: int = 1
    inception_frames: int | None = None
    resize: tuple[int, int] | None = None
    fit: str = "stretch"
    resample: str = "bilinear"
    seed: int = 0
    bootstrap: int = 100

    def __post_init__(self) -> None:
        unknown = [name for name in self.metrics or () if name not in METRICS]
        if unknown or self.metrics == ():
            named = f"unknown: {', '.join(map(repr, unknown))}" if unknown else "none given"
            raise SettingError("metrics", named, hint=f"choose from: {','.join(METRICS)}")
        for name, value, allowed in (
            ("fvd_window", self.fvd_window, FVD_WINDOWS),
            ("bn_mode", self.bn_mode, BN_MODES),
            ("fit", self.fit, FITS),
            ("resample", self.resample, RESAMPLING),
        ):
            if value not in allowed:
                raise SettingError(name, f"{value!r} is not one of {', '.join(allowed)}")
        least = FVD_FRAMES if {*OF_16_FRAMES} & {*(self.metrics or ())} else 3
        if self.clip_frames < least:
            raise SettingError("clip_frames", f"{self.clip_frames} is too few", hint=f"use at least {least}")
        for name, value, lowest in (
            ("is_splits", self.is_splits, 1),
            ("bootstrap", self.bootstrap, 0),
            ("seed", self.seed, 0),
            ("inception_frames", self.inception_frames, 1),
        ):
            if value is not None and value < lowest:
                raise SettingError(name, f"must be at least {lowest}, not {value}")

    def wants(self, *names: str) -> list[str]:
        """Those of `names` that are selected."""
        return [name for name in names if self.metrics is None or name in self.metrics]

    def fvd_indices(self, frames: int, key: str) -> np.ndarray:
        """Indices of the window's frames that FVD uses, `(16,)`.

        Raises:
            ValueError: fewer than 16 frames.
        """
        room = frames - FVD_FRAMES
        if room < 0:
            raise ValueError(f"{frames} frames (FVD needs {FVD_FRAMES})")
        if self.fvd_window == "spread":
            return np.linspace(0, frames - 1, FVD_FRAMES).round().astype(int)
        drawn = zlib.crc32(f"{self.seed}:fvd:{key}".encode(errors="surrogateescape")) % (room + 1)
        start = {"first": 0, "middle": room // 2, "last": room, "random": drawn}[self.fvd_window]
        return np.arange(start, start + FVD_FRAMES)

    def inception_indices(self, frames: int) -> np.ndarray:
        """Indices of the window's frames that FID and IS use."""
        count = frames if self.inception_frames is None else min(self.inception_frames, frames)
        return np.linspace(0, frames - 1, count).round().astype(int)

    def record(self) -> dict[str, Any]:
        """The protocol with its fixed parts, JSON-serializable."""
        return {
            **asdict(self),
            "metrics": self.wants(*METRICS),
            "resize": list(self.resize) if self.resize else None,
            "fvd": f"{FVD_FRAMES} frames, trilinear to {FVD_SIDE}x{FVD_SIDE}, [-1, 1], 400 logits of RGB I3D",
            "vfid": f"up to {VFID_FRAMES} frames at the clip's own size, [0, 1], 1024 features of RGB I3D, BatchNorm "
            f"in {self.bn_mode} mode, one clip at a time",
            "inception": "299x299 resized as in TensorFlow 1; FID: 2048 features; IS: 1008 logits without bias",
            "rfd": f"not FVD: the frames of FVD, averaged to {RFD_SIDE}x{RFD_SIDE}, {RFD_FEATURES} features of a "
            f"random network of seed {RFD_SEED}",
            "paired": "frame by frame from the first, over the leading frames that both clips have",
            "photo": "pattern and garment: frame 0 of the real clip of that name, else the photo, else frame 0",
            "covariance": "unbiased, trace of the root as a nuclear norm",
            "files": "sorted by name; windows by CRC-32 of the seed and the name without suffix",
        }


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of an evaluation: protocol, folders, devices.

    Attributes:
        protocol: evaluation protocol.
        weights: folder of the feature networks' public files; None: the folder of `models pull metrics`.
        photos: folder of the photos of the generated clips, with the same names; for first-frame fidelity.
        encoder: folder of the image encoder for garment similarity; None: `encoder` in the folder of the weights.
        device: device of the feature networks, and of the model if `devices` is empty.
        dtype: dtype of the feature networks; published numbers use fp32.
        backend: runtime of the model that generates videos.
        devices: devices of that model, one worker per device.
    """

    protocol: Protocol = Protocol()
    weights: Path | None = None
    photos: Path | None = None
    encoder: Path | None = None
    device: str = "auto"
    dtype: str = "fp32"
    backend: str = "auto"
    devices: tuple[str, ...] = ()

    @property
    def weights_folder(self) -> Path:
        """Folder of the feature networks' files."""
        return self.weights or metrics_home()

    @property
    def encoder_folder(self) -> Path:
        """Folder of the image encoder."""
        return self.encoder or self.weights_folder / ENCODER
