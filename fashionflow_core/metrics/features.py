"""Feature extraction for FVD, VFID, FID and IS."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

if TYPE_CHECKING:
    from fashionflow_core.metrics.i3d import I3D
    from fashionflow_core.metrics.inception import FIDInception

FVD_FRAMES, FVD_SIDE = 16, 224
VFID_FRAMES = 60
BN_MODES = ("train", "eval")


@contextmanager
def _full_float32() -> Iterator[None]:
    """Disable TF32 on GPUs: with it, torch's default, features are off by about 1e-3."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _placed(network: torch.nn.Module, frames: np.ndarray) -> Tensor:
    """uint8 `f h w 3` → `f 3 h w` in the network's dtype, on its device, 0 to 255."""
    weight: Any = next(network.parameters())
    return rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "f h w c -> f c h w").to(
        weight.device, weight.dtype
    )


@torch.inference_mode()
@_full_float32()
def fvd_features(network: "I3D", frames: np.ndarray) -> np.ndarray:
    """The 400 logits of I3D for one clip, as in FVD: 16 frames, resized to 224x224, in [-1, 1].

    Args:
        frames: uint8 `(16, h, w, 3)`.

    Returns:
        float32 `(1, 400)`.

    Raises:
        ValueError: another number of frames.
    """
    if len(frames) != FVD_FRAMES:
        raise ValueError(f"FVD takes {FVD_FRAMES} frames, not {len(frames)}")
    video = rearrange(_placed(network, frames), "f c h w -> 1 c f h w")
    # The number of frames is unchanged, so the published trilinear resize is bilinear per frame.
    video = F.interpolate(video, (FVD_FRAMES, FVD_SIDE, FVD_SIDE), mode="trilinear", align_corners=False)
    network.eval()
    return network(2 * video / 255 - 1).float().cpu().numpy()


@torch.inference_mode()
@_full_float32()
def vfid_features(network: "I3D", frames: np.ndarray, bn_mode: str = "train") -> np.ndarray:
    """The 1024 features of I3D for one clip of up to 60 frames at its own size, in [0, 1], as in VFID.

    Args:
        frames: uint8 `(f, h, w, 3)`; frames after the 60th are ignored.
        bn_mode: `train` normalises each clip by its own statistics, as in the published script, whose network
            stays in training mode; `eval` by those of the network.

    Returns:
        float32 `(1, 1024)`.
    """
    video = rearrange(_placed(network, frames[:VFID_FRAMES]), "f c h w -> 1 c f h w") / 255
    network.train(bn_mode == "train")
    try:
        return network.features(video).float().cpu().numpy()
    finally:
        network.eval()


@torch.inference_mode()
@_full_float32()
def inception_features(network: "FIDInception", frames: np.ndarray, chunk: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Features (FID) and logits (IS) of every frame.

    Args:
        frames: uint8 `(f, h, w, 3)`.
        chunk: frames per batch.

    Returns:
        float32 `(f, 2048)` and `(f, 1008)`.
    """
    found = [network(_placed(network, frames[start : start + chunk])) for start in range(0, len(frames), chunk)]
    features, logits = (torch.cat(part).float().cpu().numpy() for part in zip(*found))
    return features, logits
