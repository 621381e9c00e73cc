"""Animated GIF and WebP."""

import io
import json
import struct
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.video import encoders, marking
from fashionflow_core.video.formats import Container, EncodePlan

if TYPE_CHECKING:
    from av.filter import Graph
    from av.filter.context import FilterContext
    from av.video.frame import VideoFrame
    from PIL.ImageFile import ImageFile

_PALETTE_FRAMES = 128  # at most N evenly spread frames are counted for a GIF's palette: all of clips of a few seconds
_MOST_PIXELS = 50_000_000  # of a frame that is read
_EXIF_DESCRIPTION = 0x010E
_HAS_EXIF, _HAS_XMP = 0x08, 0x04  # flags of the chunk VP8X (WebP Container Specification)


def ticks(rate: Fraction, count: int, container: Container) -> list[int]:
    """Start of each frame and end of the last one, in ticks of the container: `count` + 1 numbers."""
    assert container.tick is not None
    return [round(index / (rate * container.tick)) for index in range(count + 1)]


# Writing


class WebpSink:
    """WebP with complete frames: an encoder of differences would merge equal frames, and saves no bytes."""

    def __init__(self, temporary: Path, size: tuple[int, int], rate: Fraction, count: int, plan: EncodePlan) -> None:
        self._pages = _Pages(temporary, size, rate, count, plan)

    def add(self, frame: NDArray[np.uint8]) -> None:
        from av.video.frame import VideoFrame

        opaque = np.full((*frame.shape[:2], 1), 255, np.uint8)
        # BGRA, not yuv420p: libwebp converts to the BT.601 that WebP is defined in.
        self._pages.add(VideoFrame.from_ndarray(np.concatenate([frame[..., ::-1], opaque], axis=2), format="bgra"))

    def finish(self) -> None:
        self._pages.finish()

    def close(self) -> None:
        self._pages.close()


