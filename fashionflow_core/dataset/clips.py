"""Training clips from videos: search, measurement, windows, decoding, fitting."""

import contextlib
import random
import stat
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, zip_longest
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashionflow_core import video
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, reason_of
from fashionflow_core.images.fitting import Fitted, fit, fit_alike
from fashionflow_core.utils.folders import walk
from fashionflow_core.utils.hashing import sha256

if TYPE_CHECKING:
    from av.container import InputContainer

# Suffixes searched in folders; files passed directly may have any name. GIFs have too few colours for training.
VIDEO_FILES = frozenset(
    ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()  # noqa: SIM905
)
SPLITS = ("train", "test", "val", "valid", "validation")
# Frames shown this much longer than most others are stills, or their timestamps are damaged.
_LONGEST_PAUSE = 100
# Codecs with packets without a frame, so that only decoding gives the number of frames.
_HIDDEN_FRAMES = frozenset({"vp8"})


class HasFrames(Protocol):
    """Input for choosing windows: a `VideoFile` or `video.VideoInfo`."""

    @property
    def frames(self) -> int: ...


@dataclass(frozen=True)
class VideoFile:
    """A video as source of clips.

    Attributes:
        path: the file.
        name: name in reports and the index: path with the searched folder, `/` between parts.
        sha256: hash of the file.
        split: train, test etc., from the name of a parent folder; empty if there is none.
        frames: number of frames at a constant rate; for variable rates after repeating and dropping.
        height, width: size upright, in square pixels.
        fps: frames per second.
        order: index of the decoded frame at each position, for variable rates; None: in order.
    """

    path: Path
    name: str
    sha256: str
    split: str
    frames: int
    height: int
    width: int
    fps: float
    order: tuple[int, ...] | None = None


@dataclass(frozen=True, order=True)
class ClipWindow:
    """Frames `start`, `start + stride` etc. of a source, `frames` in total."""

    start: int
    stride: int
    frames: int

    @property
    def last(self) -> int:
        """Index of the last frame that is needed."""
        return self.start + self.stride * (self.frames - 1)


def iter_videos(roots: Sequence[Path]) -> list[Path]:
    """All videos in folders, searched recursively, and files passed directly.

    Raises:
        FashionFlowError: as `named_videos`.
    """
    return list(named_videos(roots).values())


def named_videos(roots: Sequence[Path], unreadable: list[str] | None = None) -> dict[str, Path]:
    """As `iter_videos`, by name in an index; sorted by name within each root, without duplicates.

    Hidden files and folders, and system folders are skipped; links are followed.

    Args:
        unreadable: called with one line per unreadable folder inside a root; None: an unreadable folder is an error.

    Raises:
        FashionFlowError: a missing or unreadable root.
    """
    found: dict[str, Path] = {}
    seen: set[Path] = set()
    for root in roots:
        if not root.exists():
            raise FashionFlowError(f"{root}: no such file or folder", hint="check the spelling of the path")
        base = root.resolve()
        inside = [Path()] if base.is_file() else _search(base, unreadable)
        for relative in inside:
            if (actual := (base / relative).resolve()) in seen:
                continue
            seen.add(actual)
            name = PurePosixPath(base.name, relative).as_posix()
            # Two roots may have the same name.
            found[(base / relative).as_posix() if name in found else name] = root / relative
    return found


def _search(folder: Path, unreadable: list[str] | None) -> list[Path]:
    """Videos below a folder, relative to it."""
    found = (Path(file) for file in walk(folder, unreadable))
    return sorted((file.relative_to(folder) for file in found if is_video_file(file)), key=Path.as_posix)


def is_video_file(path: Path, suffixes: Collection[str] = VIDEO_FILES) -> bool:
    """Whether a file has the suffix of a video; warns of pipes and devices, which are skipped."""
    if path.suffix.lower() not in suffixes or path.name.startswith("."):
        return False
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            warnings.warn(f"{path}: skipped, a pipe or device", FashionFlowWarning, stacklevel=2)
            return False
    return True


