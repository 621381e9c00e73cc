"""Installation of models from the hub (`models pull`)."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from fashionflow_core.config import INDEX_FILE, MODEL_FILE, ModelConfig
from fashionflow_core.errors import FashionFlowError, SettingError, UsageError, command, option, reason_of
from fashionflow_core.generators.families import family_of
from fashionflow_core.generators.folder import components, read_index
from fashionflow_core.metrics.weights import FILES, is_public
from fashionflow_core.store.folder import (
    INTERPOLATOR,
    NETWORKS,
    PARSER,
    SOURCE_FILE,
    atomic_folder,
    check_target,
    damage,
    network_damage,
)
from fashionflow_core.store.hub import fetch, fetch_part
from fashionflow_core.store.registry import BASE, KNOWN, NETWORKS_BESIDE, check_name, metrics_home, models_home
from fashionflow_core.utils import hashing
from fashionflow_core.utils.download import OnBytes, check_room, download
from fashionflow_core.utils.files import sync
from fashionflow_core.utils.nearest import did_you_mean
from fashionflow_core.utils.paths import expanded
from fashionflow_core.utils.typed_files import read_object

# Subfolders of a model folder.
_FOLDERS = (*NETWORKS, INTERPOLATOR, PARSER, "scheduler", "feature_extractor")

_NETWORK_FILES = ("config.json", "preprocessor_config.json", "model.safetensors", "README.md", "LICENSE")
# Without a variant such as .fp16 in the name.
_WHOLE_WEIGHTS = re.compile(r"(diffusion_pytorch_)?model(-\d+-of-\d+)?\.safetensors")
METRICS = "metrics"  # not a model: the feature networks of metrics

Report = Callable[[str], None]
Accept = Callable[[str], bool]


def pull(
    name: str,
    *,
    revision: str | None = None,
    store_as: str | None = None,
    checkpoint: str | None = None,
    sha256: str | None = None,
    overwrite: bool = False,
    report: Report = lambda line: None,
    progress: OnBytes | None = None,
    accept: Accept = lambda licence: False,
) -> Path:
    """Install a model atomically.

    Args:
        name: a known model, the hub id `organisation/name` of a repository that is a model folder or in diffusers'
            layout, `base` (VAE and CLIP for new models), `parser` (a SegFormer for clothes) or `metrics`.
        revision: branch, tag or commit of a hub id, or of the parser.
        store_as: its name here; by default the last part of the hub id.
        checkpoint: for `published`: the authors' file, or its URL.
        sha256: expected hash of that file.
        overwrite: replace an installed model of that name.
        report: called with messages on the steps.
        progress: called for each piece of a large file.
        accept: called with a restrictive licence before weights are fetched; whether it is accepted.

    Returns:
        Its folder.

    Raises:
        UsageError: an option that is invalid for `name`.
        FashionFlowError: errors of network, hub, disk or files.
    """
    from huggingface_hub.utils import WeakFileLock

    if name == METRICS:
        if revision or store_as or checkpoint or sha256:
            raise UsageError(f"{METRICS}: takes no option of a model", hint=command("models pull", METRICS))
        return pull_metrics(overwrite, report, progress)
    beside = name in NETWORKS_BESIDE
    if name == BASE and revision:
        raise SettingError("revision", f"{name} is always fetched at its pinned commits", hint="omit it")
    if beside and store_as:
        raise SettingError("name", f"the name of {name} is fixed", hint=f"leave {option('name')} out")
    published = name in KNOWN and bool(KNOWN[name].parts)
    if not published and (checkpoint or sha256):
        raise SettingError("checkpoint", f"belongs to the model published, not to {name}")
    if sha256 and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise SettingError(
            "sha256", f"{sha256!r} is not a SHA-256", hint="pass 64 hexadecimal digits, as sha256sum prints them"
        )
    if name in KNOWN and (revision or store_as):
        raise SettingError("revision" if revision else "name", f"model {name} has one revision and one name")
    if name in KNOWN and KNOWN[name].bundled:
        raise FashionFlowError(
            f"model {name} comes with fashionflow: there is nothing to pull",
            hint=f"use it: {command('generate', 'PHOTO', model=name)}",
        )
    if name not in KNOWN and not beside and not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        raise FashionFlowError(
            f"{name!r} is neither a known model nor a hub id",
            hint=did_you_mean(name, [*KNOWN, *NETWORKS_BESIDE]) + "a hub id looks like organisation/name",
        )
    stored = check_name(store_as or PurePosixPath(name).name)
    if stored in (*KNOWN, *NETWORKS_BESIDE) and stored != name:
        raise FashionFlowError(
            f"{stored}: is the name of another model", hint=f"choose another one: {option('name', 'NAME')}"
        )
    target = models_home() / stored
    _check_target(target, overwrite)
    try:
        models_home().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FashionFlowError(
            f"{models_home()}: {reason_of(error)}",
            hint="set FASHIONFLOW_HOME to a folder that can be written",
        ) from None
    with WeakFileLock(models_home() / f".{stored}.lock"):
        _check_target(target, overwrite)  # another process may have installed it meanwhile
        if published:
            return _pull_published(name, target, checkpoint, sha256, overwrite, report, progress)
        if name == BASE:
            from fashionflow_core.store.base_networks import pull_base

            return pull_base(target, report, progress)
        if beside:
            return _pull_network(name, revision, target, report, progress)
        return _pull_folder(name, revision, target, report, progress, accept)


def pull_metrics(overwrite: bool = False, report: Report = lambda line: None, progress: OnBytes | None = None) -> Path:
    """Download the public weights of the feature networks into `metrics_home()`; verified files are kept.

    Raises:
        FashionFlowError: no network, a full disk, or a file that is not the public one.
    """
    home = metrics_home()
    for kind, file in FILES.items():
        target = home / file.name
        if target.is_file() and not overwrite:
            found = hashing.sha256(target)
            if not is_public(kind, found):
                raise FashionFlowError(
                    f"{target}: is not the public file (its SHA-256 is {found})",
                    hint=f"pass {option('overwrite', True)} to replace it",
                )
            report(f"{file.name} is here, SHA-256 {found}")
            continue
        report(f"fetching {file.url}")
        # Of one file the authors publish only the beginning of the hash: compared below.
        fetched = download(file.url, home / ".downloads", progress=progress)
        found = hashing.sha256(fetched)
        if not is_public(kind, found):
            fetched.unlink()
            raise FashionFlowError(
                f"{file.url}: its SHA-256 is {found}, which does not begin with {file.sha256}; the file was deleted",
                hint="a proxy may have changed it: try again, or get it elsewhere and put it into " + str(home),
            )
        sync(fetched)
        fetched.replace(target)
        sync(home)
        report(f"{file.name}: SHA-256 {found}")
    return home


def _check_target(target: Path, overwrite: bool) -> None:
    try:
        check_target(target, overwrite)
    except FashionFlowError as error:
        if not target.exists():
            raise
        first = command("models remove", target.name)
        hint = f"pass {option('overwrite', True)}, another {option('name')}, or first: {first}"
        raise FashionFlowError(f"model {target.name} is already installed in {target.parent}", hint) from error


def _pull_folder(
    repo: str, revision: str | None, target: Path, report: Report, progress: OnBytes | None, accept: Accept
) -> Path:
    report(f"asking the hub for {repo}")
    # The small index first: weights of other repositories may have gigabytes.
    head = fetch(repo, revision, lambda names: [name for name in names if name in (MODEL_FILE, INDEX_FILE)])
    if not head.files:
        raise FashionFlowError(
            f"{repo}: neither a FashionFlow model (no {MODEL_FILE}) nor a pipeline of diffusers (no {INDEX_FILE})",
            hint="name a repository that contains one of these files",
        )
    choose = _model_files
    if MODEL_FILE in head.files:
        ModelConfig.load(head.folder)
    else:
        index = read_index(head.folder)
        family = family_of(index)
        report(f"{family.title}; licence of the weights: {family.licence}")
        if family.is_restricted and not accept(family.licence):
            raise FashionFlowError(
                f"{repo}: its licence restricts use: {family.licence}",
                hint=f"read https://huggingface.co/{repo}, then: {command('models pull', repo, accept_license=True)}",
            )
        choose = partial(_pipeline_files, index)
    snapshot = fetch(repo, head.commit, choose, progress)
    check_room(repo, sum(file.size for file in snapshot.files.values()), models_home())
    with atomic_folder(target) as folder:
        for name in snapshot.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(snapshot.folder / name, folder / name)
        (folder / SOURCE_FILE).write_text(json.dumps(snapshot.record(), indent=2) + "\n", encoding="utf-8")
        if problems := damage(folder):
            raise FashionFlowError(f"{repo}: incomplete model folder: {problems[0]}", hint="report it to the publisher")
    return target


def _pipeline_files(index: Mapping[str, Any], names: list[str]) -> list[str]:
    """Files of a repository that a pipeline needs: no other precisions, no weights outside its components."""
    parts = {name for name, _ in components(index)}

    def is_wanted(name: str) -> bool:
        path = PurePosixPath(name)
        if len(path.parts) == 1:
            return path.name == INDEX_FILE or path.suffix in (".md", "")
        if len(path.parts) != 2 or path.parts[0] not in parts:
            return False
        return path.suffix != ".safetensors" or bool(_WHOLE_WEIGHTS.fullmatch(path.name))

    return [name for name in names if is_wanted(name)]


def fetch_lora(repo: str) -> Path:
    """The safetensors file of a LoRA repository on the hub.

    Raises:
        FashionFlowError: as `hub.fetch`; also if there is none, or more than one.
    """
    snapshot = fetch(repo, None, lambda names: [name for name in names if name.endswith(".safetensors")][:2])
    if len(snapshot.files) != 1:
        raise SettingError(
            "lora",
            f"{repo}: contains {'no' if not snapshot.files else 'more than one'} safetensors file",
            hint="download the right one, and name the file",
        )
    return snapshot.folder / next(iter(snapshot.files))


def _pull_network(name: str, revision: str | None, target: Path, report: Report, progress: OnBytes | None) -> Path:
    """Install the SegFormer for clothes after its labels were checked."""
    known = NETWORKS_BESIDE[name]
    place = known.parts["."]
    repo = place.repo
    report(f"licence: {known.licence}")
    report(f"asking the hub for {repo}")
    revision = revision or next(iter(place.revisions), None)
    head = fetch(repo, revision, lambda names: [file for file in names if file == "config.json"])
    try:
        content = read_object(head.folder / "config.json")
    except FileNotFoundError:
        content = {}
    if content.get("model_type") != "segformer" or not isinstance(content.get("id2label"), dict):
        raise FashionFlowError(
            f"{repo}: not a SegFormer with labels",
            hint=f"{command('models pull', 'parser')}, without {option('revision')}",
        )
    from fashionflow_core.models.clothes_parser import check_labels

    check_labels(content["id2label"], f"{repo}/config.json")
    snapshot = fetch(repo, head.commit, lambda names: [file for file in names if file in _NETWORK_FILES], progress)
    if "model.safetensors" not in snapshot.files:
        raise FashionFlowError(
            f"{repo}: holds no network as safetensors",
            hint=f"pickled weights are not opened; try another {option('revision')}",
        )
    check_room(repo, sum(file.size for file in snapshot.files.values()), models_home())
    with atomic_folder(target) as folder:
        for file in snapshot.files:
            shutil.copyfile(snapshot.folder / file, folder / file)
        (folder / SOURCE_FILE).write_text(json.dumps(snapshot.record(), indent=2) + "\n", encoding="utf-8")
        if problems := network_damage(folder):
            raise FashionFlowError(f"{repo}: incomplete: {problems[0]}", hint="report it to the publisher")
    return target


def _model_files(names: list[str]) -> list[str]:
    """Files of a repository that belong to a model folder: at the top, and in the folders of its parts."""
    inside = [name for name in names if len(parts := PurePosixPath(name).parts) == 1 or parts[0] in _FOLDERS]
    return [name for name in inside if name != SOURCE_FILE]


def _pull_published(
    name: str,
    target: Path,
    checkpoint: str | None,
    sha256: str | None,
    overwrite: bool,
    report: Report,
    progress: OnBytes | None,
) -> Path:
    known = KNOWN[name]
    local = expanded(checkpoint) if checkpoint and "://" not in checkpoint else None
    if local and not local.is_file():
        raise FashionFlowError(f"{option('checkpoint', checkpoint)}: no such file", hint=f"get it from {known.authors}")
    if local and sha256 and (found := hashing.sha256(local)) != sha256.lower():
        raise FashionFlowError(
            f"{local}: its SHA-256 is {found}, not {sha256.lower()}", hint=f"check {option('sha256')}"
        )
    folders = {"vae": ("vae", "."), "clip": (".", "image_encoder")}
    for part, place in known.parts.items():
        report(f"fetching the {part} from {place.repo}")
        fetch_part(place, folders[part], progress)
    if checkpoint is None:
        raise FashionFlowError(
            f"model {name}: VAE and CLIP are installed, the checkpoint is not: its authors state no licence; "
            f"they publish it at {known.authors}",
            hint=f"if you may use it: {command('models pull', name, checkpoint='FILE|ADDRESS')}",
        )
    from fashionflow_core.store.published import import_checkpoint, read_checkpoint

    if local is None:
        report(f"fetching {checkpoint}")
        fetched = download(checkpoint, models_home() / ".downloads", sha256, progress)
        try:
            read_checkpoint(fetched)
        except FashionFlowError as error:
            fetched.unlink()  # complete, but not a checkpoint
            raise FashionFlowError(error.message.replace(str(fetched), checkpoint), error.hint) from None
        report("importing")
        made = import_checkpoint(fetched, target, overwrite=overwrite)
        fetched.unlink()
        return made
    report(f"importing {local}")
    return import_checkpoint(local, target, overwrite=overwrite)
