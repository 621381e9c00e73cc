"""Video reading with colour tags applied."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fashionflow_core.errors import FashionFlowError, reason_of
from fashionflow_core.video import animated, boxes
from fashionflow_core.video.encoders import BT709, FULL, LIMITED
from fashionflow_core.video.formats import CONTAINERS, VideoInfo
from fashionflow_core.video.marking import WEBM_TAG

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

# H.273 matrix → swscale's constant; untagged and unknown streams are BT.601, as FFmpeg assumes.
_SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_SWS_BT601 = 5
# SWS_BICUBIC | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND | SWS_BITEXACT: the defaults shift flat colours by up to 3/255.
CONVERSION = {"dst_colorspace": BT709, "interpolation": 0x4 | 0x2000 | 0x40000 | 0x80000, "threads": 1}
# H.273: transfer characteristics of HDR; matrices of BT.2020; transfers that are SDR.
_HDR = {16: "PQ", 18: "HLG"}
_BT2020 = (9, 10)
_SDR_TRANSFERS = (1, 4, 5, 6, 7, 11, 13, 14, 15)
# Keys that muxers write themselves.
CONTAINER_KEYS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", WEBM_TAG})
# Key under which WebM stores all metadata as one text.
JSON_KEY = "comment"


@dataclass(frozen=True)
class Found:
    """Properties of a decoded file. `tags`: range, matrix, primaries and transfer; `ticks`: of GIF and WebP."""

    frames: int
    height: int
    width: int
    rate: Fraction
    codec: str
    tags: tuple[int, int, int, int] = (0, 0, 0, 0)
    ticks: list[int] = field(default_factory=list)


def iter_frames(path: str | Path, limit: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """Decode frame by frame: uint8 (h, w, 3), RGB 0 to 255, converted by the colour tags of the file.

    Frames are rotated and mirrored by the display matrix, as in players. Files without tags are read as BT.601, limited
    range, as by FFmpeg. GIF and WebP give each frame once, whatever its duration, with transparent areas on white.

    Args:
        path: any video that FFmpeg decodes, or an animated GIF or WebP; its first video stream is read.
        limit: maximum number of frames.

    Raises:
        FashionFlowError: no such file, not a video, damaged or cut off, HDR, or rotated by a part of a right
            angle.
    """
    path = Path(path)
    if form := _animated(path):
        yield from (frame for frame, _ in islice(animated.frames(path, form), limit))
        return

    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    with _opened(path) as (container, stream):
        turn: _Orientation | None = None
        for frame in islice(_decode(container, stream, path), limit):
            turn = turn or _Orientation.of(frame, path)
            yield turn.apply(_to_rgb(frame, stream, reformatter))


def read(path: str | Path, limit: int | None = None) -> NDArray[np.uint8]:
    """Decode a whole video, or its first `limit` (at least 1) frames, to uint8 (f, h, w, 3).

    Raises:
        FashionFlowError: as `iter_frames`; also without frames.
    """
    if limit is not None and limit < 1:
        raise FashionFlowError(f"limit: must be at least 1, not {limit}", hint="leave it out to read all frames")
    frames = list(iter_frames(path, limit))
    if not frames:
        hint = "make or download the video again"
        raise FashionFlowError(f"{path}: contains no frames: empty, or cut off", hint=hint)
    return np.stack(frames)


def probe(path: str | Path) -> VideoInfo:
    """Size, rate, codec and number of frames, which are counted only if the header does not state it.

    The rate of a GIF or WebP is its number of frames by its duration; 0 for a still WebP.

    Raises:
        FashionFlowError: as `iter_frames`.
    """
    path = Path(path)
    found = inspect(path, count=False)
    return VideoInfo(path, found.frames, found.width, found.height, float(found.rate), found.codec)


def read_metadata(path: str | Path) -> dict[str, str]:
    """Text by key stored in the file, without keys of the container (brands, encoder).

    Raises:
        FashionFlowError: as `iter_frames`.
    """
    path = Path(path)
    if form := _animated(path):
        return animated.text(path, form)
    with _opened(path) as (container, _):
        found = {key: value for key, value in container.metadata.items() if key.lower() not in CONTAINER_KEYS}
        if "matroska" not in container.format.name:
            return found
    # Matroska writes keys in capitals.
    found = {key.lower(): value for key, value in found.items()}
    return found | animated.unpack(found.pop(JSON_KEY, ""), JSON_KEY)


def container_tags(path: Path) -> dict[str, str]:
    """All text by key in a video file, keys in lower case.

    Raises:
        FashionFlowError: as `iter_frames`.
    """
    with _opened(path) as (container, _):
        return {key.lower(): value for key, value in container.metadata.items()}


def pixel_format(path: Path) -> str:
    """FFmpeg's name of a video's pixel format, such as yuv420p.

    Raises:
        FashionFlowError: as `iter_frames`.
    """
    with _opened(path) as (_, stream):
        return stream.codec_context.pix_fmt or "unknown"


def has_open_groups(path: Path) -> bool:
    """Whether an H.264 or HEVC video has open groups of pictures; False for other codecs.

    Keyframes of closed groups are instantaneous decoder refreshes: NAL unit type 5 (H.264, table 7-1), 19 or 20
    (HEVC, table 7-1).

    Raises:
        FashionFlowError: as `iter_frames`.
    """
    with _opened(path) as (container, stream):
        codec = stream.codec_context.codec.canonical_name
        if codec not in ("h264", "hevc"):
            return False
        extra = stream.codec_context.extradata or b""
        # Units have length prefixes (avcC and hvcC start with 1), or start codes as in transport streams.
        lengths = extra[:1] == b"\x01"
        for packet in container.demux(stream):
            if packet.is_keyframe and packet.size and not _refreshes(bytes(packet), codec, lengths):
                return True
    return False


def _refreshes(data: bytes, codec: str, lengths: bool) -> bool:
    units = _units(data) if lengths else (unit for unit in re.split(b"\0\0\1", data) if unit)
    types = {unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63 for unit in units if unit}
    return bool(types & ({5} if codec == "h264" else {19, 20}))


def _units(data: bytes) -> Iterator[bytes]:
    """First byte of each NAL unit of a packet with length prefixes of four bytes."""
    at = 0
    while at + 4 < len(data):
        yield data[at + 4 : at + 5]
        at += 4 + int.from_bytes(data[at : at + 4], "big")


def inspect(path: Path, count: bool = True) -> Found:
    """Properties of a file; `count`: decode and count frames even if the header states their number.

    Raises:
        FashionFlowError: as `iter_frames`.
    """
    if form := _animated(path):
        return _inspect_animated(path, form)
    with _opened(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate or Fraction(0)
        codec = stream.codec_context.codec.canonical_name
        tags = (stream.color_range, stream.colorspace, stream.color_primaries, stream.color_trc)
        decoded = _decode(container, stream, path)
        first = next(decoded, None)
        height, width = stream.height, stream.width
        if first is not None and _Orientation.of(first, path).transposes:
            height, width = width, height
        frames = 0 if count else _numbered(container, stream)
        frames = frames or (0 if first is None else 1) + sum(1 for _ in decoded)
        return Found(frames, height, width, rate, codec, tags)


def _numbered(container: "InputContainer", stream: "VideoStream") -> int:
    """Number of frames in the header; 0 if it is missing, or may differ from the frames shown."""
    rate = stream.average_rate
    if not stream.frames or stream.duration is None or stream.time_base is None or not rate:
        return 0
    if container.format.name == "avi":  # its headers may be off by one
        return 0
    # An edit list (of a video trimmed without encoding) shows fewer frames than are stored.
    return stream.frames if round(stream.duration * stream.time_base * rate) == stream.frames else 0


@dataclass(frozen=True)
class _Orientation:
    """Rotation and mirroring of decoded frames: the display matrix in units of its axes.

    Attributes:
        matrix: (a, b, c, d): a stored pixel (x, y) is shown at (a x + c y, b x + d y), each 1, 0 or -1.
    """

    matrix: tuple[int, int, int, int] = (1, 0, 0, 1)

    @classmethod
    def of(cls, frame: "VideoFrame", path: Path) -> "_Orientation":
        """The orientation of a stream, from its first frame.

        Raises:
            FashionFlowError: rotated by a part of a right angle.
        """
        try:
            data = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV lacks names of newer kinds of side data, such as EXIF
            turned = -math.radians(frame.rotation)
            a, b, c, d = math.cos(turned), math.sin(turned), -math.sin(turned), math.cos(turned)
        else:
            if data is None:
                return cls()
            # Three rows of 16.16 fixed point, the last column 2.30 (ISO 14496-12, 8.2.2.3).
            a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
        unit = max(abs(a), abs(b), abs(c), abs(d), 1)
        found = tuple(round(value / unit) for value in (a, b, c, d))
        if max(abs(value / unit - part) for value, part in zip((a, b, c, d), found)) > 0.01 or sorted(
            map(abs, found)
        ) != [0, 0, 1, 1]:
            raise FashionFlowError(
                f"{path}: rotated by a part of a right angle (its display matrix)", hint="rotate it upright first"
            )
        return cls((found[0], found[1], found[2], found[3]))

    @property
    def transposes(self) -> bool:
        """Whether height and width are swapped."""
        return self.matrix[0] == 0

    def apply(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A frame (h, w, 3) as it is shown."""
        a, b, c, d = self.matrix
        across, down = (c, b) if self.transposes else (a, d)
        frame = frame.swapaxes(0, 1) if self.transposes else frame
        return np.ascontiguousarray(frame[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])


