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

# Output depends on the number of threads: a fixed one gives the same bytes on all machines.
THREADS = 4
_VECTOR = 128  # pixels: eight macroblocks, the width of AVX-512
# ITU-T H.273 code points: BT.709 is 1 as matrix, as primaries and as transfer. FFmpeg's range: 1 limited, 2 full.
BT709 = 1
LIMITED, FULL = 1, 2


@dataclass(frozen=True)
class EncoderCheck:
    """Whether an encoder works here; `reason` is why not, empty if it does."""

    codec: str
    encoder: str
    hardware: bool
    works: bool
    reason: str


def working_encoders() -> list[EncoderCheck]:
    """Try all encoders on a few small frames, software first, in the order of `CODEC_TABLE`."""
    checks = []
    for codec, kind in CODEC_TABLE.items():
        for encoder in (kind.software, *kind.hardware):
            reason = why_not(encoder, 256, 256, kind.crf[0] if kind.crf else None)
            checks.append(EncoderCheck(codec, encoder, encoder != kind.software, not reason, reason))
    return sorted(checks, key=lambda check: check.hardware)


def why_not(encoder: str, height: int, width: int, crf: int | None) -> str:
    """Why an encoder fails for frames of this size, in a few words; empty if it works.

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
            return _logged_reason(error)
        except (ValueError, LookupError) as error:
            # UnknownCodecError: this build of FFmpeg lacks encoders of other systems.
            return "not in this build of FFmpeg" if "Unknown" in type(error).__name__ else str(error)


def choose(plan: EncodePlan, path: Path, height: int, width: int) -> str:
    """The first encoder of the plan that works for frames of this size; software is not tried beforehand.

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
    """Add a stream for `count` frames with encoder options and colour tags."""
    from av.video.stream import VideoStream

    if encoder == "libsvtav1":
        # It prints settings to stderr unless this variable limits it. 1: errors.
        os.environ.setdefault("SVT_LOG", "1")
    stream = container.add_stream(encoder, rate=rate)
    assert isinstance(stream, VideoStream)
    _configure(stream.codec_context, encoder, height, width, rate, plan.crf, count, plan.closed)
    if plan.container.tick is not None:
        stream.codec_context.time_base = plan.container.tick
    if plan.codec == "hevc":
        # Apple's players require this tag for HEVC in MP4; parameter sets are then outside the stream.
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
        # Frame threads: slices, PyAV's default, compress worse.
        context.thread_type, context.thread_count = "FRAME", THREADS
    if context.pix_fmt == "yuv420p":
        context.color_range = LIMITED
        context.colorspace = context.color_primaries = context.color_trc = BT709


def _options(encoder: str, crf: int | None, width: int, count: int, closed: bool) -> dict[str, str]:
    """Options for constant quality; for hardware the nearest equivalent of a rate factor."""
    rate = str(crf)
    match encoder.removeprefix("lib").split("_")[-1]:
        case "x264":
            options = {"crf": rate, "preset": "medium"}
            if width % _VECTOR:
                # For such widths mbtree's AVX-512 code reads past the row and output varies between runs. Without
                # mbtree files are about a third larger, and half a decibel closer to the source.
                options["x264-params"] = "mbtree=0"
            return options
        case "x265":
            # info would write the processor's features into the file. cutree, its mbtree, writes past its buffers
            # (valgrind; Python crashes at 40x24) and saves nothing at these rates.
            params = f"log-level=none:info=0:cutree=0:pools={THREADS}:frame-threads=2"
            if count <= 2:
                # x265 derives durations from the third frame on; times before that are undefined.
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
    """Attach the log of encoders to FFmpeg's errors instead of printing it."""
    import av.logging

    level = av.logging.get_level()
    os.environ.setdefault("SVT_LOG", "1")
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture():
            yield
    finally:
        av.logging.set_level(level)


def _logged_reason(error: Exception) -> str:
    log = getattr(error, "log", None)
    said = log[-1] if log else getattr(error, "strerror", None) or str(error)
    return " ".join(said.split()).rstrip(".:")
