"""Video writing: streamed, counted, atomic.

Colours: FFmpeg's untagged conversion from RGB to yuv420p is BT.601, and players that assume BT.709 shift colours by up
to 16/255. Pixels are therefore converted to BT.709 limited range, with all four tags.
"""

import json
import warnings
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fashionflow_core.config import EncodeOptions
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, option
from fashionflow_core.utils.files import atomic_path, check_target
from fashionflow_core.utils.priority import give_way
from fashionflow_core.video import animated, encoders, formats, marking, provenance, reading, signing
from fashionflow_core.video.encoders import BT709, FULL, LIMITED
from fashionflow_core.video.formats import EncodePlan, VideoInfo
from fashionflow_core.video.frames import check_frame
from fashionflow_core.video.reading import CONVERSION, explained

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


class TooLarge(FashionFlowError):
    """A file has `size` bytes, more than its limit `most`; it was not put in place."""

    def __init__(self, path: Path, size: int, most: int) -> None:
        hint = f"use a higher {option('crf')}, or make it shorter or smaller"
        super().__init__(f"{path}: would have {size:,} bytes, more than {most:,}", hint=hint)
        self.size, self.most = size, most


@dataclass(frozen=True)
class Encoding:
    """A checked request to encode a file.

    Attributes:
        path: the final file, which errors name.
        rate: frames per second.
        count: number of frames.
        metadata: text by key.
        plan: container, codec and quality.
        mark: mark the file as generated.
    """

    path: Path
    rate: Fraction
    count: int
    metadata: Mapping[str, str]
    plan: EncodePlan
    mark: bool


class _Sink(Protocol):
    """Target of frames; `close` is called once, after `finish` or an error."""

    def add(self, frame: NDArray[np.uint8]) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


def write(
    frames: Iterable[NDArray[np.uint8]],
    path: str | Path,
    fps: float,
    count: int,
    metadata: Mapping[str, str] | None = None,
    options: EncodeOptions = EncodeOptions(),
    **changes: Any,
) -> VideoInfo:
    """Encode frames as they come; the file is put in place after it was reopened and verified.

    Frames are not held together in memory; GIF, whose palette needs all of them, stores them in an unnamed file next to
    `path`, height * width * 3 bytes each. The same frames and metadata give the same bytes on any number of
    processors, hardware encoders excepted.

    By suffix: .mp4 (h264, hevc, av1) and .webm (vp9, av1) in BT.709, limited range, 4:2:0, odd sides made even by
    repeating the last row or column; .gif (one palette of 255 colours for the clip, error diffusion) and .webp (lossy,
    complete frames) in any size, repeated endlessly.

    Args:
        frames: `count` arrays uint8 (h, w, 3), RGB 0 to 255, all of one size.
        path: the target, ending in one of `SUFFIXES`; an existing file is replaced at the end.
        fps: frames per second, above 0; stored as the nearest fraction with a denominator up to 1001, so that
            29.97 and 30000/1001 are both exact. WebP places frames to the nearest millisecond; GIF's frames last whole
            1/100 s, so it gets the nearest rate it has, at most 50.
        count: number of frames.
        metadata: text by key, as `read_metadata` returns it. MP4 stores it key by key; others as JSON in a comment
            (WebM, GIF) or Exif's ImageDescription (WebP).
        options: how to encode; see `EncodeOptions`. The range and default of `crf` are in `CODEC_TABLE`.
        changes: fields of `EncodeOptions` that override those in `options`, such as crf=30.

    Warns:
        FashionFlowWarning: requested hardware does not work, or the container lacks the rate.

    Raises:
        UsageError: as `check_options`.
        TooLarge: more bytes than `max_bytes`.
        FashionFlowError: a bad argument, no frames or another number than `count`, an unusable frame, a full disk, or
            a file that does not read back as written. Exceptions of the iterator pass through. In all cases no
            new file is left and an older file at `path` is unchanged.
    """
    path = Path(path)
    options = replace(options, **changes)
    formats.check_options(path, options)
    plan = formats.plan(path, options.crf, options.codec, options.encoder)
    plan = formats.streamable(plan) if options.streaming else plan
    path = check_target(path, overwrite=True)
    metadata = dict(metadata or {})
    rate = _check_arguments(path, fps, count, metadata, plan)
    wanted = Encoding(path, rate, count, metadata, plan, options.mark)
    with atomic_path(path) as temporary:
        height, width, used = encode(frames, temporary, wanted)
        if options.sign is not None:
            signing.sign(temporary, options.sign, path.name, metadata)
        if options.max_bytes and (size := temporary.stat().st_size) > options.max_bytes:
            raise TooLarge(path, size, options.max_bytes)
        _verify(temporary, wanted, height, width)
    return VideoInfo(path, count, width, height, float(rate), plan.codec, used)


