"""LoRAs of pipelines: safetensors files loaded into the denoisers, refused where they do not fit."""

from pathlib import Path
from typing import Any

from safetensors import safe_open

from fashionflow_core.errors import SettingError, option


def add_lora(pipe: Any, lora: Path, model: str) -> list[str]:
    """Load a LoRA into a pipeline's denoisers.

    Args:
        pipe: of diffusers.
        lora: as for `lora_files`.
        model: its name, for messages.

    Returns:
        Remarks on layers that the model lacks, one line each.

    Raises:
        UsageError: the pipeline takes no LoRA, or this one does not belong to it.
    """
    if not hasattr(pipe, "load_lora_weights"):
        raise SettingError("lora", f"{type(pipe).__name__} takes no LoRA", hint=f"leave {option('lora')} out")
    remarks = []
    for denoiser, file in lora_files(lora, getattr(pipe, "transformer_2", None) is not None).items():
        second = {"load_into_transformer_2": True} if denoiser == "transformer_2" else {}
        loaded = stored = 0
        try:
            pipe.load_lora_weights(str(file.parent), weight_name=file.name, use_safetensors=True, **second)
            loaded, stored = _count_loaded(getattr(pipe, denoiser, None) or pipe.unet), _count_stored(file)
            reason = "" if loaded else "none of its names is one of the network's"
        except Exception as error:  # diffusers and peft raise any kind
            reason = " ".join(str(error).split())[:200] or type(error).__name__
        if reason:
            raise SettingError(
                "lora", f"{file}: does not belong to {model} ({reason})", hint="name a LoRA of this model"
            )
        if loaded < stored:  # diffusers only logs it
            remarks.append(f"{file}: {model} has {loaded} of its {stored} layers; the others are left out")
    return remarks


def lora_files(lora: Path, has_two: bool) -> dict[str, Path]:
    """The safetensors file for each denoiser that gets a LoRA.

    Args:
        lora: a file; a folder with one; or, for two denoisers, a folder with two: "high" in the name of the one for
            high noise, "low" in the other's.
        has_two: whether the pipeline has two denoisers, as that of Wan 2.2 A14B. One file is loaded into both.

    Raises:
        UsageError: none of these.
    """
    files = sorted(lora.glob("*.safetensors")) if lora.is_dir() else [lora]
    if len(files) == 1 and files[0].suffix == ".safetensors" and files[0].is_file():
        return {"transformer": files[0]} | ({"transformer_2": files[0]} if has_two else {})
    # Wan denoises high noise levels with its first network.
    by_noise = {word: [file for file in files if word in file.stem.lower()] for word in ("high", "low")}
    if has_two and len(files) == 2 and all(len(found) == 1 for found in by_noise.values()):
        return {"transformer": by_noise["high"][0], "transformer_2": by_noise["low"][0]}
    two = ", nor a folder with one for high and one for low noise" if has_two else ""
    raise SettingError("lora", f"{lora}: not one safetensors file{two}", hint="name the file itself")


def _count_loaded(network: Any) -> int:
    """Layers of a network that have a LoRA."""
    return sum(".lora_A." in name for name, _ in network.named_parameters())


def _count_stored(file: Path) -> int:
    """Layers that a LoRA file has weights for, in diffusers' or kohya's names."""
    with safe_open(file, framework="pt") as weights:
        return sum("lora_A" in name or "lora_down" in name for name in weights.keys())  # noqa: SIM118 - not a dict
