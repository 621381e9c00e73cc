"""A small cache of clips for training tests: in the format of `data prepare`, of a few smooth random latents."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fashionflow_core.config import ModelConfig
from fashionflow_core.dataset.cache import FORMAT, INDEX_FILE, Recipe


def build_tiny_cache(
    folder: Path, model: Path, clips: int = 3, frames: int = 8, splits: tuple[str, ...] = ("",)
) -> Path:
    """Write a cache for a model of `tiny.build_tiny_model`; clip i belongs to split i modulo their number."""
    import torch
    from safetensors.torch import save_file

    from fashionflow_core.runtimes.torch import load

    config = ModelConfig.load(model)
    networks = load(model, torch.device("cpu"), torch.float32)
    c, h, w = networks.latent_channels, networks.latent_height, networks.latent_width
    clip: Any = networks.image_encoder.config
    tokens = (clip.image_size // clip.patch_size) ** 2 + 1
    generator = torch.Generator().manual_seed(7)
    tensors, entries = {}, []
    for number in range(clips):
        still = torch.randn(1, c, h, w, generator=generator)
        motion = torch.randn(1, c, h, w, generator=generator)
        mean = still + torch.linspace(0, 1, frames)[:, None, None, None] * motion  # (f, c, h, w)
        tensors |= {
            f"{number}.latents_mean": mean,
            f"{number}.latents_logvar": torch.full_like(mean, -4.0),
            f"{number}.rgb": torch.randint(0, 256, (frames, h, w, 3), generator=generator, dtype=torch.uint8),
            f"{number}.first_frame": torch.randint(
                0, 256, (config.height, config.width, 3), generator=generator, dtype=torch.uint8
            ),
            f"{number}.clip_hidden_states": torch.randn(tokens, clip.hidden_size, generator=generator),
            f"{number}.moments": torch.stack(
                (mean.mean(dim=(0, 2, 3)), mean.square().mean(dim=(0, 2, 3)), torch.full((c,), 0.02))
            ),
        }
        split = splits[number % len(splits)]
        entries.append({"source": f"{number}.mp4", "split": split, "key": str(number), "shard": "clips.safetensors"})
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "clips.safetensors")
    recipe = Recipe.of(model, torch.device("cpu"), frames=frames)
    index = {"format": FORMAT, "settings": recipe.settings(), "networks": dict(recipe.networks)}
    index |= {"model": asdict(config), "sources": {}, "clips": entries}
    (folder / INDEX_FILE).write_text(json.dumps(index))
    return folder
