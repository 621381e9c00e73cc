"""Reference U-Net: the paper's Figure 2 in plain PyTorch and einops.

Every operation is written as drawn in the figure: `b c f h w` throughout, rearranged around 2D convolutions `(b f) c h
w` and 1D convolutions `(b h w) c f`, and attention as the softmax of equation 3. It is independent of
`fashionflow_core.models`, so that agreement of the two is evidence. Parameter names are those of the published
checkpoint. Sources: paper sections 3.2, 3.5, 4.2 and Figure 2; details that they omit follow the published network,
whose golden
outputs it reproduces (tests/models/test_literal.py).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

SKIP_SCALE = 2**-0.5


class PseudoConv3d(nn.Module):
    """Figure 2a: a 2D convolution of every frame, then for kernels above 1 a 1D one along time at every pixel."""

    def __init__(self, dim_in: int, dim_out: int, kernel: int) -> None:
        super().__init__()
        self.spatial_conv = nn.Conv2d(dim_in, dim_out, kernel, padding=kernel // 2)
        self.temporal_conv = nn.Conv1d(dim_out, dim_out, 3, padding=1) if kernel > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        b, _, _, h, w = x.shape
        x = self.spatial_conv(rearrange(x, "b c f h w -> (b f) c h w"))
        x = rearrange(x, "(b f) c h w -> b c f h w", b=b)
        if self.temporal_conv is None:
            return x
        x = self.temporal_conv(rearrange(x, "b c f h w -> (b h w) c f"))
        return rearrange(x, "(b h w) c f -> b c f h w", b=b, h=h, w=w)


class ConvBlock(nn.Module):
    """Convolution, GroupNorm, scale and shift by the timestep, SiLU."""

    def __init__(self, dim_in: int, dim_out: int, groups: int) -> None:
        super().__init__()
        self.project = PseudoConv3d(dim_in, dim_out, 3)
        self.norm = nn.GroupNorm(groups, dim_out, eps=1e-5)

    def forward(self, x: Tensor, modulation: Tensor | None = None) -> Tensor:
        x = self.norm(self.project(x))  # statistics over (c / groups, f, h, w)
        if modulation is not None:
            scale, shift = rearrange(modulation, "b c -> b c 1 1 1").chunk(2, dim=1)
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
        modulation = None if self.timestep_mlp is None else self.timestep_mlp(timestep_embedding)  # (b, 2 c)
        return self.block2(self.block1(x, modulation)) + self.res_conv(x)


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """Equation 3 on `b n (heads d)` tokens, with an optional bias (heads, i, j) on the logits."""
    q, k, v = (rearrange(t, "b n (heads d) -> b heads n d", heads=heads) for t in (q, k, v))
    logits = torch.einsum("b h i d, b h j d -> b h i j", q, k) / math.sqrt(q.shape[-1])
    if bias is not None:
        logits = logits + bias
    weights = logits.softmax(dim=-1)
    return rearrange(torch.einsum("b h i j, b h j d -> b h i d", weights, v), "b heads n d -> b n (heads d)")


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
    """MLP from the raw integer offset i - j of two positions to one logit bias per head."""

    def __init__(self, hidden: int, axes: int, heads: int) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(axes, hidden), nn.SiLU())
        second = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU())
        self.net = nn.Sequential(first, second, nn.Linear(hidden, heads))

    def forward(self, *sizes: int) -> Tensor:
        weight = next(self.parameters())
        grid = torch.cartesian_prod(*(torch.arange(n, device=weight.device) for n in sizes)).view(-1, len(sizes))
        offsets = grid[:, None] - grid[None, :]  # (i, j, axes)
        return rearrange(self.net(offsets.to(weight.dtype)), "i j heads -> heads i j")


class ChannelLayerNorm(nn.Module):
    """LayerNorm over the channels of `b c f h w` with a gain only; the variance is clamped at 1e-5, not added to."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(dim, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=1, keepdim=True)
        variance = x.var(dim=1, unbiased=False, keepdim=True)
        return (x - mean) * variance.clamp(min=1e-5).rsqrt() * self.g


class FeedForward(nn.Module):
    """GEGLU feed-forward with the second half of the inner channels shifted to the next frame."""

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


def sinusoids(timestep: Tensor, width: int) -> Tensor:
    """Timesteps (b,) to (b, width): sines, then cosines, theta 10000, exponents in steps of 1 / (width / 2 - 1)."""
    half = width // 2
    exponents = torch.arange(half, device=timestep.device, dtype=torch.float32) / (half - 1)
    angles = timestep.float()[:, None] * torch.exp(-math.log(10000) * exponents)[None, :]
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