def _inspect_animated(path: Path, form: str) -> Found:
    tick = CONTAINERS[f".{form}"].tick
    assert tick is not None
    durations, height, width = [], 0, 0
    for frame, milliseconds in animated.frames(path, form):
        durations.append(round(milliseconds / (tick * 1000)))
        height, width, _ = frame.shape
    total = sum(durations)
    rate = len(durations) / (total * tick) if total else Fraction(0)
    if form == "webp" and total:
        # Times are rounded to ticks: use the fraction with the least denominator that gives them.
        plain = (Fraction(round(rate * below), below) for below in range(1, 1002))
        rate = next((p for p in plain if p and abs(len(durations) / (p * tick) - total) <= Fraction(1, 2)), rate)
    return Found(len(durations), height, width, rate, form, ticks=list(accumulate(durations, initial=0)))


def _to_rgb(frame: "VideoFrame", stream: "VideoStream", reformatter: "VideoReformatter") -> NDArray[np.uint8]:
    # The deprecated yuvj formats imply full range.
    full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
    ranges = {"src_color_range": FULL if full else LIMITED, "dst_color_range": FULL}
    matrix = _SWS_MATRIX.get(int(frame.colorspace), _SWS_BT601)
    # A stream may change its size; players keep the first one.
    size = {"width": stream.width, "height": stream.height}
    converted = reformatter.reformat(frame, **size, format="rgb24", src_colorspace=matrix, **ranges, **CONVERSION)
    return np.asarray(converted.to_ndarray(), dtype=np.uint8)