def measure(path: Path, name: str | None = None) -> VideoFile:
    """Hash a video, and read its frames and timestamps from its packets and its first frame.

    Raises:
        FashionFlowError: not a video, damaged, or without frames.
    """
    name = name or path.name
    try:
        digest = sha256(path)
    except OSError as error:
        raise FashionFlowError(f"{path}: unreadable ({reason_of(error)})", hint="check the path") from None
    first = next(video.iter_frames(path, limit=1), None)  # detects truncated files and files that are not videos
    if first is None:
        raise FashionFlowError(f"{path}: no frames", hint="create or download the video again")
    times, stored, aspect = _times(path)
    order, fps = _steady(path, times)
    height, width, _ = first.shape
    if (height, width) == stored:
        width = round(width * aspect)
    else:  # rotated by 90 degrees: width and height of a pixel are swapped
        height = round(height * aspect)
    folders = [part.lower() for part in PurePosixPath(name).parts[:-1]]
    split = next((part for part in reversed(folders) if part in SPLITS), "")
    return VideoFile(
        path=path,
        name=name,
        sha256=digest,
        split=split,
        frames=len(times) if order is None else len(order),
        height=height,
        width=width,
        fps=fps,
        order=order,
    )


def _times(path: Path) -> tuple[NDArray[np.float64], tuple[int, int], float]:
    """Timestamps of frames in seconds, ascending; stored height and width; pixel aspect ratio."""
    from av.error import FFmpegError
    from av.video.frame import VideoFrame

    def pictures() -> Iterator[VideoFrame]:
        with _opened(path) as container:
            yield from container.decode(container.streams.video[0])

    try:
        with _opened(path) as container:
            stream = container.streams.video[0]
            stored = (stream.height, stream.width)
            hidden = stream.codec_context.codec.canonical_name in _HIDDEN_FRAMES
            rate, tick, aspect = (
                stream.average_rate or stream.guessed_rate,
                stream.time_base,
                stream.sample_aspect_ratio,
            )
            found = [] if hidden else [p for p in container.demux(stream) if p.size and not p.is_discard]
            # In a stream that starts inside a group of pictures the first packets have no frame.
            packets = [packet.pts for packet in found] if found and found[0].is_keyframe else []
        shown = packets if packets and None not in packets else [frame.pts for frame in pictures()]
    except (FFmpegError, OSError) as error:
        problem = f"{path}: damaged ({reason_of(error)})"
        raise FashionFlowError(problem, hint="create or download the video again") from None
    numbers = [pts for pts in shown if pts is not None]
    if tick is None or len(numbers) < len(shown):
        seconds = np.arange(len(shown)) / float(rate or 25)  # AVI and raw streams may have no timestamps
    else:
        seconds = np.sort(np.asarray(numbers, np.float64)) * float(tick)
    return seconds, stored, float(aspect or 1)


def _opened(path: Path) -> "InputContainer":
    import av

    # As in `video`: only local files, and text in any encoding.
    return av.open(str(path.absolute()), options={"protocol_whitelist": "file"}, metadata_errors="replace")


def _steady(path: Path, times: NDArray[np.float64]) -> tuple[tuple[int, ...] | None, float]:
    """Index of the frame at each tick of a constant rate (None: one frame per tick), and that rate."""
    if len(times) < 2 or times[-1] <= times[0]:
        return None, 0.0
    mean = (times[-1] - times[0]) / (len(times) - 1)
    period = mean
    order = _shown(times, mean)
    if not np.array_equal(order, np.arange(len(times))):
        # Median interval between frames: pauses would increase the mean.
        period = float(np.median(np.diff(times))) or mean
        if mean > _LONGEST_PAUSE * period:
            raise FashionFlowError(f"{path}: invalid timestamps", hint="encode the video again")
        order = _shown(times, period)
    rate = float(Fraction(1 / period).limit_denominator(1001))
    if np.array_equal(order, np.arange(len(times))):
        return None, rate
    return tuple(order.tolist()), rate


def _shown(times: NDArray[np.float64], period: float) -> NDArray[np.int64]:
    """Index of the last frame that starts before the middle of each tick of `period`."""
    ticks = times[0] + period * np.arange(round((times[-1] - times[0]) / period) + 1)
    return np.searchsorted(times, ticks + period / 2, side="right") - 1


