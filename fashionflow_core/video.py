"""Videos out and in: H.264 in MP4 whose colours survive, whose frames are counted, and that is never half-written.

Colours: an untagged RGB to yuv420p conversion is BT.601, and players that take it for BT.709 shift colours by up to
16/255. Pixels are therefore converted to BT.709 limited range, and the file says so in all four tags.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.files import atomic_path, check_target

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

# ITU-T H.273 code points: BT.709 is 1 as matrix, as primaries and as transfer. FFmpeg's range: 1 limited, 2 full.
_BT709 = 1
_LIMITED, _FULL = 1, 2
# H.273 matrix -> swscale's own constant; untagged and unknown streams get FFmpeg's assumption, BT.601.
_SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_SWS_BT601 = 5
# SWS_BICUBIC | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND | SWS_BITEXACT: the defaults shift flat colours by up to 3/255.
_CONVERSION = {"dst_colorspace": _BT709, "interpolation": 0x4 | 0x2000 | 0x40000 | 0x80000, "threads": 1}
# x264's output depends on its number of threads: a fixed one gives the same bytes on machines of any size.
_THREADS = 4
MAX_FPS = 1000
# What the MP4 muxer writes by itself: never metadata of ours.
_CONTAINER_KEYS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds: number of frames, size in pixels, frames per second."""

    path: Path
    frames: int
    width: int
    height: int
    fps: float


def write(
    frames: Iterable[NDArray[np.uint8]],
    path: str | Path,
    fps: float,
    count: int,
    metadata: Mapping[str, str] | None = None,
    crf: int = 18,
) -> VideoInfo:
    """Encode frames as they come; the file is put in place only once it was reopened and found whole.

    Frames are never held together in memory. The same frames and metadata give the same bytes.

    Args:
        frames: `count` arrays uint8 (h, w, 3), RGB 0 to 255, all of one size with even sides.
        path: the target, ending in .mp4; an existing file is replaced at the very end.
        fps: frames per second, above 0; stored as the nearest fraction with a denominator up to 1001, so that
            29.97 and 30000/1001 are both exact.
        count: how many frames must come.
        metadata: text by key, stored in the container; `read_metadata` gives it back.
        crf: x264's constant rate factor, 0 (lossless, which few players show) to 51; 18 looks like the original.

    Raises:
        FashionFlowError: a bad argument, no frames or another number than `count`, an unusable frame, a full disk, or
            a file that does not read back as what went in. Exceptions of the iterator pass through. In every case
            nothing new is left behind and an older file at `path` stays as it was.
    """
    path = check_target(path, overwrite=True)
    metadata = dict(metadata or {})
    rate = _check_arguments(path, fps, count, metadata, crf)
    with atomic_path(path) as temporary:
        height, width = _encode(frames, temporary, path, rate, count, metadata, crf)
        _verify(temporary, path, rate, (count, height, width), metadata)
    return VideoInfo(path, count, width, height, float(rate))