class GifSink:
    """GIF in two passes, since the palette comes first: frames are stored in an unnamed file."""

    def __init__(self, temporary: Path, size: tuple[int, int], rate: Fraction, count: int, plan: EncodePlan) -> None:
        self._size, self._frames = size, 0
        self._stride = -(-count // _PALETTE_FRAMES)
        self._palette = _PaletteGraph(*size)
        self._waiting = tempfile.TemporaryFile(dir=temporary.absolute().parent)  # noqa: SIM115 (closed by close)
        self._pages = _Pages(temporary, size, rate, count, plan)

    def add(self, frame: NDArray[np.uint8]) -> None:
        pixels = np.ascontiguousarray(frame)
        if self._frames % self._stride == 0:
            self._palette.count(pixels)
        self._waiting.write(pixels.data)
        self._frames += 1

    def finish(self) -> None:
        height, width = self._size
        paint = _PaintGraph(height, width, self._palette.made())
        self._waiting.seek(0)
        for _ in range(self._frames):
            pixels = np.frombuffer(self._waiting.read(height * width * 3), np.uint8).reshape(height, width, 3)
            for page in paint.painted(pixels):
                self._pages.add(page)
        for page in paint.painted(None):
            self._pages.add(page)
        self._pages.finish()

    def close(self) -> None:
        self._waiting.close()
        self._pages.close()


class _Pages:
    """Container of pictures with durations in ticks."""

    def __init__(self, temporary: Path, size: tuple[int, int], rate: Fraction, count: int, plan: EncodePlan) -> None:
        import av

        container = plan.container
        self._file = av.open(str(temporary.absolute()), "w", format=container.name, options=container.options)
        self._stream = encoders.add_stream(self._file, plan.encoders[-1], *size, rate, plan, count)
        self._rate, self._container = rate, container
        self._written = 0

    def add(self, page: "VideoFrame") -> None:
        tick = self._container.tick
        assert tick is not None
        start, end = (round(index / (self._rate * tick)) for index in (self._written, self._written + 1))
        page.pts, page.duration, page.time_base = start, end - start, tick
        for packet in self._stream.encode(page):
            packet.duration = end - start  # the encoder sets the mean for all frames
            self._file.mux(packet)
        self._written += 1

    def finish(self) -> None:
        self._file.mux(self._stream.encode())

    def close(self) -> None:
        self._file.close()


class _PaletteGraph:
    """FFmpeg's palettegen: the best palette for the counted frames."""

    def __init__(self, height: int, width: int) -> None:
        from av.filter import Graph

        self._graph = Graph()
        self._source = _source(self._graph, height, width, "rgb24")
        made = self._graph.add("palettegen", "stats_mode=full")
        self._sink = self._graph.add("buffersink")
        self._source.link_to(made)
        made.link_to(self._sink)
        self._graph.configure()

    def count(self, pixels: NDArray[np.uint8]) -> None:
        from av.error import BlockingIOError

        self._source.push(_rgb(pixels))
        # Asking for the palette, although it is not ready, makes the graph process and release the frame.
        with suppress(BlockingIOError):
            self._sink.pull()

    def made(self) -> "VideoFrame":
        self._source.push(None)
        palette = self._sink.pull()
        palette.pts = 0
        return palette  # pyright: ignore[reportReturnType] (a video filter gives video frames)


class _PaintGraph:
    """FFmpeg's paletteuse: pixels in colours of the palette, with error diffusion where pixels change."""

    def __init__(self, height: int, width: int, palette: "VideoFrame") -> None:
        from av.filter import Graph

        self._graph = Graph()
        self._source = _source(self._graph, height, width, "rgb24")
        colours = _source(self._graph, palette.height, palette.width, palette.format.name)
        # Against other dithers, on a rendered clip: as close as any (46.5 dB), and flat areas keep their mean, which
        # ordered ("bayer") dithers darken by half a level.
        painter = self._graph.add("paletteuse", "dither=sierra2_4a:diff_mode=rectangle")
        self._sink = self._graph.add("buffersink")
        self._source.link_to(painter, 0, 0)
        colours.link_to(painter, 0, 1)
        painter.link_to(self._sink)
        self._graph.configure()
        colours.push(palette)
        colours.push(None)

    def painted(self, pixels: NDArray[np.uint8] | None) -> "Iterator[VideoFrame]":
        """Frames that are ready after these pixels; None: end of the clip."""
        from av.error import BlockingIOError, EOFError

        self._source.push(None if pixels is None else _rgb(pixels))
        while True:
            try:
                page = self._sink.pull()
            except (BlockingIOError, EOFError):
                return
            yield page  # pyright: ignore[reportReturnType] (a video filter gives video frames)


def _source(graph: "Graph", height: int, width: int, form: str) -> "FilterContext":
    from av.video.format import VideoFormat

    return graph.add_buffer(width=width, height=height, format=VideoFormat(form), time_base=Fraction(1, 100))


def _rgb(pixels: NDArray[np.uint8]) -> "VideoFrame":
    from av.video.frame import VideoFrame

    frame = VideoFrame.from_ndarray(pixels, format="rgb24")
    frame.time_base = Fraction(1, 100)
    return frame


def describe_gif(path: Path, text: str, mark: bool) -> None:
    """Put an ASCII text, as comment, and the mark into a GIF, before the first picture; an empty text is omitted."""
    data = text.encode("ascii")
    parts = [data[at : at + 255] for at in range(0, len(data), 255)]
    comment = b"\x21\xfe" + b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
    added = (comment if text else b"") + (marking.gif_extension() if mark else b"")
    with path.open("r+b") as file:
        flags = file.read(11)[10]
        colours = 3 << (flags & 7) + 1 if flags & 0x80 else 0
        _insert(file, 13 + colours, added)


def describe_webp(path: Path, text: str, mark: bool) -> None:
    """Put an ASCII text, as Exif's ImageDescription, and the mark at the end of a WebP; an empty text is omitted."""
    from PIL import Image

    exif = Image.Exif()
    exif[_EXIF_DESCRIPTION] = text
    chunks = [(b"EXIF", _HAS_EXIF, exif.tobytes().removeprefix(b"Exif\0\0"))] if text else []
    chunks += [(b"XMP ", _HAS_XMP, marking.XMP)] if mark else []
    if not chunks:
        return
    with Image.open(path) as picture:
        width, height = picture.size
    with path.open("r+b") as file:
        if file.read(16)[12:] != b"VP8X":  # a single picture has no chunk for further ones
            size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
            _insert(file, 12, b"VP8X" + struct.pack("<IBxxx", 10, 0) + size)
        file.seek(20)
        flags = file.read(1)[0] | sum(flag for _, flag, _ in chunks)
        file.seek(20)
        file.write(bytes([flags]))
        file.seek(0, io.SEEK_END)
        for name, _, data in chunks:
            file.write(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2))
        size = file.tell()
        file.seek(4)
        file.write(struct.pack("<I", size - 8))


