"""Import of the published checkpoint (.pth, weights only) as a model folder.

The file is a pickle and is read with `weights_only=True`; everything else read or written here is safetensors. The
conventions are those of the published inference (reference README, items 1 to 6).
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fashionflow_core.config import MODEL_FILE, ModelConfig
from fashionflow_core.errors import FashionFlowError, option
from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter
from fashionflow_core.models.noise_schedules import published_betas
from fashionflow_core.store.folder import atomic_folder, check_target
from fashionflow_core.store.network_sources import CLIP_FOLDERS, VAE_FOLDERS, library_reason, open_part
from fashionflow_core.store.published_names import (
    State,
    adapter_to_ours,
    adapter_to_published,
    ours_to_published,
    published_to_ours,
)
from fashionflow_core.store.registry import KNOWN
from fashionflow_core.utils.libraries import quiet_libraries

__all__ = [
    "adapter_to_ours",
    "adapter_to_published",
    "import_checkpoint",
    "ours_to_published",
    "published_betas",
    "published_to_ours",
    "read_checkpoint",
]

_VAE, _CLIP = KNOWN["published"].parts["vae"], KNOWN["published"].parts["clip"]
_MAX_PICKLE = 64 * 2**20  # bytes; names and shapes of all 578 published tensors take 70 KB
_HINT = "import takes the checkpoint of the FashionFlow authors, FashionFlow_checkpoint.pth"


def published_scheduler() -> Any:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    return DDPMScheduler(
        trained_betas=published_betas(),
        prediction_type="epsilon",
        variance_type="fixed_small",
        clip_sample=False,
        # All 1000 steps are the same in every spacing; fewer should still start from pure noise, as "trailing" does.
        timestep_spacing="trailing",
    )


def published_config() -> ModelConfig:
    """Conventions of the published inference (reference README, items 1 to 6)."""
    return ModelConfig(
        name="published",
        purpose="the FashionFlow authors' weights: photo-real garment videos from photos like those they trained on",
        height=640,
        width=512,
        frames=70,
        fps=25,
        latents_mean=(0.0,) * 4,
        latents_std=(1 / 0.18215,) * 4,
        fit="stretch",
        resample="bilinear",
        vae_range="zero_one",
        vae_sample=True,
        clip_rescale_twice=True,
        scheduler="ddpm",
        steps=1000,
        lock="full",
    )


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of a published `.pth`: (`net`, `adapter`), published names. No code of the file is run.

    A `module.` before every name (left by DataParallel) is dropped; the optimizer's state and counters are ignored.

    Raises:
        FashionFlowError: no such file, not a checkpoint, damaged, or it contains more than weights.
    """
    path = Path(path)
    if not path.is_file():
        raise FashionFlowError(f"{path}: is not a file", hint=_HINT)
    _check_sizes(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message advises disabling this protection, so it is replaced.
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it would run {code[1]} when opened" if code else "it is damaged, or contains more than weights"
        raise FashionFlowError(
            f"{path}: refused, {what}; none of it was run",
            hint="weights need no code: get the file from its authors again",
        ) from None
    except Exception as error:  # damaged archives raise many kinds of errors
        raise FashionFlowError(
            f"{path}: damaged, or not a PyTorch checkpoint ({library_reason(error)})", _HINT
        ) from None
    if not isinstance(content, Mapping):
        raise FashionFlowError(f"{path}: holds a {type(content).__name__}, not the parts net and adapter", _HINT)
    problems = [f"missing {part}" for part in ("net", "adapter") if not isinstance(content.get(part), Mapping)]
    ignored = (str, int, float, bool, type(None))
    problems += [
        f"unexpected {name}"
        for name, value in content.items()
        if name not in ("net", "adapter", "opt") and not isinstance(value, ignored)
    ]
    if problems:
        raise FashionFlowError(f"{path}: {'; '.join(problems)}", _HINT)
    return _without_prefix(content["net"]), _without_prefix(content["adapter"])


def _check_sizes(path: Path) -> None:
    """Refuse archives with compressed content: torch stores tensors uncompressed, and few other bytes.

    Raises:
        FashionFlowError: it is larger unpacked than packed, or its pickle is larger than a network's names need.
    """
    if not zipfile.is_zipfile(path):  # format before torch 1.6, or damaged
        return
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    # NotImplementedError: unsupported version of the zip format.
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FashionFlowError(
            f"{path}: damaged, or not a PyTorch checkpoint ({library_reason(error)})", _HINT
        ) from None
    pickled = max((size for name, size in sizes.items() if name.endswith(".pkl")), default=0)
    if sum(sizes.values()) > path.stat().st_size or pickled > _MAX_PICKLE:
        raise FashionFlowError(
            f"{path}: refused, unpacked it has {sum(sizes.values()):,} bytes, of which {pickled:,} in one pickle",
            hint="a checkpoint of torch.save is not compressed: get the file from its authors again",
        )


def _without_prefix(state: State) -> dict[str, Tensor]:
    wrapped = all(str(name).startswith("module.") for name in state)
    return {str(name).removeprefix("module.") if wrapped else str(name): tensor for name, tensor in state.items()}


def open_vae(source: str) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    vae = open_part(AutoencoderKL, "vae", source, VAE_FOLDERS, _VAE)
    found = (vae.config.in_channels, vae.config.latent_channels, 2 ** (len(vae.config.block_out_channels) - 1))
    if found != (3, 4, 8):
        raise FashionFlowError(
            f"{option('vae', source)}: encodes {found[0]} channels as {found[1]} at 1/{found[2]} of the size, "
            "not 3 as 4 at 1/8",
            hint=f"the checkpoint was trained with {_VAE.repo}",
        )
    return vae


def open_clip(source: str) -> dict[str, Any]:
    from transformers import CLIPImageProcessorPil, CLIPVisionModel

    encoder = open_part(CLIPVisionModel, "clip", source, CLIP_FOLDERS, _CLIP)
    found = (encoder.config.hidden_size, encoder.config.image_size, encoder.config.patch_size)
    if found != (768, 224, 32):
        raise FashionFlowError(
            f"{option('clip', source)}: width {found[0]}, image {found[1]}, patch {found[2]}, not 768, 224, 32",
            hint=f"the checkpoint was trained with {_CLIP.repo}",
        )
    # All CLIPs of this size share OpenAI's preprocessing constants.
    return {"image_encoder": encoder, "feature_extractor": CLIPImageProcessorPil()}


def import_checkpoint(
    path: str | Path, out_folder: str | Path, vae: str | None = None, clip: str | None = None, overwrite: bool = False
) -> Path:
    """Create a model folder from the published checkpoint, its VAE and its CLIP.

    Args:
        path: the published `.pth`.
        out_folder: created atomically, with missing parents.
        vae, clip: folder or hub id, safetensors only; by default those that the checkpoint was trained with.
        overwrite: replace `out_folder` if it is a model folder.

    Returns:
        `out_folder`.

    Raises:
        FashionFlowError: an invalid checkpoint, source or target.
    """
    target = Path(out_folder)
    check_target(target, overwrite)
    net, adapter = read_checkpoint(path)
    unet_state, adapter_state = published_to_ours(net), adapter_to_ours(adapter)
    with quiet_libraries():
        parts = {"vae": open_vae(vae or _VAE.repo), **open_clip(clip or _CLIP.repo)}
        parts["scheduler"] = published_scheduler()
        for name, kind, state in (
            ("unet", FashionFlowUNet, unet_state),
            ("adapter", ImageContextAdapter, adapter_state),
        ):
            parts[name] = kind().float()
            parts[name].load_state_dict(state)
        with atomic_folder(target) as folder:
            for name, part in parts.items():
                part.save_pretrained(folder / name)
            (folder / MODEL_FILE).write_text(published_config().to_json(), encoding="utf-8")
    return target
