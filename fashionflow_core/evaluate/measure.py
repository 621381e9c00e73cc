"""Measurements of one clip: features and scores."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fashionflow_core.evaluate.parts import ClipParts
from fashionflow_core.evaluate.protocol import FREE, OF_16_FRAMES, Protocol
from fashionflow_core.evaluate.sources import VideoFrames
from fashionflow_core.images.fitting import fit
from fashionflow_core.images.lab import ciede2000
from fashionflow_core.images.loading import load_photo
from fashionflow_core.metrics import drift, lost_detail, person, steadiness
from fashionflow_core.metrics.doubled import doubled_limb
from fashionflow_core.metrics.face import face_kept
from fashionflow_core.metrics.features import fvd_features, inception_features, vfid_features
from fashionflow_core.metrics.flicker import warping_error
from fashionflow_core.metrics.garment import garment_mask
from fashionflow_core.metrics.image_encoder import ImageEncoder, garment_similarity
from fashionflow_core.metrics.motion_faults import LEAST_GROWTH, movement, zoom
from fashionflow_core.metrics.pattern import pattern_kept
from fashionflow_core.metrics.pops import largest_pop
from fashionflow_core.metrics.random_features import RandomVideoFeatures, random_features
from fashionflow_core.metrics.ssim import ssim
from fashionflow_core.metrics.tracking import follow
from fashionflow_core.metrics.weights import Loaded

_LEAST_FRAMES = 3
_ENCODED_FRAMES = 8  # of a clip that the image encoder sees, evenly spaced, without frame 0
_FOLLOWED = 17  # frames in which the face is compared, about


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


@dataclass(frozen=True, eq=False)
class FeatureNetworks:
    """Networks that the selected metrics need.

    Attributes:
        trained: `i3d` and `inception`, with public weights.
        random: network of the random-feature distance.
        encoder: image encoder of garment similarity.
    """

    trained: dict[str, Loaded]
    random: RandomVideoFeatures | None = None
    encoder: ImageEncoder | None = None


def extract(measured: ClipMeasurement, clip: VideoFrames, protocol: Protocol, networks: FeatureNetworks) -> None:
    """Compute the features that the protocol's metrics need."""
    window = clip.window
    for metric in protocol.wants(*OF_16_FRAMES):
        try:
            chosen = protocol.fvd_indices(len(window), measured.key)
        except ValueError as error:  # VFID of fewer frames would not be comparable with the other clips
            measured.lacking[metric] = str(error).replace("FVD needs", f"{metric.upper()} needs")
            continue
        if metric == "rfd":
            assert networks.random is not None
            found = random_features(networks.random, window[chosen])
        elif metric == "fvd":
            measured.fvd_frames = int(chosen[0]), int(chosen[-1])
            found = fvd_features(networks.trained["i3d"].network, window[chosen])
        else:
            found = vfid_features(networks.trained["i3d"].network, window, protocol.bn_mode)
        _keep(measured, metric, found)
    if protocol.wants("fid", "is"):
        chosen = protocol.inception_indices(len(window))
        features, logits = inception_features(networks.trained["inception"].network, window[chosen])
        for metric, found in (("fid", features), ("is", logits)):
            if protocol.wants(metric):
                _keep(measured, metric, found)


def _keep(measured: ClipMeasurement, metric: str, features: np.ndarray) -> None:
    if np.isfinite(features).all():
        measured.features[metric] = features
    else:
        measured.lacking[metric] = "features are not finite"


def describe(
    measured: ClipMeasurement,
    parts: ClipParts,
    protocol: Protocol,
    encoder: ImageEncoder | None = None,
    true_photo: np.ndarray | None = None,
    photo: Path | None = None,
) -> None:
    """Compute measures that need no real clip: drift, skin, pattern, flicker, garment, first frame.

    Args:
        true_photo: frame 0 of the real clip, which the clip was generated from, uint8 `(h, w, 3)`.
        photo: file of the photo that the clip was generated from, if known.

    Raises:
        FashionFlowError: the photo cannot be read.
    """
    frames, wanted = parts.frames, protocol.wants(*FREE)
    if not wanted:
        return
    if len(frames) < _LEAST_FRAMES:
        named = ",".join(wanted)
        measured.lacking[named] = f"{len(frames)} frames ({named} needs {_LEAST_FRAMES})"
        return
    if protocol.wants("drift", "skin"):
        tone = person.tone_drift(parts.tones)
        measured.skin = tone[0] if tone else None
        measured.numbers["skin_drift"] = tone[1] if tone else None
    if "drift" in wanted:
        _drift(measured, parts)
    pixels = true_photo
    if photo is not None:
        fitted = fit(load_photo(photo), *frames.shape[1:3], mode="stretch", resample="bilinear").pixels
        pixels = fitted if pixels is None else pixels
        if "drift" in wanted:
            measured.numbers |= {
                "first_frame_psnr": _finite(drift.psnr(frames[:1], fitted[None])),
                "first_frame_ssim": ssim(frames[:1], fitted[None]),
            }
    pixels = frames[0] if pixels is None else pixels
    # A model that the photo steers by its context alone does not begin with the photo: it is judged against it.
    garment = parts.garment[0] if pixels is frames[0] or np.array_equal(pixels, frames[0]) else garment_mask(pixels)
    if "pattern" in wanted:
        clip = np.concatenate([pixels[None], frames[1:]])
        measured.numbers["pattern_kept"] = pattern_kept(clip, garment)
    if "flicker" in wanted:
        measured.numbers["warping_error"] = warping_error(frames)
    if encoder is not None:
        chosen = np.unique(np.linspace(1, len(frames) - 1, _ENCODED_FRAMES).round().astype(int))
        measured.numbers["garment_similarity"] = garment_similarity(
            encoder, pixels, garment, frames[chosen], parts.garment[chosen]
        )


