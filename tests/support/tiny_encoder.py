"""Image encoders with random weights, in the layout of transformers."""

from pathlib import Path
from typing import Any

import torch


def write_encoder(folder: Path, kind: str = "dinov2") -> Path:
    """A folder of `dinov2`, `clip` (image and text) or `clip_vision_model`: 2 layers, width 32, patches of 8 pixels."""
    from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model

    layers: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision: dict[str, Any] = layers | {"intermediate_size": 64, "image_size": 32, "patch_size": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "dinov2":
            Dinov2Model(Dinov2Config(**layers, image_size=32, patch_size=8)).save_pretrained(folder)
        elif kind == "clip":
            text = layers | {"intermediate_size": 64, "vocab_size": 99, "max_position_embeddings": 8}
            config = CLIPConfig(vision_config=vision | {"projection_dim": 16}, text_config=text, projection_dim=16)
            CLIPModel(config).save_pretrained(folder)
        else:
            CLIPVisionModel(CLIPVisionConfig(**vision)).save_pretrained(folder)
    return folder
