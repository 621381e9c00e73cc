"""LoRA of the U-Net in peft's format: creation, saving, fusing.

A folder contains adapter_config.json and adapter_model.safetensors in peft's layout.
"""

import json
import shutil
import textwrap
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.models import FashionFlowUNet
from fashionflow_core.runtimes.torch import open_network
from fashionflow_core.store.folder import atomic_folder, check_target
from fashionflow_core.utils import extras
from fashionflow_core.utils.files import atomic_path, set_mode, write_text
from fashionflow_core.utils.typed_files import read_object

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MAX_RANK = 4096
_FIELDS = (
    "r",
    "lora_alpha",
    "target_modules",
    "fan_in_fan_out",
    "use_rslora",
    "use_dora",
    "bias",
    "rank_pattern",
    "alpha_pattern",
)
_PREFIX = "base_model.model."  # prefix of peft's wrapper in the files


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise FashionFlowError("peft: not installed, but required for LoRA", hint=extras.install("train")) from None
    return peft


def _state(peft: Any, unet: nn.Module) -> dict[str, Tensor]:
    # By default peft looks for a language model's vocabulary, and warns if there is none.
    return peft.get_peft_model_state_dict(unet, save_embedding_layers=False)


def add_lora(unet: nn.Module, rank: int, alpha: float, targets: tuple[str, ...]) -> None:
    """Add an untrained LoRA to a U-Net, in place: the initial output is unchanged; all other weights are frozen.

    Args:
        rank: rank of the LoRA.
        alpha: scale of the LoRA, as alpha / rank.
        targets: last part of the names of the adapted linear layers.

    Raises:
        FashionFlowError: no linear layer of that name.
    """
    peft = _peft()
    linear = {name.split(".")[-1] for name, module in unet.named_modules() if isinstance(module, nn.Linear)}
    if unknown := [target for target in targets if target not in linear]:
        raise FashionFlowError(
            f"lora.targets: {unknown[0]!r} is not a linear layer of the U-Net",
            hint=f"use some of: {', '.join(sorted(linear))}",
        )
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights=True)
    peft.inject_adapter_in_model(config, unet)


def save_lora(unet: nn.Module, folder: Path, base: str) -> Path:
    """Write the LoRA of a U-Net, as added by `add_lora`.

    Args:
        base: name of its base model, recorded in the file.
    """
    from safetensors.torch import save_file

    peft = _peft()
    state = {_PREFIX + name: value.detach().cpu().contiguous() for name, value in _state(peft, unet).items()}
    config = unet.peft_config["default"].to_dict()  # type: ignore[union-attr, index]  # peft's own attribute
    config |= {"base_model_name_or_path": base, "inference_mode": True}
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / WEIGHTS) as temporary:
        mode = temporary.stat().st_mode
        save_file(state, temporary, metadata={"format": "pt"})
        set_mode(temporary, mode)
    write_text(folder / CONFIG, json.dumps(config, indent=2, default=str) + "\n")
    return folder


def fuse_lora(unet: FashionFlowUNet, folder: str | Path) -> FashionFlowUNet:
    """Fuse a LoRA into a U-Net, in place, so that it has no extra cost at run time.

    Args:
        unet: U-Net that the LoRA was trained on, in its final dtype.
        folder: LoRA folder written by `save_lora` or peft.

    Returns:
        `unet` itself.

    Raises:
        FashionFlowError: not a LoRA, or one of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    peft, folder = _peft(), Path(folder)
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise FashionFlowError(f"{folder}: not a LoRA (no {CONFIG} and {WEIGHTS})", hint="train one with lora.rank=8")
    config = _config(peft, folder / CONFIG)
    try:
        state = {name.removeprefix(_PREFIX): value for name, value in load_file(folder / WEIGHTS).items()}
        peft.inject_adapter_in_model(config, unet)
        expected = {name: value.shape for name, value in _state(peft, unet).items()}
        found = {name: value.shape for name, value in state.items()}
        if wrong := sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n)):
            raise ValueError(f"{len(wrong)} weights do not fit, such as {wrong[0]}")
        peft.set_peft_model_state_dict(unet, state)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise FashionFlowError(
            f"{folder}: does not match this U-Net ({textwrap.shorten(str(error), 200)})",
            hint="use it with the model that it was trained on",
        ) from None
    for name, layer in list(unet.named_modules()):
        if isinstance(layer, peft.tuners.lora.LoraLayer):
            merged: Any = layer
            merged.merge()
            parent, _, child = name.rpartition(".")
            setattr(unet.get_submodule(parent), child, merged.get_base_layer())
    del unet.peft_config  # type: ignore[union-attr]
    return unet


def _config(peft: Any, path: Path) -> Any:
    """A LoRA's config from the fields that describe its weights; others can import modules or compute initial weights.

    Raises:
        FashionFlowError: a value of the wrong type or out of range.
    """
    hint = "use a LoRA of low rank on linear layers, without code"
    values = {key: value for key, value in read_object(path, hint).items() if key in _FIELDS}
    targets = values.get("target_modules")
    # Other strings are regular expressions, which can take hours to match.
    named = targets == "all-linear" or (isinstance(targets, list) and all(isinstance(name, str) for name in targets))
    if not named:
        raise FashionFlowError(f"{path}: target_modules is not a list of names", hint)
    for ranks in (values.get("r", 8), *dict(values.get("rank_pattern") or {}).values()):
        if not isinstance(ranks, int) or not 1 <= ranks <= MAX_RANK:
            raise FashionFlowError(f"{path}: rank must be from 1 to {MAX_RANK}, not {str(ranks)[:80]}", hint)
    try:
        return peft.LoraConfig(**values, init_lora_weights=False, inference_mode=True)
    except (TypeError, ValueError, AttributeError) as error:
        raise FashionFlowError(f"{path}: not a LoRA config ({textwrap.shorten(str(error), 200)})", hint) from None


def merge_lora(model: str | Path, lora: str | Path, out: str | Path, overwrite: bool = False) -> Path:
    """Write a model folder with a LoRA fused into its U-Net; everything else is copied.

    Args:
        model, lora: folders of model and LoRA.
        out: output folder, written atomically.
        overwrite: whether to replace `out` if it is a model folder.

    Raises:
        FashionFlowError: an invalid folder; `out` already exists.
    """
    model, lora, out = Path(model), Path(lora), Path(out)
    check_target(out, overwrite)
    config = ModelConfig.load(model)
    stored = _stored_dtype(model / "unet")
    # Fused in float32, whatever the stored dtype, so that the sum is rounded once.
    unet: Any = fuse_lora(open_network(FashionFlowUNet, model, "unet", torch.float32), lora)
    with atomic_folder(out) as made:
        for part in sorted(path for path in model.iterdir() if path.is_dir() and path.name != "unet"):
            shutil.copytree(part, made / part.name)
        unet.to(dtype=stored).save_pretrained(made / "unet")
        (made / "model.json").write_text(config.to_json(), encoding="utf-8")
    return out


def _stored_dtype(folder: Path) -> Any:
    """The dtype of a network's weights on disk."""
    from safetensors import safe_open

    file = next(iter(sorted(folder.glob("*.safetensors"))), None)
    if file is None:
        raise FashionFlowError(f"{folder}: missing part of the model folder", hint="import or pull the model again")
    with safe_open(file, framework="pt") as weights:
        name = next(iter(weights.keys()))
        return {"F16": torch.float16, "BF16": torch.bfloat16}.get(weights.get_slice(name).get_dtype(), torch.float32)
