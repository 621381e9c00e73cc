"""Layers of the literal formulation: each drawn as in the paper's Figure 2; see `literal`."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class PseudoConv3d(nn.Module):
    """Figure 2a: a 2D convolution of every frame, then for kernels above 1 a 1D one along time at every pixel."""

    def __init__(self, dim_in: int, dim_out: int, kernel: int, temporal_kernel: int | None = None) -> None:
        super().__init__()
        temporal_kernel = kernel if temporal_kernel is None else temporal_kernel
        self.spatial_conv = nn.Conv2d(dim_in, dim_out, kernel, padding=kernel // 2)
        self.temporal_conv = (
            nn.Conv1d(dim_out, dim_out, temporal_kernel, padding=temporal_kernel // 2) if kernel > 1 else None
        )

    def forward(self, x: Tensor) -> Tensor:
        b, _, _, h, w = x.shape
        x = rearrange(x, "b c f h w -> (b f) c h w")
        x = self.spatial_conv(x)
        x = rearrange(x, "(b f) c h w -> b c f h w", b=b)
        if self.temporal_conv is None:
            return x
        x = rearrange(x, "b c f h w -> (b h w) c f")
        x = self.temporal_conv(x)
        return rearrange(x, "(b h w) c f -> b c f h w", b=b, h=h, w=w)


class ConvBlock(nn.Module):
    """Convolution, GroupNorm, scale and shift by the timestep, SiLU."""

    def __init__(self, dim_in: int, dim_out: int, groups: int) -> None:
        super().__init__()
        self.project = PseudoConv3d(dim_in, dim_out, 3)
        self.norm = nn.GroupNorm(groups, dim_out, eps=1e-5)

    def forward(self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x = self.norm(self.project(x))  # statistics over (c / groups, f, h, w)
        if scale_shift is not None:
            scale, shift = scale_shift
            x = x * (scale + 1) + shift
        return F.silu(x)


class ResidualBlock(nn.Module):
    """Two convolution blocks and a skip; the first one is modulated by the timestep where `timestep_dim` is given."""

    def __init__(self, dim_in: int, dim_out: int, groups: int, timestep_dim: int | None = None) -> None:
        super().__init__()
        self.timestep_mlp = None
        if timestep_dim is not None:
            self.timestep_mlp = nn.Sequential(nn.SiLU(), nn.Linear(timestep_dim, 2 * dim_out))
        self.block1 = ConvBlock(dim_in, dim_out, groups)
        self.block2 = ConvBlock(dim_out, dim_out, groups)
        self.res_conv = PseudoConv3d(dim_in, dim_out, 1) if dim_in != dim_out else nn.Identity()

    def forward(self, x: Tensor, timestep_embedding: Tensor | None = None) -> Tensor:
        scale_shift = None
        if self.timestep_mlp is not None:
            modulation = rearrange(self.timestep_mlp(timestep_embedding), "b c -> b c 1 1 1")
            scale, shift = modulation.chunk(2, dim=1)
            scale_shift = (scale, shift)
        return self.block2(self.block1(x, scale_shift)) + self.res_conv(x)


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """Equation 3 on `b n (heads d)` tokens, with an optional bias (heads, i, j) on the logits."""
    q, k, v = (rearrange(t, "b n (heads d) -> b heads n d", heads=heads) for t in (q, k, v))
    logits = torch.einsum("b h i d, b h j d -> b h i j", q, k) / math.sqrt(q.shape[-1])
    if bias is not None:
        logits = logits + bias
    weights = logits.softmax(dim=-1)
    out = torch.einsum("b h i j, b h j d -> b h i d", weights, v)
    return rearrange(out, "b heads n d -> b n (heads d)")


class CrossAttention(nn.Module):
    """Multi-head attention of the video's tokens (b, n, dim) to the context (b, m, context_dim)."""

    def __init__(self, dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(context_dim, dim, bias=False)
        self.v_proj = nn.Linear(context_dim, dim, bias=False)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.out_proj(attention(self.q_proj(x), self.k_proj(context), self.v_proj(context), self.heads))


class CrossAttentionBlock(nn.Module):
    """Figure 2c: `b (h w f) c` tokens attend to the context, a GEGLU feed-forward, a 1x1 convolution; no outer skip."""

    def __init__(self, dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.layernorm_2 = nn.LayerNorm(dim, eps=1e-5)
        self.attention_2 = CrossAttention(dim, context_dim, heads)
        self.layernorm_3 = nn.LayerNorm(dim, eps=1e-5)
        self.linear_geglu_1 = nn.Linear(dim, 8 * dim)
        self.linear_geglu_2 = nn.Linear(4 * dim, dim)
        self.conv_output = PseudoConv3d(dim, dim, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        _, _, f, h, w = x.shape
        x = rearrange(x, "b c f h w -> b (h w f) c")
        x = x + self.attention_2(self.layernorm_2(x), context)
        value, gate = self.linear_geglu_1(self.layernorm_3(x)).chunk(2, dim=-1)
        x = x + self.linear_geglu_2(value * F.gelu(gate))
        return self.conv_output(rearrange(x, "b (h w f) c -> b c f h w", f=f, h=h, w=w))


class SelfAttention(nn.Module):
    """Pre-LayerNorm self-attention of (b, n, dim) tokens with a bias on the logits; no skip."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.to_q = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.norm(x)
        k, v = self.to_kv(x).chunk(2, dim=-1)
        return self.to_out(attention(self.to_q(x), k, v, self.heads, bias))


class RelativePositionBias(nn.Module):
    """MLP from the raw integer offset i - j of two positions to one logit bias a head."""

    def __init__(self, hidden: int, axes: int, heads: int) -> None:
        super().__init__()
        self.net = nn.ModuleList(
            [
                nn.Sequential(nn.Linear(axes, hidden), nn.SiLU()),
                nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU()),
                nn.Linear(hidden, heads),
            ]
        )

    def forward(self, *sizes: int) -> Tensor:
        weight = next(self.parameters())
        grid = torch.cartesian_prod(*(torch.arange(n, device=weight.device) for n in sizes)).view(-1, len(sizes))
        bias = (grid[:, None] - grid[None, :]).to(weight.dtype)  # i j axes
        for layer in self.net:
            bias = layer(bias)
        return rearrange(bias, "i j heads -> heads i j")


class ChannelLayerNorm(nn.Module):
    """LayerNorm over the channels of `b c f h w` with a gain alone; the variance is clamped at eps, not added to."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.g = nn.Parameter(torch.ones(dim, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=1, keepdim=True)
        variance = x.var(dim=1, unbiased=False, keepdim=True)
        return (x - mean) * variance.clamp(min=self.eps).rsqrt() * self.g


class FeedForward(nn.Module):
    """GEGLU feed-forward in which the second half of the inner channels is shifted to the next frame."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = int(dim * 4 * 2 / 3)
        self.proj_in = nn.Sequential(nn.Conv3d(dim, 2 * inner, 1, bias=False))
        self.proj_out = nn.Sequential(ChannelLayerNorm(inner), nn.Conv3d(inner, dim, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj_in(x).chunk(2, dim=1)
        x = value * F.gelu(gate)
        kept, shifted = x.chunk(2, dim=1)  # the larger part first where the width is odd
        shifted = torch.cat((torch.zeros_like(shifted[:, :, :1]), shifted[:, :, :-1]), dim=2)
        return self.proj_out(torch.cat((kept, shifted), dim=1))


class SpatioTemporalAttention(nn.Module):
    """Figure 2b: spatial self-attention `(b f) (h w) c`, temporal `(b h w) f c`, feed-forward; each with its skip."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.spatial_attn = SelfAttention(dim, heads, head_dim)
        self.spatial_rel_pos_bias = RelativePositionBias(dim // 2, 2, heads)
        self.temporal_attn = SelfAttention(dim, heads, head_dim)
        self.temporal_rel_pos_bias = RelativePositionBias(dim // 2, 1, heads)
        self.ff = FeedForward(dim)

    def forward(self, x: Tensor) -> Tensor:
        b, _, f, h, w = x.shape
        x = rearrange(x, "b c f h w -> (b f) (h w) c")
        x = x + self.spatial_attn(x, self.spatial_rel_pos_bias(h, w))
        x = rearrange(x, "(b f) (h w) c -> (b h w) f c", b=b, h=h, w=w)
        x = x + self.temporal_attn(x, self.temporal_rel_pos_bias(f))
        x = rearrange(x, "(b h w) f c -> b c f h w", b=b, h=h, w=w)
        return x + self.ff(x)


class Downsample(nn.Module):
    """Space-to-depth, then a bias-free 1x1 convolution; with `time` the same for pairs of frames after it."""

    def __init__(self, dim: int, time: bool) -> None:
        super().__init__()
        self.down_space = nn.Sequential(nn.Identity(), nn.Conv2d(4 * dim, dim, 1, bias=False))
        self.down_time = nn.Sequential(nn.Identity(), nn.Conv3d(2 * dim, dim, 1, bias=False)) if time else None

    def forward(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        x = rearrange(x, "b c f (h p1) (w p2) -> (b f) (c p1 p2) h w", p1=2, p2=2)
        x = rearrange(self.down_space(x), "(b f) c h w -> b c f h w", b=b)
        if self.down_time is not None:
            x = self.down_time(rearrange(x, "b c (f p) h w -> b (c p) f h w", p=2))
        return x


class Upsample(nn.Module):
    """1x1 convolution to 4x the channels, then depth-to-space; with `time` likewise to twice the frames after it."""

    def __init__(self, dim: int, time: bool) -> None:
        super().__init__()
        self.up_space = nn.Sequential(nn.Conv2d(dim, 4 * dim, 1))
        self.up_time = nn.Sequential(nn.Conv3d(dim, 2 * dim, 1)) if time else None

    def forward(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        x = self.up_space(rearrange(x, "b c f h w -> (b f) c h w"))
        x = rearrange(x, "(b f) (c p1 p2) h w -> b c f (h p1) (w p2)", b=b, p1=2, p2=2)
        if self.up_time is not None:
            x = rearrange(self.up_time(x), "b (c p) f h w -> b c (f p) h w", p=2)
        return x


class SinusoidalEmbedding(nn.Module):
    """Timesteps (b,) to (b, width): sines, then cosines, theta 10000, exponents in steps of 1 / (width / 2 - 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, timestep: Tensor) -> Tensor:
        half = self.width // 2
        exponents = torch.arange(half, device=timestep.device, dtype=torch.float32) / (half - 1)
        angles = timestep.float()[:, None] * torch.exp(-math.log(10000) * exponents)[None, :]
        return torch.cat((angles.sin(), angles.cos()), dim=-1)
