"""Sources of clips: videos and folders of PNG frames."""

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
_SMALLEST = 32  # pixels, as of photos
FITS = ("stretch", "pad", "crop")


@dataclass(frozen=True)
class ClipFile:
    """One clip that was found: a video file, or a folder of PNG frames.

    Attributes:
        name: its path below the folder that was searched, `/` between parts.
        path: file or folder.
    """

    name: str
    path: Path

    @property
    def key(self) -> str:
        """What clips of several folders are paired by: the name without a video's suffix, composed (Unicode NFC).

        Some systems store names decomposed: two folders may spell one name in two ways.
        """
        suffix = self.path.suffix
        is_video = suffix.lower() in SUFFIXES and self.path.is_file()
        return unicodedata.normalize("NFC", self.name.removesuffix(suffix) if is_video else self.name)


@dataclass(frozen=True)
class Looked:
    """A clip as its header says: frames, size, and rate (0 for PNG frames, which have none)."""

    source: ClipFile
    frames: int
    height: int
    width: int
    fps: float


@dataclass(frozen=True, eq=False)
class VideoFrames:
    """Frames of one clip, uint8 `(f, h, w, 3)`: its beginning, and the window that distances are computed from.

    Attributes:
        head: the first frames: what is pinned to the photo, and what is compared frame by frame.
        window: as many frames from `start` on; the head itself where that is 0.
    """

    head: np.ndarray
    window: np.ndarray
    start: int


def find_clips(folder: Path, unreadable: list[str] | None = None) -> list[ClipFile]:
    """All clips below a folder, sorted by name; a video file, or a folder of frames, is one clip by itself.

    A folder that holds PNGs and no video is taken for the frames of a clip; PNGs beside videos are posters, and passed
    over. Hidden files and folders, and side folders of systems, are skipped too.

    Args:
        unreadable: takes one line for each folder below that cannot be read; None: such a folder is an error.

    Raises:
        FashionFlowError: no such folder, it cannot be read, or there is nothing in it.
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
            hint="name a folder with videos in it, or with folders of PNG frames",
        )
    return sorted(found, key=lambda source: source.name)


def _is_png(name: str) -> bool:
    return name.lower().endswith(".png") and not name.startswith(".")


def _frames(folder: Path) -> list[Path]:
    """The PNGs of a folder in the order of the numbers in their names.

    Raises:
        FashionFlowError: the numbers leave one out, or there is a PNG without one: that would be measured as it is.
    """
    names = [entry.name for entry in os.scandir(folder) if entry.is_file() and _is_png(entry.name)]
    names.sort(key=lambda name: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)])
    numbers = [int(found[-1]) for name in names if (found := re.findall(r"\d+", Path(name).stem))]
    if 0 < len(numbers) < len(names):
        stray = next(name for name in names if not re.search(r"\d", Path(name).stem))
        raise FashionFlowError(f"{folder}: holds frames and {stray}, which has no number", hint="move it elsewhere")
    if len(numbers) == len(names):
        twice = next((b for a, b in pairwise(numbers) if a == b), None)
        if twice is not None:
            raise FashionFlowError(f"{folder}: two frames have the number {twice}", hint="keep one of them")
    if len(numbers) == len(names) > 2:
        steps = Counter(b - a for a, b in pairwise(numbers))
        step = min(steps)
        if len(steps) > 1:
            gap = next(a + step for a, b in pairwise(numbers) if b - a != step)
            raise FashionFlowError(f"{folder}: frame {gap} is missing", hint="write the frames again")
    return [folder / name for name in names]


def look(source: ClipFile) -> Looked:
    """What a clip says of itself; decodes one frame at most, where the header knows.

    Raises:
        FashionFlowError: it is no video, damaged, or holds no frames.
    """
    if source.path.is_dir():
        files = _frames(source.path)
        height, width, _ = load_photo(files[0]).shape
        return Looked(source, len(files), height, width, 0.0)
    info = video.probe(source.path)
    if info.frames < 1:
        raise FashionFlowError(f"{source.path}: holds no frames", hint="make or download the video again")
    if min(info.height, info.width) < _SMALLEST:
        raise FashionFlowError(
            f"{source.path}: is {info.height}x{info.width}, too small to judge (at least {_SMALLEST} on each side)",
            hint="take it out of the folder, or make it larger",
        )
    if source.path.suffix.lower() in VIDEO_FILES:
        _check_square(source.path, info.height, info.width)
    return Looked(source, info.frames, info.height, info.width, info.fps)


def _check_square(path: Path, height: int, width: int) -> None:
    """Refuse what players show wider or narrower than it is stored.

    Raises:
        FashionFlowError: its pixels are not square.
    """
    shown = measure(path)
    hint = "convert it to frames as they are shown first"
    if (shown.height, shown.width) != (height, width):
        raise FashionFlowError(f"{path}: its pixels are not square, shown as {shown.height}x{shown.width}", hint)


def window_start(key: str, frames: int, wanted: int, seed: int) -> int:
    """Where the window of `wanted` frames begins: the same for everybody who has the clip, its key and the seed."""
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
        size: height and width to bring frames to, as `fitting.fit` does by `mode` and `resample`; None: as they are.

    Raises:
        FashionFlowError: it is damaged, ends before the frames that it announces, or its frames differ in size.
    """
    count = min(wanted, looked.frames)
    start = window_start(looked.source.key, looked.frames, wanted, seed)
    kept: list[np.ndarray] = []
    window: list[np.ndarray] = []
    first: Fitted | None = None
    for index, frame in enumerate(_decode(looked.source, start + count)):
        if frame.shape[:2] != (looked.height, looked.width):
            raise FashionFlowError(
                f"{looked.source.path}: frame {index} is {frame.shape[0]}x{frame.shape[1]}, unlike frame 0: "
                f"{looked.height}x{looked.width}",
                hint="bring all frames to one size",
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
            f"{looked.source.path}: ends after {start + len(window)} frames, of {looked.frames} that it announces",
            hint="make or download the video again",
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
        FashionFlowError: as `look`; there is none.
    """
    looked = look(source)
    return next(_decode(looked.source, 1))


def common_size(clips: Sequence[Looked]) -> tuple[int, int] | None:
    """Height and width of most clips; of equally many the one that comes first by name."""
    sizes = Counter((clip.height, clip.width) for clip in clips)
    return sizes.most_common(1)[0][0] if sizes else None


def is_photo(path: Path) -> bool:
    """Whether a file is named like a photo."""
    return path.suffix.lower() in PHOTO_FILES and path.is_file() and not path.name.startswith(".")


def find_photo(source: ClipFile, photos: Path) -> Path | None:
    """The photo of a clip: of its name, or of that without the number of a variation (`dress-2`, `dress02`)."""
    stem = Path(source.key).name
    by_stem = {path.stem: path for path in sorted(photos.iterdir(), reverse=True) if is_photo(path)}
    return by_stem.get(stem) or by_stem.get(re.sub(r"[-_ ]?\d+$", "", stem))