def _check_arguments(path: Path, fps: float, count: int, metadata: Mapping[str, str], plan: EncodePlan) -> Fraction:
    """Check arguments before the first frame, since frames are costly; returns the rate of the file."""
    rate = formats.exact_rate(path, fps, plan.container)
    if count < 1:
        raise FashionFlowError(f"{path}: a video needs at least 1 frame, not {count}", hint="give at least one frame")
    for key, value in metadata.items():
        if not key or key.lower() in reading.CONTAINER_KEYS or not _is_text(key) or not _is_text(value):
            raise FashionFlowError(
                f"{path}: metadata {key!r} cannot be stored in a video file: {value!r}",
                hint="use keys of one word, and text without control characters",
            )
    if abs(rate / Fraction(fps) - 1) > 1e-3:
        warnings.warn(
            f"{path}: {plan.container.name} has no {fps:g} frames per second; it gets {float(rate):.4g}",
            FashionFlowWarning,
            stacklevel=3,
        )
    return rate


def _is_text(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except (AttributeError, UnicodeEncodeError):
        return False


def encode(frames: Iterable[NDArray[np.uint8]], temporary: Path, wanted: Encoding) -> tuple[int, int, str]:
    """Write `frames` into `temporary`; returns stored height and width, and encoder."""
    path, plan, count = wanted.path, wanted.plan, wanted.count
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise FashionFlowError(f"{path}: got no frames, expected {count}", hint="pass the number of frames as count")
    shape = np.shape(first)
    check_frame(first, shape, f"{path}: frame 0")
    height, width = (shape[0], shape[1]) if plan.container.tick else (shape[0] + shape[0] % 2, shape[1] + shape[1] % 2)
    _check_size(path, height, width, plan)
    encoder = encoders.choose(plan, path, height, width)
    with explained(path, "could not be written"):
        sink = open_sink(temporary, (height, width), wanted, encoder)
    written = 0
    try:
        for frame in chain([first], iterator):
            if written == count:
                raise FashionFlowError(
                    f"{path}: got more frames than the expected {count}", hint="pass the number of frames as count"
                )
            check_frame(frame, shape, f"{path}: frame {written}")
            with explained(path, "could not be written"):
                sink.add(frame)
            written += 1
        if written < count:
            raise FashionFlowError(
                f"{path}: got only {written} of {count} frames",
                hint="pass the number of frames as count",
            )
        with explained(path, "could not be written"):
            sink.finish()
    except BaseException:
        # Closing writes the trailer and may fail as well, which must not hide the first error.
        with suppress(Exception):
            sink.close()
        raise
    with explained(path, "could not be written"):
        sink.close()
        text = json.dumps(wanted.metadata) if wanted.metadata else ""
        if plan.codec == "webp":
            animated.describe_webp(temporary, text, wanted.mark)
        elif plan.codec == "gif":
            animated.describe_gif(temporary, text, wanted.mark)
        elif wanted.mark and plan.container.name == "mp4":
            with temporary.open("ab") as file:
                file.write(marking.mp4_box())
    return height, width, encoder


def _check_size(path: Path, height: int, width: int, plan: EncodePlan) -> None:
    least, most = formats.CODEC_TABLE[plan.codec].smallest, formats.MAX_SIDE
    if min(height, width) < least or max(height, width) > most:
        raise FashionFlowError(
            f"{path}: frames are {height}x{width}; {plan.codec} takes sides from {least} to {most} pixels",
            hint=f"make frames of another size, or choose another {option('codec')}",
        )


def open_sink(temporary: Path, size: tuple[int, int], wanted: Encoding, encoder: str) -> _Sink:
    """What encodes frames of `size`, (height, width), into `temporary`, by the codec of the plan."""
    if wanted.plan.codec == "gif":
        return animated.GifSink(temporary, size, wanted.rate, wanted.count, wanted.plan)
    if wanted.plan.codec == "webp":
        return animated.WebpSink(temporary, size, wanted.rate, wanted.count, wanted.plan)
    return _Behind(_StreamSink(*create_stream(temporary, size, wanted, encoder), wanted.rate))


class _Behind:
    """Runs a sink on its own thread while the next frames are made: a GPU decodes, the CPU encodes.

    Errors are raised by a later `add` or by `finish`.
    """

    AHEAD = 8  # frames that may wait

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink
        self._thread = ThreadPoolExecutor(1, "encoding", initializer=give_way)
        self._waiting: deque[Future[None]] = deque()

    def add(self, frame: NDArray[np.uint8]) -> None:
        while len(self._waiting) >= self.AHEAD:
            self._waiting.popleft().result()
        # A copy: the source may reuse the memory for the next frame.
        self._waiting.append(self._thread.submit(self._sink.add, frame.copy()))

    def finish(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()
        self._sink.finish()

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._sink.close()


def create_stream(
    temporary: Path, size: tuple[int, int], wanted: Encoding, encoder: str
) -> "tuple[OutputContainer, VideoStream]":
    """An open container with one video stream and its metadata, before the first frame."""
    import av

    plan, metadata = wanted.plan, wanted.metadata
    # An absolute path, since FFmpeg reads "12:30.mp4" as a protocol.
    container = av.open(str(temporary.absolute()), "w", format=plan.container.name, options=plan.container.options)
    # Matroska writes keys in capitals, so only MP4 preserves them.
    stored = metadata if plan.container.name == "mp4" else {reading.JSON_KEY: json.dumps(metadata)} if metadata else {}
    container.metadata.update(stored)
    if wanted.mark and plan.container.name == "webm":
        container.metadata[marking.WEBM_TAG] = marking.SOURCE_TYPE
    return container, encoders.add_stream(container, encoder, *size, wanted.rate, plan, wanted.count)


class _StreamSink:
    """MP4 and WebM: each frame is converted and encoded immediately."""

    def __init__(self, container: "OutputContainer", stream: "VideoStream", rate: Fraction) -> None:
        from av.video.reformatter import VideoReformatter

        self._container, self._stream, self._rate = container, stream, rate
        self._reformatter = VideoReformatter()
        self._written = 0

    def add(self, frame: NDArray[np.uint8]) -> None:
        picture = self._to_yuv(frame)
        picture.pts, picture.time_base = self._written, 1 / self._rate
        self._container.mux(self._stream.encode(picture))
        self._written += 1

    def finish(self) -> None:
        self._container.mux(self._stream.encode())

    def close(self) -> None:
        self._container.close()

    def _to_yuv(self, frame: NDArray[np.uint8]) -> "VideoFrame":
        from av.video.frame import VideoFrame

        # 4:2:0 has one chroma sample per 2x2 pixels: odd sides repeat their edge.
        height, width, _ = frame.shape
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        ranges = {"src_color_range": FULL, "dst_color_range": LIMITED}
        form = self._stream.pix_fmt
        return self._reformatter.reformat(picture, format=form, src_colorspace=BT709, **ranges, **CONVERSION)


def _verify(temporary: Path, wanted: Encoding, height: int, width: int) -> None:
    """Reopen and decode the whole file: frames, size, rate, colour tags, metadata and mark must match."""
    path, plan, count = wanted.path, wanted.plan, wanted.count
    try:
        found = reading.inspect(temporary)
        stored = reading.read_metadata(temporary)
    except FashionFlowError as error:
        reason = error.message.removeprefix(f"{temporary}: ")
        raise FashionFlowError(f"{path}: the written file {reason}", hint="check the disk, then try again") from None
    checks: dict[str, tuple[object, object]] = {
        "frames, height, width": ((found.frames, found.height, found.width), (count, height, width))
    }
    if plan.container.tick is None:
        checks["fps"] = (found.rate, wanted.rate)
        checks["colour tags"] = (found.tags, (LIMITED, BT709, BT709, BT709))
    else:
        # Frames start at the nearest tick; a single one in WebP is a still picture without times.
        still = plan.codec == "webp" and count == 1
        starts = [] if still else animated.ticks(wanted.rate, count, plan.container)
        checks["times"] = ([] if still else found.ticks, starts)
    checks["metadata"] = (stored, wanted.metadata)
    checks["mark"] = (provenance.source_type(temporary), marking.SOURCE_TYPE if wanted.mark else "")
    for name, (is_, should) in checks.items():
        if is_ != should:
            raise FashionFlowError(f"{path}: the written file has {name} {is_}, not {should}", hint="try again")
