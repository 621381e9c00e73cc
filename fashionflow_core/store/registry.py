"""Registry of bundled and installed models."""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fashionflow_core.config import INDEX_FILE, MODEL_FILE, LoadOptions, ModelConfig
from fashionflow_core.errors import FashionFlowError, command
from fashionflow_core.generators.config import GeneratorConfig
from fashionflow_core.generators.folder import config_of, is_pipeline, source_of, weights_bytes
from fashionflow_core.generators.remote_place import address_of, is_remote
from fashionflow_core.store.engine_folder import ENGINES_FILE, Engines
from fashionflow_core.store.folder import INTERPOLATOR, NETWORKS, PARSER, SOURCE_FILE, is_model, parameters, size
from fashionflow_core.utils.nearest import did_you_mean
from fashionflow_core.utils.paths import NoHome, cache_home, expanded
from fashionflow_core.utils.temporary import scratch_folder

ASSETS = Path(__file__).parents[1] / "assets"


@dataclass(frozen=True)
class HubPart:
    """A network on the Hugging Face hub, at fixed commits.

    Attributes:
        repo: `organisation/name`.
        revisions: commit hashes, of which the first one with safetensors is used. Empty: the latest commit.
    """

    repo: str
    revisions: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownModel:
    """A model with a fixed name.

    Attributes:
        summary: one line.
        source: of its weights.
        bundled: its folder in the package; None: it has to be imported.
        parts: its networks on the hub, by option of `models import`.
        authors: URL of the rest.
    """

    summary: str
    source: str
    bundled: Path | None = None
    parts: Mapping[str, HubPart] = field(default_factory=dict)
    authors: str = ""


PUBLISHED, CHECKPOINT = "published", "FashionFlow_checkpoint.pth"  # it is imported from the authors' file
# The published weights have no licence, so users provide them. Commits: for the VAE the one of the published inference
# (reference README) and, since that one may contain pickles only, a later one of the same weights; for CLIP the hub's
# conversion to safetensors, which `main` lacks.
KNOWN = {
    "mini": KnownModel(
        summary="moves the photo's own pixels, at any size; works offline on a laptop",
        source="bundled with fashionflow, recipe in docs/concepts/bundled-model.md",
        bundled=ASSETS / "mini",
    ),
    "mini-latent": KnownModel(
        summary="the paper's own form in small: repaints 320x256 frames; for tests, ablation and engines",
        source="bundled with fashionflow, recipe in docs/concepts/mini-latent.md",
        bundled=ASSETS / "mini-latent",
    ),
    PUBLISHED: KnownModel(
        summary="the FashionFlow authors' checkpoint: photo-real, 640x512, 70 frames",
        source="FashionFlow_checkpoint.pth of the authors",
        parts={
            "vae": HubPart(
                "CompVis/stable-diffusion-v1-4",
                ("ebb811dd71cdc38a204ecbdd6ac5d580f529fd8c", "133a221b8aa7292a167afc5127cb63fb5005638b"),
            ),
            "clip": HubPart("openai/clip-vit-base-patch32", ("c237dc49a33fc61debc9276459120b7eac67e7ef",)),
        },
        authors="https://www.dropbox.com/scl/fi/p9fv7o3j7ti0yu2umsgmv/FashionFlow_checkpoint.pth"
        "?rlkey=mqsto9i4ujh6xhvab0e2s6n7d&dl=0",
    ),
}


@dataclass(frozen=True)
class KnownNetwork:
    """Networks that are not a model, pulled by name into `models_home()`.

    Attributes:
        summary: one line.
        parts: their places on the hub, by subfolder ("." is the top).
        licence: what is known of their licences, one line.
        use: a command that uses them.
    """

    summary: str
    parts: Mapping[str, HubPart]
    licence: str
    use: tuple[str, ...]


CLOTHES_PARSER, BASE = "parser", "base"
NETWORKS_BESIDE = {
    BASE: KnownNetwork(
        summary="VAE and CLIP of the paper alone, for new models: Stable Diffusion v1-4, ViT-B/32",
        parts={"vae": KNOWN[PUBLISHED].parts["vae"], "image_encoder": KNOWN[PUBLISHED].parts["clip"]},
        licence="VAE: CreativeML Open RAIL-M, which restricts some uses; CLIP: see its model card; read "
        "https://huggingface.co/CompVis/stable-diffusion-v1-4 and https://huggingface.co/openai/clip-vit-base-patch32",
        use=("models new", "NAME"),
    ),
    CLOTHES_PARSER: KnownNetwork(
        summary="optional SegFormer for clothes: finds the figure and its parts for motion models",
        parts={".": HubPart("mattmdjaga/segformer_b2_clothes")},
        licence="derived from NVIDIA's SegFormer, whose licence allows non-commercial use only; read the page "
        "https://huggingface.co/mattmdjaga/segformer_b2_clothes before any other use",
        use=("generate", "PHOTO"),
    ),
}


