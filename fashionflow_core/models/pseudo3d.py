"""Pseudo-3D convolutions, residual blocks and resampling (paper 3.2, Figure 2a).

Every module takes and returns `(b, f, h, w, c)`. In this order spatial convolution, temporal convolution, linear layer
and token view follow each other without copies: convolutions see the buffer as a channels-last `b c f h w` tensor, and
`(f h w)` is already a token axis.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def channels_first(x: Tensor) -> Tensor:
    """View `(b, f, h, w, c)` as `(b, c, f, h, w)` in channels-last memory, the form torch's 3D layers take."""
    return x.permute(0, 4, 1, 2, 3)


def channels_last(x: Tensor) -> Tensor:
    """View `(b, c, f, h, w)` as `(b, f, h, w, c)`."""
    return x.permute(0, 2, 3, 4, 1)


class PseudoConv3d(nn.Module):
    """A spatial convolution (1, k, k), then, for kernels above 1, a temporal one (3, 1, 1) of the same channels.

    Args:
        in_channels, out_channels: widths.
        kernel_size: side of the spatial kernel, odd.
        temporal_kernel_size: length of the temporal kernel; omitted if `kernel_size` is 1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, temporal_kernel_size: int = 3
    ) -> None:
        super().__init__()
        k, t = kernel_size, temporal_kernel_size
        self.padding = k // 2
        self.spatial = nn.Conv3d(in_channels, out_channels, (1, k, k), padding=(0, k // 2, k // 2))
        self.temporal = nn.Conv3d(out_channels, out_channels, (t, 1, 1), padding=(t // 2, 0, 0)) if k > 1 else None
        if self.temporal is not None:
            # Identity in time at initialization: training starts from an image network (Make-A-Video).
            nn.init.dirac_(self.temporal.weight)
            assert self.temporal.bias is not None
            nn.init.zeros_(self.temporal.bias)

    def forward(self, x: Tensor) -> Tensor:
        # Both run as 2D convolutions on views of one buffer: frames as a batch, then frames as rows and all positions
        # as columns. torch's CPU backend has no fast 3D convolution for one thread or small inputs, and all runtimes
        # are faster in 2D. Flatten before permute: torch detects channels-last by strides, and those of an axis of
        # length 1 are wrong in the other order, which would cost a copy.
        b, f, h, w, _ = x.shape
        frames = x.flatten(0, 1).permute(0, 3, 1, 2)  # (b f, c, h, w)
        frames = F.conv2d(frames, self.spatial.weight[:, :, 0], self.spatial.bias, padding=self.padding)
        x = frames.permute(0, 2, 3, 1).unflatten(0, (b, f))  # (b, f, h, w, c)
        if self.temporal is not None:
            columns = x.flatten(2, 3).permute(0, 3, 1, 2)  # (b, c, f, h w)
            padding = (self.temporal.weight.shape[2] // 2, 0)
            columns = F.conv2d(columns, self.temporal.weight[..., 0], self.temporal.bias, padding=padding)
            x = columns.permute(0, 2, 3, 1).unflatten(2, (h, w))
        return x  # (b, f, h, w, c)


class ConvBlock(nn.Module):
    """Convolution → GroupNorm → optional scale and shift → SiLU."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.conv = PseudoConv3d(in_channels, out_channels)
        self.norm = nn.GroupNorm(groups, out_channels, eps=1e-5)

    def forward(self, x: Tensor, scale_shift: Tensor | None = None) -> Tensor:
        x = self.conv(x)
        x = channels_last(self.norm(channels_first(x)))  # statistics over frames, rows, columns and the group
        if scale_shift is not None:
            scale, shift = scale_shift[:, None, None, None].chunk(2, dim=-1)  # (b, 1, 1, 1, c) each
            x = x * (scale + 1) + shift
        return F.silu(x)


class ResnetBlock(nn.Module):
    """Two `ConvBlock`s with a skip; the timestep, if any, scales and shifts the first.

    Args:
        time_channels: width of the timestep embedding, or None for a block without timestep.
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int, time_channels: int | None = None) -> None:
        super().__init__()
        self.time = nn.Linear(time_channels, 2 * out_channels) if time_channels else None
        self.block1 = ConvBlock(in_channels, out_channels, groups)
        self.block2 = ConvBlock(out_channels, out_channels, groups)
        self.skip = PseudoConv3d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        scale_shift = self.time(F.silu(time)) if self.time is not None and time is not None else None  # (b, 2c)
        hidden = self.block2(self.block1(x, scale_shift))
        return hidden + (x if self.skip is None else self.skip(x))


class Downsample(nn.Module):
    """Halve height and width, and the frames if `time` is set.

    Space-to-depth in order `(c p1 p2)` and a bias-free 1x1 convolution are together one convolution of kernel and
    stride 2, which reads the buffer once instead of copying it first.
    """

    def __init__(self, channels: int, time: bool) -> None:
        super().__init__()
        self.space = nn.Conv3d(channels, channels, (1, 2, 2), stride=(1, 2, 2), bias=False)
        self.time = nn.Conv3d(channels, channels, (2, 1, 1), stride=(2, 1, 1), bias=False) if time else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.space(channels_first(x))  # (b, c, f, h/2, w/2)
        if self.time is not None:
            x = self.time(x)  # (b, c, f/2, h/2, w/2)
        return channels_last(x)


class Upsample(nn.Module):
    """Double height and width, and the frames if `time` is set: a linear layer, then depth-to-space `(c p1 p2)`.

    Not a transposed convolution: the published bias differs between the pixels of a block.
    """

    def __init__(self, channels: int, time: bool) -> None:
        super().__init__()
        self.space = nn.Linear(channels, 4 * channels)
        self.time = nn.Linear(channels, 2 * channels) if time else None

    def forward(self, x: Tensor) -> Tensor:
        x = rearrange(self.space(x), "b f h w (c p1 p2) -> b f (h p1) (w p2) c", p1=2, p2=2)
        if self.time is not None:
            x = rearrange(self.time(x), "b f h w (c p) -> b (f p) h w c", p=2)
        return x


class TimestepEmbedding(nn.Module):
    """Sinusoids (sine, then cosine; theta 10000; divisor half - 1) → Linear → SiLU."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear = nn.Linear(channels, out_channels)

    def forward(self, timestep: Tensor) -> Tensor:
        half = self.channels // 2
        # In half precision neighbouring timesteps would share an embedding, so it is computed in float32 and then cast.
        exponent = torch.arange(half, device=timestep.device, dtype=torch.float32) / (half - 1)
        angles = timestep.float()[:, None] * torch.exp(exponent * -math.log(10000.0))  # (b, half)
        embedding = torch.cat((angles.sin(), angles.cos()), dim=-1)  # (b, channels)
        return F.silu(self.linear(embedding.to(self.linear.weight.dtype)))  # (b, out_channels)