def _insert(file: IO[bytes], at: int, extra: bytes) -> None:
    """Insert bytes into a file by moving what follows, piece by piece from the end."""
    end = file.seek(0, io.SEEK_END)
    while end > at:
        start = max(at, end - (1 << 20))
        file.seek(start)
        piece = file.read(end - start)
        file.seek(start + len(extra))
        file.write(piece)
        end = start
    file.seek(at)
    file.write(extra)


# Reading


def kind(path: Path) -> str | None:
    """gif or webp by the first bytes; None for other files."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] == b"GIF8":
        return "gif"
    return "webp" if head[:4] == b"RIFF" and head[8:] == b"WEBP" else None


@contextmanager
def opened(path: Path, form: str) -> "Iterator[ImageFile]":
    """Open a GIF or WebP with Pillow; errors inside name the file.

    Raises:
        FashionFlowError: damaged or cut off.
    """
    from PIL import Image

    try:
        if _cut_off(path, form):
            raise FashionFlowError(f"{path}: is cut off", hint="make or download the video again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # replaced by the error below
            picture = Image.open(path, formats=[form.upper()])
        with picture:
            if picture.width * picture.height > _MOST_PIXELS:
                # A header of twelve bytes can request gigabytes.
                size = f"{picture.height}x{picture.width}"
                raise FashionFlowError(f"{path}: frames of {size} are too large", hint="scale it down first")
            yield picture
    except (OSError, EOFError, SyntaxError, ValueError, IndexError, struct.error, Image.DecompressionBombError) as e:
        reason = " ".join(str(e).split()) or type(e).__name__
        raise FashionFlowError(f"{path}: is damaged ({reason})", hint="make or download the video again") from None


def frames(path: Path, form: str) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Frames, uint8 (h, w, 3), transparent areas on white, each with its duration in milliseconds."""
    with opened(path, form) as picture:
        shape = (picture.height, picture.width, 4)
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            rgba = np.asarray(picture.convert("RGBA"))
            if rgba.shape != shape:
                raise FashionFlowError(
                    f"{path}: frame {index} has another size than the first; the file is damaged",
                    hint="make or download it again",
                )
            yield _on_white(rgba), round(picture.info.get("duration", 0))


def text(path: Path, form: str) -> dict[str, str]:
    """Metadata stored by `write`; of other files their comment or description."""
    with opened(path, form) as picture:
        if form == "gif":
            found = picture.info.get("comment", b"").decode("utf-8", "replace")
            return unpack(found, "comment")
        return unpack(str(picture.getexif().get(_EXIF_DESCRIPTION, "")), "description")


def unpack(found: str, key: str) -> dict[str, str]:
    """Metadata from the text of a container: a JSON object of texts, else the text itself under `key`."""
    try:
        values = json.loads(found)
    except ValueError:
        values = None
    if isinstance(values, dict) and all(isinstance(value, str) for value in values.values()):
        return values
    return {key: found} if found else {}


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _cut_off(path: Path, form: str) -> bool:
    """Whether the file is cut off: Pillow reads such a GIF as a shorter one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if form == "webp":
            file.seek(4)
            declared = file.read(4)
            return len(declared) < 4 or struct.unpack("<I", declared)[0] + 8 > size
        file.seek(max(0, size - 64))
        return not file.read().rstrip(b"\0\r\n ").endswith(b";")
