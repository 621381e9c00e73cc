"""Optical flow from a photo to every frame: chained pyramidal Lucas-Kanade.

Tracking depends on the frames only, not on the method that generated them. Each step adds the flow from the previous
frame to the flow from the photo (a chain), then corrects the sum by at most a few pixels against the photo itself, so
that errors do not accumulate. Lucas and Kanade, "An Iterative Image Registration Technique with an
Application to Stereo Vision" (IJCAI 1981).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fashionflow_core.images.lab import srgb_to_lab
from fashionflow_core.images.person import figure_mask, grow

WORKING_SIDE = 320  # pixels of a frame's longer side that flow is computed at; it is scaled to the frame afterwards
_NOISE = 2.0  # squared gradient, (L*a*b* per pixel)^2, below which a pixel takes the motion of its neighbours
_WINDOW = 3.0  # standard deviation in pixels of the window for one displacement
_SMOOTH = 4.0  # of the weighting that spreads displacements to pixels without structure
_ELASTIC, _STIFF = 8.0, 0.1  # reach in pixels, and weight relative to a confidence of 0..1, of the neighbourhood
_SHADING = 8.0  # of the local mean that is subtracted: shading changes while a figure turns


@dataclass(frozen=True, eq=False)
class Track:
    """Positions of the photo's pixels in later frames.

    Attributes:
        indices: indices of the tracked frames; the first is 0.
        rows, columns: part of the photo with the figure, as slices of a frame `(h, w)`.
        flow: displacement (x right, y down) of that part in pixels of the frame, float32 `(n, 2, height, width)`.
        mask: figure in the photo, bool `(h, w)`; outside it the flow is extrapolated.
    """

    indices: tuple[int, ...]
    rows: slice
    columns: slice
    flow: Tensor
    mask: np.ndarray

    def visible(self, number: int) -> Tensor:
        """Visibility of each pixel in frame `indices[number]`, float32 `(height, width)`, 0..1.

        1 if its area is at least 0.8 of the photo's, 0 below 0.4.
        """
        dx = F.pad(self.flow[number], (1, 1, 0, 0), mode="replicate")
        dy = F.pad(self.flow[number], (0, 0, 1, 1), mode="replicate")
        dx, dy = 0.5 * (dx[:, :, 2:] - dx[:, :, :-2]), 0.5 * (dy[:, 2:] - dy[:, :-2])
        area = (1 + dx[0]) * (1 + dy[1]) - dx[1] * dy[0]
        return ((area - 0.4) / 0.4).clamp(0, 1)

    def warped(self, frame: np.ndarray, number: int) -> Tensor:
        """Frame `indices[number]` warped back to the photo's pose.

        Args:
            frame: uint8 `(h, w, 3)`.
            number: position in `indices`.

        Returns:
            float32 `(3, height, width)`, 0..255, sampled bicubically.
        """
        image = torch.from_numpy(frame.transpose(2, 0, 1).astype(np.float32))
        return _sampled(image, self.flow[number], (self.rows.start, self.columns.start), "bicubic").clamp(0, 255)


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `(c, h, w)`; outside counts as 0, so that `blurred(x * w) / blurred(w)` is a weighted mean.

    Wide blurs are computed at a lower resolution, with an error below 1 percent.
    """
    height, width = image.shape[-2:]
    if sigma >= 4:
        pool = 4 if sigma >= 8 else 2
        padded = F.pad(image, (0, -width % pool, 0, -height % pool))
        low = blurred(F.avg_pool2d(padded, pool), sigma / pool)
        return F.interpolate(low[None], scale_factor=pool, mode="bilinear", align_corners=False)[0, :, :height, :width]
    reach = max(1, round(3 * sigma))
    kernel = np.exp(-(np.arange(reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel[0] + 2 * kernel[1:].sum()
    # Sums of shifted slices: on CPUs several times faster than a convolution with one channel.
    x = F.pad(image, (0, 0, reach, reach))
    x = _summed([x[:, reach + k : reach + k + height] for k in range(-reach, reach + 1)], kernel)
    x = F.pad(x, (reach, reach))
    return _summed([x[:, :, reach + k : reach + k + width] for k in range(-reach, reach + 1)], kernel)


def _summed(slices: list[Tensor], kernel: np.ndarray) -> Tensor:
    reach = len(kernel) - 1
    total = slices[reach] * float(kernel[0])
    for k in range(1, reach + 1):
        total.add_(slices[reach - k] + slices[reach + k], alpha=float(kernel[k]))
    return total


def follow(frames: np.ndarray, mask: np.ndarray | None = None, every: int = 2) -> Track:
    """Follow the figure of frame 0 through a clip.

    Args:
        frames: uint8 `(f, h, w, 3)`, f at least 2; frame 0 is the photo.
        mask: bool `(h, w)`, the figure in frame 0; found by `figure_mask` if None. Without any, the whole frame.
        every: track each `every`-th frame, and the last one. Above 3 fast turns are lost.

    Returns:
        flow in pixels of `frames`.

    Raises:
        ValueError: another type or shape, or fewer than two frames.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or len(frames) < 2:
        raise ValueError(f"expected at least 2 uint8 frames (f, h, w, 3), got {frames.dtype} {frames.shape}")
    mask = figure_mask(frames[0]) if mask is None else mask
    mask = mask if mask.any() else np.ones(frames.shape[1:3], bool)
    height, width = mask.shape
    indices = tuple(sorted({*range(0, len(frames), every), len(frames) - 1}))
    scale = max(1.0, max(height, width) / WORKING_SIDE)
    small = (max(8, round(height / scale)), max(8, round(width / scale)))
    inside = F.interpolate(torch.from_numpy(mask.astype(np.float32))[None, None], size=small, mode="area")[0, 0] > 0.5

    found_rows, found_columns = (np.flatnonzero(inside.numpy().any(axis=axis)) for axis in (1, 0))
    margin = 6
    top, bottom = max(0, int(found_rows[0]) - margin), min(small[0], int(found_rows[-1]) + margin + 1)
    left, right = max(0, int(found_columns[0]) - margin), min(small[1], int(found_columns[-1]) + margin + 1)
    # The outline is included: it fixes areas without structure, such as legs.
    sure = torch.from_numpy(grow(inside.numpy(), 2)[top:bottom, left:right].astype(np.float32))

    with torch.inference_mode():
        steps = [_lab(frames[0], small)]
        photo = steps[0][:, top:bottom, left:right].contiguous()
        flow = torch.zeros(2, bottom - top, right - left)
        flows = [flow]
        before = photo
        for index in indices[1:]:
            frame = _lab(frames[index], small)
            flow = _refined(before, frame, flow, sure, (top, left), levels=(2, 2, 2, 1, 1), most=2.0)
            flow = _refined(photo, frame, flow, sure, (top, left), levels=(1, 1, 1), most=0.5)
            before = _sampled(frame, flow, (top, left))
            flows.append(flow)
        rows = slice(round(top * height / small[0]), round(bottom * height / small[0]))
        columns = slice(round(left * width / small[1]), round(right * width / small[1]))
        size = (rows.stop - rows.start, columns.stop - columns.start)
        stacked = torch.stack(flows)
        if small != (height, width):
            stacked = F.interpolate(stacked, size=size, mode="bilinear", align_corners=False)
            stacked *= torch.tensor([width / small[1], height / small[0]]).view(1, 2, 1, 1)
    return Track(indices, rows, columns, stacked, mask)


def _lab(frame: np.ndarray, size: tuple[int, int]) -> Tensor:
    """L*a*b* of a frame at the working size, float32 `(3, h, w)`."""
    lab = torch.from_numpy(srgb_to_lab(frame)).permute(2, 0, 1)[None]
    return (lab if lab.shape[-2:] == size else F.interpolate(lab, size=size, mode="area"))[0].contiguous()


def _sampled(image: Tensor, flow: Tensor, corner: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """`image` `(c, h, w)` at the pixels of a part that begins at `corner` (row, column), displaced by `flow`."""
    height, width = image.shape[-2:]
    rows, columns = flow.shape[-2:]
    x = torch.arange(columns, dtype=torch.float32) + (corner[1] + 0.5) + flow[0]
    y = (torch.arange(rows, dtype=torch.float32) + (corner[0] + 0.5))[:, None] + flow[1]
    grid = torch.stack([x * (2 / width) - 1, y * (2 / height) - 1], dim=-1)[None]
    return F.grid_sample(image[None], grid, mode=mode, padding_mode="border", align_corners=False)[0]


def _refined(
    target: Tensor,
    frame: Tensor,
    flow: Tensor,
    weight: Tensor,
    corner: tuple[int, int],
    levels: tuple[int, ...],
    most: float,
) -> Tensor:
    """`flow` corrected so that `frame`, sampled by it, looks like `target`; one pass for each of `levels`.

    Args:
        target: `(3, h, w)`, the photo's part, or the previous frame warped to the photo's pose.
        frame: `(3, H, W)`.
        weight: `(h, w)`, 1 where the figure is certain.
        levels: coarseness of each pass: 2 halves the resolution that displacements are fitted at.
        most: maximum correction of one pass, in pixels of its level.
    """
    for level in levels:
        seen = _sampled(frame, flow, corner)
        pair = torch.cat([target, seen])
        inside = weight[None]
        if level > 1:
            pair = F.avg_pool2d(pair, level, ceil_mode=True, count_include_pad=False)
            inside = F.avg_pool2d(inside, level, ceil_mode=True, count_include_pad=False)
        around = blurred(inside, _SHADING / level)
        pair = pair - blurred(pair * inside, _SHADING / level) / around.clamp(min=1e-3)
        one, other = pair[:3], pair[3:]
        middle = F.pad(0.5 * (one + other), (1, 1, 1, 1), mode="replicate")
        dx = 0.5 * (middle[:, 1:-1, 2:] - middle[:, 1:-1, :-2])
        dy = 0.5 * (middle[:, 2:, 1:-1] - middle[:, :-2, 1:-1])
        error = one - other
        sums = torch.stack([v.sum(0) for v in (dx * dx, dx * dy, dy * dy, dx * error, dy * error)]) * inside
        xx, xy, yy, xe, ye = blurred(sums, _WINDOW)
        # (A + noise) d = b, two unknowns; a pixel without structure moves by 0 and gets its neighbours' motion below.
        xx, yy = xx + _NOISE, yy + _NOISE
        determinant = xx * yy - xy * xy
        d = torch.stack([(yy * xe - xy * ye), (xx * ye - xy * xe)]) / determinant
        d = d.clamp(-most, most)
        least = 0.5 * (xx + yy) - torch.sqrt(0.25 * (xx - yy) ** 2 + xy**2)
        trust = ((least - _NOISE).clamp(min=0) / (least + _NOISE)) * inside[0] + 1e-3
        d = blurred(d * trust, _SMOOTH) / blurred(trust[None], _SMOOTH).clamp(min=1e-9)
        if level > 1:
            d = F.interpolate(d[None], scale_factor=level, mode="bilinear", align_corners=False)[0]
            d = level * d[:, : flow.shape[1], : flow.shape[2]]
            trust = F.interpolate(trust[None, None], scale_factor=level, mode="bilinear", align_corners=False)[0, 0]
            trust = trust[: flow.shape[1], : flow.shape[2]]
        flow = flow + d
        # Elastic: untrackable pixels follow their neighbourhood, weighted by its confidence.
        around = blurred(flow * trust, _ELASTIC) / blurred(trust[None], _ELASTIC).clamp(min=1e-9)
        flow = flow + (around - flow) * (_STIFF / (_STIFF + trust))
    return flow
