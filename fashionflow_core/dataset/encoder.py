"""Clip encoder: latents and context of clips for a cache."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fashionflow_core.dataset.cache import Recipe
from fashionflow_core.diffusion.conditioning import clip_pixels, frames_to_tensor, load_processor, tensor_to_frames
from fashionflow_core.errors import FashionFlowError, option
from fashionflow_core.runtimes.preprocessing import to_vae_pixels
from fashionflow_core.runtimes.torch import load
from fashionflow_core.utils.device import resolve_dtype
from fashionflow_core.utils.memory import is_out_of_memory

_CHUNK = 8  # frames per VAE batch; halved permanently when memory runs out


class Encoder:
    """Frames of a clip → tensors of the cache, by the encoders of a model folder."""

    def __init__(self, model: Path, recipe: Recipe, device: torch.device) -> None:
        """Load the encoders.

        Raises:
            FashionFlowError: a part of the model is missing or broken.
        """
        self.config = recipe.config
        self.networks = load(model, device, resolve_dtype(recipe.dtype, device))
        self.processor = load_processor(model)
        self.chunk = _CHUNK

    @torch.inference_mode()
    def __call__(self, frames: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Encode a clip.

        Args:
            frames: uint8 (f, height, width, 3), fitted.

        Returns:
            The tensors of `cache.CachedClip` by name, and `moments`, float64 (3, c): the means of the posterior's
            mean, of its square, and of its variance.

        Raises:
            FashionFlowError: out of memory, or values that overflow the dtype.
        """
        parts = []
        done = 0
        while done < len(frames):
            try:
                parts.append(self._posterior(frames[done : done + self.chunk]))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.chunk == 1:
                    raise FashionFlowError(
                        f"{self.networks.device}: out of memory while encoding one frame",
                        hint=f"use {option('dtype', 'bf16')} or another {option('device')}",
                    ) from None
                self.chunk //= 2
                continue
            done += self.chunk
        mean, logvar, rgb = (torch.cat(some) for some in zip(*parts))
        image_encoder = self.networks.image_encoder
        pixels = clip_pixels(frames[:1], self.processor, self.config)
        hidden_states = image_encoder(pixels.to(self.networks.device, self.networks.dtype)).last_hidden_state[0]
        hidden_states = hidden_states.float().cpu()
        for tensor in (mean, logvar, hidden_states):
            if not bool(tensor.isfinite().all()):
                raise FashionFlowError(
                    f"{self.networks.dtype}: encoding returned values that are not finite",
                    hint=f"use {option('dtype', 'fp32')} (or bf16); if it is fp32 already, "
                    "the model's weights are damaged",
                )
        wide = mean.double(), logvar.double().clamp(-30, 20).exp()
        return {
            "latents_mean": mean,
            "latents_logvar": logvar,
            "rgb": rgb,
            "first_frame": torch.from_numpy(frames[0]),
            "clip_hidden_states": hidden_states,
            "moments": torch.stack([value.mean(dim=(0, 2, 3)) for value in (wide[0], wide[0] ** 2, wide[1])]),
        }

    def _posterior(self, frames: NDArray[np.uint8]) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and log-variance (f, c, h, w), and the frames averaged over each latent's area, uint8 (f, h, w, 3)."""
        pixels = frames_to_tensor(frames, self.networks.device)
        mean, logvar = self.networks.encode_image(to_vae_pixels(pixels, self.config))
        small = F.interpolate(pixels, size=mean.shape[-2:], mode="area")
        return mean.cpu(), logvar.cpu(), torch.from_numpy(tensor_to_frames(small))
