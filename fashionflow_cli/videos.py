"""Opening, writing and reporting shared by generate and interpolate."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionflow_cli.console import Warnings, note, progress, result, result_json
from fashionflow_core.config import VIDEO_SUFFIXES, EncodeOptions, LoadOptions
from fashionflow_core.errors import UsageError
from fashionflow_core.generators.folder import how_to_install
from fashionflow_core.utils.files import check_target

if TYPE_CHECKING:
    import numpy as np

    from fashionflow_core.config import ResolvedSettings
    from fashionflow_core.pipeline import FashionFlowPipeline, RunCost
    from fashionflow_core.video import VideoInfo
    from fashionflow_core.video.finishing import Finisher, FinishOptions

STDIN = Path("-")


@dataclass(frozen=True)
class VideoOutput:
    """One file to make: the number of its video among the variations, and its poster and folder of frames if wanted."""

    item: int
    video: Path
    poster: Path | None = None
    frames_dir: Path | None = None


def plan_targets(
    source: Path,
    out: Path,
    variations: int,
    poster: bool,
    frames_dir: Path | None,
    overwrite: bool,
    finish: "FinishOptions | None" = None,
) -> list[VideoOutput]:
    """Name everything that will be written, and check that it may be, before any work.

    Args:
        finish: with several targets each video has a file for each.

    Raises:
        UsageError: no suffix of a video, or a file that would replace the photo or video it is made from.
        FashionFlowError: a file exists, or its folder is missing or not writable.
    """
    from fashionflow_core.video import FrameFolder

    if out.suffix.lower() not in VIDEO_SUFFIXES:
        known = ", ".join(VIDEO_SUFFIXES)
        raise UsageError(f"--out: {out} does not end in one of {known}", hint="the suffix chooses the kind of video")
    targets = []
    for item in range(variations):
        number = "" if variations == 1 else f"-{item + 1}"
        stem = f"{out.stem}{number}"
        names = finish.files(stem, out.suffix) if finish is not None else [stem + out.suffix]
        for name in names:
            path = out.with_name(name)
            picture = path.with_name(f"{path.stem}-poster.png") if poster else None
            # Of several files each has frames of its own size.
            which = number + (name.removeprefix(stem).removesuffix(path.suffix) or path.suffix) * (len(names) > 1)
            folder = frames_dir.with_name(f"{frames_dir.name}{which}") if frames_dir is not None else None
            targets.append(VideoOutput(item, path, picture, folder))
    for target in targets:
        for path in (target.video, target.poster):
            if path is None:
                continue
            if path.exists() and source.exists() and path.samefile(source):
                raise UsageError(f"{path}: would replace what it is made from", hint="pass another name with -o")
            check_target(path, overwrite)
        if target.frames_dir is not None:
            FrameFolder.check(target.frames_dir, overwrite)
    return targets


@dataclass(frozen=True)
class Studio:
    """An open model, and how the videos that it makes are written and reported.

    Attributes:
        pipe: the model.
        loading: seconds that opening it took.
        encode: how videos are written.
        warned: what was warned of.
        quiet: whether progress is left out.
        as_json: whether a report is an object instead of a path.
    """

    pipe: "FashionFlowPipeline"
    loading: float
    encode: EncodeOptions
    warned: Warnings
    quiet: bool
    as_json: bool

    @classmethod
    def open(
        cls,
        folder: Path,
        load: LoadOptions,
        encode: EncodeOptions,
        warned: Warnings,
        quiet: bool,
        as_json: bool,
        planned: bool = False,
    ) -> "Studio":
        """Open a model folder; if only a run is `planned`, no more of it than that needs.

        Raises:
            UsageError, FashionFlowError: as `pipeline.load`.
        """
        note(f"loading {folder}", quiet)
        start = time.perf_counter()
        from fashionflow_core import pipeline  # imports torch, which takes seconds: after what can be refused without

        pipe = pipeline.load_for_planning(folder, load) if planned else pipeline.load(folder, load)
        return cls(pipe, time.perf_counter() - start, encode, warned, quiet, as_json)

    def write(
        self,
        frames: "Iterator[np.ndarray]",
        targets: Sequence[VideoOutput],
        finishers: "Sequence[Finisher]",
        metadata: dict[str, str],
        bar: str,
        photo: str = "",
    ) -> list[dict[str, Any]]:
        """Write the files of a video with their posters and frames; returns what both commands report about each.

        Args:
            frames: the generated ones, arrays uint8 (h, w, 3), sRGB.
            targets, finishers: of each file, in one order.
            bar: label of a progress bar over the frames; empty: none.
            photo: file that they were made of.
        """
        from fashionflow_core.images import fitting
        from fashionflow_core.video.finishing import FrameStore
        from fashionflow_core.video.marking import png_text
        from fashionflow_core.video.poster import PosterPicker

        picker = PosterPicker() if any(target.poster is not None for target in targets) else None
        found = []
        with ExitStack() as stack:
            count = finishers[0].generated
            written = stack.enter_context(progress(bar, count, "frame", self.quiet)) if bar else lambda done: None
            frames = _watched(frames, written, [picker.add] if picker is not None else [])
            store = None
            if len(targets) > 1 or not finishers[0].is_streamed(targets[0].video.suffix.lower()):
                store = stack.enter_context(FrameStore(targets[0].video))
                for frame in frames:
                    store.add(frame)
            for target, finisher in zip(targets, finishers, strict=True):
                source = frames if store is None else partial(store.read, finisher.order)
                info = self._write_one(source, target, finisher, metadata, photo)
                if target.poster is not None and picker is not None and picker.poster is not None:
                    picture = finisher.still(picker.poster)
                    fitting.write_png(target.poster, picture, png_text() if self.encode.mark else None)
                found.append(
                    {
                        "path": str(target.video),
                        "target": finisher.target or None,
                        "poster": str(target.poster) if target.poster else None,
                        "frames_dir": str(target.frames_dir) if target.frames_dir else None,
                        "frames": info.frames,
                        "fps": info.fps,
                        "height": info.height,
                        "width": info.width,
                        "codec": info.codec,
                        "encoder": info.encoder,
                        "model": self.pipe.config.name,
                    }
                )
        return found

    def _write_one(
        self,
        source: "Iterator[np.ndarray] | Callable[[], Iterator[np.ndarray]]",
        target: VideoOutput,
        finisher: "Finisher",
        metadata: dict[str, str],
        photo: str,
    ) -> "VideoInfo":
        from fashionflow_core import video
        from fashionflow_core.video import finishing

        generated = source if callable(source) else lambda: source
        with ExitStack() as stack:
            tap = None
            if target.frames_dir is not None:
                # Its own check was made before the work; what it replaces is replaced only when the video is in place.
                tap = stack.enter_context(video.FrameFolder(target.frames_dir, True, self.encode.mark)).add
            return finishing.write(finisher, generated, target.video, metadata, self.encode, tap, photo)

    def report(self, made: dict[str, Any], request: "ResolvedSettings", seconds: dict[str, float]) -> None:
        """Print a finished video: its path, or all that is known of it."""
        if not self.as_json:
            result(made["path"])
            return
        seconds = {"load": self.loading} | seconds
        result_json(
            made
            | {
                "seed": request.seed,
                "scheduler": request.scheduler,
                "steps": request.steps,
                "seconds": {name: round(value, 3) for name, value in seconds.items()},
                "warnings": self.warned.take(),
            }
        )

    def print_plan(self, plan: "RunCost", targets: list[VideoOutput]) -> None:
        """What `--dry-run` prints: files, their size and the time they take; with `--json` everything about the run."""
        files = [str(path) for target in targets for path in (target.video, target.poster, target.frames_dir) if path]
        videos = len({target.item for target in targets})
        described: dict[str, Any] = {"videos": videos, "files": files, **asdict(plan)}
        described["warnings"] = self.warned.take()
        if plan.requirements is None:
            del described["requirements"]
        if self.as_json:
            result_json(described)
            return
        length = plan.frames / plan.fps
        rows = {
            "files": ", ".join(files),
            "size": f"{plan.width}x{plan.height} pixels (width x height), {plan.frames} frames, {length:.1f} s",
            "time": "-",
            "model": f"{plan.model} on {plan.device}",
        }
        if plan.seconds is not None:
            each = f" ({videos} videos of {plan.seconds:.0f} s)" if videos > 1 else ""
            rows["time"] = f"about {plan.seconds * videos:.0f} s{each}, after the model is open"
        if plan.requirements is not None:
            rows |= requirement_rows(asdict(plan.requirements))
        for name, value in rows.items():
            result(f"{name:14}  {value}")


def requirement_rows(needed: Mapping[str, Any]) -> dict[str, str]:
    """What a pipeline of diffusers needs, for people: fields of `generators.requirements.Requirements`."""
    free = "" if needed["free_bytes"] is None else f", {needed['free_bytes'] / 1e9:.1f} GB are free there"
    missing = ", ".join(needed["missing_packages"])
    return {
        "weights": f"{needed['disk_bytes'] / 1e9:.1f} GB on disk, {needed['device_bytes'] / 1e9:.1f} GB opened{free}",
        "offload": f"{needed['offload']} expected",
        "licence": needed["licence"],
    } | ({"missing": f"{missing}: {how_to_install(needed['missing_packages'])}"} if missing else {})


def _watched(
    frames: "Iterator[np.ndarray]", on_frame: Callable[[int], None], taps: "list[Callable[[np.ndarray], None]]"
) -> "Iterator[np.ndarray]":
    """Pass frames on as they come, show each to the taps, and report how many there were."""
    for number, frame in enumerate(frames, start=1):
        for tap in taps:
            tap(frame)
        yield frame
        on_frame(number)