def choose_windows(
    info: HasFrames, frames: int, strides: Sequence[int] = (1, 2, 4), per_video: int = 1, seed: int = 0, name: str = ""
) -> list[ClipWindow]:
    """Draw distinct windows from a video, determined by (seed, name).

    Strides alternate, so that `per_video` windows cover the motion at every speed; a stride without remaining windows
    that fit is skipped.

    Args:
        info: properties of the video.
        frames: frames per window.
        strides: steps between a window's frames in the video.
        per_video: number of windows; fewer if the video has fewer distinct ones.
        seed, name: seed of the choice; the first windows are the same for every `per_video`.

    Returns:
        Windows ordered by their last frame; none if the video is too short for the smallest stride.
    """
    room = {stride: info.frames - stride * (frames - 1) for stride in strides}
    fitting = sorted(stride for stride in room if room[stride] > 0)
    turns = random.Random(f"{seed}/{name}").sample(fitting, len(fitting))
    starts = [_different(room[stride], per_video, f"{seed}/{name}/{stride}") for stride in turns]
    rounds = zip_longest(
        *([ClipWindow(start, stride, frames) for start in some] for some, stride in zip(starts, turns))
    )
    chosen = [window for window in chain.from_iterable(rounds) if window][:per_video]
    return sorted(chosen, key=lambda window: (window.last, window))


def _different(room: int, count: int, key: str) -> list[int]:
    """Up to `count` different numbers below `room`, in the order drawn; a larger count keeps the first ones."""
    draw, drawn = random.Random(key), dict.fromkeys(range(0))
    while len(drawn) < min(count, room):
        # Few remain: take them in order, which terminates.
        if 2 * len(drawn) >= room:
            left = [number for number in range(room) if number not in drawn]
            return [*drawn, *draw.sample(left, len(left))][:count]
        drawn.setdefault(draw.randrange(room))
    return list(drawn)


def decode_windows(
    source: VideoFile, windows: Sequence[ClipWindow], height: int, width: int, mode: str, resample: str
) -> Iterator[tuple[ClipWindow, NDArray[np.uint8]]]:
    """Cut windows out of a video in one pass, for any number and overlap of windows.

    Args:
        source: result of `measure`.
        windows: windows to cut.
        height, width, mode, resample: frame settings as in `fitting.fit`. Frame 0 of a window is fitted like a photo,
            the others in the same way: one rectangle and one colour of bars for the whole clip.

    Yields:
        Each window as soon as it is complete, and its frames, uint8 (f, height, width, 3).

    Raises:
        FashionFlowError: the file is damaged, or ends before a window does; complete windows have been yielded by then.
    """
    wanted: dict[int, list[tuple[ClipWindow, int]]] = {}
    for window in sorted(windows, key=lambda window: (window.last, window)):
        for number in range(window.frames):
            place = window.start + window.stride * number
            decoded = place if source.order is None else source.order[place]
            wanted.setdefault(decoded, []).append((window, number))
    cut: dict[ClipWindow, tuple[Fitted, NDArray[np.uint8]]] = {}
    last = max(wanted, default=-1)
    for index, frame in enumerate(video.iter_frames(source.path, limit=last + 1)):
        if index not in wanted:
            continue
        frame = _upright(frame, source)
        for window, number in wanted.pop(index):
            if number == 0:
                first = fit(frame, height, width, mode, resample)
                cut[window] = first, np.empty((window.frames, height, width, 3), np.uint8)
            fitted, frames = cut[window]
            frames[number] = fit_alike(frame, fitted, resample)
            if number == window.frames - 1:
                del cut[window]
                yield window, frames
    if wanted:
        raise _too_short(source, min(wanted))


def steady_frames(source: VideoFile) -> Iterator[NDArray[np.uint8]]:
    """All frames of a video in order, uint8 (height, width, 3), upright and at a constant rate.

    Raises:
        FashionFlowError: the file is damaged, or ends before its last frame.
    """
    order = source.order or range(source.frames)
    place = 0
    for index, frame in enumerate(video.iter_frames(source.path, limit=order[-1] + 1)):
        while place < len(order) and order[place] == index:
            yield _upright(frame, source)
            place += 1
    if place < len(order):
        raise _too_short(source, order[place])


def _too_short(source: VideoFile, missing: int) -> FashionFlowError:
    return FashionFlowError(
        f"{source.path}: ends before frame {missing} of {source.frames}",
        hint="create or download the video again",
    )


def _upright(frame: NDArray[np.uint8], source: VideoFile) -> NDArray[np.uint8]:
    """A frame resampled to square pixels."""
    if frame.shape[:2] == (source.height, source.width):
        return frame
    return np.array(Image.fromarray(frame).resize((source.width, source.height), Image.Resampling.BICUBIC))
