"""The literal formulation: the paper's Figure 2 in plain PyTorch and einops, a yardstick for the optimised networks.

Every operation is written the way the figure draws it: `b c f h w` throughout, rearranged around 2D convolutions
`(b f) c h w` and 1D convolutions `(b h w) c f`, and attention as the softmax of equation 3. It imports nothing from
`fashionflow_core.models`, so agreement of the two is evidence. Parameters carry the names of the published checkpoint.
Sources: paper sections 3.2, 3.5, 4.2 and Figure 2; what they leave out is as in the published network, whose golden
outputs it reproduces (tests/test_literal.py).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from fashionflow_benchmarks.literal_layers import (
    CrossAttentionBlock,
    Downsample,
    PseudoConv3d,
    ResidualBlock,
    SinusoidalEmbedding,
    SpatioTemporalAttention,
    Upsample,
)

SKIP_SCALE = 2**-0.5


class LiteralUNet(nn.Module):
    """The published U-Net; the defaults make its 71,671,548 parameters under the checkpoint's names (`net`).

    The arguments are those of `fashionflow_core.models.FashionFlowUNet`, so that a saved config builds either.

    Args:
        in_channels, out_channels: latent channels read and written.
        block_out_channels: channels of each level, outermost first.
        num_attention_heads, attention_head_dim: heads of the spatio-temporal attention and their width.
        down_cross_attention_heads, up_cross_attention_heads: heads of each level's cross-attention; down from the
            outermost level, up from the innermost.
        cross_attention_dim: width of the context tokens.
        time_embedding_dim: width of the timestep embedding after its linear layer.
        norm_num_groups: groups of every GroupNorm.
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
        width, groups, timestep_dim = block_out_channels[0], norm_num_groups, time_embedding_dim
        dims = [width, *block_out_channels]
        heads_up = reversed(up_cross_attention_heads)
        levels = list(zip(dims[:-1], dims[1:], down_cross_attention_heads, heads_up, strict=True))

        def spatio_temporal(dim: int, last: bool) -> nn.Module:
            return SpatioTemporalAttention(dim, num_attention_heads, attention_head_dim) if last else nn.Identity()

        self.conv_in = PseudoConv3d(in_channels, width, 7, temporal_kernel=3)
        self.to_timestep_cond = nn.Sequential(SinusoidalEmbedding(width), nn.Linear(width, timestep_dim), nn.SiLU())
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
        sinusoids, *rest = self.to_timestep_cond
        t = sinusoids(timestep).to(sample.dtype)
        for layer in rest:
            t = layer(t)
        x = self.conv_in(sample)
        skips: list[Tensor] = []
        for level in self.downs:
            timestep_block, plain, attend, downsample, cross = level.children()
            x = timestep_block(x, t)
            skips.append(x)
            for block in plain.children():
                x = block(x)
            x = attend(x)
            skips.append(x)
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
    """The published adapter (`adapter`): VAE channels join CLIP's tokens, and all are mixed down to CLIP's number.

    Args:
        latent_channels, latent_height, latent_width: shape of the VAE latent; it becomes `latent_channels` tokens.
        clip_tokens, clip_dim: number and width of the CLIP tokens, and of the context made of them.
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
