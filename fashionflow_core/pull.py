"""`fashionflow models pull`: models from the hub into `models_home()`, and what of the published one may be fetched."""

import difflib
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from fashionflow_core.config import MODEL_FILE, ModelConfig
from fashionflow_core.download import Progress, check_room, digest, download
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.files import sync
from fashionflow_core.hub import Snapshot, fetch, fetch_part
from fashionflow_core.metrics.weights import FILES, is_public
from fashionflow_core.model_folder import INTERPOLATOR, NETWORKS, SOURCE_FILE, atomic_folder, check_target, damage
from fashionflow_core.registry import KNOWN, check_name, metrics_home, models_home

# What else a model folder holds beside its networks.
_FOLDERS = (*NETWORKS, INTERPOLATOR, "scheduler", "feature_extractor")

METRICS = "metrics"  # not a model: the networks that `fashionflow evaluate` measures with

Report = Callable[[str], None]


def pull(
    name: str,
    *,
    revision: str | None = None,
    store_as: str | None = None,
    checkpoint: str | None = None,
    sha256: str | None = None,
    overwrite: bool = False,
    report: Report = lambda line: None,
    progress: Progress | None = None,
) -> Path:
    """Install a model, as a whole or not at all.

    Args:
        name: a known model, the hub id `organisation/name` of a repository that is a model folder, or `metrics`.
        revision: branch, tag or commit of a hub id.
        store_as: the name it gets here; by default the last part of the hub id.
        checkpoint: for `published`: the authors' file, or an address to fetch it from.
        sha256: what that file must hash to.
        overwrite: replace an installed model of that name.
        report: told in a line what is being done.
        progress: told of every piece of a large file.

    Returns:
        Its folder.

    Raises:
        UsageError: an option that does not go with `name`.
        FashionFlowError: everything else that the network, the hub, the disk or the files may have.
    """
    from huggingface_hub.utils import WeakFileLock

    if name == METRICS:
        if revision or store_as or checkpoint or sha256:
            raise UsageError(f"{METRICS}: takes no option of a model", hint="fashionflow models pull metrics")
        return pull_metrics(overwrite, report, progress)
    published = name in KNOWN and bool(KNOWN[name].parts)
    if not published and (checkpoint or sha256):
        raise UsageError(f"--checkpoint: belongs to the model published, not to {name}")
    if sha256 and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"--sha256: {sha256!r} is no SHA-256", hint="64 hexadecimal digits, as sha256sum prints")
    if name in KNOWN and (revision or store_as):
        raise UsageError(f"--{'revision' if revision else 'name'}: model {name} is always the same, under its own name")
    if name in KNOWN and KNOWN[name].bundled:
        raise FashionFlowError(f"model {name} comes with fashionflow: there is nothing to pull")
    if name not in KNOWN and not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        near = difflib.get_close_matches(name, KNOWN, n=1)
        raise FashionFlowError(
            f"{name!r} is neither a known model nor a hub id",
            hint=(f"did you mean {near[0]}? " if near else "") + "a hub id looks like organisation/name",
        )
    stored = check_name(store_as or PurePosixPath(name).name)
    if stored in KNOWN and stored != name:
        raise FashionFlowError(f"{stored}: is the name of another model", hint="choose another one: --name NAME")
    target = models_home() / stored
    _check_target(target, overwrite)
    try:
        models_home().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FashionFlowError(
            f"{models_home()}: {(error.strerror or '').lower()}",
            hint="set FASHIONFLOW_HOME to a folder that can be written",
        ) from None
    with WeakFileLock(models_home() / f".{stored}.lock"):
        _check_target(target, overwrite)  # another process may have been at it meanwhile
        if published:
            return _pull_published(name, target, checkpoint, sha256, overwrite, report, progress)
        return _pull_folder(name, revision, target, report, progress)


