"""Inception-v3 network for FID and IS.

It is TensorFlow's network of December 2015 (Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016), not
the one of torchvision: average pooling excludes padding, the last block uses max pooling, there are 1008 classes, and
images are resized as in TensorFlow 1.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES, CLASSES, SIDE = 2048, 1008, 299


def resize_tf1(images: Tensor, side: int = SIDE) -> Tensor:
    """Bilinear resize as TensorFlow 1: output pixel i lies at i * (old size / new size), without antialiasing.

    Args:
        images: `b c h w`, floating point.

    Returns:
        `b c side side`.
    """
    for axis in (2, 3):
        size = images.shape[axis]
        if size == side:
            continue
        place = torch.arange(side, dtype=torch.float32, device=images.device) * (size / side)
        low = place.floor().long()
        high = (low + 1).clamp(max=size - 1)
        weight = (place - low).to(images.dtype).view([-1 if axis == a else 1 for a in range(4)])
        below, above = images.index_select(axis, low), images.index_select(axis, high)
        images = below + (above - below) * weight
    return images


class Conv(nn.Module):
    """Convolution, BatchNorm (eps 1e-3), ReLU."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


def _halved(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2)


class Block(nn.Module):
    """Parallel branches.

    Args:
        rows: names of each branch's convolutions, in order; a row may end in a pair, whose outputs are concatenated.
        convolutions: convolutions by name; `branch_pool` follows the pooling.
        pool: pooling of the additional branch.
    """

    def __init__(
        self,
        rows: tuple[tuple[str | tuple[str, str], ...], ...],
        convolutions: Mapping[str, Conv],
        pool: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        for name, convolution in convolutions.items():
            self.add_module(name, convolution)
        self.rows, self.pool = rows, pool

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for row in self.rows:
            y = x
            for step in row:
                if isinstance(step, tuple):
                    outputs += [self.get_submodule(name)(y) for name in step[:-1]]
                    step = step[-1]
                y = self.get_submodule(step)(y)
            outputs.append(y)
        pooled = self.pool(x)
        outputs.append(self.get_submodule("branch_pool")(pooled) if hasattr(self, "branch_pool") else pooled)
        return torch.cat(outputs, dim=1)


def _block_a(channels: int, pool: int) -> Block:
    return Block(
        (("branch1x1",), ("branch5x5_1", "branch5x5_2"), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")),
        {
            "branch1x1": Conv(channels, 64),
            "branch5x5_1": Conv(channels, 48),
            "branch5x5_2": Conv(48, 64, 5, padding=2),
            "branch3x3dbl_1": Conv(channels, 64),
            "branch3x3dbl_2": Conv(64, 96, 3, padding=1),
            "branch3x3dbl_3": Conv(96, 96, 3, padding=1),
            "branch_pool": Conv(channels, pool),
        },
        _average,
    )


def _block_b(channels: int) -> Block:
    return Block(
        (("branch3x3",), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")),
        {
            "branch3x3": Conv(channels, 384, 3, stride=2),
            "branch3x3dbl_1": Conv(channels, 64),
            "branch3x3dbl_2": Conv(64, 96, 3, padding=1),
            "branch3x3dbl_3": Conv(96, 96, 3, stride=2),
        },
        _halved,
    )


def _block_c(channels: int, width: int) -> Block:
    row, column = ((1, 7), (0, 3)), ((7, 1), (3, 0))
    return Block(
        (
            ("branch1x1",),
            ("branch7x7_1", "branch7x7_2", "branch7x7_3"),
            ("branch7x7dbl_1", "branch7x7dbl_2", "branch7x7dbl_3", "branch7x7dbl_4", "branch7x7dbl_5"),
        ),
        {
            "branch1x1": Conv(channels, 192),
            "branch7x7_1": Conv(channels, width),
            "branch7x7_2": Conv(width, width, row[0], padding=row[1]),
            "branch7x7_3": Conv(width, 192, column[0], padding=column[1]),
            "branch7x7dbl_1": Conv(channels, width),
            "branch7x7dbl_2": Conv(width, width, column[0], padding=column[1]),
            "branch7x7dbl_3": Conv(width, width, row[0], padding=row[1]),
            "branch7x7dbl_4": Conv(width, width, column[0], padding=column[1]),
            "branch7x7dbl_5": Conv(width, 192, row[0], padding=row[1]),
            "branch_pool": Conv(channels, 192),
        },
        _average,
    )


def _block_d(channels: int) -> Block:
    return Block(
        (("branch3x3_1", "branch3x3_2"), ("branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4")),
        {
            "branch3x3_1": Conv(channels, 192),
            "branch3x3_2": Conv(192, 320, 3, stride=2),
            "branch7x7x3_1": Conv(channels, 192),
            "branch7x7x3_2": Conv(192, 192, (1, 7), padding=(0, 3)),
            "branch7x7x3_3": Conv(192, 192, (7, 1), padding=(3, 0)),
            "branch7x7x3_4": Conv(192, 192, 3, stride=2),
        },
        _halved,
    )


def _block_e(channels: int, pool: Callable[[Tensor], Tensor]) -> Block:
    return Block(
        (
            ("branch1x1",),
            ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b")),
            ("branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")),
        ),
        {
            "branch1x1": Conv(channels, 320),
            "branch3x3_1": Conv(channels, 384),
            "branch3x3_2a": Conv(384, 384, (1, 3), padding=(0, 1)),
            "branch3x3_2b": Conv(384, 384, (3, 1), padding=(1, 0)),
            "branch3x3dbl_1": Conv(channels, 448),
            "branch3x3dbl_2": Conv(448, 384, 3, padding=1),
            "branch3x3dbl_3a": Conv(384, 384, (1, 3), padding=(0, 1)),
            "branch3x3dbl_3b": Conv(384, 384, (3, 1), padding=(1, 0)),
            "branch_pool": Conv(channels, 192),
        },
        pool,
    )


class FIDInception(nn.Module):
    """Frames → features of FID and logits of IS. Parameter names are those of the public file."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _block_a(192, 32), _block_a(256, 64), _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b = _block_c(768, 128)
        self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = _block_c(768, 160), _block_c(768, 160), _block_c(768, 192)
        self.Mixed_7a = _block_d(768)
        # TensorFlow's 2015 network uses max pooling in its last block only.
        self.Mixed_7b, self.Mixed_7c = _block_e(1280, _average), _block_e(2048, _maximum)
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of frames, including the resize.

        Args:
            frames: `b 3 h w`, 0 to 255, uint8 or floating point.

        Returns:
            features `b 2048`, after the global average; logits `b 1008`, without the classifier's bias, as in the
            published IS.
        """
        x = resize_tf1(frames.to(self.fc.weight.dtype))
        x = (x - 128) / 128  # b 3 299 299
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_halved(x)))
        x = _halved(x)  # b 192 35 35
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))  # b 768 17 17
        x = self.Mixed_7a(self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x)))))  # b 1280 8 8
        features = self.Mixed_7c(self.Mixed_7b(x)).mean(dim=(2, 3))
        return features, F.linear(features, self.fc.weight)