@dataclass(frozen=True)
class ModelEntry:
    """One line of the list of models.

    Attributes:
        name: for opening it.
        path: the model folder; None: not installed.
        installed: whether it can be used.
        summary: one line, such as its `purpose`.
    """

    name: str
    path: Path | None
    installed: bool
    summary: str


def models_home() -> Path:
    """The folder of imported models: `$FASHIONFLOW_HOME/models`, else `fashionflow/models` in the user's cache."""
    return cache_home() / "models"


def metrics_home() -> Path:
    """The folder of the feature networks' weights, next to `models_home()`."""
    return models_home().parent / "metrics"


def pulled_parser() -> Path | None:
    """The folder of the installed SegFormer, or None."""
    return pulled_network(CLOTHES_PARSER)


def pulled_network(name: str) -> Path | None:
    """The folder of installed networks of `NETWORKS_BESIDE`, or None."""
    with suppress(NoHome):
        folder = models_home() / name
        return folder if os.path.isfile(folder / SOURCE_FILE) and not is_model(folder) else None
    return None


def _installed() -> dict[str, Path]:
    """Usable models by name; a bundled one overrides an imported one of the same name."""
    found: dict[str, Path] = {}
    with suppress(NoHome, OSError):  # bundled models need no readable home folder
        # Folders whose name starts with a dot are unfinished imports.
        folders = (folder for folder in sorted(models_home().iterdir()) if not folder.name.startswith("."))
        found = {folder.name: folder for folder in folders if is_model(folder)}
    return found | {name: model.bundled for name, model in KNOWN.items() if model.bundled and is_model(model.bundled)}


def find(name_or_folder: str) -> Path:
    """The model folder of a known or imported model, or the folder itself.

    Args:
        name_or_folder: a name of `list_models`, a hub id that was pulled, a path, or the address of a remote model. A
            name stands before a folder of that name: write `./name`.

    Raises:
        FashionFlowError: neither; names the known ones, the nearest first, or how to get the one that was meant.
    """
    if is_remote(name_or_folder):
        address_of(name_or_folder)
        return Path(name_or_folder)
    installed = _installed()
    if name_or_folder in installed:
        return installed[name_or_folder]
    if (pulled := pulled_from(name_or_folder)) is not None:
        return pulled
    folder = expanded(name_or_folder)
    if name_or_folder and os.path.isdir(folder):
        if not is_model(folder):
            raise FashionFlowError(
                f"{name_or_folder}: is not a model folder (no {MODEL_FILE})",
                hint=f"list the models: {command('models list')}",
            )
        return folder
    if name_or_folder in KNOWN:
        if KNOWN[name_or_folder].bundled:
            raise FashionFlowError(
                f"model {name_or_folder} is missing from this installation", hint="install fashionflow again"
            )
        raise FashionFlowError(
            f"model {name_or_folder} is not installed: its weights have to be imported",
            hint=command("models pull", name_or_folder, checkpoint=CHECKPOINT),
        )
    if name_or_folder in NETWORKS_BESIDE:
        network = NETWORKS_BESIDE[name_or_folder]
        raise FashionFlowError(
            f"{name_or_folder}: not a model but networks ({network.summary})",
            hint=f"name a model: {command('models list')}; these are used by: {command(*network.use)}",
        )
    if is_hub_id(name_or_folder):
        raise FashionFlowError(
            f"{name_or_folder}: neither a folder nor a pulled model", hint=command("models pull", name_or_folder)
        )
    names = [*installed, *(name for name in KNOWN if name not in installed)]
    raise FashionFlowError(
        f"{name_or_folder!r} is neither a known model nor a folder",
        hint=did_you_mean(name_or_folder, names) + f"known models: {', '.join(names)}",
    )


