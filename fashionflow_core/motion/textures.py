"""Colour textures of a figure's layers.

A layer's colours are extended where another layer hides it and beyond its outline, so that sampling never returns
colours of the wall or of another layer.
"""

import numpy as np
import torch
import torch.nn.functional as F

from fashionflow_core.motion.layers import Layer
from fashionflow_core.motion.regions import box_mean, dilate, erode

PAD = 4
"""Rows of padding above and below each texture in the atlas."""
_SURE = 0.97  # minimum alpha of pixels with the figure's own colour
_WHOLE = 0.9  # minimum alpha where the photo's colour is used as the figure's, exact at rest
_SOLVED = 0.6  # minimum alpha where the figure's colour is solved from the matte


def fill(image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Smooth filling: an image (c, h, w) kept where the weight (h, w) is 1 and extended where it is 0.

    Pull and push over a pyramid: every gap takes the mean of the nearest level with known pixels.
    """
    levels = [(image * weight, weight[None])]
    while max(levels[-1][1].shape[1:]) > 1 and not bool((levels[-1][1] > 0).all()):
        values, weights = (F.avg_pool2d(v[None], 2, ceil_mode=True)[0] for v in levels[-1])
        full = weights.clamp(max=0.25) * 4  # a quarter known counts as known
        levels.append((values / weights.clamp(min=1e-6) * full, full))
    values, weights = levels.pop()
    result = values / weights.clamp(min=1e-6)
    for values, weights in reversed(levels):
        size = (int(values.shape[1]), int(values.shape[2]))
        up = F.interpolate(result[None], size=size, mode="bilinear", align_corners=False)[0]
        result = values + (1 - weights) * up
    return result


def layer_textures(
    photo: np.ndarray, alpha: np.ndarray, plate: np.ndarray, parts: np.ndarray | None, groups: list[list[Layer]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Atlases of sharp and of blurred colours, each (1, 3, groups * (h + 2 * PAD), w), 0..255.

    Args:
        photo: photo, (h, w, 3), 0..255.
        alpha, plate: matte (h, w) and background (h, w, 3).
        parts: labels (h, w) or None; blur does not cross parts.
        groups: layers that share a texture, in the order of the atlas.
    """
    photo = photo.astype(np.float32)
    a = alpha[..., None]
    own = np.where(a > _WHOLE, photo, np.clip((photo - (1 - a) * plate) / np.maximum(a, 0.3), 0, 255))
    near, far = [], []
    for number, layers in enumerate(groups):
        seen = np.any([layer.seen for layer in layers], axis=0)
        sure = erode((alpha > _SURE) & seen, 1)
        kept = seen & (alpha > _SOLVED)
        # Mixed colours of body and arm belong to the arm, whose surface covers them.
        if number == 0:
            kept &= ~dilate(~seen & (alpha > _SOLVED), 1)
        else:
            kept = dilate(kept, 2) & (alpha > _SOLVED)
        carried = _filled(own, sure if sure.any() else kept)
        near.append(np.where(kept[..., None], own, carried))
        far.append(_blurred(photo, sure, parts))
    return _atlas(near), _atlas(far)


def edge_texture(photo: np.ndarray, alpha: np.ndarray, plate: np.ndarray) -> torch.Tensor:
    """The soft edge, (1, 4, h, w): colours multiplied by alpha, and alpha; over the plate it equals the photo."""
    a = alpha[..., None].astype(np.float32)
    stack = np.concatenate([photo.astype(np.float32) - (1 - a) * plate, a], axis=-1)
    return torch.from_numpy(np.ascontiguousarray(stack.transpose(2, 0, 1)))[None]


def _filled(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    channels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))
    return fill(channels, torch.from_numpy(known.astype(np.float32))).permute(1, 2, 0).numpy()


def _blurred(photo: np.ndarray, sure: np.ndarray, parts: np.ndarray | None) -> np.ndarray:
    """Colours blurred within each part, extended beyond it."""
    radius = max(2, photo.shape[0] // 100)
    labels = np.where(sure, 1 if parts is None else parts + 1, 0)
    result = np.zeros_like(photo)
    known = np.zeros(sure.shape, bool)
    for label in np.unique(labels[labels > 0]):
        mask = labels == label
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        inside = mask[box]
        share = box_mean(inside, radius)
        colours = box_mean(photo[box] * inside[..., None], radius) / np.maximum(share, 1e-6)[..., None]
        result[box][inside] = colours[inside]
        known |= mask
    return _filled(result, known) if known.any() else photo.copy()


def _atlas(textures: list[np.ndarray]) -> torch.Tensor:
    stack = np.concatenate([np.pad(t, ((PAD, PAD), (0, 0), (0, 0)), mode="edge") for t in textures])
    return torch.from_numpy(np.ascontiguousarray(stack.transpose(2, 0, 1), np.float32))[None]
