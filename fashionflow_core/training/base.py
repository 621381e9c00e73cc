"""Base model of a training run: found, whole, and of one geometry, before anything is loaded."""

from pathlib import Path
from typing import Any

from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import FashionFlowError, command
from fashionflow_core.store import registry
from fashionflow_core.store.engine_folder import ENGINES_FILE
from fashionflow_core.store.folder import damage
from fashionflow_core.training.config import TrainConfig
from fashionflow_core.utils.typed_files import read_object

PAPER_BASE = "paper"  # name of the model folder that preset paper starts from


def find_base(config: TrainConfig) -> Path:
    """The folder of `init_from`, or of `base`, checked by `check_base`.

    Raises:
        FashionFlowError: not found, damaged, or of parts that do not fit each other.
    """
    key = "init_from" if config.init_from else "base"
    name = config.value(key)
    try:
        folder = registry.find(name)
    except FashionFlowError as error:
        if name != PAPER_BASE:
            raise FashionFlowError(f"{key}: {error.message}", hint=error.hint) from None
        raise FashionFlowError(
            f"{key}: preset paper needs a model folder named {PAPER_BASE}, with the paper's VAE and CLIP and fresh "
            "networks; there is none",
            hint=f"make it: {command('models pull', 'base')}, then {command('models new', PAPER_BASE)}; or set base to "
            "another model folder",
        ) from None
    check_base(folder, key)
    return folder


def check_base(folder: Path, key: str = "base") -> None:
    """Check a model folder from its small files and headers.

    Args:
        key: setting that named the folder, for messages.

    Raises:
        FashionFlowError: missing or damaged parts; networks of an appearance model that do not fit each other.
    """
    if found := damage(folder):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise FashionFlowError(
            f"{key}: {folder}: incomplete model folder: {found[0]}{more}",
            hint=f"make or pull it again: {command('models list')}",
        )
    if (folder / ENGINES_FILE).is_file():
        raise FashionFlowError(f"{key}: {folder}: engines cannot be trained", hint="use the model it came from")
    model = ModelConfig.load(folder)
    if model.latents == "appearance" and (wrong := _misfits(folder, model)):
        raise FashionFlowError(
            f"{key}: {folder}: {wrong}",
            hint="correct model.json, or make a folder of parts that fit: " + command("models new", "NAME"),
        )


def _misfits(folder: Path, model: ModelConfig) -> str:
    """The first difference between the geometries of networks and conventions; empty: all fit."""
    unet, adapter, vae, clip = (
        read_object(folder / part / "config.json") for part in ("unet", "adapter", "vae", "image_encoder")
    )
    shrink = model.vae_patch_size * 2 ** (len(_list(vae, "block_out_channels")) - 1)
    latent = (adapter.get("latent_height"), adapter.get("latent_width"))
    wanted = (model.height / shrink, model.width / shrink)
    if latent != wanted:
        return (
            f"the adapter needs latents of {latent[0]}x{latent[1]}, frames of {model.height}x{model.width} make "
            f"{wanted[0]:g}x{wanted[1]:g}"
        )
    tokens = (int(clip.get("image_size", 0)) // max(1, int(clip.get("patch_size", 1)))) ** 2 + 1
    pairs: tuple[tuple[str, Any, str, Any], ...] = (
        ("the VAE has latent channels", vae.get("latent_channels"), "model.json", len(model.latents_std)),
        ("the VAE has input channels", vae.get("in_channels"), "model.json", 3 * model.vae_patch_size**2),
        ("the U-Net predicts channels", unet.get("out_channels"), "the VAE", vae.get("latent_channels")),
        ("the adapter has latent channels", adapter.get("latent_channels"), "the VAE", vae.get("latent_channels")),
        ("the adapter has CLIP tokens", adapter.get("clip_tokens"), "the image encoder", tokens),
        ("the adapter has width", adapter.get("clip_dim"), "the image encoder", clip.get("hidden_size")),
        ("the U-Net reads context of width", unet.get("cross_attention_dim"), "the adapter", adapter.get("clip_dim")),
    )
    return next((f"{what} {a}, {other} {b}" for what, a, other, b in pairs if a != b), "")


def _list(config: dict[str, Any], key: str) -> list[Any]:
    value = config.get(key)
    return value if isinstance(value, list) else [None]