class LiteralUNet(nn.Module):
    """The published U-Net; the defaults give its 71,671,548 parameters with the checkpoint's names (`net`).

    The arguments are those of `fashionflow_core.models.FashionFlowUNet`, so that a saved config works for both:
    levels and heads outermost first, but `up_cross_attention_heads` innermost first.
    """

    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 4,
        block_out_channels: Sequence[int] = (64, 128, 256, 512),
        num_attention_heads: int = 8,
        attention_head_dim: int = 64,
        down_cross_attention_heads: Sequence[int] = (1, 1, 2, 4),
        up_cross_attention_heads: Sequence[int] = (4, 2, 1, 1),
        cross_attention_dim: int = 768,
        time_embedding_dim: int = 256,
        norm_num_groups: int = 8,
    ) -> None:
        super().__init__()
        self.width = width = block_out_channels[0]
        groups, timestep_dim = norm_num_groups, time_embedding_dim
        dims = [width, *block_out_channels]
        levels = list(zip(dims, dims[1:], down_cross_attention_heads, reversed(up_cross_attention_heads)))

        def spatio_temporal(dim: int, last: bool) -> nn.Module:
            return SpatioTemporalAttention(dim, num_attention_heads, attention_head_dim) if last else nn.Identity()

        self.conv_in = PseudoConv3d(in_channels, width, 7)
        self.to_timestep_cond = nn.Sequential(nn.Identity(), nn.Linear(width, timestep_dim), nn.SiLU())
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for i, (dim_in, dim_out, down_heads, up_heads) in enumerate(levels):
            last = i == len(levels) - 1
            down = (
                ResidualBlock(dim_in, dim_out, groups, timestep_dim),
                nn.ModuleList(ResidualBlock(dim_out, dim_out, groups) for _ in range(2)),
                spatio_temporal(dim_out, last),
                Downsample(dim_out, time=last),
                CrossAttentionBlock(dim_out, cross_attention_dim, down_heads),
            )
            up = (
                ResidualBlock(2 * dim_out, dim_in, groups, timestep_dim),
                nn.ModuleList(ResidualBlock(dim, dim_in, groups) for dim in (dim_in + dim_out, dim_in)),
                spatio_temporal(dim_in, last),
                Upsample(dim_out, time=last),
                CrossAttentionBlock(dim_in, cross_attention_dim, up_heads),
            )
            self.downs.append(nn.ModuleList(down))
            self.ups.append(nn.ModuleList(up))
        self.mid_block1 = ResidualBlock(dims[-1], dims[-1], groups, timestep_dim)
        self.mid_attn = spatio_temporal(dims[-1], True)
        self.mid_block2 = ResidualBlock(dims[-1], dims[-1], groups, timestep_dim)
        self.conv_out = PseudoConv3d(width, out_channels, 3)

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        """Latents (b, in_channels, f, h, w), timesteps (b,), context (b, n, context_dim) -> (b, out_channels, f, h, w).

        f must be even, h and w multiples of 2 to the power of the number of levels.
        """
        t = self.to_timestep_cond(sinusoids(timestep, self.width).to(sample.dtype))
        x = self.conv_in(sample)
        skips: list[Tensor] = []
        for level in self.downs:
            timestep_block, plain, attend, downsample, cross = level.children()
            skips.append(x := timestep_block(x, t))
            for block in plain.children():
                x = block(x)
            skips.append(x := attend(x))
            x = cross(downsample(x), encoder_hidden_states)
        x = self.mid_block2(self.mid_attn(self.mid_block1(x, t)), t)
        for level in reversed(self.ups):
            timestep_block, plain, attend, upsample, cross = level.children()
            x = upsample(x)
            x = timestep_block(torch.cat((skips.pop() * SKIP_SCALE, x), dim=1), t)
            x = torch.cat((skips.pop() * SKIP_SCALE, x), dim=1)
            for block in plain.children():
                x = block(x)
            x = cross(attend(x), encoder_hidden_states)
        return self.conv_out(x)


class LiteralAdapter(nn.Module):
    """The published adapter (`adapter`): VAE channels are appended to CLIP's tokens, and mixed to CLIP's number.

    The arguments are those of `fashionflow_core.models.ImageContextAdapter`; each latent channel becomes one token.
    """

    def __init__(
        self,
        latent_channels: int = 4,
        latent_height: int = 80,
        latent_width: int = 64,
        clip_tokens: int = 50,
        clip_dim: int = 768,
    ) -> None:
        super().__init__()
        self.vae2clip = nn.Linear((latent_height // 2) * (latent_width // 2), clip_dim)
        self.linear1 = nn.Linear(clip_tokens + latent_channels, clip_tokens)

    def forward(self, clip: Tensor, vae: Tensor) -> Tensor:
        """CLIP tokens (b, clip_tokens, clip_dim) and VAE latent (b, c, h, w) -> context like `clip`."""
        vae = rearrange(F.max_pool2d(vae, 2), "b c h w -> b c (h w)")
        x = torch.cat((clip, self.vae2clip(vae)), dim=1)
        x = self.linear1(rearrange(x, "b n d -> b d n"))
        return rearrange(x, "b d n -> b n d")
