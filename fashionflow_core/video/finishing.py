"""Finishing of generated frames for targets: canvas, overlays, rate, length, and size of the file."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashionflow_core.config import EncodeOptions, GenerateSettings, ModelConfig, ResolvedSettings
from fashionflow_core.errors import FashionFlowError, SettingError, option
from fashionflow_core.utils.hashing import sha256
from fashionflow_core.video import formats, writing
from fashionflow_core.video.canvas import LONGEST_CANVAS, VideoCanvas, plan_canvas, ratio_of
from fashionflow_core.video.captions import COLUMN
from fashionflow_core.video.fonts import load_font
from fashionflow_core.video.formats import VideoInfo
from fashionflow_core.video.overlays import EndCard, LogoOptions, Overlay, card_frame, read_picture
from fashionflow_core.video.platforms import PlatformLimits, find_platform, names_of
from fashionflow_core.video.reading import explained
from fashionflow_core.video.reproduction import encoding
from fashionflow_core.video.timeline import adapted, timeline

Tap = Callable[[NDArray[np.uint8]], None]
Generated = Callable[[], Iterable[NDArray[np.uint8]]]
_SMALLEST = 64  # minimum pixels of a side when a file is made smaller


@dataclass(frozen=True)
class FinishOptions:
    """Options for finishing generated frames; none by default.

    Attributes:
        targets: of `config.TARGETS`; each has a file of its own.
        ratio: width:height of the canvas, one of `config.RATIOS`; empty: that of the frames. The ratio of a target
            overrides it.
        visible_mark: disclosure on every frame, such as "AI-generated"; empty: none.
        caption: text at the foot of every frame, with `{columns}` (`captions`).
        font: of mark and caption; see `fonts.load_font`.
        logo: a picture in a corner of every frame.
        end_card: a picture after the last frame.

    Raises:
        UsageError, FashionFlowError: an unknown name.
    """

    targets: tuple[str, ...] = ()
    ratio: str = ""
    visible_mark: str = ""
    caption: str = ""
    font: str = ""
    logo: LogoOptions | None = None
    end_card: EndCard | None = None

    def __post_init__(self) -> None:
        ratio_of(self.ratio)
        if len(set(self.targets)) < len(self.limits):
            raise SettingError("for", "names a target twice", hint="name each once")

    @classmethod
    def parse(cls, targets: str | None, **more: Any) -> "FinishOptions":
        """Options from `amazon,reels` and other fields; None: no targets.

        Raises:
            UsageError, FashionFlowError: a text without names; as the class.
        """
        return cls(names_of(targets) if targets is not None else (), **more)

    def hashed(self) -> dict[str, Any]:
        """Fields that are set, for hashing; pictures and fonts by the hash of their content."""
        found = {key: value for key, value in vars(self).items() if value}
        for key in ("logo", "end_card"):
            if key in found:
                found[key] = {**asdict(found[key]), "file": sha256(Path(found[key].file))}
        if Path(self.font).is_file():
            found["font"] = sha256(Path(self.font))
        return found

    def check(self) -> None:
        """Check pictures, texts and fonts before any work.

        Raises:
            UsageError, FashionFlowError: an unreadable picture, a text that is not Unicode, or a missing font.
        """
        for name in ("visible_mark", "caption"):
            text = getattr(self, name)
            if not text.isascii() and text.encode("utf-8", "replace").decode() != text:
                raise SettingError(name, f"not a text: {text!r}", hint="write it in UTF-8")
        for picture in (self.logo, self.end_card):
            if picture is not None:
                read_picture(picture.file)
        for text in (self.visible_mark, COLUMN.sub("", self.caption)):
            if text:
                load_font(self.font, text, 20)

    @property
    def after(self) -> float:
        """Seconds of the end card."""
        return self.end_card.seconds if self.end_card is not None else 0.0

    @property
    def limits(self) -> list[PlatformLimits]:
        """Limits of the targets."""
        return [find_platform(name) for name in self.targets]

    def suffix(self, wanted: str = ".mp4") -> str:
        """`wanted`, or the suffix of the only target's first container if it does not support that."""
        (only,) = self.limits if len(self.targets) == 1 else (None,)
        return wanted if only is None or wanted[1:] in only.containers else f".{only.containers[0]}"

    def files(self, stem: str, suffix: str) -> list[str]:
        """Names of the files: `dress.mp4`; of several targets `dress.amazon.mp4`, `dress.reels.mp4`.

        A target that does not support the suffix gets its first container, if there are several targets.

        Raises:
            UsageError: the only target does not support this suffix.
        """
        limits, kind = self.limits, suffix.removeprefix(".").lower()
        if len(limits) <= 1:
            if limits and kind not in limits[0].containers:
                taken = ", ".join(limits[0].containers)
                named, several = option("out", f"NAME.{limits[0].containers[0]}"), limits[0].containers[0]
                hint = f"write another kind of file: {named}, or {option('format', several)} for many photos"
                raise SettingError("for", f"{limits[0].name} takes {taken}, not {kind}", hint=hint)
            return [stem + suffix]
        found = []
        for one in limits:
            ending = suffix if kind in one.containers else f".{one.containers[0]}"
            found.append(stem + (ending if ending == f".{one.name}" else f".{one.name}{ending}"))
        return found

    def encode(self, options: EncodeOptions, path: str | Path) -> EncodeOptions:
        """How one of the files is encoded: of several, each takes the options that its format has."""
        return formats.only_of_format(path, options) if len(self.targets) > 1 else options

    def adapted(self, settings: GenerateSettings, model: ModelConfig) -> GenerateSettings:
        """As `timeline.adapted`."""
        return adapted(settings, model, self.limits, self.after) if self.targets else settings

    def check_length(self, request: ResolvedSettings) -> None:
        """Check the length of a request before any work.

        Raises:
            FashionFlowError: as `timeline.timeline`.
        """
        for one in self.limits:
            timeline(request.video_frames, request.fps, one, is_loop(request), self.after)

    def finishers(self, footage: "Footage") -> "list[Finisher]":
        """One finisher per file, in the order of `files`."""
        return [Finisher(self, footage, one) for one in self.limits or [None]]


