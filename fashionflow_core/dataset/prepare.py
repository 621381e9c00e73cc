"""Preparation of videos as a cache of encoded clips."""

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
_CHUNK = 8  # frames per VAE batch
_PATIENCE = 0.1  # seconds between checks of a waiting thread for cancellation


@dataclass(frozen=True)
class LeftOut:
    """An unusable video or part of it: its name (empty: a folder), and the reason with the file."""

    source: str
    reason: str


@dataclass(frozen=True)
class CachePlan:
    """Plan of a cache: the clips that the videos provide.

    Attributes:
        clips: each usable video and its windows, in encoding order.
        left_out: unusable videos.
        remarks: one line per file that is used with changes.
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
    """Measure every video, and choose windows by `clips.choose_windows` under (seed, SHA-256 of the file).

    Args:
        videos: result of `clips.named_videos`.
        recipe: settings of the windows.
        workers: number of files measured in parallel.
        on_done: called with the number of measured files.
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
                remarks.append(f"{found.path}: same video as {seen[found.sha256]}; used once")
            elif windows := choose_windows(
                found, recipe.frames, recipe.strides, recipe.clips_per_video, recipe.seed, found.sha256
            ):
                seen[found.sha256] = name
                clips.append((found, windows))
                if found.order is not None:
                    remarks.append(f"{found.path}: variable frame rate, resampled to {found.fps:.5g} frames per second")
            else:
                needed = min(recipe.strides) * (recipe.frames - 1) + 1
                left_out.append(LeftOut(name, f"{found.path}: {found.frames} frames, but a clip needs {needed}"))
    return CachePlan(clips, left_out, remarks)


def _look_at(path: Path, name: str) -> VideoFile | str:
    """A usable video, or the reason why it is unusable."""
    try:
        return measure(path, name)
    except FashionFlowError as error:
        return error.message
    except Exception as error:  # a damaged file must not stop the others
        return f"{path}: unreadable ({' '.join(str(error).split()) or type(error).__name__})"


def estimate(plan: CachePlan, cache: Path, model: Path, recipe: Recipe, overwrite: bool) -> dict[str, int]:
    """Cost of a plan: clips `already` in the cache, and `bytes` of the missing ones.

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
    """Result of a run: clips `encoded` now, `kept` from before, in total (`clips`), and skipped videos."""

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
    """Encode the planned clips that are missing in a cache.

    Args:
        plan: result of `make_plan` for the recipe.
        cache: folder of the cache, created if missing.
        model: model folder.
        recipe: settings that determine the content.
        device: device of the encoders.
        workers: decoding threads, one file each; the result does not depend on their number.
        overwrite: delete the content of the cache.
        shard_bytes: approximate size of a shard, which has at least one clip.
        on_clip: called with the number of finished clips.

    Raises:
        FashionFlowError: as `CacheWriter.opened`; a full disk; a broken model; out of memory.
    """
    # Imports diffusers and transformers, which takes seconds: after checks and planning.
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
            f"{cache}: needs {needed / 1e9:.1f} GB; {free / 1e9:.1f} GB free",
            hint=f"free space, set a smaller {option('clips_per_video')} or {option('limit')}, or another folder with "
            f"{option('out')}",
        )


class Undecodable(Exception):
    """A file is damaged after the part that `measure` reads."""


@contextmanager
def _decoding(
    tasks: list[tuple[VideoFile, list[ClipWindow]]], config: ModelConfig, workers: int
) -> Iterator[Iterator[Iterator[NDArray[np.uint8]]]]:
    """Decode files in threads: an iterator of the clips of each task in turn, raising `Undecodable`.

    Each thread keeps its current windows and one finished clip; FFmpeg and Pillow release the GIL.
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
        except Exception as error:  # a damaged file must not stop the others
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
    """Raised in a decoding thread when its output is no longer needed."""
