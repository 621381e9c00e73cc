"""Pseudo-3D U-Net that denoises a clip of latents (paper 3.1 to 3.5, Figure 1)."""

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn

from fashionflow_core.config import FRAME_DIVISOR
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.models.attention import CrossAttentionBlock, SpatioTemporalAttention
from fashionflow_core.models.pseudo3d import (
    Downsample,
    PseudoConv3d,
    ResnetBlock,
    TimestepEmbedding,
    Upsample,
    channels_first,
    channels_last,
)


@dataclass
class UNetOutput(BaseOutput):
    """`sample`: the prediction, (b, out_channels, f, h, w)."""

    sample: Tensor


class DownBlock(nn.Module):
    """Three residual blocks, (attention), halving, cross-attention. Also returns the two skips for the up path."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        groups: int,
        time_channels: int,
        context_channels: int,
        cross_heads: int,
        attention: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        self.time_resnet = ResnetBlock(in_channels, out_channels, groups, time_channels)
        self.resnets = nn.ModuleList([ResnetBlock(out_channels, out_channels, groups) for _ in range(2)])
        self.attention = SpatioTemporalAttention(out_channels, *attention) if attention else None
        self.downsample = Downsample(out_channels, time=attention is not None)
        self.cross_attention = CrossAttentionBlock(out_channels, context_channels, cross_heads)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first = x = self.time_resnet(x, time)  # (b, f, h, w, out)
        for resnet in self.resnets:
            x = resnet(x)
        if self.attention is not None:
            x = self.attention(x)
        second = x
        x = self.downsample(x)  # (b, f or f/2, h/2, w/2, out)
        return self.cross_attention(x, context), first, second


class UpBlock(nn.Module):
    """Doubling, then three residual blocks that take the two skips, (attention), cross-attention."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        groups: int,
        time_channels: int,
        context_channels: int,
        cross_heads: int,
        attention: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        self.upsample = Upsample(in_channels, time=attention is not None)
        self.time_resnet = ResnetBlock(2 * in_channels, out_channels, groups, time_channels)
        self.resnets = nn.ModuleList(
            [
                ResnetBlock(out_channels + in_channels, out_channels, groups),
                ResnetBlock(out_channels, out_channels, groups),
            ]
        )
        self.attention = SpatioTemporalAttention(out_channels, *attention) if attention else None
        self.cross_attention = CrossAttentionBlock(out_channels, context_channels, cross_heads)

    def forward(self, x: Tensor, time: Tensor, context: Tensor, first: Tensor, second: Tensor) -> Tensor:
        scale = 2**-0.5
        x = self.upsample(x)  # (b, f, h, w, in)
        x = self.time_resnet(torch.cat((second * scale, x), dim=-1), time)  # (b, f, h, w, out)
        x = self.resnets[0](torch.cat((first * scale, x), dim=-1))
        x = self.resnets[1](x)
        if self.attention is not None:
            x = self.attention(x)
        return self.cross_attention(x, context)


