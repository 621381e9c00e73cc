"""Model folders: damage and missing parts, size, atomic creation."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fashionflow_core.config import INDEX_FILE, MODEL_FILE, ModelConfig
from fashionflow_core.errors import FashionFlowError, option
from fashionflow_core.generators.folder import SOURCE_FILE, check_folder, is_pipeline
from fashionflow_core.store.engine_folder import ENGINES_FILE, Engines
from fashionflow_core.utils.files import check_name, set_mode, sync
from fashionflow_core.utils.model_parts import parameters
from fashionflow_core.utils.temporary import scratch_folder, sweep

NETWORKS = ("unet", "adapter", "vae", "image_encoder")
PARSER = "parser"  # of motion models: matte and parts of a photo
MOTION_NETWORKS = ("unet", "adapter", "image_encoder", PARSER)
INTERPOLATOR = "interpolator"  # of models with `ModelConfig.interpolator`
# Files of a network: weights, or an engine.
_WEIGHTS = (".safetensors", ".onnx", ".engine")


def is_model(folder: Path) -> bool:
    """Whether a folder looks like a model of FashionFlow or a pipeline of diffusers; `damage` checks it."""
    # False where the folder cannot be read.
    return os.path.isfile(folder / MODEL_FILE) or os.path.isfile(folder / INDEX_FILE)


def size(folder: Path) -> int:
    """Bytes of all files in a folder; links count as their targets, and links to folders are not followed."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def damage(folder: Path) -> list[str]:
    """Find problems of a model folder without reading its weights: parts, headers, and recorded sizes.

    Returns:
        One line per problem; none if it is complete.
    """
    if is_pipeline(folder):
        try:
            check_folder(folder)
        except FashionFlowError as error:
            return [error.message]
        return _resized(folder)
    found = []
    between: tuple[str, ...] = ()
    parts = NETWORKS
    try:
        config = ModelConfig.load(folder)
        between = (INTERPOLATOR,) if config.interpolator else ()
        parts = MOTION_NETWORKS if config.latents == "motion" else NETWORKS
    except (FashionFlowError, OSError) as error:
        found.append(str(error))
    engines = _engines(folder, found)
    for part in between if engines else (*parts, *between):
        weights = [file for file in sorted((folder / part).glob("*")) if file.suffix in _WEIGHTS and file.is_file()]
        if not (folder / part / "config.json").is_file():
            found.append(f"{part}/config.json is missing")
        if not weights:
            found.append(f"{part}/ holds no weights")
        try:
            parameters(folder / part)  # fails if the header states more bytes than there are
        except FashionFlowError as error:
            found.append(error.message)
    for part, name in (("scheduler", "scheduler_config.json"), ("feature_extractor", "preprocessor_config.json")):
        if not (folder / part / name).is_file():
            found.append(f"{part}/{name} is missing")
    return found + _resized(folder)


def network_damage(folder: Path) -> list[str]:
    """As `damage`, for a folder with one network at its top, or several in subfolders."""
    parts = [part for part in NETWORKS if (folder / part).is_dir()] or ["."]
    found = []
    for part in parts:
        name = "" if part == "." else f"{part}/"
        if not (folder / part / "config.json").is_file():
            found.append(f"{name}config.json is missing")
        try:
            if not parameters(folder / part):
                found.append(f"{name} holds no weights" if name else "no weights")
        except FashionFlowError as error:
            found.append(error.message)
    return found + _resized(folder)


def _engines(folder: Path, found: list[str]) -> Engines | None:
    """The record of an engine folder, None for other folders; adds problems of its files to `found`."""
    if not (folder / ENGINES_FILE).is_file():
        return None
    try:
        engines = Engines.load(folder)
    except FashionFlowError as error:
        found.append(error.message)
        return None
    found += [f"holds no {name}" for name in engines.graphs if name not in engines.networks]
    for file, entry in engines.files.items():
        length = (folder / file).stat().st_size if (folder / file).is_file() else None
        if length != entry.size:
            state = "is missing" if length is None else f"has {length} bytes, not {entry.size}"
            found.append(f"{file} {state}")
    return engines


def _resized(folder: Path) -> list[str]:
    """Files that are missing or differ in size from `source.json`."""
    if not (folder / SOURCE_FILE).is_file():
        return []
    try:
        recorded = {
            name: int(entry["size"]) for name, entry in json.loads((folder / SOURCE_FILE).read_text())["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [f"{SOURCE_FILE} cannot be read"]
    lengths = {name: (folder / name).stat().st_size if (folder / name).is_file() else None for name in recorded}
    return [
        f"{name} is missing" if lengths[name] is None else f"{name} has {lengths[name]} bytes, not {size}"
        for name, size in recorded.items()
        if lengths[name] != size
    ]


def check_target(target: Path, overwrite: bool) -> None:
    """Check the path of a new model folder before any work.

    Raises:
        FashionFlowError: it exists and is not a model folder or `overwrite` is false; or its parent is not writable.
    """
    check_name(target)
    replaceable = target.is_dir() and (
        not any(target.iterdir()) or is_model(target) or (target / SOURCE_FILE).is_file()
    )
    if (target.exists() or target.is_symlink()) and not (overwrite and replaceable):
        hint = (
            f"not a model folder: name another one with {option('out')}"
            if overwrite
            else f"pass {option('overwrite', True)}, or another name with {option('out')}"
        )
        raise FashionFlowError(f"{target}: already exists", hint)
    if not os.access(beside := nearest_folder(target), os.W_OK):
        raise FashionFlowError(
            f"{target}: the folder {beside} is not writable", hint=f"choose another folder with {option('out')}"
        )


def nearest_folder(target: Path) -> Path:
    """The nearest existing parent."""
    return next(folder for folder in target.absolute().parents if folder.is_dir())


def forget_origins(folder: Path) -> None:
    """Remove the paths that diffusers stores in the configurations of networks; `atomic_folder` does so at its end."""
    for path in folder.glob("*/config.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder next to `target` that replaces it atomically; after an exception nothing has changed."""
    beside = nearest_folder(target)  # parents are created at the end
    sweep(beside)
    with scratch_folder(target, beside) as scratch:
        made, replaced = scratch / "made", scratch / "replaced"
        made.mkdir()
        yield made
        forget_origins(made)
        for path in made.rglob("*"):
            if path.is_file():  # safetensors creates private files; these get default permissions
                set_mode(path)
            sync(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rename(replaced)
        try:
            made.rename(target)
        except OSError:
            if replaced.exists():
                replaced.rename(target)
            raise
    sync(target.absolute().parent)
