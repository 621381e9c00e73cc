"""Image adapter: CLIP and VAE features to context tokens (paper 3.4)."""

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from fashionflow_core.errors import FashionFlowError


class ImageContextAdapter(ModelMixin, ConfigMixin):
    """CLIP tokens and one token per pooled latent channel → the same number of context tokens as CLIP.

    The linear layer over latent positions fixes the frame size.

    Args:
        latent_channels, latent_height, latent_width: shape of the photo's VAE latent.
        clip_tokens, clip_dim: shape of CLIP's last hidden state.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        latent_height: int = 80,
        latent_width: int = 64,
        clip_tokens: int = 50,
        clip_dim: int = 768,
    ) -> None:
        super().__init__()
        self.vae_proj = nn.Linear((latent_height // 2) * (latent_width // 2), clip_dim)
        self.token_mix = nn.Linear(clip_tokens + latent_channels, clip_tokens)
        self.latent_shape = (latent_channels, latent_height, latent_width)

    def forward(self, clip: Tensor, vae: Tensor) -> Tensor:
        """Context tokens.

        Args:
            clip: CLIP's last hidden state (b, clip_tokens, clip_dim).
            vae: latents of the photo (b, latent_channels, latent_height, latent_width).

        Returns:
            (b, clip_tokens, clip_dim).

        Raises:
            FashionFlowError: `vae` has another size than the weights.
        """
        if not torch.compiler.is_compiling() and tuple(vae.shape[1:]) != self.latent_shape:
            raise FashionFlowError(
                f"adapter: latents are {tuple(vae.shape[1:])}, the weights need {self.latent_shape}",
                hint="fit the photo to the model's frame size",
            )
        pooled = F.max_pool2d(vae, 2).flatten(2)  # (b, c, h/2 * w/2)
        tokens = torch.cat((clip, self.vae_proj(pooled)), dim=1)  # (b, clip_tokens + c, d)
        return self.token_mix(tokens.transpose(1, 2)).transpose(1, 2)  # (b, clip_tokens, d)
