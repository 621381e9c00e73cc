"""Which models exist, where they are, and what they are made of. Needs neither torch nor the weights to be read."""

import difflib
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fashionflow_core.config import MODEL_FILE, ModelConfig
from fashionflow_core.errors import FashionFlowError

ASSETS = Path(__file__).parent / "assets"
NETWORKS = ("unet", "adapter", "vae", "image_encoder")


@dataclass(frozen=True)
class KnownModel:
    """A model that this version knows by name.

    Attributes:
        summary: one line.
        source: where its weights come from.
        bundled: its folder inside the package, or None for one that has to be imported.
    """

    summary: str
    source: str
    bundled: Path | None = None


# The published weights are named but never fetched: they come without a licence, so their owner brings them.
KNOWN = {
    "mini": KnownModel(
        summary="small model trained on rendered figures; works offline on a laptop",
        source="bundled with fashionflow, recipe in docs/bundled-model.md",
        bundled=ASSETS / "mini",
    ),
    "published": KnownModel(
        summary="the FashionFlow authors' checkpoint: photo-real, 640x512, 70 frames",
        source="FashionFlow_checkpoint.pth of the authors, made a model folder by: fashionflow models import",
    ),
}


@dataclass(frozen=True)
class ModelEntry:
    """One line of `fashionflow models list`.

    Attributes:
        name: what `--model` takes.
        path: the model folder, or None while there is none.
        installed: whether it can be used now.
        summary: one line; what is known of the model, or its own `purpose`.
    """

    name: str
    path: Path | None
    installed: bool
    summary: str


def models_home() -> Path:
    """The folder of imported models: `$FASHIONFLOW_HOME/models`, else `fashionflow/models` in the user's cache."""
    if home := os.environ.get("FASHIONFLOW_HOME"):
        return Path(home).expanduser() / "models"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "fashionflow" / "models"


def _is_model(folder: Path) -> bool:
    return (folder / MODEL_FILE).is_file()


def _installed() -> dict[str, Path]:
    """Every usable model by name; a bundled one stands before an imported one of the same name."""
    found: dict[str, Path] = {}
    home = models_home()
    if home.is_dir():
        # A folder whose name starts with a dot is an import under way.
        folders = (folder for folder in sorted(home.iterdir()) if not folder.name.startswith("."))
        found = {folder.name: folder for folder in folders if _is_model(folder)}
    return found | {name: model.bundled for name, model in KNOWN.items() if model.bundled and _is_model(model.bundled)}


def find(name_or_folder: str) -> Path:
    """The model folder of a known or imported model, or the folder itself.

    Args:
        name_or_folder: a name of `list_models`, or a path. A name stands before a folder of that name: write `./name`.

    Raises:
        FashionFlowError: neither; names the known ones, the nearest first, or how to get the one that was meant.
    """
    installed = _installed()
    if name_or_folder in installed:
        return installed[name_or_folder]
    folder = Path(name_or_folder).expanduser()
    if name_or_folder and folder.is_dir():
        if not _is_model(folder):
            raise FashionFlowError(
                f"{name_or_folder}: is not a model folder (no {MODEL_FILE})",
                hint="see the known ones: fashionflow models list",
            )
        return folder
    if name_or_folder in KNOWN:
        if KNOWN[name_or_folder].bundled:
            raise FashionFlowError(
                f"model {name_or_folder} is missing from this installation", hint="install fashionflow again"
            )
        raise FashionFlowError(
            f"model {name_or_folder} is not installed: its weights have to be imported",
            hint=f"fashionflow models import FashionFlow_checkpoint.pth -o {models_home() / name_or_folder}",
        )
    names = [*installed, *(name for name in KNOWN if name not in installed)]
    near = difflib.get_close_matches(name_or_folder, names, n=1)
    raise FashionFlowError(
        f"{name_or_folder!r} is neither a known model nor a folder",
        hint=(f"did you mean {near[0]}? " if near else "") + f"known models: {', '.join(names)}",
    )


def list_models() -> list[ModelEntry]:
    """The known models, then the imported ones that are only known by their folder."""
    installed = _installed()
    entries = [ModelEntry(name, installed.get(name), name in installed, model.summary) for name, model in KNOWN.items()]
    for name, path in installed.items():
        if name not in KNOWN:
            try:
                summary = ModelConfig.load(path).purpose
            except FashionFlowError as error:  # one broken model must not hide the others
                summary = f"cannot be used: {error.message}"
            entries.append(ModelEntry(name, path, True, summary))
    return entries


def show(name: str) -> dict[str, Any]:
    """What a model is, without loading it.

    Args:
        name: as for `find`.

    Returns:
        JSON-able: `path`, `source`, `size_bytes` (of all files), `parameters` (network → number, and `total`) and
        `config` (every field of `ModelConfig`).

    Raises:
        FashionFlowError: no such model, or a part of it cannot be read.
    """
    path = find(name)
    known = KNOWN.get(name)
    parameters = {part: _parameters(path / part) for part in NETWORKS if (path / part).is_dir()}
    return {
        "path": str(path),
        "source": known.source if known else f"folder {path}",
        "size_bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "parameters": parameters | {"total": sum(parameters.values())},
        "config": asdict(ModelConfig.load(path)),
    }


def _parameters(folder: Path) -> int:
    """Number of values in a network's safetensors files, from their headers alone."""
    from safetensors import SafetensorError, safe_open

    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="np") as tensors:
                total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise FashionFlowError(
                f"{file}: is no safetensors file ({error})", hint="import or install the model again"
            ) from None
    return total