def pull_metrics(overwrite: bool = False, report: Report = lambda line: None, progress: Progress | None = None) -> Path:
    """Fetch the public weights of the feature networks into `metrics_home()`; what is there and whole stays.

    Raises:
        FashionFlowError: no network, a full disk, or a file that is not the public one.
    """
    home = metrics_home()
    for kind, file in FILES.items():
        target = home / file.name
        if target.is_file() and not overwrite:
            found = digest(target, hashlib.sha256())
            if not is_public(kind, found):
                raise FashionFlowError(
                    f"{target}: is not the public file (its SHA-256 is {found})", hint="pass --overwrite to replace it"
                )
            report(f"{file.name} is here, SHA-256 {found}")
            continue
        report(f"fetching {file.url}")
        # Of one file its authors publish but the beginning of the hash, so that it is compared here.
        fetched = download(file.url, home / ".downloads", progress=progress)
        found = digest(fetched, hashlib.sha256())
        if not is_public(kind, found):
            fetched.unlink()
            raise FashionFlowError(
                f"{file.url}: its SHA-256 is {found}, which does not begin with {file.sha256}; it was thrown away",
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
        hint = f"pass --overwrite, another --name, or first: fashionflow models remove {target.name}"
        raise FashionFlowError(f"model {target.name} is already installed in {target.parent}", hint) from error


def _pull_folder(repo: str, revision: str | None, target: Path, report: Report, progress: Progress | None) -> Path:
    report(f"asking the hub for {repo}")
    # First the small file that says what it is: the weights of something else may be gigabytes.
    head = fetch(repo, revision, lambda names: [name for name in names if name == MODEL_FILE])
    if not head.files:
        raise FashionFlowError(
            f"{repo}: is no FashionFlow model (it holds no {MODEL_FILE})",
            hint="fashionflow models pull takes repositories that are model folders",
        )
    ModelConfig.load(head.folder)
    snapshot = fetch(repo, head.commit, _model_files, progress)
    check_room(repo, sum(file.size for file in snapshot.files.values()), models_home())
    with atomic_folder(target) as folder:
        for name in snapshot.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(snapshot.folder / name, folder / name)
        _write_source(folder, snapshot)
        if problems := damage(folder):
            raise FashionFlowError(
                f"{repo}: is no whole model folder: {problems[0]}", hint="tell those who published it"
            )
    return target


def _model_files(names: list[str]) -> list[str]:
    """Of a repository's files those of a model folder: at the top, and in the folders of its parts."""
    inside = [name for name in names if len(parts := PurePosixPath(name).parts) == 1 or parts[0] in _FOLDERS]
    return [name for name in inside if name != SOURCE_FILE]


def _write_source(folder: Path, snapshot: Snapshot) -> None:
    (folder / SOURCE_FILE).write_text(json.dumps(snapshot.record(), indent=2) + "\n", encoding="utf-8")


def _pull_published(
    name: str,
    target: Path,
    checkpoint: str | None,
    sha256: str | None,
    overwrite: bool,
    report: Report,
    progress: Progress | None,
) -> Path:
    known = KNOWN[name]
    local = Path(checkpoint).expanduser() if checkpoint and "://" not in checkpoint else None
    if local and not local.is_file():
        raise FashionFlowError(f"--checkpoint {checkpoint}: is no file", hint=f"get it from {known.authors}")
    if local and sha256:
        _check_digest(local, sha256)
    folders = {"vae": ("vae", "."), "clip": (".", "image_encoder")}
    for part, place in known.parts.items():
        report(f"fetching the {part} from {place.repo}")
        fetch_part(place, folders[part], progress)
    if checkpoint is None:
        raise FashionFlowError(
            f"model {name}: VAE and CLIP are here, but its checkpoint is not fetched unasked: its authors state no "
            f"licence for it; they publish it at {known.authors}",
            hint=f"if you may use it: fashionflow models pull {name} --checkpoint FILE|ADDRESS",
        )
    from fashionflow_core.checkpoint import import_checkpoint, read_checkpoint

    if local is None:
        report(f"fetching {checkpoint}")
        fetched = download(checkpoint, models_home() / ".downloads", sha256, progress)
        try:
            read_checkpoint(fetched)
        except FashionFlowError as error:
            fetched.unlink()  # whole, but nothing to go on from
            raise FashionFlowError(error.message.replace(str(fetched), checkpoint), error.hint) from None
        report("importing")
        made = import_checkpoint(fetched, target, overwrite=overwrite)
        fetched.unlink()
        return made
    report(f"importing {local}")
    return import_checkpoint(local, target, overwrite=overwrite)


def _check_digest(path: Path, sha256: str) -> None:
    if (found := digest(path, hashlib.sha256())) != sha256.lower():
        raise FashionFlowError(f"{path}: its SHA-256 is {found}, not {sha256.lower()}", hint="check --sha256")
