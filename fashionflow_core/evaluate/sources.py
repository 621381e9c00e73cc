"""Clip sources of an evaluation: videos and folders of PNG frames."""

import os
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from fashionflow_core import video
from fashionflow_core.dataset.clips import VIDEO_FILES, is_video_file, measure
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.images.fitting import Fitted, fit, fit_alike
from fashionflow_core.images.loading import load_photo
from fashionflow_core.utils.folders import walk

SUFFIXES = VIDEO_FILES | {".gif", ".webp"}
PHOTO_FILES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".heic", ".heif"))
_SMALLEST = 32  # pixels, as for photos
FITS = ("stretch", "pad", "crop")


@dataclass(frozen=True)
class ClipFile:
    """One clip: a video file, or a folder of PNG frames.

    Attributes:
        name: path below the searched folder, `/` between parts.
        path: file or folder.
    """

    name: str
    path: Path

    @property
    def key(self) -> str:
        """Key that pairs clips of several folders: the name without a video's suffix, in Unicode NFC.

        Some systems store decomposed names, so two folders may spell a name differently.
        """
        suffix = self.path.suffix
        is_video = suffix.lower() in SUFFIXES and self.path.is_file()
        return unicodedata.normalize("NFC", self.name.removesuffix(suffix) if is_video else self.name)


@dataclass(frozen=True)
class Looked:
    """Properties of a clip from its header: frames, size, frame rate (0 for PNG frames)."""

    source: ClipFile
    frames: int
    height: int
    width: int
    fps: float


@dataclass(frozen=True, eq=False)
class VideoFrames:
    """Frames of one clip, uint8 `(f, h, w, 3)`: its beginning, and the window for distances.

    Attributes:
        head: first frames, compared frame by frame and with the photo.
        window: the same number of frames from `start`; equal to the head if that is 0.
    """

    head: np.ndarray
    window: np.ndarray
    start: int


def find_clips(folder: Path, unreadable: list[str] | None = None) -> list[ClipFile]:
    """All clips below a folder, sorted by name; a video file, or a folder of frames, is one clip by itself.

    A folder with PNGs and no video counts as the frames of a clip; PNGs next to videos are posters and are skipped,
    like hidden files, hidden folders and system folders.

    Args:
        unreadable: called with one line per unreadable folder below; None: an unreadable folder is an error.

    Raises:
        FashionFlowError: no such folder, an unreadable one, or no clips in it.
    """
    if not folder.exists():
        raise FashionFlowError(f"{folder}: no such file or folder", hint="check the spelling of the path")
    if folder.is_file():
        return [ClipFile(folder.name, folder)]

    found: list[ClipFile] = []
    inside: dict[Path, list[str]] = {}
    for file in map(Path, walk(folder, unreadable)):
        inside.setdefault(file.parent, []).append(file.name)
    for here, files in inside.items():
        videos = [name for name in files if is_video_file(here / name, SUFFIXES)]
        found += [ClipFile((here / name).relative_to(folder).as_posix(), here / name) for name in videos]
        if not videos and any(_is_png(name) for name in files):
            name = here.relative_to(folder).as_posix()
            found.append(ClipFile(folder.name if name == "." else name, here))
    if not found:
        raise FashionFlowError(
            f"{folder}: no clips found" + "".join(f"; {line}" for line in unreadable or ()),
            hint="pass a folder with videos, or with folders of PNG frames",
        )
    return sorted(found, key=lambda source: source.name)


def _is_png(name: str) -> bool:
    return name.lower().endswith(".png") and not name.startswith(".")


def _frames(folder: Path) -> list[Path]:
    """The PNGs of a folder in the order of the numbers in their names.

    Raises:
        FashionFlowError: a gap in the numbers, or a PNG without a number.
    """
    names = [entry.name for entry in os.scandir(folder) if entry.is_file() and _is_png(entry.name)]
    names.sort(key=lambda name: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)])
    numbers = [int(found[-1]) for name in names if (found := re.findall(r"\d+", Path(name).stem))]
    if 0 < len(numbers) < len(names):
        stray = next(name for name in names if not re.search(r"\d", Path(name).stem))
        raise FashionFlowError(f"{folder}: {stray} has no frame number", hint="move it elsewhere")
    if len(numbers) == len(names):
        twice = next((b for a, b in pairwise(numbers) if a == b), None)
        if twice is not None:
            raise FashionFlowError(f"{folder}: two frames have the number {twice}", hint="keep one of them")
    if len(numbers) == len(names) > 2:
        steps = Counter(b - a for a, b in pairwise(numbers))
        step = min(steps)
        if len(steps) > 1:
            gap = next(a + step for a, b in pairwise(numbers) if b - a != step)
            raise FashionFlowError(f"{folder}: missing frame {gap}", hint="write the frames again")
    return [folder / name for name in names]