def _animated(path: Path) -> str | None:
    """gif or webp; None for files that FFmpeg reads.

    Raises:
        FashionFlowError: no such file, a folder, not readable, or empty.
    """
    if path.is_dir():
        raise FashionFlowError(f"{path}: is a folder, not a video", hint="name a video file inside it")
    try:
        if path.stat().st_size == 0:
            raise FashionFlowError(f"{path}: is empty (0 bytes)", hint="make or download the video again")
        return animated.kind(path)
    except FileNotFoundError:
        raise FashionFlowError(f"{path}: no such file", hint="check the spelling of the path") from None
    except PermissionError:
        raise FashionFlowError(f"{path}: permission denied", hint=f"check its permissions: ls -l {path}") from None
    except OSError as error:
        raise FashionFlowError(
            f"{path}: not a video, or damaged ({reason_of(error)})", hint="make or download the video again"
        ) from None


@contextmanager
def _opened(path: Path) -> "Iterator[tuple[InputContainer, VideoStream]]":
    import av
    from av.error import FFmpegError
    from av.stream import Disposition

    try:
        # Local files only: a playlist named .mp4 must not use the network. Old files have text in other encodings.
        options = {"protocol_whitelist": "file"}
        container = av.open(str(path.absolute()), options=options, metadata_errors="replace")
    except (FFmpegError, OSError) as error:
        raise FashionFlowError(
            f"{path}: not a video, or damaged ({reason_of(error)})", hint="make or download the video again"
        ) from None
    with container:
        # Covers of sound files are video streams of one picture.
        streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
        if not streams:
            raise FashionFlowError(f"{path}: contains no video stream", hint="name a video file")
        stream = streams[0]
        if stream.codec_context is None:
            raise FashionFlowError(f"{path}: unknown codec, or damaged", hint="make or download the video again")
        _check_sdr(stream, path)
        # FFmpeg reads a truncated file as a shorter video, without an error.
        if any(entry.pos + entry.size > container.size for entry in stream.index_entries) or _ends_early(path):
            raise FashionFlowError(f"{path}: is cut off", hint="make or download the video again")
        yield container, stream


