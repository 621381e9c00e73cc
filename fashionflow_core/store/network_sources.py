"""VAE and CLIP image encoder of a new model folder: opened from a folder or the hub."""

import re
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError, option
from fashionflow_core.store.hub import fetch_part
from fashionflow_core.store.registry import HubPart
from fashionflow_core.utils.model_parts import open_network

# Where repositories and model folders have the networks; "." is the top.
VAE_FOLDERS, CLIP_FOLDERS = ("vae", "."), (".", "image_encoder")


def open_part(kind: Any, setting: str, source: str, subfolders: tuple[str, ...], known: HubPart) -> Any:
    """One network from a folder or the hub: safetensors only, with no weight missing.

    Args:
        kind: a model class of diffusers or transformers.
        setting: setting that named the source, for messages.
        source: a folder, or a hub id.
        subfolders: where in it the network may be, in this order; "." is the top.
        known: the known repository, whose commits are used if `source` is that one.

    Raises:
        FashionFlowError: no such folder or repository, no safetensors, missing or misshapen weights.
    """
    asked, folder = option(setting, source), Path(source)
    if not folder.is_dir():
        if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", source):
            raise FashionFlowError(f"{asked}: no such folder", hint="check the spelling of the path")
        try:
            folder = fetch_part(known if source == known.repo else HubPart(source), subfolders).folder
        except FashionFlowError as error:
            raise FashionFlowError(
                f"{asked}: cannot be fetched from the Hugging Face hub ({error.message})",
                hint=error.hint
                or f"give {option(setting)} a folder that holds it as safetensors; that also works offline",
            ) from error
    places = [folder / name for name in subfolders if (folder / name / "config.json").is_file()][:1]
    if not places:
        raise FashionFlowError(
            f"{asked}: holds no config.json, nor does a {' or '.join(subfolders)} in it",
            hint=f"give {option(setting)} a model folder in the layout of the hub",
        )
    if not any(places[0].glob("*.safetensors")):
        raise FashionFlowError(
            f"{asked}: has no .safetensors file" + (", only .bin" if any(places[0].glob("*.bin")) else ""),
            hint="pickled weights are not opened; save that model as safetensors first",
        )
    try:
        network, report = open_network(kind, places[0])
    except Exception as error:  # of our checks, and of both libraries
        raise FashionFlowError(
            f"{asked}: cannot be opened ({library_reason(error)})",
            hint=f"give {option(setting)} a folder that holds it as safetensors",
        ) from error
    if lacking := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise FashionFlowError(
            f"{asked}: {len(lacking)} weights are missing or have another shape: {lacking[0]} ...",
            hint=f"give {option(setting)} the model that the checkpoint was trained with",
        )
    return network


def library_reason(error: Exception) -> str:
    """The first sentence of a library's error: the rest is advice to programmers."""
    lines = (line.strip() for line in str(error).splitlines() if line.strip())
    return next(lines, type(error).__name__).split(". ")[0].rstrip(".")
