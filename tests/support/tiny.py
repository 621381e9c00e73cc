"""Tiny real components with random weights, instead of mocks: a whole model folder, and what an import is made of."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from golden.named_weights import checkpoint_shapes, named_state_dict

from fashionflow_core.config import MODEL_FILE, ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

CONTEXT_DIM = 32
IMAGE_SIZE, PATCH = 32, 8  # of the CLIP encoder: 17 tokens
KNOWN_CHANNELS = {"none": 0, "rgb": 3 + 1}  # given frames and their mask


def tiny_config(**overrides: Any) -> ModelConfig:
    """Conventions of a tiny model: 64x48 pixels, 4 frames, 2x2 pixels folded before the VAE."""
    values: dict[str, Any] = {
        "name": "tiny",
        "purpose": "tiny random weights for tests; its videos are noise",
        "height": 64,
        "width": 48,
        "frames": 4,
        "fps": 25,
        "latents_mean": (0.1, -0.1, 0.2, 0.0),
        "latents_std": (1.0, 0.9, 1.1, 1.2),
        "vae_patch_size": 2,
        "steps": 2,
    }
    return ModelConfig(**(values | overrides))


def build_tiny_model(folder: str | Path, *, levels: int = 2, seed: int = 0, **overrides: Any) -> Path:
    """Write a model folder and return it. The VAE halves the folded pixels once: latents are 16x12 by default.

    Args:
        folder: created where it is missing.
        levels: of the U-Net; height and width of the latents must be multiples of 2 to this power.
        seed: of the random weights.
        overrides: fields of `ModelConfig`; channels and sizes of the networks follow them.
    """
    from diffusers import AutoencoderKL, DDPMScheduler
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

    from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter
    from fashionflow_core.store.published import published_betas

    config = tiny_config(**overrides)
    latent_channels = len(config.latents_mean)
    known_channels = KNOWN_CHANNELS | {"latents": latent_channels + 1}
    shrink = 2 * config.vae_patch_size
    pixels = 3 * config.vae_patch_size**2
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with seeded(seed), _no_progress_bars():
        unet: dict[str, Any] = {
            "out_channels": latent_channels,
            "block_out_channels": (8, 16, 16, 16)[:levels],
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "down_cross_attention_heads": (1, 2, 2, 2)[:levels],
            "up_cross_attention_heads": (2, 2, 2, 1)[-levels:],
            "cross_attention_dim": CONTEXT_DIM,
            "time_embedding_dim": 32,
            "norm_num_groups": 4,
        }
        known = known_channels[config.known_content]
        FashionFlowUNet(in_channels=latent_channels + known, **unet).save_pretrained(folder / "unet")
        ImageContextAdapter(
            latent_channels=latent_channels,
            latent_height=config.height // shrink,
            latent_width=config.width // shrink,
            clip_tokens=(IMAGE_SIZE // PATCH) ** 2 + 1,
            clip_dim=CONTEXT_DIM,
        ).save_pretrained(folder / "adapter")
        vae: Any = AutoencoderKL.from_config(
            {
                "in_channels": pixels,
                "out_channels": pixels,
                "down_block_types": ["DownEncoderBlock2D"] * 2,
                "up_block_types": ["UpDecoderBlock2D"] * 2,
                "block_out_channels": [8, 16],
                "layers_per_block": 1,
                "norm_num_groups": 4,
                "latent_channels": latent_channels,
            }
        )
        vae.save_pretrained(folder / "vae")
        CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=CONTEXT_DIM,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=IMAGE_SIZE,
                patch_size=PATCH,
            )
        ).save_pretrained(folder / "image_encoder")
        if config.interpolator:
            FashionFlowUNet(in_channels=2 * latent_channels + 1, **unet).save_pretrained(folder / "interpolator")
    CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE}, crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    ).save_pretrained(folder / "feature_extractor")
    DDPMScheduler(trained_betas=published_betas(), clip_sample=False).save_pretrained(folder / "scheduler")
    (folder / MODEL_FILE).write_text(config.to_json(), encoding="utf-8")
    return folder


class Spy:
    """Networks that remember what their denoiser was asked."""

    def __init__(self, networks: Any) -> None:
        self._networks = networks
        self.calls: list[tuple[Tensor, int, Tensor]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._networks, name)

    def denoise(self, sample: "Tensor", timestep: "Tensor", context: "Tensor") -> "Tensor":
        self.calls.append((sample.clone(), int(timestep), context.clone()))
        return self._networks.denoise(sample, timestep, context)


def build_sources(folder: Path) -> Path:
    """Write `vae/` and `clip/` for `import_checkpoint`: right shapes, narrow, random; the CLIP with its text part."""
    from diffusers import AutoencoderKL
    from transformers import CLIPConfig, CLIPModel

    with seeded(0), _no_progress_bars():
        vae: Any = AutoencoderKL.from_config(
            {
                "down_block_types": ["DownEncoderBlock2D"] * 4,
                "up_block_types": ["UpDecoderBlock2D"] * 4,
                "block_out_channels": [8] * 4,
                "layers_per_block": 1,
                "norm_num_groups": 4,
                "latent_channels": 4,
            }
        )
        vae.save_pretrained(folder / "vae")
        vision = {"hidden_size": 768, "num_attention_heads": 2, "image_size": 224, "patch_size": 32}
        text = {"hidden_size": 16, "num_attention_heads": 2, "vocab_size": 8, "bos_token_id": 0, "eos_token_id": 1}
        small = {"intermediate_size": 16, "num_hidden_layers": 1}
        CLIPModel(CLIPConfig(vision_config=vision | small, text_config=text | small)).save_pretrained(folder / "clip")
    return folder


def named_published(part: str) -> dict[str, "Tensor"]:
    """The published state dict of `net` or `adapter`, filled with name-seeded values."""
    import torch

    return {name: torch.from_numpy(x) for name, x in named_state_dict(checkpoint_shapes()[part]).items()}


def hollow_published(part: str) -> dict[str, "Tensor"]:
    """The published state dict with right names and shapes, all zeros, one stored number each: small as a file."""
    import torch

    return {name: torch.zeros(()).expand(shape) for name, shape in checkpoint_shapes()[part].items()}


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generator at `seed` inside, as it was before outside: modules draw their first weights from it."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
