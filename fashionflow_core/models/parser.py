"""Figure parser: matte and body parts of a photo (semantic segmentation)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from fashionflow_core.images.parts import ARM_LEFT, ARM_RIGHT, PARTS

HEIGHT, WIDTH = 320, 256  # size of the training images
SMALL = 0.7  # a figure below this share of the frame's height is parsed again in a closer frame
MARGIN = 1.16  # height of that second frame in figure heights


class _Unit(nn.Sequential):
    """Convolution, batch norm (folded into the convolution on export), ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, size: int = 3) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _Unit(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.second(self.first(x))))


class _Surroundings(nn.Module):
    """Channel scaling by global features (squeeze and excitation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels // 4, 1)
        self.second = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.second(F.relu(self.first(mean))))


class FigureParser(ModelMixin, ConfigMixin):
    """Photo → logits of the matte and of `PARTS`, at half the photo's size.

    Args:
        widths: channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the photo's size.
        parts: number of parts.
    """

    @register_to_config
    def __init__(self, widths: tuple[int, ...] = (16, 24, 40, 64, 88), parts: int = len(PARTS)) -> None:
        super().__init__()
        half, fine, mid, coarse, whole = widths
        # Two coordinate channels: position distinguishes a sleeve from a trouser leg.
        self.stem = _Unit(5, half, 2)
        self.fine = nn.Sequential(_Unit(half, fine, 2), _Residual(fine))
        self.mid = nn.Sequential(_Unit(fine, mid, 2), _Residual(mid))
        self.coarse = nn.Sequential(_Unit(mid, coarse, 2), _Residual(coarse), _Residual(coarse))
        self.whole = nn.Sequential(_Unit(coarse, whole, 2), _Residual(whole), _Surroundings(whole), _Residual(whole))
        self.to_coarse = _Unit(whole, coarse, size=1)
        self.at_coarse = _Unit(coarse, coarse)
        self.to_mid = _Unit(coarse, mid, size=1)
        self.at_mid = _Residual(mid)
        self.to_fine = _Unit(mid, fine, size=1)
        self.at_fine = _Residual(fine)
        # The last upsampling is learnt (pixel shuffle), with the stem's features as skip.
        self.edges = nn.PixelUnshuffle(2)
        self.join = _Unit(fine + 4 * half, 2 * fine, size=1)
        self.head = nn.Conv2d(2 * fine, 4 * (1 + parts), 1)
        self.spread = nn.PixelShuffle(2)

    def forward(self, photo: Tensor) -> Tensor:
        """Logits of a batch of photos.

        Args:
            photo: photos, (b, 3, h, w), sRGB in 0..1; h and w multiples of 32.

        Returns:
            (b, 1 + parts, h/2, w/2): the matte's logit, then one per part.
        """
        batch, _, height, width = photo.shape
        y = torch.linspace(-1, 1, height, dtype=photo.dtype, device=photo.device)
        x = torch.linspace(-1, 1, width, dtype=photo.dtype, device=photo.device)
        place = torch.stack((y[:, None].expand(height, width), x[None].expand(height, width)))
        half = self.stem(torch.cat((photo * 2 - 1, place[None].expand(batch, 2, height, width)), dim=1))
        fine = self.fine(half)
        mid = self.mid(fine)
        coarse = self.coarse(mid)
        up = self.at_coarse(coarse + _double(self.to_coarse(self.whole(coarse))))
        up = self.at_mid(mid + _double(self.to_mid(up)))
        up = self.at_fine(fine + _double(self.to_fine(up)))
        return self.spread(self.head(self.join(torch.cat((up, self.edges(half)), dim=1))))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class _Frame(NamedTuple):
    """A 4:5 window of a photo, in pixels; it may exceed the photo."""

    top: float
    left: float
    height: float


class ParsedPhoto(NamedTuple):
    """Prediction for a photo, at its size.

    Attributes:
        matte: probability of the figure, float32 `(h, w)`.
        parts: probabilities of `PARTS`, float32 `(9, h, w)`.
    """

    matte: np.ndarray
    parts: np.ndarray


def parse_photo(predict: Callable[[Tensor], Tensor], photo: np.ndarray) -> ParsedPhoto:
    """Matte and parts of a photo of any size.

    The photo is placed in a 4:5 frame filled with its border pixels; a small figure is parsed a second time in a closer
    frame. Results of the photo and its mirror image are averaged.

    Args:
        predict: a `FigureParser`, or its equivalent in another runtime: (2, 3, 320, 256) in 0..1 → (2, 10, 160, 128)
            logits.
        photo: photo, uint8 `(h, w, 3)` sRGB.
    """
    height, width = photo.shape[:2]
    tall = max(height, width * HEIGHT / WIDTH)
    frame = _Frame((height - tall) / 2, (width - tall * WIDTH / HEIGHT) / 2, tall)
    shares = _parse_frame(predict, photo, frame)
    near = _figure_frame(shares[0], frame)
    if near is not None:
        frame = near
        shares = _parse_frame(predict, photo, frame)
    planes = torch.from_numpy(shares)[None]
    # Sampled at the photo's pixels; zero outside the frame.
    y = (np.arange(height) + 0.5 - frame.top) / frame.height * 2 - 1
    x = (np.arange(width) + 0.5 - frame.left) / (frame.height * WIDTH / HEIGHT) * 2 - 1
    grid = np.stack(np.broadcast_arrays(x[None], y[:, None]), axis=-1).astype(np.float32)
    placed = F.grid_sample(planes, torch.from_numpy(grid)[None], padding_mode="border", align_corners=False)[0].numpy()
    outside = (np.abs(x) > 1)[None] | (np.abs(y) > 1)[:, None]
    placed[:, outside] = 0
    placed[1, outside] = 1
    return ParsedPhoto(placed[0], placed[1:])


def _figure_frame(matte: np.ndarray, frame: _Frame) -> _Frame | None:
    """A closer frame around a figure that is small in its frame, or None."""
    seen = matte > 0.5
    # Rows and columns with few pixels are noise.
    most = max(1.0, 0.05 * float(seen.sum(axis=0).max())), max(1.0, 0.05 * float(seen.sum(axis=1).max()))
    if not seen.any():
        return None
    pixel = frame.height / matte.shape[0]
    rows, columns = np.flatnonzero(seen.sum(axis=1) >= most[1]), np.flatnonzero(seen.sum(axis=0) >= most[0])
    tall, wide = (rows[-1] + 1 - rows[0]) * pixel, (columns[-1] + 1 - columns[0]) * pixel
    size = MARGIN * max(tall, wide * HEIGHT / WIDTH)
    if size > SMALL * MARGIN * frame.height:
        return None
    middle = (
        frame.top + 0.5 * (rows[0] + rows[-1] + 1) * pixel,
        frame.left + 0.5 * (columns[0] + columns[-1] + 1) * pixel,
    )
    return _Frame(middle[0] - size / 2, middle[1] - size * WIDTH / HEIGHT / 2, size)


@torch.inference_mode()
def _parse_frame(predict: Callable[[Tensor], Tensor], photo: np.ndarray, frame: _Frame) -> np.ndarray:
    """Probabilities of the matte and the parts, float32 `(1 + parts, 160, 128)`, inside a frame."""
    picture = torch.from_numpy(_resampled(photo, frame).transpose(2, 0, 1).copy())[None]
    if isinstance(predict, FigureParser):
        picture = picture.to(device=predict.device, dtype=predict.dtype)
    logits = predict(torch.cat((picture, picture.flip(-1)))).float().cpu()
    shares = torch.cat((logits[:, :1].sigmoid(), logits[:, 1:].softmax(dim=1)), dim=1)
    mirrored = shares[1].flip(-1)
    order = list(range(shares.shape[1]))
    order[1 + ARM_LEFT], order[1 + ARM_RIGHT] = order[1 + ARM_RIGHT], order[1 + ARM_LEFT]
    return ((shares[0] + mirrored[order]) / 2).numpy()


def _resampled(photo: np.ndarray, frame: _Frame) -> np.ndarray:
    """The frame's contents as float32 `(HEIGHT, WIDTH, 3)` in 0..1, by area averages."""
    result = photo.astype(np.float32) / 255
    for axis, (start, length, count) in enumerate(
        ((frame.top, frame.height, HEIGHT), (frame.left, frame.height * WIDTH / HEIGHT, WIDTH))
    ):
        size = photo.shape[axis]
        step = length / count
        # Averages of intervals are differences of the running sum, extended with the border's pixels.
        low = max(0, int(np.ceil(-start)) + 1)
        high = max(0, int(np.ceil(start + length)) - size + 1)
        padding = [(0, 0), (0, 0), (0, 0)]
        padding[axis] = (low, high)
        total = np.cumsum(np.pad(result, padding, mode="edge"), axis=axis, dtype=np.float64)
        total = np.concatenate([np.zeros_like(np.take(total, [0], axis)), total], axis=axis)
        edges = start + step * np.arange(count + 1) + low
        if step < 1:  # enlarging: average over one pixel's width around each position
            centres = 0.5 * (edges[1:] + edges[:-1])
            first, last = centres - 0.5, centres + 0.5
        else:
            first, last = edges[:-1], edges[1:]
        shape = [1, 1, 1]
        shape[axis] = count
        result = (_at(total, last, axis) - _at(total, first, axis)) / (last - first).reshape(shape)
    return result.astype(np.float32)


def _at(values: np.ndarray, place: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation along an axis."""
    place = np.clip(place, 0, values.shape[axis] - 1)
    first = np.minimum(place.astype(int), values.shape[axis] - 2)
    shape = [1, 1, 1]
    shape[axis] = len(place)
    part = (place - first).reshape(shape)
    return np.take(values, first, axis) * (1 - part) + np.take(values, first + 1, axis) * part
