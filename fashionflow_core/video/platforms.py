"""Platform limits: what shops and social networks accept as video files, and checks of files against them.

Each row names its source and the date on which it was read. Limits that no source states are omitted and not checked.
Platforms change their rules: their own documentation is decisive.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from fashionflow_core.errors import SettingError
from fashionflow_core.video import boxes, reading

_MB, _GB = 10**6, 10**9
_READ = "2026-11-29"


@dataclass(frozen=True)
class PlatformLimits:
    """Limits of one target; None and empty: not stated.

    Attributes:
        name: for `config.TARGETS`.
        source: document of the limits and date of reading.
        containers: mp4 (also mov), webm, gif, webp.
        codecs: of the video stream.
        seconds, fps: minimum and maximum.
        sides: minimum and maximum height and width in pixels.
        width: maximum width in pixels.
        ratio: the only width by height.
        frames: the only sizes, as (height, width).
        bytes: largest file.
        gif_bytes: largest GIF, if it has another limit.
        streamable: the index (moov) comes before the pictures, no edit lists, closed groups of pictures.
        chroma: 4:2:0, which all browsers and phones decode.
    """

    name: str
    source: str
    containers: tuple[str, ...]
    codecs: tuple[str, ...] = ()
    seconds: tuple[float, float] | None = None
    fps: tuple[float, float] | None = None
    sides: tuple[int, int] | None = None
    width: int | None = None
    ratio: Fraction | None = None
    frames: tuple[tuple[int, int], ...] = ()
    bytes: int | None = None
    gif_bytes: int | None = None
    streamable: bool = False
    chroma: bool = False

    def limits(self) -> list[str]:
        """Names of the stated limits."""
        return [name for name, value in vars(self).items() if name not in ("name", "source") and value]


PLATFORMS = {
    target.name: target
    for target in (
        PlatformLimits(
            "shopify",
            f"Shopify Help Center, product media types (secondary: read in reports of it, {_READ})",
            ("mp4", "webm", "gif"),
            seconds=(0, 600),
            sides=(1, 4096),
            bytes=_GB,
            gif_bytes=20 * _MB,
        ),
        PlatformLimits(
            "google",
            f"Google Merchant Center Help, answer 15216925, video_link ({_READ})",
            ("mp4",),  # the only accepted one that FashionFlow writes
            seconds=(6, 240),
            bytes=500 * _MB,
        ),
        PlatformLimits(
            "amazon",
            f"Amazon Ads, product video specifications (secondary: read in reports of it, {_READ})",
            ("mp4",),
            seconds=(6, 45),
            fps=(23.976, 30),
            ratio=Fraction(16, 9),
            frames=((720, 1280), (1080, 1920), (2160, 3840)),
            bytes=500 * _MB,
        ),
        PlatformLimits(
            "reels",
            f"Instagram Platform, media endpoint, Reel specifications (secondary: read in reports of it, {_READ})",
            ("mp4",),
            ("h264", "hevc"),
            seconds=(3, 900),
            fps=(23, 60),
            width=1920,
            bytes=_GB,
            streamable=True,
            chroma=True,
        ),
        PlatformLimits(
            "tiktok",
            f"TikTok for Developers, media transfer guide (secondary: read in reports of it, {_READ})",
            ("mp4", "webm"),
            ("h264", "hevc", "vp8", "vp9"),
            seconds=(3, 600),
            fps=(23, 60),
            sides=(360, 4096),
            bytes=4 * _GB,
        ),
        PlatformLimits(
            "web",
            "what Chromium plays: checked by the tests of this project in Chromium",
            ("mp4", "webm", "gif", "webp"),
            ("h264", "av1", "vp9", "gif", "webp"),
            streamable=True,
            chroma=True,
        ),
        PlatformLimits("gif", "GIF89a", ("gif",)),
    )
}


@dataclass(frozen=True)
class Problem:
    """One limit that a file does not keep: found and required value."""

    what: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.what}: {self.found}, not {self.wanted}"


def names_of(text: str) -> tuple[str, ...]:
    """Names in `amazon,Reels`, in lower case.

    Raises:
        UsageError: none.
    """
    found = tuple(name.strip().lower() for name in text.split(",") if name.strip())
    if not found:
        raise SettingError("for", "names no target", hint=f"use one or more of: {', '.join(PLATFORMS)}")
    return found


def find_platform(name: str) -> PlatformLimits:
    """The limits of a target by its name.

    Raises:
        UsageError: an unknown name.
    """
    if name not in PLATFORMS:
        raise SettingError("for", f"unknown target {name!r}", hint=f"use one of: {', '.join(PLATFORMS)}")
    return PLATFORMS[name]


def check(path: Path, target: PlatformLimits) -> list[Problem]:
    """Check a video against all limits of a target by decoding the file.

    Raises:
        FashionFlowError: as `reading.iter_frames`.
    """
    found = reading.inspect(path)
    container = _container(path, found.codec)
    rate, size = float(found.rate), path.stat().st_size
    seconds = found.frames / rate if rate else 0.0
    problems = []

    def hold(kept: bool, what: str, has: str, wanted: str) -> None:
        if not kept:
            problems.append(Problem(what, has, wanted))

    hold(container in target.containers, "container", container, " or ".join(target.containers))
    if target.codecs:
        hold(found.codec in target.codecs, "codec", found.codec, " or ".join(target.codecs))
    if target.seconds:
        low, high = target.seconds
        hold(low <= seconds <= high, "seconds", f"{seconds:.2f}", f"{low:g} to {high:g}")
    if target.fps and container not in ("gif", "webp"):
        low, high = target.fps
        hold(low - 1e-3 <= rate <= high + 1e-3, "frames per second", f"{rate:g}", f"{low:g} to {high:g}")
    shape = f"{found.height}x{found.width}"
    if target.sides:
        low, high = target.sides
        hold(low <= min(found.height, found.width), "size", shape, f"at least {low} a side")
        hold(max(found.height, found.width) <= high, "size", shape, f"at most {high} a side")
    if target.width:
        hold(found.width <= target.width, "width", str(found.width), f"at most {target.width}")
    if target.ratio:
        # Sides are even integers: 16:9 of 202 rows is 358 or 360 columns.
        near = abs(found.width - found.height * target.ratio) <= 2
        hold(near, "width:height", shape, f"{target.ratio.numerator}:{target.ratio.denominator}")
    if target.frames:
        sizes = [f"{height}x{width}" for height, width in target.frames]
        hold((found.height, found.width) in target.frames, "size", shape, " or ".join(sizes))
    most = target.gif_bytes if container == "gif" and target.gif_bytes else target.bytes
    if most:
        hold(size <= most, "bytes", f"{size:,}", f"at most {most:,}")
    if container in ("mp4", "webm"):
        problems += _of_stream(path, target, container)
    return problems


def _container(path: Path, codec: str) -> str:
    if codec in ("gif", "webp"):
        return codec
    if boxes.is_mp4(path):
        return "mp4"
    with path.open("rb") as file:
        return "webm" if file.read(4) == b"\x1aE\xdf\xa3" else path.suffix.removeprefix(".").lower() or "unknown"


def _of_stream(path: Path, target: PlatformLimits, container: str) -> Iterator[Problem]:
    """Problems of the order of boxes and of the coding."""
    if target.chroma:
        chroma = reading.pixel_format(path)
        if not chroma.startswith(("yuv420p", "yuvj420p", "nv12")):
            yield Problem("pixel format", chroma, "yuv420p")
    if not target.streamable:
        return
    if container == "mp4":
        kinds = boxes.kinds(path)
        if b"mdat" in kinds and b"moov" in kinds and kinds.index(b"mdat") < kinds.index(b"moov"):
            yield Problem("index (moov)", "behind the pictures", "before them, so that playing starts at once")
        if target.name != "web" and b"elst" in kinds:
            yield Problem("edit list", "present", "absent")
    if target.name != "web" and reading.has_open_groups(path):
        yield Problem("groups of pictures", "open", "closed")