def _check_sdr(stream: "VideoStream", path: Path) -> None:
    """Refuse HDR, which would look pale and dark as SDR.

    Raises:
        FashionFlowError: PQ or HLG, or BT.2020 colours of unknown transfer.
    """
    # A stream that FFmpeg cannot identify lacks these.
    transfer, matrix = int(getattr(stream, "color_trc", 2)), int(getattr(stream, "colorspace", 2))
    name = _HDR.get(transfer)
    if name is None and matrix in _BT2020 and transfer not in _SDR_TRANSFERS:
        name = "BT.2020 colours of unknown transfer"
    if name is not None:
        raise FashionFlowError(
            f"{path}: HDR video ({name})",
            hint="convert it to SDR: ffmpeg -i IN -vf zscale=t=linear:npl=203,tonemap=mobius,"
            "zscale=p=bt709:t=bt709:m=bt709:r=tv,format=yuv420p OUT.mp4",
        )


def _ends_early(path: Path) -> bool:
    """Whether a file is shorter than its boxes (MP4) or its segment (Matroska, RFC 8794, 4 to 6) state."""
    if boxes.is_mp4(path):
        return boxes.is_cut_off(path)
    with path.open("rb") as file:
        if file.read(4) != b"\x1a\x45\xdf\xa3":
            return False
        header = _ebml_size(file.read(8))
        if header is None:
            return False
        start = 4 + header[1] + header[0]
        file.seek(start)
        head = file.read(12)
    segment = _ebml_size(head[4:])
    if head[:4] != b"\x18\x53\x80\x67" or segment is None:
        return False
    return start + 4 + sum(segment) > path.stat().st_size


def _ebml_size(data: bytes) -> tuple[int, int] | None:
    """An EBML size and its length in bytes; None if unknown, as in streams, or invalid."""
    if not data or not data[0]:
        return None
    length = 9 - data[0].bit_length()
    value = int.from_bytes(data[:length], "big") & ((1 << 7 * length) - 1)
    unknown = value == (1 << 7 * length) - 1
    return None if unknown or len(data) < length else (value, length)


def _decode(container: "InputContainer", stream: "VideoStream", path: Path) -> "Iterator[VideoFrame]":
    decoded = container.decode(stream)
    while True:
        with explained(path, "is damaged"):
            frame = next(decoded, None)
        if frame is None:
            return
        yield frame


@contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Convert errors of FFmpeg and of the disk into one line that names the file."""
    from av.error import FFmpegError

    try:
        yield
    except (FFmpegError, OSError) as error:
        raise FashionFlowError(f"{path}: {what} ({reason_of(error)})", hint="check the file and the disk") from None