def is_loop(request: ResolvedSettings) -> bool:
    """Whether a video is a loop."""
    return request.motion is not None and request.motion.loop


@dataclass(frozen=True)
class Footage:
    """Generated frames: number, frames per second, size in pixels, and whether they loop."""

    count: int
    fps: float
    height: int
    width: int
    loop: bool = False


class Finisher:
    """Finishes generated frames for one file.

    Attributes:
        options: of all files of the clip.
        footage: the generated frames.
        order: numbers of the generated frames in the order of display.
        fps: of the file.
        count: frames of the file.
    """

    def __init__(
        self, options: FinishOptions, footage: Footage, limits: PlatformLimits | None, shrink: float = 1.0
    ) -> None:
        """`shrink`: scale of the canvas, to reduce the size of the file.

        Raises:
            FashionFlowError: as `timeline.timeline`.
        """
        self.options, self.footage, self._limits, self._shrink = options, footage, limits, shrink
        ratio = ratio_of(options.ratio)
        height, width = footage.height, footage.width
        longest = max(LONGEST_CANVAS, height, width) if ratio or (limits is not None and limits.ratio) else 0
        size = plan_canvas(height, width, limits, ratio, longest)
        if shrink < 1:
            size = plan_canvas(height, width, limits, ratio, int(max(size.height, size.width) * shrink))
        self.size = size
        line = timeline(footage.count, footage.fps, limits, footage.loop, options.after)
        self.order, self.fps = line.order, line.fps
        self._card_frames = math.ceil(options.after * self.fps - 1e-6)
        self.count = len(self.order) + self._card_frames
        self._canvas: VideoCanvas | None = None
        self._overlay: Overlay | None = None

    @property
    def generated(self) -> int:
        """Number of the generated frames."""
        return self.footage.count

    @property
    def target(self) -> str:
        """Name of the target; empty: none."""
        return self._limits.name if self._limits is not None else ""

    def frames(self, generated: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        """Frames of the file from the generated ones, uint8 (h, w, 3), which come in `order`."""
        for frame in generated:
            yield self.still(frame)
        if self.options.end_card is not None:
            card = card_frame(self.options.end_card, self.size.height, self.size.width)
            for _ in range(self._card_frames):
                yield card

    def still(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One generated frame on its canvas with overlays; the first one determines the background."""
        if self.options == FinishOptions():
            return frame
        self._canvas = self._canvas or VideoCanvas(frame, self.size)
        self._overlay = self._overlay or self._drawn()
        return self._overlay.apply(self._canvas.place(frame))

    def check(self) -> None:
        """Check that texts fit on the canvas, before any work.

        Raises:
            UsageError, FashionFlowError: as `Overlay`.
        """
        self._overlay = self._overlay or self._drawn()

    def _drawn(self) -> Overlay:
        options = self.options
        texts = (options.visible_mark, options.caption, options.font)
        return Overlay(self.size.height, self.size.width, *texts, options.logo)

    def metadata(self) -> dict[str, str]:
        """Metadata on finishing; empty without it, so that bytes are those of plain files."""
        if self.options == FinishOptions():
            return {}
        footage = self.footage
        options = self.options
        named = {
            "for": self.target,
            **{key: str(getattr(options, key)) for key in ("ratio", "visible_mark", "caption", "font")},
        }
        if options.logo is not None:
            logo = options.logo
            named |= {"logo": Path(logo.file).name, "logo_place": logo.place, "logo_opacity": f"{logo.opacity:g}"}
        if options.end_card is not None:
            card = options.end_card
            named |= {"end_card": Path(card.file).name, "end_card_seconds": f"{card.seconds:g}"}
        made = {
            "frames": str(footage.count),
            "fps": f"{footage.fps:g}",
            "size": f"{footage.height}x{footage.width}",
        }
        return {f"fashionflow_{key}": value for key, value in (named | made).items() if value}

    def encode(self, options: EncodeOptions, suffix: str) -> EncodeOptions:
        """How the file is encoded within the target's limits."""
        limits = self._limits
        if limits is None:
            return options
        most = limits.gif_bytes if suffix == ".gif" and limits.gif_bytes else limits.bytes
        return replace(options, streaming=limits.streamable or None, max_bytes=most)

    def is_streamed(self, suffix: str) -> bool:
        """Whether the generated frames are needed once, in their own order."""
        if self.order != range(self.footage.count):
            return False
        most = self.encode(EncodeOptions(), suffix).max_bytes
        return most is None or self.count * self.size.height * self.size.width * 3 < most

    def shrunk(self, factor: float) -> "Finisher | None":
        """A copy with a smaller canvas; None: it would be too small."""
        shrink = self._shrink * factor
        smaller = Finisher(self.options, self.footage, self._limits, shrink)
        if min(smaller.size.height, smaller.size.width) < _SMALLEST or smaller.size == self.size:
            return None
        return smaller


def write(
    finisher: Finisher,
    generated: Generated,
    path: Path,
    metadata: Mapping[str, str],
    encode: EncodeOptions,
    tap: Tap | None = None,
    sources: Sequence[str] = (),
) -> VideoInfo:
    """Write one file, as `video.write` does, within the size limit of its target.

    A file that is too large is encoded again: with the lowest rate factor that fits or, in formats without one, with
    fewer pixels.

    Args:
        finisher: of the file.
        generated: function that returns the generated frames in the finisher's order.
        path, metadata, encode: as for `video.write`.
        tap: called with each frame of the file once.
        sources: files that the frames were made from, which a signature names.

    Raises:
        FashionFlowError: as `video.write`; and if no quality fits.
    """
    encode = finisher.options.encode(encode, path)
    options = finisher.encode(encode, path.suffix.lower())
    if options.sign is not None and sources:
        options = replace(options, sign=replace(options.sign, sources=tuple(sources)))
    metadata = {**metadata, **finisher.metadata(), **encoding(encode)}
    try:
        frames = finisher.frames(generated())
        frames = _tapped(frames, tap) if tap is not None else frames
        return writing.write(frames, path, finisher.fps, finisher.count, metadata, options)
    except writing.TooLarge as error:
        too_large = error
    plan = formats.plan(path, options.crf, options.codec, options.encoder)

    def attempt(made: Finisher, crf: int | None) -> VideoInfo:
        frames = made.frames(generated())
        return writing.write(frames, path, made.fps, made.count, metadata, replace(options, crf=crf))

    kind = formats.CODEC_TABLE[plan.codec].crf
    if kind is None or plan.crf is None:
        return _smaller(finisher, too_large, lambda made: attempt(made, None))
    return _coarser(plan.crf, kind[2], too_large, lambda crf: attempt(finisher, crf))


def _coarser(crf: int, coarsest: int, error: "writing.TooLarge", attempt: Callable[[int], VideoInfo]) -> VideoInfo:
    """Search the lowest rate factor above `crf` that fits; a failed attempt leaves the previous file."""
    too_fine, fits = crf, coarsest + 1
    guess = crf + math.ceil(6 * math.log2(error.size / error.most))  # six steps of x264's scale halve a file
    info: VideoInfo | None = None
    while too_fine + 1 < fits:
        guess = min(max(guess, too_fine + 1), fits - 1)
        try:
            info, fits = attempt(guess), guess
        except writing.TooLarge as problem:
            error, too_fine = problem, guess
        guess = (too_fine + fits) // 2
    if info is None:
        raise FashionFlowError(
            f"{error.message}, even at the lowest quality",
            hint=f"make it shorter or smaller: {option('duration')}, {option('size')}",
        )
    return info


def _smaller(finisher: Finisher, error: "writing.TooLarge", attempt: Callable[[Finisher], VideoInfo]) -> VideoInfo:
    while (smaller := finisher.shrunk(0.97 * math.sqrt(error.most / error.size))) is not None:
        finisher = smaller
        try:
            return attempt(finisher)
        except writing.TooLarge as problem:
            error = problem
    raise FashionFlowError(f"{error.message}, even in a small size", hint=f"make it shorter: {option('duration')}")


def _tapped(frames: Iterable[NDArray[np.uint8]], tap: Tap) -> Iterator[NDArray[np.uint8]]:
    for frame in frames:
        tap(frame)
        yield frame


@contextmanager
def replayed(
    frames: Iterable[NDArray[np.uint8]], finishers: Sequence[Finisher], paths: Sequence[Path]
) -> Iterator[Callable[[Finisher], Generated]]:
    """The generated frames of a clip for each of its files; yields a function from a finisher to its frames.

    Frames that are needed once, in their own order, are passed on as they come; others are stored on the disk of the
    files meanwhile.

    Args:
        frames: the generated ones, uint8 (h, w, 3), in their own order.
        finishers, paths: of all files, in one order.

    Raises:
        FashionFlowError: the disk is full.
    """
    if len(paths) == 1 and finishers[0].is_streamed(paths[0].suffix.lower()):
        yield lambda _: lambda: frames
        return
    with FrameStore(paths[0]) as store:
        for frame in frames:
            store.add(frame)
        yield lambda finisher: partial(store.read, finisher.order)


class FrameStore:
    """Generated frames in an unnamed file on a video's disk, height * width * 3 bytes each, read in any order."""

    def __init__(self, beside: Path) -> None:
        import tempfile

        self._path = beside
        with explained(beside, "could not be written"):
            self._file: Any = tempfile.TemporaryFile(dir=beside.absolute().parent)  # noqa: SIM115 (closed by close)
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> "FrameStore":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Store the next frame, uint8 (h, w, 3), of the size of the others."""
        self._shape = self._shape or frame.shape
        if frame.shape != self._shape:
            raise ValueError(f"frame of {frame.shape} among those of {self._shape}")
        with explained(self._path, "could not be written"):
            self._file.write(np.ascontiguousarray(frame).data)

    def read(self, order: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Frames by number."""
        size = math.prod(self._shape)
        self._file.flush()
        for number in order:
            self._file.seek(number * size)
            yield np.frombuffer(self._file.read(size), np.uint8).reshape(self._shape)