def iter_frames(path: str | Path, limit: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """Decode frame by frame: uint8 (h, w, 3), RGB 0 to 255, converted as the file's own colour tags say.

    Files without tags are taken as FFmpeg takes them: BT.601, limited range.

    Args:
        path: any video that FFmpeg decodes; its first video stream is read.
        limit: stop after so many frames.

    Raises:
        FashionFlowError: no such file, not a video, damaged or cut off.
    """
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    with _opened(path) as (container, stream):
        for frame in islice(_decode(container, stream, path), limit):
            yield _to_rgb(frame, stream, reformatter)


def read(path: str | Path, limit: int | None = None) -> NDArray[np.uint8]:
    """Decode a whole video, or its first `limit` (at least 1) frames, to uint8 (f, h, w, 3).

    Raises:
        FashionFlowError: as `iter_frames`; also when there are no frames.
    """
    if limit is not None and limit < 1:
        raise FashionFlowError(f"limit: must be at least 1, not {limit}")
    frames = list(iter_frames(path, limit))
    if not frames:
        hint = "make or download the video again"
        raise FashionFlowError(f"{path}: holds no frames: it is empty, or cut off", hint=hint)
    return np.stack(frames)


def probe(path: str | Path) -> VideoInfo:
    """Size, rate and number of frames; frames are decoded and counted only where the header does not number them.

    Raises:
        FashionFlowError: as `iter_frames`.
    """
    with _opened(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate or Fraction(0)
        size = (stream.width, stream.height)
        count = stream.frames or sum(1 for _ in _decode(container, stream, path))
    return VideoInfo(Path(path), count, *size, float(rate))


def read_metadata(path: str | Path) -> dict[str, str]:
    """The text by key stored in the container, without what the container writes about itself (brands, encoder).

    Raises:
        FashionFlowError: as `iter_frames`.
    """
    with _opened(path) as (container, _):
        return {key: value for key, value in container.metadata.items() if key not in _CONTAINER_KEYS}


def _check_arguments(path: Path, fps: float, count: int, metadata: Mapping[str, str], crf: int) -> Fraction:
    """Refuse before the first frame is asked for, since frames are costly; returns the exact rate."""
    if path.suffix.lower() != ".mp4":
        raise FashionFlowError(f"{path}: only MP4 videos are written", hint="give it a name that ends in .mp4")
    if not math.isfinite(fps) or not 0 < fps <= MAX_FPS or not Fraction(fps).limit_denominator(1001):
        raise FashionFlowError(f"{path}: fps must be above 0 and at most {MAX_FPS}, not {fps}")
    if count < 1:
        raise FashionFlowError(f"{path}: a video needs at least 1 frame, not {count}")
    if not 0 <= crf <= 51:
        raise FashionFlowError(f"{path}: crf must be from 0 to 51, not {crf}")
    for key, value in metadata.items():
        if not key or key.lower() in _CONTAINER_KEYS or not _is_text(key) or not _is_text(value):
            raise FashionFlowError(f"{path}: metadata {key!r} cannot be stored in an MP4 file: {value!r}")
    return Fraction(fps).limit_denominator(1001)


def _is_text(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except (AttributeError, UnicodeEncodeError):
        return False


def _encode(
    frames: Iterable[NDArray[np.uint8]],
    temporary: Path,
    path: Path,
    rate: Fraction,
    count: int,
    metadata: Mapping[str, str],
    crf: int,
) -> tuple[int, int]:
    """Stream `frames` into `temporary`, speaking of `path` in errors; returns (height, width)."""
    from av.video.reformatter import VideoReformatter

    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise FashionFlowError(f"{path}: no frames came, {count} were announced")
    shape = np.shape(first)
    _check_frame(first, shape, f"{path}: frame 0")
    with _explained(path, "could not be written"):
        container, stream = _create(temporary, shape, rate, metadata, crf)
    reformatter = VideoReformatter()
    written = 0
    try:
        for frame in chain([first], iterator):
            if written == count:
                raise FashionFlowError(f"{path}: more frames came than the {count} announced")
            _check_frame(frame, shape, f"{path}: frame {written}")
            with _explained(path, "could not be written"):
                picture = _to_yuv(frame, reformatter)
                picture.pts, picture.time_base = written, 1 / rate
                container.mux(stream.encode(picture))
            written += 1
        if written < count:
            raise FashionFlowError(f"{path}: only {written} frames came of the {count} announced")
        with _explained(path, "could not be written"):
            container.mux(stream.encode())
    except BaseException:
        # Closing writes the trailer, which may fail in turn (full disk) and must not hide what went wrong first.
        with suppress(Exception):
            container.close()
        raise
    with _explained(path, "could not be written"):
        container.close()
    return shape[0], shape[1]


def _check_frame(frame: NDArray[np.uint8], shape: tuple[int, ...], name: str) -> None:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        kind = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise FashionFlowError(f"{name} must be uint8 (h, w, 3), not {kind}")
    height, width, _ = frame.shape
    if height % 2 or width % 2 or 0 in frame.shape:
        raise FashionFlowError(
            f"{name} is {height}x{width}: yuv420p needs even sides", hint="crop or pad it by a pixel"
        )
    if frame.shape != shape:
        raise FashionFlowError(f"{name} is {height}x{width}, unlike frame 0: {shape[0]}x{shape[1]}")


def _create(
    temporary: Path, shape: tuple[int, ...], rate: Fraction, metadata: Mapping[str, str], crf: int
) -> "tuple[OutputContainer, VideoStream]":
    import av

    # An absolute path, since FFmpeg takes "12:30.mp4" for a protocol. Without use_metadata_tags MP4 drops unknown keys.
    options = {"movflags": "+faststart+use_metadata_tags"}
    container = av.open(str(temporary.absolute()), "w", format="mp4", options=options)
    container.metadata.update(metadata)
    stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "medium"})
    stream.height, stream.width, stream.pix_fmt = *shape[:2], "yuv420p"
    # Frame threads: PyAV's default, slices, costs compression.
    stream.thread_type, stream.thread_count = "FRAME", _THREADS
    stream.color_range = _LIMITED
    stream.colorspace = stream.color_primaries = stream.color_trc = _BT709
    return container, stream


def _to_yuv(frame: NDArray[np.uint8], reformatter: "VideoReformatter") -> "VideoFrame":
    from av.video.frame import VideoFrame

    picture = VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    ranges = {"src_color_range": _FULL, "dst_color_range": _LIMITED}
    return reformatter.reformat(picture, format="yuv420p", src_colorspace=_BT709, **ranges, **_CONVERSION)


def _to_rgb(frame: "VideoFrame", stream: "VideoStream", reformatter: "VideoReformatter") -> NDArray[np.uint8]:
    # The deprecated yuvj formats mean full range by their name.
    full = frame.color_range == _FULL or frame.format.name.startswith("yuvj")
    ranges = {"src_color_range": _FULL if full else _LIMITED, "dst_color_range": _FULL}
    matrix = _SWS_MATRIX.get(int(frame.colorspace), _SWS_BT601)
    # A stream may change its size midway; players keep the first.
    size = {"width": stream.width, "height": stream.height}
    converted = reformatter.reformat(frame, **size, format="rgb24", src_colorspace=matrix, **ranges, **_CONVERSION)
    return np.asarray(converted.to_ndarray(), dtype=np.uint8)


def _verify(
    temporary: Path, path: Path, rate: Fraction, expected: tuple[int, int, int], metadata: Mapping[str, str]
) -> None:
    """Reopen what was written and decode it all: frames, size, rate, colour tags and metadata must be what went in."""
    try:
        with _opened(temporary) as (container, stream):
            found = (sum(1 for _ in _decode(container, stream, temporary)), stream.height, stream.width)
            tags = (stream.color_range, stream.colorspace, stream.color_primaries, stream.color_trc)
            stored = {key: container.metadata.get(key) for key in metadata}
            checks = {
                "frames, height, width": (found, expected),
                "fps": (stream.average_rate, rate),
                "colour tags": (tags, (_LIMITED, _BT709, _BT709, _BT709)),
                "metadata": (stored, metadata),
            }
    except FashionFlowError as error:
        reason = error.message.removeprefix(f"{temporary}: ")
        raise FashionFlowError(f"{path}: what was written {reason}", hint="check the disk, then try again") from None
    for name, (is_, should) in checks.items():
        if is_ != should:
            raise FashionFlowError(f"{path}: what was written has {name} {is_}, not {should}", hint="try again")


@contextmanager
def _opened(path: str | Path) -> "Iterator[tuple[InputContainer, VideoStream]]":
    import av
    from av.error import FFmpegError

    path = Path(path)
    if path.is_dir():
        raise FashionFlowError(f"{path}: is a folder, not a video", hint="name a video file inside it")
    try:
        if path.stat().st_size == 0:
            raise FashionFlowError(f"{path}: is empty (0 bytes)", hint="make or download the video again")
        # Only local files: a playlist named .mp4 must not reach the network. Old files hold text in other encodings.
        options = {"protocol_whitelist": "file"}
        container = av.open(str(path.absolute()), options=options, metadata_errors="replace")
    except FileNotFoundError:
        raise FashionFlowError(f"{path}: no such file", hint="check the spelling of the path") from None
    except PermissionError:
        raise FashionFlowError(f"{path}: may not be read", hint=f"check its permissions: ls -l {path}") from None
    except (FFmpegError, OSError) as error:
        raise FashionFlowError(f"{path}: is not a video, or damaged ({_reason(error)})") from None
    with container:
        if not container.streams.video:
            raise FashionFlowError(f"{path}: holds no video stream", hint="name a video file")
        stream = container.streams.video[0]
        # FFmpeg reads a file that ends early as a shorter video, without an error.
        if any(entry.pos + entry.size > container.size for entry in stream.index_entries):
            raise FashionFlowError(f"{path}: is cut off", hint="make or download the video again")
        yield container, stream


def _decode(container: "InputContainer", stream: "VideoStream", path: str | Path) -> "Iterator[VideoFrame]":
    decoded = container.decode(stream)
    while True:
        with _explained(path, "is damaged"):
            frame = next(decoded, None)
        if frame is None:
            return
        yield frame


@contextmanager
def _explained(path: str | Path, what: str) -> Iterator[None]:
    """Turn the errors of FFmpeg and of the disk into one line that names the file."""
    from av.error import FFmpegError

    try:
        yield
    except (FFmpegError, OSError) as error:
        raise FashionFlowError(f"{path}: {what} ({_reason(error)})", hint="check the file and the disk") from None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
