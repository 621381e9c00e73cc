"""Frames of a generator: first frame, frame rate, duration."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FADE = 5  # frames over which the photo's difference from the first frame fades; it is gone in frame 5
_SIDE = 160  # pixels of the longer side that motion between two frames is measured at
_LEVELS, _ROUNDS = 3, 6
_WINDOW = 9  # pixels; displacements are fitted in such squares
_ALIKE = 1e-6  # times that differ by less, in frames, are one: steps are not exact
_NOISE = 25.0  # squared gradient of 0..255 grey values below which a place follows its surroundings
_FARTHEST = 0.1  # of the longer side: what would move farther is blended


def faded(photo: np.ndarray, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Make the photo frame 0; its difference from the generated frame 0 fades over the frames after it.

    Frame k is g_k + (photo - g_0) * (1 - k / 5) for k < 5: each keeps its own motion, and nothing is cross-faded.

    Args:
        photo: uint8 (h, w, 3).
        frames: as generated, uint8 (h, w, 3) each, at least one.
    """
    first = next(frames)
    difference = photo.astype(np.float32) - first
    yield photo
    for number, frame in enumerate(frames, start=1):
        if number < FADE:
            frame = (frame + difference * (1 - number / FADE)).round().clip(0, 255).astype(np.uint8)
        yield frame


def retimed(frames: Iterator[np.ndarray], step: float, count: int) -> Iterator[np.ndarray]:
    """Frames of a clip at other times: `count` frames, `step` of the clip's frames apart, from the first one on.

    A time between two frames is interpolated by motion where that can be followed, else blended. Beyond the last frame
    it is repeated.

    Args:
        frames: uint8 (h, w, 3) each, at least one; two are held at a time.
        step: 1: as they are; 0.5: twice as many.
        count: how many.
    """
    place, before, after = 0, next(frames), next(frames, None)
    flows: tuple[Tensor, Tensor] | None = None
    for number in range(count):
        while after is not None and place + 1 <= number * step + _ALIKE:
            place, before, after, flows = place + 1, after, next(frames, None), None
        share = number * step - place
        if share < 1e-3 or after is None:
            yield before
            continue
        if flows is None:
            one, two = _tensor(before), _tensor(after)
            flows = _flow(one, two), _flow(two, one)
        yield _between(before, after, *flows, share)


def _between(one: np.ndarray, two: np.ndarray, forward: Tensor, backward: Tensor, share: float) -> np.ndarray:
    """The frame at `share` of the way: both neighbours moved there, weighted by their nearness.

    The flow at the time between is that of either end, which is right where motion is smooth in space (Jiang et al.,
    "Super SloMo", 2018, eq. 4). Where the moved neighbours disagree more than the unmoved ones, those are blended.
    """
    a, b = _tensor(one), _tensor(two)
    # Displacements from the time between to frame 0 and to frame 1.
    to_one = -(1 - share) * share * forward + share * share * backward
    to_two = (1 - share) ** 2 * forward - share * (1 - share) * backward
    moved_a, moved_b = _warped(a, to_one), _warped(b, to_two)
    plain = a * (1 - share) + b * share
    moved = moved_a * (1 - share) + moved_b * share
    error_moved = F.avg_pool2d((moved_a - moved_b).abs().mean(0)[None], 9, 1, 4)[0]
    error_plain = F.avg_pool2d((a - b).abs().mean(0)[None], 9, 1, 4)[0]
    trust = (((error_plain + 2) / (error_moved + 2) - 1.1) / 0.4).clamp(0, 1)
    mixed = moved * trust + plain * (1 - trust)
    return mixed.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def _tensor(frame: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1).float()


def _flow(one: Tensor, two: Tensor) -> Tensor:
    """Displacement (2, h, w), x then y in pixels, from frame `one` (3, h, w) to `two`: pyramidal Lucas-Kanade."""
    height, width = one.shape[1:]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(8, round(height * scale)), max(8, round(width * scale)))
    grey = [F.interpolate(x.mean(0)[None, None], size=size, mode="area") for x in (one, two)]
    flow = torch.zeros(1, 2, 1, 1)
    for level in reversed(range(_LEVELS)):
        at = (max(8, size[0] >> level), max(8, size[1] >> level))
        a, b = (F.interpolate(x, size=at, mode="area") for x in grey)
        factor = at[1] / flow.shape[3] if flow.shape[3] > 1 else 1.0
        flow = F.interpolate(flow, size=at, mode="bilinear", align_corners=False) * factor
        for _ in range(_ROUNDS):
            moved = _warped(b[0], flow[0])[None]
            gx, gy = _gradient((a + moved) / 2)
            error = a - moved
            xx, xy, yy, xe, ye = (_mean(v) for v in (gx * gx, gx * gy, gy * gy, gx * error, gy * error))
            xx, yy = xx + _NOISE, yy + _NOISE
            determinant = xx * yy - xy * xy
            dx, dy = (yy * xe - xy * ye) / determinant, (xx * ye - xy * xe) / determinant
            flow = _mean(flow + torch.cat([dx, dy], 1).clamp(-1.5, 1.5), 5)
    far = _FARTHEST * max(size)
    flow = flow.clamp(-far, far)
    up = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)[0]
    return up * torch.tensor([width / size[1], height / size[0]])[:, None, None]


def _gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    x = F.pad(image, (1, 1, 0, 0), mode="replicate")
    y = F.pad(image, (0, 0, 1, 1), mode="replicate")
    return (x[..., 2:] - x[..., :-2]) / 2, (y[..., 2:, :] - y[..., :-2, :]) / 2


def _mean(image: Tensor, window: int = _WINDOW) -> Tensor:
    return F.avg_pool2d(image, window, 1, window // 2, count_include_pad=False)


def _warped(image: Tensor, flow: Tensor) -> Tensor:
    """`image` (c, h, w) sampled at each pixel displaced by `flow` (2, h, w)."""
    height, width = image.shape[-2:]
    x = torch.arange(width, dtype=torch.float32) + 0.5 + flow[0]
    y = (torch.arange(height, dtype=torch.float32) + 0.5)[:, None] + flow[1]
    grid = torch.stack([x * (2 / width) - 1, y * (2 / height) - 1], dim=-1)[None]
    return F.grid_sample(image[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