def look(source: ClipFile) -> Looked:
    """Read the header of a clip; decodes at most one frame if the header is complete.

    Raises:
        FashionFlowError: not a video, damaged, or without frames.
    """
    if source.path.is_dir():
        files = _frames(source.path)
        height, width, _ = load_photo(files[0]).shape
        return Looked(source, len(files), height, width, 0.0)
    info = video.probe(source.path)
    if info.frames < 1:
        raise FashionFlowError(f"{source.path}: no frames", hint="create or download the video again")
    if min(info.height, info.width) < _SMALLEST:
        raise FashionFlowError(
            f"{source.path}: {info.height}x{info.width} is too small (at least {_SMALLEST} on each side)",
            hint="remove it from the folder, or enlarge it",
        )
    if source.path.suffix.lower() in VIDEO_FILES:
        _check_square(source.path, info.height, info.width)
    return Looked(source, info.frames, info.height, info.width, info.fps)


def _check_square(path: Path, height: int, width: int) -> None:
    """Reject videos with non-square pixels.

    Raises:
        FashionFlowError: non-square pixels.
    """
    shown = measure(path)
    hint = "convert it to square pixels first"
    if (shown.height, shown.width) != (height, width):
        raise FashionFlowError(f"{path}: pixels are not square; displayed as {shown.height}x{shown.width}", hint)


def window_start(key: str, frames: int, wanted: int, seed: int) -> int:
    """First frame of the window of `wanted` frames, determined by the clip's length, its key and the seed."""
    room = frames - wanted
    return zlib.crc32(f"{seed}:{key}".encode(errors="surrogateescape")) % (room + 1) if room > 0 else 0


def read_clip(
    looked: Looked,
    wanted: int,
    seed: int,
    size: tuple[int, int] | None = None,
    mode: str = "stretch",
    resample: str = "bilinear",
) -> VideoFrames:
    """Decode the head and the window of a clip, `wanted` frames each, or all of a shorter one.

    Args:
        size: height and width that frames are resized to with `fitting.fit`, `mode` and `resample`; None: unchanged.

    Raises:
        FashionFlowError: damaged, shorter than its header indicates, or frames of different sizes.
    """
    count = min(wanted, looked.frames)
    start = window_start(looked.source.key, looked.frames, wanted, seed)
    kept: list[np.ndarray] = []
    window: list[np.ndarray] = []
    first: Fitted | None = None
    for index, frame in enumerate(_decode(looked.source, start + count)):
        if frame.shape[:2] != (looked.height, looked.width):
            raise FashionFlowError(
                f"{looked.source.path}: frame {index} is {frame.shape[0]}x{frame.shape[1]}, but frame 0 is "
                f"{looked.height}x{looked.width}",
                hint="resize all frames to one size",
            )
        if size is not None:
            first = fit(frame, *size, mode=mode, resample=resample) if first is None else first
            frame = first.pixels if index == 0 else fit_alike(frame, first, resample)
        if index < count:
            kept.append(frame)
        if index >= start:
            window.append(frame)
    if len(window) < count:
        raise FashionFlowError(
            f"{looked.source.path}: ends after {start + len(window)} of {looked.frames} frames",
            hint="create or download the video again",
        )
    head = np.stack(kept)
    return VideoFrames(head, head if start == 0 else np.stack(window), start)


def _decode(source: ClipFile, limit: int) -> Iterator[np.ndarray]:
    if source.path.is_dir():
        yield from (load_photo(path) for path in _frames(source.path)[:limit])
    else:
        yield from video.iter_frames(source.path, limit)


def first_frame(source: ClipFile) -> np.ndarray:
    """Frame 0 of a clip, uint8 `(h, w, 3)`.

    Raises:
        FashionFlowError: as `look`, or no frame.
    """
    looked = look(source)
    return next(_decode(looked.source, 1))


def common_size(clips: Sequence[Looked]) -> tuple[int, int] | None:
    """The most common height and width; the first by name among equals."""
    sizes = Counter((clip.height, clip.width) for clip in clips)
    return sizes.most_common(1)[0][0] if sizes else None


def is_photo(path: Path) -> bool:
    """Whether a file has the suffix of a photo."""
    return path.suffix.lower() in PHOTO_FILES and path.is_file() and not path.name.startswith(".")


def find_photo(source: ClipFile, photos: Path) -> Path | None:
    """The photo of a clip: of the same name, or of that without the number of a variation (`dress-2`, `dress02`)."""
    stem = Path(source.key).name
    by_stem = {path.stem: path for path in sorted(photos.iterdir(), reverse=True) if is_photo(path)}
    return by_stem.get(stem) or by_stem.get(re.sub(r"[-_ ]?\d+$", "", stem))