def _drift(measured: ClipMeasurement, parts: ClipParts) -> None:
    measured.drift = ciede2000(parts.colours[0], parts.colours[1:])
    measured.numbers |= {
        "garment_drift": float(measured.drift.mean()),
        "garment_drift_median": float(np.median(measured.drift)),
        "garment_drift_last": float(measured.drift[-1]),
        "motion": drift.motion(parts.frames),
        "temporal_energy": drift.temporal_energy(parts.frames),
        "sharpness": drift.sharpness(parts.frames, parts.figure),
        "silhouette_range": float(np.ptp(parts.widths)),
        "silhouette_correlation": person.silhouette_correlation(parts.figure),
        "first_step": person.first_step(parts.frames),
        "flash": steadiness.flash(parts.frames[:, ::4, ::4]),
        "wall_shift": steadiness.wall_shift(parts.frames),
        "fade": steadiness.fade(parts.frames, parts.figure),
        "blur": lost_detail.blur(parts.frames, parts.figure),
        "largest_pop": largest_pop(parts.frames),
        "movement": movement(parts.frames),
        "zoom_share": _zoom_share(parts.frames),
        "doubled_limb": doubled_limb(parts.frames),
        **_kept(parts),
    }


def _zoom_share(frames: np.ndarray) -> float:
    found = zoom(frames)
    return found.share if found.growth > LEAST_GROWTH else 0.0


def _kept(parts: ClipParts) -> dict[str, float | None]:
    """Colours of frame 0 kept cell by cell, and its face; None without a figure."""
    frames, garment = parts.frames, parts.garment
    if not garment[0].any():
        return dict.fromkeys(("cell_drift", "face_kept"))
    track = follow(frames, parts.figure[0], max(1, len(frames) // _FOLLOWED))
    return {
        "cell_drift": drift.cell_drift(frames[1:], frames[0], garment[1:], garment[0]),
        "face_kept": face_kept(frames, parts.figure[0], track),
    }


def compare(clip: ClipParts, real: ClipParts, protocol: Protocol) -> dict[str, float | None]:
    """Compare a clip with the real one of the same name, over the leading frames that both have.

    Returns:
        `compared_frames`, `real_frames`, and by metric: PSNR and SSIM; overlap of silhouettes; colour differences of
        garment and skin, and correlation of widths.

    Raises:
        ValueError: they differ in size, or have fewer than three frames in common, or are too small.
    """
    count = min(len(clip.frames), len(real.frames))
    if count < _LEAST_FRAMES:
        raise ValueError(f"{count} frames in common with its real clip ({_LEAST_FRAMES} needed)")
    fake, true = clip.frames[:count], real.frames[:count]
    found: dict[str, float | None] = {"compared_frames": count, "real_frames": len(real.frames)}
    if protocol.wants("psnr"):
        found["psnr"] = _finite(drift.psnr(fake, true))
    if protocol.wants("ssim"):
        found["ssim"] = ssim(fake, true)
    if protocol.wants("silhouette"):
        found["silhouette_overlap"] = person.silhouette_overlap(clip.figure[:count], real.figure[:count])
    if protocol.wants("drift"):
        found["garment_error"] = float(np.mean(ciede2000(clip.colours[:count], real.colours[:count])))
        found["width_correlation"] = person.width_correlation(clip.widths[:count], real.widths[:count])
    if protocol.wants("drift", "skin"):
        found["skin_error"] = person.skin_error(clip.tones[:count], real.tones[:count])
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
