"""RGB I3D network for FVD and VFID.

Carreira and Zisserman, "Quo Vadis, Action Recognition?" (CVPR 2017), in the common PyTorch conversion: TensorFlow's
"same" padding, BatchNorm eps 1e-3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES, CLASSES = 1024, 400

# Widths of an Inception block: 1x1; 1x1 then 3x3; 1x1 then 3x3; 1x1 after pooling.
_MIXED = {
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}


def _same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> list[int]:
    """Padding of TensorFlow's "same" for `f h w` of `b c f h w`, sum of both sides: ceil(size / stride) outputs."""
    return [max(k - (size % s or s), 0) for size, k, s in zip(x.shape[2:], kernel, stride)]


class SameConv3d(nn.Module):
    """Convolution with "same" padding, BatchNorm, ReLU.

    In training mode a clip is normalised by its own statistics; the stored ones are unchanged, so that the order of
    clips has no effect.
    """

    def __init__(self, channels: int, width: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(channels, width, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv3d
        pads = _same(x, conv.kernel_size, conv.stride)
        x = self._in_parts(x, pads) if any(pads) else F.conv3d(x, conv.weight, stride=conv.stride)
        return F.relu_(self._normalise_(x))

    def _in_parts(self, x: Tensor, pads: list[int], frames: int = 6) -> Tensor:
        """The padded convolution, in chunks of output frames, to limit peak memory of the first two layers."""
        conv, (kernel, stride) = self.conv3d, (self.conv3d.kernel_size[0], self.conv3d.stride[0])
        sizes = [-(-size // s) for size, s in zip(x.shape[2:], conv.stride)]
        out = x.new_empty((len(x), conv.out_channels, *sizes))
        sides = [side for pad in pads[:0:-1] for side in (pad // 2, pad - pad // 2)]  # the odd zero goes last
        for start in range(0, sizes[0], frames):
            stop = min(start + frames, sizes[0])
            first = start * stride - pads[0] // 2
            last = first + (stop - start - 1) * stride + kernel
            needed = x[:, :, max(first, 0) : last]
            needed = F.pad(needed, [*sides, max(-first, 0), max(last - x.shape[2], 0)])
            out[:, :, start:stop] = F.conv3d(needed, conv.weight, stride=conv.stride)
        return out

    def _normalise_(self, x: Tensor) -> Tensor:
        """BatchNorm in place: a copy of the first layer's output would be half of all memory."""
        bn = self.bn
        if self.training:
            variance, mean = torch.var_mean(x, dim=(0, 2, 3, 4), correction=0)
        else:
            assert bn.running_mean is not None and bn.running_var is not None
            variance, mean = bn.running_var, bn.running_mean
        scale = bn.weight.float() * torch.rsqrt(variance.float() + bn.eps)
        shift = bn.bias.float() - mean.float() * scale
        scale, shift = (v.to(x.dtype).view(1, -1, 1, 1, 1) for v in (scale, shift))
        return x.mul_(scale).add_(shift)


def _pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    # Inputs come from a ReLU, so zero padding does not change the maximum.
    before = [pad // 2 for pad in _same(x, kernel, stride)]
    # Without pooling over time frames are pooled in chunks: torch stores an 8-byte index for every maximum.
    parts = x.split(6, dim=2) if kernel[0] == 1 else (x,)
    return torch.cat([F.max_pool3d(part, kernel, stride, padding=before, ceil_mode=True) for part in parts], dim=2)


class Mixed(nn.Module):
    """Four parallel branches."""

    def __init__(self, channels: int, b0: int, b1a: int, b1b: int, b2a: int, b2b: int, b3b: int) -> None:
        super().__init__()
        self.b0 = SameConv3d(channels, b0)
        self.b1a, self.b1b = SameConv3d(channels, b1a), SameConv3d(b1a, b1b, 3)
        self.b2a, self.b2b = SameConv3d(channels, b2a), SameConv3d(b2a, b2b, 3)
        self.b3b = SameConv3d(channels, b3b)

    def forward(self, x: Tensor) -> Tensor:
        pooled = _pool(x, (3, 3, 3), (1, 1, 1))
        branches = self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)
        return torch.cat(branches, dim=1)


class Logits(nn.Module):
    """The classifier: the one convolution with a bias and without normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(FEATURES, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3d(x)


class I3D(nn.Module):
    """The network up to `Mixed_5c`, and its classifier. Parameter names are those of `rgb_imagenet.pt`."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = SameConv3d(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = SameConv3d(64, 64)
        self.Conv3d_2c_3x3 = SameConv3d(64, 192, 3)
        for name, widths in _MIXED.items():
            self.add_module(name, Mixed(*widths))
        self.logits = Logits()

    def _mixed(self, x: Tensor, *letters: str) -> Tensor:
        for letter in letters:
            x = self.get_submodule(f"Mixed_{letter}")(x)
        return x

    def extract(self, video: Tensor) -> Tensor:
        """`Mixed_5c`: `b 3 f h w` → `b 1024 f/8 h/32 w/32`, sizes rounded up."""
        x = self.Conv3d_1a_7x7(video)  # b 64 f/2 h/2 w/2
        x = _pool(x, (1, 3, 3), (1, 2, 2))  # b 64 f/2 h/4 w/4
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        x = _pool(x, (1, 3, 3), (1, 2, 2))  # b 192 f/2 h/8 w/8
        x = self._mixed(x, "3b", "3c")
        x = _pool(x, (3, 3, 3), (2, 2, 2))  # b 480 f/4 h/16 w/16
        x = self._mixed(x, "4b", "4c", "4d", "4e", "4f")
        x = _pool(x, (2, 2, 2), (2, 2, 2))  # b 832 f/8 h/32 w/32
        return self._mixed(x, "5b", "5c")

    def features(self, video: Tensor) -> Tensor:
        """VFID's features: `b 3 f h w` in [0, 1] → `b 1024`, `Mixed_5c` averaged over time and space."""
        return self.extract(video).mean(dim=(2, 3, 4))

    def forward(self, video: Tensor) -> Tensor:
        """FVD's features: `b 3 f 224 224` in [-1, 1], f at least 16 → the raw logits, `b 400`."""
        x = F.avg_pool3d(self.extract(video), (2, 7, 7), stride=1)
        return self.logits(x).mean(dim=(2, 3, 4))
