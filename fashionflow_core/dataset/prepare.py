"""Preparation of a folder of videos as a cache."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fashionflow_core.config import ModelConfig
from fashionflow_core.dataset.cache import Recipe, sizes
from fashionflow_core.dataset.cache_writer import SHARD_BYTES, CacheWriter, check_folder, identity
from fashionflow_core.dataset.clips import ClipWindow, VideoFile, choose_windows, decode_windows, measure
from fashionflow_core.errors import FashionFlowError, option
from fashionflow_core.utils.files import free_bytes

if TYPE_CHECKING:
    from fashionflow_core.dataset.encoder import Encoder

OnDone = Callable[[int], None]
_CHUNK = 8  # frames that the VAE encodes at a time
_PATIENCE = 0.1  # seconds after which a waiting thread looks whether it is still needed


@dataclass(frozen=True)
class LeftOut:
    """A video, or clips of it, that cannot be used: its name (empty: a folder) and why, naming the file."""

    source: str
    reason: str


@dataclass(frozen=True)
class CachePlan:
    """What the videos give.

    Attributes:
        clips: each usable video and its windows, in the order in which they are encoded.
        left_out: what cannot be used.
        remarks: one line each on files that are used, though not as they are.
    """

    clips: list[tuple[VideoFile, list[ClipWindow]]]
    left_out: list[LeftOut]
    remarks: list[str]

    @property
    def count(self) -> int:
        """Number of clips."""
        return sum(len(windows) for _, windows in self.clips)


def make_plan(
    videos: dict[str, Path], recipe: Recipe, workers: int = 1, on_done: OnDone = lambda done: None
) -> CachePlan:
    """Look at every video, and choose windows by `clips.choose_windows` under (seed, SHA-256 of the file).

    Args:
        videos: of `clips.named_videos`.
        recipe: says which windows.
        workers: files that are looked at at a time.
        on_done: called with the number of files looked at.
    """
    clips: list[tuple[VideoFile, list[ClipWindow]]] = []
    left_out: list[LeftOut] = []
    remarks: list[str] = []
    seen: dict[str, str] = {}
    with ThreadPoolExecutor(workers) as pool:
        for done, (name, found) in enumerate(zip(videos, pool.map(_look_at, videos.values(), videos)), start=1):
            on_done(done)
            if isinstance(found, str):
                left_out.append(LeftOut(name, found))
            elif found.sha256 in seen:
                remarks.append(f"{found.path}: the same video as {seen[found.sha256]}, so it is used once")
            elif windows := choose_windows(
                found, recipe.frames, recipe.strides, recipe.clips_per_video, recipe.seed, found.sha256
            ):
                seen[found.sha256] = name
                clips.append((found, windows))
                if found.order is not None:
                    remarks.append(
                        f"{found.path}: its frame rate varies; it is read at {found.fps:.5g} frames a second"
                    )
            else:
                needed = min(recipe.strides) * (recipe.frames - 1) + 1
                left_out.append(LeftOut(name, f"{found.path}: has {found.frames} frames, a clip needs {needed}"))
    return CachePlan(clips, left_out, remarks)


def _look_at(path: Path, name: str) -> VideoFile | str:
    """A usable video, or why it is none."""
    try:
        return measure(path, name)
    except FashionFlowError as error:
        return error.message
    except Exception as error:  # one file, however broken, must not cost the others
        return f"{path}: cannot be read ({' '.join(str(error).split()) or type(error).__name__})"


def estimate(plan: CachePlan, cache: Path, model: Path, recipe: Recipe, overwrite: bool) -> dict[str, int]:
    """What a plan would cost: clips that the cache has `already`, and `bytes` of those it lacks.

    Raises:
        FashionFlowError: as `cache_writer.check_folder`; a part of the model is broken.
    """
    index = check_folder(cache, recipe, overwrite)
    stored = {identity(clip) for clip in index["clips"]} if index else set()
    planned = {(source.sha256, window.start, window.stride) for source, windows in plan.clips for window in windows}
    already = len(planned & stored)
    one = sizes(model, recipe.config, recipe.frames).clip_bytes
    return {"already": already, "bytes": (plan.count - already) * one}


@dataclass(frozen=True)
class Prepared:
    """What a run did: clips `encoded` now, `kept` from before, in the cache in all (`clips`), and what was left out."""

    encoded: int
    kept: int
    clips: int
    left_out: list[LeftOut]


def prepare(
    plan: CachePlan,
    cache: Path,
    model: Path,
    recipe: Recipe,
    device: torch.device,
    workers: int = 1,
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
    on_clip: OnDone = lambda done: None,
) -> Prepared:
    """Encode the planned clips that a cache does not hold yet.

    Args:
        plan: of `make_plan`, with what the recipe says.
        cache: the folder; made where missing.
        model: the model folder.
        recipe: what fixes the content.
        device: where to encode.
        workers: threads that decode, each one file, while others encode; the result is the same for any number.
        overwrite: throw away what the cache holds.
        shard_bytes: about the size of a shard, which holds one clip at least.
        on_clip: called with the number of clips that are finished.

    Raises:
        FashionFlowError: as `CacheWriter.opened`; a full disk; a broken model; out of memory.
    """
    # Imports diffusers and transformers, which takes seconds: after all that can be refused or planned without.
    from fashionflow_core.dataset.encoder import Encoder

    left_out = list(plan.left_out)
    clip_bytes = sizes(model, recipe.config, recipe.frames).clip_bytes
    with CacheWriter.opened(cache, recipe, max(1, shard_bytes // clip_bytes), overwrite) as writer:
        writer.take_over([source for source, _ in plan.clips])
        missing = [(s, [w for w in windows if not writer.is_done(s, w)]) for s, windows in plan.clips]
        tasks = [(s, [w for w in windows if not writer.is_part(s, w)]) for s, windows in missing]
        encoded, kept = 0, plan.count - sum(len(windows) for _, windows in tasks)
        done = plan.count - sum(len(windows) for _, windows in missing)
        on_clip(done)
        _check_room(cache, (plan.count - kept) * clip_bytes)
        encode = Encoder(model, recipe, device) if kept < plan.count else None
        with _decoding(tasks, recipe.config, workers) as decoded:
            for (source, windows), clips in zip(missing, decoded):
                try:
                    for window in windows:
                        if encode is None or writer.is_part(source, window):
                            writer.add(source, window, None)
                        else:
                            writer.add(source, window, _encoded(encode, next(clips), source, window))
                            encoded += 1
                        on_clip(done := done + 1)
                except Undecodable as error:
                    left_out.append(LeftOut(source.name, str(error)))
        writer.finish()
        return Prepared(encoded, kept, writer.clips, left_out)


def _encoded(encode: "Encoder", frames: NDArray[np.uint8], source: VideoFile, window: ClipWindow) -> dict[str, Tensor]:
    try:
        return encode(frames)
    except FashionFlowError as error:
        raise FashionFlowError(f"{source.name}, frame {window.start} on: {error.message}", error.hint) from None


def _check_room(cache: Path, needed: int) -> None:
    free = free_bytes(cache)
    if needed > free:
        raise FashionFlowError(
            f"{cache}: {needed / 1e9:.1f} GB of clips do not fit on the disk, which has {free / 1e9:.1f} GB free",
            hint=f"make room, take a smaller {option('clips_per_video')} or {option('limit')}, or another folder with "
            f"{option('out')}",
        )


class Undecodable(Exception):
    """A file is damaged behind what `measure` looked at."""


@contextmanager
def _decoding(
    tasks: list[tuple[VideoFile, list[ClipWindow]]], config: ModelConfig, workers: int
) -> Iterator[Iterator[Iterator[NDArray[np.uint8]]]]:
    """Decode files in threads: an iterator of the clips of each task in turn, which raise `Undecodable`.

    Each thread holds the windows it is in the middle of, and one that waits; FFmpeg and Pillow let others run.
    """
    lines: list[Queue[Any]] = [Queue(maxsize=1) for _ in tasks]
    stopped = threading.Event()

    def put(line: Queue[Any], item: Any) -> None:
        while not stopped.is_set():
            try:
                return line.put(item, timeout=_PATIENCE)
            except Full:
                continue
        raise _Abandoned

    def decode(source: VideoFile, windows: list[ClipWindow], line: Queue[Any]) -> None:
        try:
            for _, frames in decode_windows(source, windows, config.height, config.width, config.fit, config.resample):
                put(line, frames)
        except _Abandoned:
            return
        except FashionFlowError as error:
            put(line, Undecodable(error.message))
        except Exception as error:  # one file, however broken, must not cost the others
            put(line, Undecodable(f"{source.path}: cannot be decoded ({error or type(error).__name__})"))

    def clips(line: Queue[Any]) -> Iterator[NDArray[np.uint8]]:
        while True:
            item = line.get()
            if isinstance(item, Undecodable):
                raise item
            yield item

    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for (source, windows), line in zip(tasks, lines):
            if windows:
                pool.submit(decode, source, windows, line)
        yield map(clips, lines)
    finally:
        stopped.set()
        pool.shutdown(wait=True, cancel_futures=True)


class _Abandoned(Exception):
    """Nobody waits for what a thread decodes."""