class MidBlock(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int, groups: int, time_channels: int, attention: tuple[int, int]) -> None:
        super().__init__()
        self.resnet1 = ResnetBlock(channels, channels, groups, time_channels)
        self.attention = SpatioTemporalAttention(channels, *attention)
        self.resnet2 = ResnetBlock(channels, channels, groups, time_channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.resnet2(self.attention(self.resnet1(x, time)), time)


class FashionFlowUNet(ModelMixin, ConfigMixin):
    """Denoiser of a full clip of latents; predicts noise, or another `prediction_type` of the scheduler.

    The defaults are the published network of 71,671,548 parameters. Fewer or narrower levels make smaller ones; mask
    channels (paper 3.3) are `in_channels` beyond `out_channels`. Attention and halving in time are in the innermost
    level only.

    Args:
        in_channels: channels of `sample`: latent channels, plus those of `KnownFrames.channels()` if trained with them.
        out_channels: latent channels.
        block_out_channels: width of each level, outermost first.
        num_attention_heads, attention_head_dim: heads and width of the spatio-temporal attention.
        down_cross_attention_heads, up_cross_attention_heads: heads of each level's cross-attention; down from the
            outermost level, up from the innermost.
        cross_attention_dim: width of the context tokens.
        time_embedding_dim: width of the timestep embedding after its linear layer.
        norm_num_groups: groups of every GroupNorm.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 4,
        block_out_channels: tuple[int, ...] = (64, 128, 256, 512),
        num_attention_heads: int = 8,
        attention_head_dim: int = 64,
        down_cross_attention_heads: tuple[int, ...] = (1, 1, 2, 4),
        up_cross_attention_heads: tuple[int, ...] = (4, 2, 1, 1),
        cross_attention_dim: int = 768,
        time_embedding_dim: int = 256,
        norm_num_groups: int = 8,
    ) -> None:
        super().__init__()
        widths = tuple(block_out_channels)
        levels = len(widths)
        if not len(down_cross_attention_heads) == len(up_cross_attention_heads) == levels:
            raise FashionFlowError(
                f"unet: {levels} levels need {levels} values of cross-attention heads down and up",
                hint="correct its config.json, or import or pull the model again",
            )
        attention = (num_attention_heads, attention_head_dim)

        self.conv_in = PseudoConv3d(in_channels, widths[0], kernel_size=7)
        self.time_embedding = TimestepEmbedding(widths[0], time_embedding_dim)

        def block(kind: type, i: int, o: int, heads: int, innermost: bool) -> nn.Module:
            return kind(
                i,
                o,
                groups=norm_num_groups,
                time_channels=time_embedding_dim,
                context_channels=cross_attention_dim,
                cross_heads=heads,
                attention=attention if innermost else None,
            )

        inputs = (widths[0], *widths[:-1])
        self.down_blocks = nn.ModuleList(
            block(DownBlock, inputs[level], widths[level], down_cross_attention_heads[level], level == levels - 1)
            for level in range(levels)
        )
        self.mid_block = MidBlock(widths[-1], norm_num_groups, time_embedding_dim, attention)
        self.up_blocks = nn.ModuleList(
            block(UpBlock, widths[level], inputs[level], up_cross_attention_heads[up], up == 0)
            for up, level in enumerate(reversed(range(levels)))
        )
        self.conv_out = PseudoConv3d(widths[0], out_channels)

    @property
    def size_divisor(self) -> int:
        """Divisor of latent height and width: every level halves them."""
        return 2 ** len(self.down_blocks)

    @property
    def frame_divisor(self) -> int:
        """Divisor of the number of frames: the innermost level halves it."""
        return FRAME_DIVISOR

    def check_shape(self, frames: int, height: int, width: int) -> None:
        """Check the divisors of frames, height and width.

        Args:
            frames, height, width: size of the latents.

        Raises:
            FashionFlowError: not a multiple; the message contains the divisor.
        """
        if frames <= 0 or frames % self.frame_divisor:
            raise FashionFlowError(
                f"{frames} frames: the number must be a multiple of {self.frame_divisor}",
                hint="use the next even number",
            )
        for name, size in (("height", height), ("width", width)):
            if size <= 0 or size % self.size_divisor:
                raise FashionFlowError(
                    f"latent {name} {size}: must be a multiple of {self.size_divisor}",
                    hint="correct height and width in model.json, or import or pull the model again",
                )

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> UNetOutput:
        """Denoise.

        Args:
            sample: noisy latents (b, in_channels, f, h, w), given frames already pinned.
            timestep: (b,), 0 to 999; integers or floats.
            encoder_hidden_states: context tokens (b, n, cross_attention_dim).

        Returns:
            `.sample`: (b, out_channels, f, h, w).

        Raises:
            FashionFlowError: frames, height or width is not a multiple of the divisor.
        """
        if not torch.compiler.is_compiling():  # sizes are symbols while a graph is being exported
            self.check_shape(*sample.shape[2:])
        time = self.time_embedding(timestep)  # (b, time)
        # The copy into channels-last order happens here, once.
        x = channels_last(sample.contiguous(memory_format=torch.channels_last_3d))  # (b, f, h, w, c)
        x = self.conv_in(x)
        skips: list[tuple[Tensor, Tensor]] = []
        for down in self.down_blocks:
            x, first, second = down(x, time, encoder_hidden_states)
            skips.append((first, second))
        x = self.mid_block(x, time)
        for up in self.up_blocks:
            x = up(x, time, encoder_hidden_states, *skips.pop())
        x = self.conv_out(x)  # (b, f, h, w, out)
        return UNetOutput(sample=channels_first(x))
