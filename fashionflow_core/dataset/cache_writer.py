"""Cache writer with resume after interruptions.

A finished clip is a file in `parts/`; parts are merged into full shards and entered in the index, which lists
everything that readers see. Each of these steps is one rename, so a kill leaves the old or the new state.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fashionflow_core.dataset.cache import FORMAT, INDEX_FILE, Recipe, is_whole, read_index
from fashionflow_core.dataset.clips import ClipWindow, VideoFile
from fashionflow_core.errors import FashionFlowError, command, option, reason_of
from fashionflow_core.utils.files import atomic_path, set_mode, write_text
from fashionflow_core.utils.hashing import sha256
from fashionflow_core.utils.locks import LOCK_FILE, locked

PARTS = "parts"
SHARD_BYTES = 256_000_000
_TEMPORARY = (".clips-*.safetensors", ".index.*.json", f"{PARTS}/.*")


class CacheWriter:
    """A cache open for writing, by one process at a time."""

    def __init__(self, folder: Path, index: dict[str, Any], per_shard: int) -> None:
        self.folder, self.index = folder, index
        self._per_shard = per_shard
        self._pending: list[dict[str, Any]] = []
        self._done = {identity(clip) for clip in index["clips"]}

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, recipe: Recipe, per_shard: int, overwrite: bool = False) -> "Iterator[CacheWriter]":
        """Create or resume a cache, and lock it.

        Args:
            per_shard: clips per shard.
            overwrite: whether to delete its content.

        Raises:
            FashionFlowError: in use by another process, prepared with other settings, or contains other files.
        """
        check_folder(folder, recipe, overwrite)
        with locked(folder, command("data prepare")):
            index = check_folder(folder, recipe, overwrite)  # again: it may have changed before the lock
            if index is None:
                (folder / INDEX_FILE).unlink(missing_ok=True)  # first: the files that it lists are deleted next
                index = {"format": FORMAT, "settings": recipe.settings(), "networks": dict(recipe.networks)}
                index |= {"model": asdict(recipe.config), "shards": {}, "sources": {}, "clips": []}
                shutil.rmtree(folder / PARTS, ignore_errors=True)
            writer = cls(folder, index, per_shard)
            writer._write_index()
            writer._sweep()
            yield writer

    def take_over(self, sources: list[VideoFile]) -> None:
        """Register the videos of this run: renamed videos get their new name, clips of changed videos are dropped.

        Clips whose shard is missing or damaged are dropped as well, and encoded again.
        """
        whole = {shard for shard in {clip["shard"] for clip in self.index["clips"]} if self._opens(shard)}
        names = {source.sha256: source for source in sources}
        hashes = {source.name: source.sha256 for source in sources}
        kept = []
        for clip in self.index["clips"]:
            if hashes.get(clip["source"], clip["sha256"]) != clip["sha256"] and clip["sha256"] not in names:
                continue
            if clip["shard"] not in whole:
                continue
            if source := names.get(clip["sha256"]):
                clip = clip | {"source": source.name, "split": source.split}
            kept.append(clip)
        known = self.index["sources"] | {source.name: _about(source) for source in sources}
        self.index |= {"clips": kept, "sources": {clip["source"]: known[clip["source"]] for clip in kept}}
        named = {clip["shard"] for clip in kept}
        self.index["shards"] = {name: known for name, known in self.index.get("shards", {}).items() if name in named}
        self._done = {identity(clip) for clip in kept}
        self._write_index()
        self._sweep()

    def is_done(self, source: VideoFile, window: ClipWindow) -> bool:
        """Whether a clip is already in a shard."""
        return (source.sha256, window.start, window.stride) in self._done

    def is_part(self, source: VideoFile, window: ClipWindow) -> bool:
        """Whether a clip is finished, but not yet in a shard."""
        return self._part(_record(source, window)).exists()

    def add(self, source: VideoFile, window: ClipWindow, tensors: Mapping[str, Tensor] | None) -> None:
        """Add a finished clip, or (None) one that `is_part`; shards contain clips in the order of these calls.

        Raises:
            FashionFlowError: the disk is full.
        """
        record = _record(source, window)
        if tensors is not None:
            (self.folder / PARTS).mkdir(exist_ok=True)
            _save(tensors, self._part(record))
        self.index["sources"][source.name] = _about(source)
        self._pending.append(record)
        if len(self._pending) == self._per_shard:
            self._merge()

    def finish(self) -> None:
        """Write the last, smaller shard, and delete parts that are no longer planned."""
        if self._pending:
            self._merge()
        self._write_index()
        shutil.rmtree(self.folder / PARTS, ignore_errors=True)

    @property
    def clips(self) -> int:
        return len(self.index["clips"])

    def _part(self, record: Mapping[str, Any]) -> Path:
        return self.folder / PARTS / f"{record['sha256'][:32]}-{record['start']}-{record['stride']}.safetensors"

    def _merge(self) -> None:
        """Write pending parts to a shard, then the index; the parts are deleted last."""
        numbers = [int(clip["shard"].split("-")[1].split(".")[0]) for clip in self.index["clips"]]
        name = f"clips-{max(numbers, default=-1) + 1:05}.safetensors"
        parts = [self._part(record) for record in self._pending]
        shard = {f"{i}.{key}": tensor for i, part in enumerate(parts) for key, tensor in load_file(part).items()}
        _save(shard, self.folder / name)
        self.index.setdefault("shards", {})[name] = sha256(self.folder / name)
        self.index["clips"] += [{"shard": name, "key": str(i)} | record for i, record in enumerate(self._pending)]
        self._done |= {identity(record) for record in self._pending}
        self._pending = []
        self._write_index()
        for part in parts:
            part.unlink()

    def _opens(self, shard: str) -> bool:
        """Whether a shard exists and is intact."""
        path = self.folder / shard
        try:
            with safe_open(path, framework="pt"):
                return is_whole(self.index, path)
        except (OSError, SafetensorError):
            return False

    def _write_index(self) -> None:
        with _explained(self.folder / INDEX_FILE):
            write_text(self.folder / INDEX_FILE, json.dumps(self.index, indent=1) + "\n")

    def _sweep(self) -> None:
        """Remove leftovers of killed runs: temporary files, shards not in the index, parts already in a shard."""
        named = {clip["shard"] for clip in self.index["clips"]}
        orphans = [path for path in self.folder.glob("clips-*.safetensors") if path.name not in named]
        for pattern in _TEMPORARY:
            orphans += self.folder.glob(pattern)
        for path in orphans + [self._part(clip) for clip in self.index["clips"]]:
            path.unlink(missing_ok=True)


def check_folder(folder: Path, recipe: Recipe, overwrite: bool) -> dict[str, Any] | None:
    """The index that a run would resume; None for a new cache.

    Raises:
        FashionFlowError: `folder` was prepared with other settings, contains other files, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise FashionFlowError(f"{folder}: is a file, not a folder", hint=f"choose another folder with {option('out')}")
    if not (folder / INDEX_FILE).exists():
        # Files of a run that was killed before it wrote an index.
        ours = (LOCK_FILE, PARTS, "clips-*.safetensors", *_TEMPORARY)
        names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        others = [name for name in names if not any(fnmatch(name, pattern) for pattern in ours)]
        if others:
            raise FashionFlowError(
                f"{folder}: not empty, and not a cache of clips (contains {others[0]})",
                hint=f"choose a new folder with {option('out')}",
            )
        return None
    if overwrite:
        return None
    index = read_index(folder)
    settings, wanted = index["settings"], recipe.settings()
    if differing := [name for name in wanted if settings.get(name) != wanted[name]]:
        changes = "; ".join(f"{name} was {settings.get(name)}, now {wanted[name]}" for name in differing)
        raise FashionFlowError(
            f"{folder}: prepared with other settings: {changes}",
            hint=f"pass {option('overwrite', True)} to delete it and start again, or another folder with "
            f"{option('out')}",
        )
    return index


def _record(source: VideoFile, window: ClipWindow) -> dict[str, Any]:
    return {
        "source": source.name,
        "sha256": source.sha256,
        "split": source.split,
        "start": window.start,
        "stride": window.stride,
        "frames": window.frames,
        "fps": round(source.fps / window.stride, 6),
    }


def _about(source: VideoFile) -> dict[str, Any]:
    return {key: getattr(source, key) for key in ("sha256", "split", "frames", "height", "width", "fps")}


def identity(record: Mapping[str, Any]) -> tuple[str, int, int]:
    """Key of a clip: the SHA-256 of its video, start and stride."""
    return record["sha256"], record["start"], record["stride"]


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    with _explained(path), atomic_path(path) as temporary:
        mode = temporary.stat().st_mode
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
        set_mode(temporary, mode)  # safetensors creates private files


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise FashionFlowError(
            f"{path}: not writable ({reason_of(error)})",
            hint="check the disk, then resume with the same command",
        ) from None
