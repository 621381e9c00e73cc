"""Measurements of one clip: features and scores."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fashionflow_core.evaluate.protocol import NETWORKS, Protocol
from fashionflow_core.evaluate.sources import VideoFrames
from fashionflow_core.images.fitting import fit
from fashionflow_core.images.loading import load_photo
from fashionflow_core.metrics import drift, person, steadiness
from fashionflow_core.metrics.face import face_kept
from fashionflow_core.metrics.features import fvd_features, inception_features, vfid_features
from fashionflow_core.metrics.garment import skin_mask
from fashionflow_core.metrics.motion_faults import LEAST_GROWTH, movement, zoom
from fashionflow_core.metrics.pattern import pattern_kept
from fashionflow_core.metrics.pops import largest_pop
from fashionflow_core.metrics.ssim import ssim
from fashionflow_core.metrics.tracking import follow
from fashionflow_core.metrics.weights import Loaded

_FOLLOWED = 17  # frames in which print and face are compared, about


@dataclass(eq=False)
class ClipMeasurement:
    """Measurements of a clip.

    Attributes:
        name, key: name and pairing key of the clip.
        frames, start: length and first frame of its window.
        fvd_frames: first and last frame of the window that FVD uses.
        features: metric → `(rows, d)`.
        numbers: reference-free measure → value; None where it does not apply.
        skin: skin tone group, if skin is visible.
        drift: garment drift frame by frame.
        lacking: metric → reason why this clip has none.
    """

    name: str
    key: str
    frames: int
    start: int
    fvd_frames: tuple[int, int] | None = None
    features: dict[str, np.ndarray] = field(default_factory=dict)
    numbers: dict[str, float | None] = field(default_factory=dict)
    skin: str | None = None
    drift: np.ndarray | None = None
    lacking: dict[str, str] = field(default_factory=dict)


def extract(measured: ClipMeasurement, clip: VideoFrames, protocol: Protocol, networks: dict[str, Loaded]) -> None:
    """Compute the features that the protocol's metrics need."""
    window = clip.window
    for metric in protocol.wants("fvd", "vfid"):
        try:
            chosen = protocol.fvd_indices(len(window), measured.key)
        except ValueError as error:  # VFID of fewer frames would not be comparable with the other clips
            measured.lacking[metric] = str(error).replace("FVD needs", f"{metric.upper()} needs")
            continue
        network = networks[NETWORKS[metric]].network
        if metric == "fvd":
            measured.fvd_frames = int(chosen[0]), int(chosen[-1])
            found = fvd_features(network, window[chosen])
        else:
            found = vfid_features(network, window, protocol.bn_mode)
        _keep(measured, metric, found)
    if protocol.wants("fid", "is"):
        chosen = protocol.inception_indices(len(window))
        features, logits = inception_features(networks["inception"].network, window[chosen])
        for metric, found in (("fid", features), ("is", logits)):
            if metric in protocol.metrics:
                _keep(measured, metric, found)


def _keep(measured: ClipMeasurement, metric: str, features: np.ndarray) -> None:
    if np.isfinite(features).all():
        measured.features[metric] = features
    else:
        measured.lacking[metric] = "features are not finite"


def describe(measured: ClipMeasurement, clip: VideoFrames, photo: Path | None) -> None:
    """Compute measures without weights or a real clip: drift, motion, flicker, sharpness, silhouette, first frame.

    Args:
        photo: photo that the clip was generated from, if known.

    Raises:
        FashionFlowError: the photo cannot be read.
    """
    frames = clip.head
    if len(frames) < 3:
        measured.lacking["drift"] = f"{len(frames)} frames (drift needs 3)"
        return
    palette, figure, garment = drift.find_parts(frames)
    skin = np.stack([skin_mask(f, palette, whole, worn) for f, whole, worn in zip(frames, figure, garment)])
    widths = drift.silhouette_width(frames, figure)
    measured.drift = drift.garment_drift_over_time(frames, garment)
    tone = person.skin_drift(frames, skin, figure)
    measured.skin = tone[0] if tone else None
    measured.numbers |= {
        "garment_drift": float(measured.drift.mean()),
        "garment_drift_median": float(np.median(measured.drift)),
        "garment_drift_last": float(measured.drift[-1]),
        "skin_drift": tone[1] if tone else None,
        "motion": drift.motion(frames),
        "temporal_energy": drift.temporal_energy(frames),
        "sharpness": drift.sharpness(frames, figure),
        "silhouette_range": float(np.ptp(widths)),
        "silhouette_correlation": person.silhouette_correlation(figure),
        "first_step": person.first_step(frames),
        "flash": steadiness.flash(frames[:, ::4, ::4]),
        "wall_shift": steadiness.wall_shift(frames),
        "fade": steadiness.fade(frames, figure),
        "largest_pop": largest_pop(frames),
        "movement": movement(frames),
        "zoom_share": _zoom_share(frames),
        **_kept(frames, figure[0], garment),
    }
    if photo is not None:
        pixels = fit(load_photo(photo), *frames.shape[1:3], mode="stretch", resample="bilinear").pixels[None]
        measured.numbers |= {
            "first_frame_psnr": _finite(drift.psnr(frames[:1], pixels)),
            "first_frame_ssim": ssim(frames[:1], pixels),
        }


def _zoom_share(frames: np.ndarray) -> float:
    found = zoom(frames)
    return found.share if found.growth > LEAST_GROWTH else 0.0


def _kept(frames: np.ndarray, figure: np.ndarray, garment: np.ndarray) -> dict[str, float | None]:
    """What is kept of frame 0's print, face and colours, cell by cell; None without a figure."""
    if not garment[0].any():
        return dict.fromkeys(("cell_drift", "pattern_kept", "face_kept"))
    track = follow(frames, figure, max(1, len(frames) // _FOLLOWED))
    return {
        "cell_drift": drift.cell_drift(frames[1:], frames[0], garment[1:], garment[0]),
        "pattern_kept": pattern_kept(frames, garment[0], track),
        "face_kept": face_kept(frames, figure, track),
    }


def compare(clip: VideoFrames, real: VideoFrames, protocol: Protocol) -> dict[str, float | None]:
    """PSNR and SSIM of a clip against the real one, frame by frame from the first on; and correlation of their turning.

    Raises:
        ValueError: they differ in length or size.
    """
    fake, true = clip.head, real.head
    if len(fake) != len(true):
        raise ValueError(f"{len(fake)} frames, but its real clip has {len(true)}: not compared frame by frame")
    found: dict[str, float | None] = {}
    if "psnr" in protocol.metrics:
        found["psnr"] = _finite(drift.psnr(fake, true))
    if "ssim" in protocol.metrics:
        found["ssim"] = ssim(fake, true)
    if "drift" in protocol.metrics:
        found["width_correlation"] = person.width_correlation(*map(drift.silhouette_width, (fake, true)))
    return found


def _finite(value: float) -> float | None:
    """None for the PSNR of equal frames: JSON has no infinity."""
    return value if np.isfinite(value) else None


def protocol_of(measured: ClipMeasurement) -> dict[str, Any]:
    """The frames of a clip that were used, JSON-serializable."""
    return {
        "name": measured.name,
        "start": measured.start,
        "frames": measured.frames,
        "fvd_frames": list(measured.fvd_frames) if measured.fvd_frames else None,
    }
