"""Networks of the paper's base, VAE and CLIP, pulled without a model (`models pull base`)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError, command
from fashionflow_core.store.folder import SOURCE_FILE, atomic_folder, forget_origins, network_damage
from fashionflow_core.store.hub import Snapshot, fetch_part
from fashionflow_core.store.network_sources import CLIP_FOLDERS, VAE_FOLDERS
from fashionflow_core.store.published import open_clip, open_vae
from fashionflow_core.store.registry import BASE, NETWORKS_BESIDE, models_home
from fashionflow_core.utils import hashing
from fashionflow_core.utils.download import OnBytes
from fashionflow_core.utils.files import write_text
from fashionflow_core.utils.libraries import quiet_libraries
from fashionflow_core.utils.typed_files import read_object

PINS_FILE = ".base-hashes.json"  # in `models_home()`; stays when the networks are removed


def pull_base(target: Path, report: Callable[[str], None], progress: OnBytes | None) -> Path:
    """Fetch VAE and CLIP at their pinned commits and write `vae/`, `image_encoder/`, `feature_extractor/`.

    The hashes of the fetched files are recorded at the first pull; every later one must give the same.

    Raises:
        FashionFlowError: as `hub.fetch_part`; another hash than at the first pull; other networks than
            expected.
    """
    known = NETWORKS_BESIDE[BASE]
    report(f"licence: {known.licence}")
    snapshots = {}
    for part, folders in (("vae", VAE_FOLDERS), ("image_encoder", CLIP_FOLDERS)):
        report(f"fetching the {part} from {known.parts[part].repo}")
        snapshots[part] = fetch_part(known.parts[part], folders, progress)
    pins = _pinned(snapshots)
    with quiet_libraries():
        parts: dict[str, Any] = {
            "vae": open_vae(str(snapshots["vae"].folder)),
            **open_clip(str(snapshots["image_encoder"].folder)),
        }
        with atomic_folder(target) as folder:
            for name, part in parts.items():
                part.save_pretrained(folder / name)
            forget_origins(folder)  # before sizes and hashes are recorded
            _record(folder, pins)
            if problems := network_damage(folder):
                raise FashionFlowError(f"{BASE}: incomplete: {problems[0]}", hint=command("models pull", BASE))
    write_text(models_home() / PINS_FILE, json.dumps(pins, indent=2) + "\n")
    return target


def _pinned(snapshots: dict[str, Snapshot]) -> dict[str, Any]:
    """Commit and SHA-256 of every fetched file by repository, equal to those of the first pull.

    Raises:
        FashionFlowError: a file of the same name had another hash.
    """
    found = {
        snapshot.repo: {
            "commit": snapshot.commit,
            "files": {name: hashing.sha256(snapshot.folder / name) for name in snapshot.files},
        }
        for snapshot in snapshots.values()
    }
    path = models_home() / PINS_FILE
    try:
        before = read_object(path, hint="delete it to pin anew")
    except FileNotFoundError:
        return found
    for repo, fetched in found.items():
        pinned = before.get(repo, {}).get("files", {})
        for name, sha256 in fetched["files"].items():
            if pinned.get(name, sha256) != sha256:
                raise FashionFlowError(
                    f"{repo}/{name}: SHA-256 is {sha256}, not {pinned[name]} as at the first pull",
                    hint=f"check HF_ENDPOINT; if the change is intended, delete {path}",
                )
    return found


def _record(folder: Path, pins: dict[str, Any]) -> None:
    """Write `source.json`: where the networks came from, and size and hash of every file."""
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": hashing.sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    commits = " and ".join(pin["commit"] for pin in pins.values())
    record = {"repo": " and ".join(pins), "commit": commits, "sources": pins, "files": files}
    (folder / SOURCE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
