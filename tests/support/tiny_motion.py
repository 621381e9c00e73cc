"""A tiny motion model with random weights, and pictures of figures that it can move."""

from pathlib import Path
from typing import Any

import numpy as np
from tiny import CONTEXT_DIM, IMAGE_SIZE, PATCH, seeded

from fashionflow_core.config import MODEL_FILE, ModelConfig


def motion_config(**overrides: Any) -> ModelConfig:
    """Conventions of a tiny motion model: 6 keyframes in half a second, 12 frames."""
    values: dict[str, Any] = {
        "name": "tiny-motion",
        "purpose": "tiny random weights for tests",
        "height": 64,
        "width": 48,
        "frames": 12,
        "fps": 24,
        "latents_mean": (0.0,) * 4,
        "latents_std": (0.01, 0.005, 0.2, 0.02),
        "known_content": "photo",
        "mask_fill": "nearest",
        "steps": 2,
        "context_dropout": 0.1,
        "latents": "motion",
        "keyframes": 6,
        "keyframe_seconds": 0.1,
    }
    return ModelConfig(**(values | overrides))


def build_tiny_motion_model(folder: str | Path, *, seed: int = 0, **overrides: Any) -> Path:
    """Write a motion model's folder and return it.

    Args:
        folder: created where it is missing.
        seed: of the random weights.
        overrides: fields of `ModelConfig`.
    """
    from diffusers import DDPMScheduler
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

    from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter
    from fashionflow_core.models.parser import FigureParser
    from fashionflow_core.motion.conditions import PHOTO_CHANNELS

    config, folder = motion_config(**overrides), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with seeded(seed):
        FashionFlowUNet(
            in_channels=4 + PHOTO_CHANNELS + 1,
            out_channels=4,
            block_out_channels=(8, 16),
            num_attention_heads=2,
            attention_head_dim=8,
            down_cross_attention_heads=(1, 2),
            up_cross_attention_heads=(2, 1),
            cross_attention_dim=CONTEXT_DIM,
            time_embedding_dim=32,
            norm_num_groups=4,
        ).save_pretrained(folder / "unet")
        ImageContextAdapter(
            latent_channels=PHOTO_CHANNELS,
            latent_height=40,
            latent_width=32,
            clip_tokens=(IMAGE_SIZE // PATCH) ** 2 + 1,
            clip_dim=CONTEXT_DIM,
        ).save_pretrained(folder / "adapter")
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
        FigureParser(widths=(4, 4, 8, 8, 8)).save_pretrained(folder / "parser")
    CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE}, crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    ).save_pretrained(folder / "feature_extractor")
    DDPMScheduler(clip_sample=False, prediction_type="sample").save_pretrained(folder / "scheduler")
    (folder / MODEL_FILE).write_text(config.to_json(), encoding="utf-8")
    return folder


def paper_doll(height: int = 160, width: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A striped doll before a plain wall: uint8 (h, w, 3), and its mask, float32 (h, w)."""
    y, x = np.mgrid[:height, :width]
    v, u = (y + 0.5) / height, (x + 0.5) / width - 0.5
    head = (u * width / height) ** 2 + (v - 0.14) ** 2 < 0.05**2
    body = (v > 0.2) & (v < 0.6) & (np.abs(u) < 0.1 + 0.12 * (v - 0.2))
    legs = (v >= 0.6) & (v < 0.92) & (np.abs(np.abs(u) - 0.06) < 0.035)
    photo = np.full((height, width, 3), (226, 228, 230), np.uint8)
    photo[head | legs] = (214, 170, 140)
    photo[body] = np.where((y // max(2, height // 40) % 2)[..., None] > 0, (40, 60, 150), (220, 200, 60))[body]
    return photo, (head | body | legs).astype(np.float32)
