"""Cross-attention and spatio-temporal self-attention (paper 3.5, Figure 2b and 2c).

Modules take and return the channels-last buffer `(b, f, h, w, c)`; see `pseudo3d`.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from fashionflow_core.models.pseudo3d import PseudoConv3d


def _geglu(x: Tensor) -> Tensor:
    """First half of the channels times the exact GELU of the second."""
    value, gate = x.chunk(2, dim=-1)
    return value * F.gelu(gate)


class CrossAttentionBlock(nn.Module):
    """Tokens of all frames together attend to the context; then a feed-forward and a 1x1 convolution, no outer skip.

    Args:
        channels: width of the buffer; heads must divide it.
        context_channels: width of the context tokens.
        heads: number of attention heads.
    """

    def __init__(self, channels: int, context_channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(channels, eps=1e-5)
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_channels, channels, bias=False)
        self.to_v = nn.Linear(context_channels, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels, eps=1e-5)
        self.ff_in = nn.Linear(channels, 8 * channels)
        self.ff_out = nn.Linear(4 * channels, channels)
        self.conv_out = PseudoConv3d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        b, f, h, w, c = x.shape
        q = rearrange(self.to_q(self.norm1(x)), "b f h w (n d) -> b n (f h w) d", n=self.heads)
        k = rearrange(self.to_k(context), "b m (n d) -> b n m d", n=self.heads)
        v = rearrange(self.to_v(context), "b m (n d) -> b n m d", n=self.heads)
        attended = F.scaled_dot_product_attention(q, k, v)  # (b, heads, f h w, d)
        x = x + self.to_out(rearrange(attended, "b n (f h w) d -> b f h w (n d)", f=f, h=h, w=w))
        x = x + self.ff_out(_geglu(self.ff_in(self.norm2(x))))  # (b, f, h, w, c)
        return self.conv_out(x)


class RelativePositionBias(nn.Module):
    """Relative position bias: an MLP of the integer offset `i - j`, one or two axes.

    The MLP is evaluated on the table of distinct offsets, not on the pairs, and the table is gathered as a Toeplitz
    matrix: it supports every length and exports without `cumprod`.

    Args:
        axes: 1 (frames) or 2 (rows, columns).
        heads: number of attention heads, one bias each.
        hidden: hidden width of the MLP.
    """

    def __init__(self, axes: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(axes, hidden)
        self.linear2 = nn.Linear(hidden, hidden)
        self.linear3 = nn.Linear(hidden, heads)

    def forward(self, *lengths: int) -> Tensor:
        """Bias `(heads, n, n)`, n the product of the lengths."""
        weight = self.linear1.weight
        axes = [torch.arange(1 - n, n, device=weight.device) for n in lengths]  # offsets i - j of each axis
        offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)  # (table, axes)
        table = F.silu(self.linear1(offsets.to(weight.dtype)))
        table = self.linear3(F.silu(self.linear2(table)))  # (table, heads)

        # Row of the table for each pair: mixed-radix number of the offsets, each shifted to start at 0.
        index = torch.zeros((1, 1), dtype=torch.long, device=weight.device)
        for n in lengths:
            position = torch.arange(n, device=weight.device)
            shifted = position[:, None] - position[None, :] + (n - 1)  # (n, n)
            index = index[:, None, :, None] * (2 * n - 1) + shifted[None, :, None, :]
            index = index.flatten(2, 3).flatten(0, 1)  # (positions so far, positions so far)
        return table[index].permute(2, 0, 1)  # (heads, n, n)


class SelfAttention(nn.Module):
    """LayerNorm → bias-free projections → attention with a position bias → bias-free projection, plus the residual."""

    def __init__(self, channels: int, heads: int, head_channels: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_channels
        self.norm = nn.LayerNorm(channels, eps=1e-5)
        self.to_qkv = nn.Linear(channels, 3 * inner, bias=False)
        self.to_out = nn.Linear(inner, channels, bias=False)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        qkv = rearrange(self.to_qkv(self.norm(tokens)), "b t (three n d) -> three b n t d", three=3, n=self.heads)
        q, k, v = qkv.unbind(0)  # (batch, heads, tokens, d) each
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None].to(q.dtype))
        return tokens + self.to_out(rearrange(attended, "b n t d -> b t (n d)"))


class ShiftedFeedForward(nn.Module):
    """GEGLU feed-forward whose second half of the channels comes from the previous frame.

    Inner width int(channels * 4 * 2/3); if odd, the unshifted half is larger.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = int(channels * 4 * 2 / 3)
        self.proj_in = nn.Linear(channels, 2 * inner, bias=False)
        self.gain = nn.Parameter(torch.ones(inner))
        self.proj_out = nn.Linear(inner, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = _geglu(self.proj_in(x))  # (b, f, h, w, inner)
        kept, shifted = hidden.chunk(2, dim=-1)
        shifted = F.pad(shifted[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))  # one frame later, zeros in frame 0
        hidden = torch.cat((kept, shifted), dim=-1)
        # Channel LayerNorm with a gain only. The variance is clamped from below at 1e-5 (upstream: 1e-3 in half
        # precision, which would make the model's output depend on its dtype), and computed in float32.
        wide = hidden.float()
        variance, mean = torch.var_mean(wide, dim=-1, correction=0, keepdim=True)
        hidden = ((wide - mean) * variance.clamp(min=1e-5).rsqrt()).to(x.dtype) * self.gain
        return x + self.proj_out(hidden)


class SpatioTemporalAttention(nn.Module):
    """Self-attention within each frame, then along time at each position, then a feed-forward (Figure 2b)."""

    def __init__(self, channels: int, heads: int, head_channels: int) -> None:
        super().__init__()
        self.spatial = SelfAttention(channels, heads, head_channels)
        self.spatial_bias = RelativePositionBias(2, heads, channels // 2)
        self.temporal = SelfAttention(channels, heads, head_channels)
        self.temporal_bias = RelativePositionBias(1, heads, channels // 2)
        self.feed_forward = ShiftedFeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:
        b, f, h, w, c = x.shape
        tokens = self.spatial(rearrange(x, "b f h w c -> (b f) (h w) c"), self.spatial_bias(h, w))
        tokens = rearrange(tokens, "(b f) (h w) c -> (b h w) f c", f=f, h=h)
        tokens = self.temporal(tokens, self.temporal_bias(f))
        x = rearrange(tokens, "(b h w) f c -> b f h w c", h=h, w=w)
        return self.feed_forward(x)
