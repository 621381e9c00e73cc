"""FFmpeg encoders and their options."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from fashionflow_core.errors import FashionFlowWarning, option
from fashionflow_core.video.formats import CODEC_TABLE, EncodePlan

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

# What encoders write depends on their number of threads: a fixed one gives the same bytes on machines of any size.
THREADS = 4
_VECTOR = 128  # pixels: eight macroblocks, which AVX-512 takes at once
# ITU-T H.273 code points: BT.709 is 1 as matrix, as primaries and as transfer. FFmpeg's range: 1 limited, 2 full.
BT709 = 1
LIMITED, FULL = 1, 2


@dataclass(frozen=True)
class EncoderCheck:
    """Whether an encoder really encodes here; `reason` says why it does not, and is empty where it does."""

    codec: str
    encoder: str
    hardware: bool
    works: bool
    reason: str


def working_encoders() -> list[EncoderCheck]:
    """Encode a few small frames with every encoder known to `write`; software first, in the order of `CODEC_TABLE`."""
    checks = []
    for codec, kind in CODEC_TABLE.items():
        for encoder in (kind.software, *kind.hardware):
            reason = why_not(encoder, 256, 256, kind.crf[0] if kind.crf else None)
            checks.append(EncoderCheck(codec, encoder, encoder != kind.software, not reason, reason))
    return sorted(checks, key=lambda check: check.hardware)


def why_not(encoder: str, height: int, width: int, crf: int | None) -> str:
    """Why an encoder does not encode frames of this size here, in a few words; empty if it does.

    Tried, not asked: FFmpeg lists every encoder that it was built with, whatever the machine has.
    """
    from av import CodecContext, VideoFrame
    from av.error import FFmpegError
    from av.video.codeccontext import VideoCodecContext

    with _logged():
        try:
            context = CodecContext.create(encoder, "w")
            assert isinstance(context, VideoCodecContext)
            _configure(context, encoder, height, width, Fraction(25), crf, count=3)
            packets = []
            for pts in range(3):
                frame = VideoFrame(width, height, context.pix_fmt or "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes([100 + pts]) * plane.buffer_size)
                frame.pts, frame.time_base = pts, Fraction(1, 25)
                packets += context.encode(frame)
            packets += context.encode(None)
            return "" if any(packet.size for packet in packets) else "it gives nothing"
        except FFmpegError as error:
            return _what_was_said(error)
        except (ValueError, LookupError) as error:
            # UnknownCodecError: the encoders of other systems are not in this system's build of FFmpeg.
            return "not in this build of FFmpeg" if "Unknown" in type(error).__name__ else str(error)


def choose(plan: EncodePlan, path: Path, height: int, width: int) -> str:
    """The first of the plan's encoders that works for frames of this size; software is taken without a trial.

    Warns (`FashionFlowWarning`) where hardware was asked for and software is taken.
    """
    reasons = []
    for encoder in plan.encoders[:-1]:
        reason = why_not(encoder, height, width, plan.crf)
        if not reason:
            return encoder
        reasons.append(f"{encoder}: {reason}")
    software = plan.encoders[-1]
    if plan.asked is not None:
        why = f"{path}: {option('encoder', plan.asked)} does not work here ({'; '.join(reasons)})"
        warnings.warn(f"{why}; encoded with {software} instead", FashionFlowWarning, stacklevel=4)
    return software


def add_stream(
    container: "OutputContainer", encoder: str, height: int, width: int, rate: Fraction, plan: EncodePlan, count: int
) -> "VideoStream":
    """A stream of the file for `count` frames, its encoder set up and its colours tagged."""
    from av.video.stream import VideoStream

    if encoder == "libsvtav1":
        # It prints its settings to stderr unless told otherwise, and listens to the environment alone. 1: errors.
        os.environ.setdefault("SVT_LOG", "1")
    stream = container.add_stream(encoder, rate=rate)
    assert isinstance(stream, VideoStream)
    _configure(stream.codec_context, encoder, height, width, rate, plan.crf, count, plan.closed)
    if plan.container.tick is not None:
        stream.codec_context.time_base = plan.container.tick
    if plan.codec == "hevc":
        # Apple's players take HEVC in MP4 only under this name, which keeps parameter sets out of the stream.
        stream.codec_context.codec_tag = "hvc1"
    return stream


def _configure(
    context: "VideoCodecContext",
    encoder: str,
    height: int,
    width: int,
    rate: Fraction,
    crf: int | None,
    count: int,
    closed: bool = False,
) -> None:
    context.height, context.width = height, width
    context.pix_fmt = {"gif": "pal8", "libwebp": "bgra"}.get(encoder, "yuv420p")
    context.framerate, context.time_base = rate, 1 / rate
    context.options = _options(encoder, crf, width, count, closed)
    if encoder.startswith("lib") and encoder != "libwebp":
        # Frame threads: PyAV's default, slices, costs compression.
        context.thread_type, context.thread_count = "FRAME", THREADS
    if context.pix_fmt == "yuv420p":
        context.color_range = LIMITED
        context.colorspace = context.color_primaries = context.color_trc = BT709


def _options(encoder: str, crf: int | None, width: int, count: int, closed: bool) -> dict[str, str]:
    """Settings for constant quality; for hardware the nearest thing to a rate factor that it has."""
    rate = str(crf)
    match encoder.removeprefix("lib").split("_")[-1]:
        case "x264":
            options = {"crf": rate, "preset": "medium"}
            if width % _VECTOR:
                # Then mbtree's AVX-512 code reads past the row: other bytes at each run, even on one thread. Without
                # mbtree files are about a third larger, and half a decibel closer to the source.
                options["x264-params"] = "mbtree=0"
            return options
        case "x265":
            # info: the processor's features would go into the file. cutree: the same as mbtree, and here it writes past
            # its buffers (valgrind; Python crashes at 40x24); at these rates it buys nothing.
            params = f"log-level=none:info=0:cutree=0:pools={THREADS}:frame-threads=2"
            if count <= 2:
                # x265 learns how long frames last from the third one, and until then gives times at random.
                params += ":bframes=0"
            if closed:
                params += ":open-gop=0"
            return {"crf": rate, "preset": "medium", "x265-params": params}
        case "svtav1":
            return {"crf": rate, "preset": "6", "svtav1-params": f"lp={THREADS}"}
        case "vpx-vp9":
            speed = {"deadline": "good", "cpu-used": "2", "row-mt": "1", "tile-columns": "1"}
            return {"crf": rate, "b:v": "0", **speed}
        case "webp":
            return {"quality": "85", "compression_level": "4"}
        case "nvenc":
            return {"rc": "vbr", "cq": rate, "b:v": "0", "preset": "p5"}
        case "videotoolbox":  # quality from 1 to 100, times FF_QP2LAMBDA
            return {"global_quality": str(118 * max(1, 100 - 2 * int(rate))), "flags": "+qscale"}
    return {}


@contextmanager
def _logged() -> Iterator[None]:
    """Let FFmpeg's errors carry what its encoders said, and keep that off the terminal."""
    import av.logging

    level = av.logging.get_level()
    os.environ.setdefault("SVT_LOG", "1")
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture():
            yield
    finally:
        av.logging.set_level(level)


def _what_was_said(error: Exception) -> str:
    log = getattr(error, "log", None)
    said = log[-1] if log else getattr(error, "strerror", None) or str(error)
    return " ".join(said.split()).rstrip(".:")