def is_hub_id(name: str) -> bool:
    """Whether a name has the form `organisation/name` of the hub."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name))


def pulled_from(repo: str) -> Path | None:
    """The folder of an installed model that was pulled from a repository of the hub, or None."""
    if not is_hub_id(repo):
        return None
    return next((folder for folder in _installed().values() if source_of(folder)[0] == repo), None)


def list_models() -> list[ModelEntry]:
    """Known models, then other imported ones."""
    installed = _installed()
    entries = [ModelEntry(name, installed.get(name), name in installed, model.summary) for name, model in KNOWN.items()]
    for name, beside in NETWORKS_BESIDE.items():
        if name not in installed:
            path = pulled_network(name)
            entries.append(ModelEntry(name, path, path is not None, beside.summary))
    for name, path in installed.items():
        if name not in KNOWN:
            try:
                summary = config_of(path).purpose
            except FashionFlowError as error:  # one broken model must not hide the others
                summary = f"cannot be used: {error.message}"
            entries.append(ModelEntry(name, path, True, summary))
    return entries


def show(name: str) -> dict[str, Any]:
    """Describe a model without loading it.

    Args:
        name: as for `find`.

    Returns:
        JSON values: `path`, `source`, `size_bytes` (of all files), `parameters` (network → number, and `total`) and
        `config` (every field of `ModelConfig`). Of pipelines of diffusers also `licence`, `weights_bytes`, and for the
        default device `device_bytes`, `offload` (expected rung) and `missing_packages`. Of a network of
        `NETWORKS_BESIDE` `licence` in place of `config`.

    Raises:
        FashionFlowError: no such model, or a part of it cannot be read.
    """
    if name in NETWORKS_BESIDE and name not in _installed():
        return _show_beside(name)
    path = find(name)
    if is_remote(path) or is_pipeline(path):
        return _show_generator(path)
    source = known.source if (known := KNOWN.get(name)) else _source(path) or f"folder {path}"
    if known and known.authors:
        source += f", made a model folder by: {command('models pull', name)}"
    if (path / ENGINES_FILE).is_file():
        counts = {name: network.parameters for name, network in Engines.load(path).networks.items()}
        parts: tuple[str, ...] = (INTERPOLATOR,)
    else:
        counts, parts = {}, (*NETWORKS, INTERPOLATOR, PARSER)
    counts |= {part: parameters(path / part) for part in parts if (path / part).is_dir()}
    return {
        "path": str(path),
        "source": source,
        "size_bytes": size(path),
        "parameters": counts | {"total": sum(counts.values())},
        "config": asdict(ModelConfig.load(path)),
    }


def _show_generator(path: Path) -> dict[str, Any]:
    config = config_of(path)
    # Shared fields that apply to generators, and their own.
    shared = {field.name for field in fields(ModelConfig)} - {"name", "purpose", "frames", "fps", "steps", "fit"}
    described = {key: value for key, value in asdict(config).items() if key not in shared}
    if is_remote(path) or not isinstance(config, GeneratorConfig):
        return {"path": str(path), "source": config.purpose, "config": described}
    from fashionflow_core.generators.requirements import Requirements
    from fashionflow_core.utils.device import resolve_device, resolve_dtype

    options = LoadOptions()
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device)
    needed = Requirements.of(path, config, device, dtype)
    weights = weights_bytes(path)
    counts = {part: parameters(path / part) for part in weights}
    return {
        "path": str(path),
        "source": _source(path) or f"folder {path}",
        "licence": described.pop("licence"),
        "size_bytes": size(path),
        "weights_bytes": weights | {"total": sum(weights.values())},
        "device": f"{device}, {str(dtype).removeprefix('torch.')}",
        "device_bytes": needed.device_bytes,
        "offload": needed.offload,
        "parameters": counts | {"total": sum(counts.values())},
        "missing_packages": list(needed.missing_packages),
        "config": described,
    }


def _show_beside(name: str) -> dict[str, Any]:
    path = pulled_network(name)
    if path is None:
        raise FashionFlowError(f"{name}: not installed", hint=command("models pull", name))
    places = NETWORKS_BESIDE[name].parts
    counts = {name if part == "." else part: parameters(path / part) for part in places}
    return {
        "path": str(path),
        "source": _source(path) or f"folder {path}",
        "licence": NETWORKS_BESIDE[name].licence,
        "size_bytes": size(path),
        "parameters": counts | {"total": sum(counts.values())},
    }


def _source(folder: Path) -> str | None:
    """Origin of a pulled model, as one line."""
    try:
        source = json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))
        return f"{source['repo']} on the Hugging Face hub, commit {source['commit']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_name(name: str) -> str:
    """Check the name of an installed model: a plain folder name inside `models_home()`.

    Raises:
        FashionFlowError: not such a name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise FashionFlowError(
            f"{name!r} cannot be the name of a model", hint="use letters, digits, '.', '-' and '_', a letter first"
        )
    return name


def remove(name: str) -> tuple[Path, int]:
    """Delete an installed model from `models_home()`; of a link only the link.

    Returns:
        The removed folder and the number of freed bytes.

    Raises:
        FashionFlowError: no such model, a bundled one, or not a model.
    """
    if name in KNOWN and KNOWN[name].bundled:
        raise FashionFlowError(
            f"model {name} is part of fashionflow and cannot be removed", hint="uninstall it: pip uninstall fashionflow"
        )
    folder = models_home() / check_name(name)
    if folder.is_symlink():
        folder.unlink()
        return folder, 0
    if not folder.is_dir():
        names = sorted(name for name, path in _installed().items() if path.parent == models_home())
        raise FashionFlowError(
            f"model {name} is not installed in {models_home()}",
            hint=f"installed there: {', '.join(names)}" if names else "nothing is installed there",
        )
    if not any((folder / part).exists() for part in (MODEL_FILE, INDEX_FILE, SOURCE_FILE, *NETWORKS, PARSER)):
        raise FashionFlowError(f"{folder}: not a model folder", hint="delete it by hand")
    freed = size(folder)
    # Renamed first: an interrupted removal leaves no incomplete model under its name.
    with scratch_folder(folder) as scratch:
        folder.rename(scratch / "removed")
    if scratch.exists():
        raise FashionFlowError(f"{scratch}: deleted only in part", hint="check its permissions: ls -lR")
    return folder, freed
