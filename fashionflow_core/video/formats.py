"""Video formats: containers, codecs, quality, frame rates."""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from fashionflow_core.config import CODECS, VIDEO_SUFFIXES, EncodeOptions
from fashionflow_core.errors import FashionFlowError, SettingError, UsageError, option

MAX_FPS = 1000
MAX_SIDE = 16383  # of WebP; others are larger or similar


SIGNED = (".mp4", ".gif", ".webp")  # formats that C2PA defines


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video file: number of frames, stored size in pixels, frames per second.

    `codec` is one of `CODECS`, gif or webp, or FFmpeg's name of another one. `encoder` is the one `write` used, and
    empty for files that were read. Both are ignored in comparisons.
    """

    path: Path
    frames: int
    width: int
    height: int
    fps: float
    codec: str = field(default="", compare=False)
    encoder: str = field(default="", compare=False)


@dataclass(frozen=True)
class Codec:
    """A video codec.

    Attributes:
        software: FFmpeg's name of the portable, deterministic encoder.
        hardware: encoders of Apple and NVIDIA, in the order of trial.
        crf: default, minimum and maximum constant rate factor; None: the codec has none. The
            defaults keep a rendered clip (256x320) within a decibel of H.264 at 18: 36.7 dB for h264, 36.9 for hevc,
            38.2 for av1, 38.0 for vp9, where 4:2:0 alone costs all but 40.2.
        smallest: minimum height and width of the software encoder.
    """

    software: str
    hardware: tuple[str, ...] = ()
    crf: tuple[int, int, int] | None = None
    smallest: int = 1


@dataclass(frozen=True)
class Container:
    """A container format.

    Attributes:
        name: FFmpeg's name of the muxer.
        codecs: supported ones, the default first.
        options: for the muxer.
        tick: unit of times in seconds, if the container cannot store all rates exactly.
        shortest, longest: duration of a frame in ticks.
    """

    name: str
    codecs: tuple[str, ...]
    options: dict[str, str]
    tick: Fraction | None = None
    shortest: int = 0
    longest: int = 0


# av1 starts at 1, since 0 means "not given" to FFmpeg.
CODEC_TABLE = {
    "h264": Codec("libx264", ("h264_videotoolbox", "h264_nvenc"), crf=(18, 0, 51)),
    "hevc": Codec("libx265", ("hevc_videotoolbox", "hevc_nvenc"), crf=(22, 0, 51), smallest=16),
    "av1": Codec("libsvtav1", ("av1_nvenc",), crf=(24, 1, 63), smallest=16),
    "vp9": Codec("libvpx-vp9", crf=(24, 0, 63)),
    "gif": Codec("gif"),
    "webp": Codec("libwebp"),
}
# Without use_metadata_tags MP4 drops unknown keys; without bitexact WebM gets random identifiers. Browsers show frames
# of up to 1 (GIF) or 10 (WebP) ticks for 100 ms, so frames are longer.
CONTAINERS = {
    ".mp4": Container("mp4", ("h264", "hevc", "av1"), {"movflags": "+faststart+use_metadata_tags"}),
    ".webm": Container("webm", ("vp9", "av1"), {"fflags": "+bitexact"}),
    ".gif": Container("gif", ("gif",), {"loop": "0"}, tick=Fraction(1, 100), shortest=2, longest=2**16 - 1),
    ".webp": Container("webp", ("webp",), {"loop": "0"}, tick=Fraction(1, 1000), shortest=11, longest=2**24 - 1),
}
ENCODERS = ("software", "hardware", *(name for codec in CODEC_TABLE.values() for name in codec.hardware))


@dataclass(frozen=True)
class EncodePlan:
    """Encoding of a file, resolved from the options.

    Attributes:
        asked: requested hardware encoder, or None.
        encoders: to try in this order; the last one is software.
        closed: no group of pictures refers to the one before it.
    """

    container: Container
    codec: str
    crf: int | None
    asked: str | None
    encoders: tuple[str, ...]
    closed: bool = False


def streamable(plan: EncodePlan) -> EncodePlan:
    """The plan for platforms that cut and join files: closed groups of pictures, and MP4 without edit lists.

    The first frame's time is 0 without an edit list, since frames that are decoded before they are shown get negative
    offsets (ISO/IEC 14496-12, 8.6.1.3).
    """
    container = plan.container
    if container.name == "mp4":
        flags = container.options["movflags"] + "+negative_cts_offsets"
        container = replace(container, options={"movflags": flags, "use_editlist": "0"})
    return replace(plan, container=container, closed=True)


def check_options(path: str | Path, options: EncodeOptions = EncodeOptions(), **changes: Any) -> None:
    """Check options before any work; the arguments are those of `write`.

    Raises:
        UsageError: an option that is invalid for this file.
    """
    options = replace(options, **changes)
    plan(Path(path), options.crf, options.codec, options.encoder)
    if options.sign is not None and Path(path).suffix.lower() not in SIGNED:
        kinds = ", ".join(SIGNED)
        raise SettingError("c2pa_cert", f"{path}: C2PA cannot sign such files", hint=f"write {kinds}")


def only_of_format(path: str | Path, options: EncodeOptions) -> EncodeOptions:
    """Options without a codec, rate factor or encoder that the format of a file does not have.

    For the files of one clip in several formats: `crf` is for the MP4 and not for the GIF next to it.
    """
    container = CONTAINERS.get(Path(path).suffix.lower())
    if container is None:
        return options
    codec = options.codec if options.codec in container.codecs else None
    kind = CODEC_TABLE[codec or _codec_of(options.encoder, container)]
    encoder = options.encoder
    if encoder not in ("software", kind.software, *kind.hardware) and not (encoder == "hardware" and kind.hardware):
        encoder = "software"
    return replace(options, codec=codec, crf=options.crf if kind.crf is not None else None, encoder=encoder)


def plan(path: Path, crf: int | None, codec: str | None, encoder: str | None) -> EncodePlan:
    """Resolve the options for a file.

    Raises:
        UsageError: as `check_options`.
    """
    container = CONTAINERS.get(path.suffix.lower())
    if container is None:
        known = f"{', '.join(VIDEO_SUFFIXES[:-1])} or {VIDEO_SUFFIXES[-1]}"
        raise UsageError(f"{path}: videos are written as {known}", hint=f"give it a name that ends in {known}")
    if codec is None:
        codec = _codec_of(encoder, container)
    _check_codec(path, container, codec)
    kind = CODEC_TABLE[codec]
    if crf is not None and kind.crf is None:
        raise SettingError("crf", f"{path} has no rate factor", hint=f"leave it out; it goes with {_with_crf()}")
    if kind.crf is not None:
        default, least, most = kind.crf
        crf = default if crf is None else crf
        if not least <= crf <= most:
            raise SettingError(
                "crf",
                f"must be from {least} to {most} for {codec}, not {crf} ({path})",
                hint=f"lower is better and larger; the default is {default}",
            )
    if encoder in (None, "software", kind.software):
        return EncodePlan(container, codec, crf, None, (kind.software,))
    if not kind.hardware:
        raise SettingError(
            "encoder",
            f"{codec} ({path}) is always encoded in software, not by {encoder}",
            hint=f"leave {option('encoder')} out",
        )
    if encoder != "hardware" and encoder not in kind.hardware:
        choices = ", ".join(("software", "hardware", *kind.hardware))
        raise SettingError(
            "encoder", f"{encoder} is not an encoder of {codec} ({path})", hint=f"choose one of: {choices}"
        )
    wanted = kind.hardware if encoder == "hardware" else (encoder,)
    return EncodePlan(container, codec, crf, encoder, (*wanted, kind.software))


def _codec_of(encoder: str | None, container: Container) -> str:
    """The codec if none is given: that of the encoder if the container supports it, else the default."""
    for codec in container.codecs:
        if encoder in (CODEC_TABLE[codec].software, *CODEC_TABLE[codec].hardware):
            return codec
    return container.codecs[0]


def _check_codec(path: Path, container: Container, codec: str) -> None:
    if codec in container.codecs:
        return
    if codec not in CODECS:
        raise SettingError("codec", f"unknown codec {codec!r}", hint=f"choose one of: {', '.join(CODECS)}")
    if len(container.codecs) == 1:
        raise SettingError(
            "codec", f"{path} takes only {container.codecs[0]}, not {codec}", hint=f"leave it out, or {_home(codec)}"
        )
    raise SettingError(
        "codec",
        f"{codec} cannot be stored in {path}",
        hint=f"{path.suffix.lower()} takes {', '.join(container.codecs)}; or {_home(codec)}",
    )


def _home(codec: str) -> str:
    suffixes = [suffix for suffix, container in CONTAINERS.items() if codec in container.codecs]
    return f"give the file a name that ends in {' or '.join(suffixes)}"


def _with_crf() -> str:
    return " and ".join(s for s, c in CONTAINERS.items() if CODEC_TABLE[c.codecs[0]].crf is not None)


def exact_rate(path: Path, fps: float, container: Container) -> Fraction:
    """The rate of the file: `fps` as the nearest fraction with a denominator up to 1001, so that 29.97 and
    30000/1001 are both exact; for GIF, whose frames last whole 1/100 s, the nearest rate that it has.

    Raises:
        FashionFlowError: not a rate, or too fast or too slow for the container.
    """
    rate = Fraction(fps).limit_denominator(1001) if 0 < fps <= MAX_FPS else Fraction(0)
    if not rate:
        raise FashionFlowError(f"{path}: fps must be above 0 and at most {MAX_FPS}, not {fps}", hint="such as 25")
    if container.tick is None:
        return rate
    ticks = 1 / (rate * container.tick)
    if ticks > container.longest:
        least = float(1 / (container.longest * container.tick))
        raise FashionFlowError(
            f"{path}: fps must be at least {least:.3g} for {container.name}, not {fps}",
            hint="take more frames per second, or another container: .mp4",
        )
    if ticks < container.shortest:
        return 1 / (container.shortest * container.tick)
    # WebP places each frame to half a tick; GIF's coarser ticks would stutter.
    return 1 / (round(ticks) * container.tick) if container.name == "gif" else rate
