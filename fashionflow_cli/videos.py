"""Opening, writing and reporting shared by generate, interpolate and lock."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionflow_cli.console import Warnings, note, progress, result, result_json
from fashionflow_core.config import VIDEO_SUFFIXES, EncodeOptions, LoadOptions, SigningOptions
from fashionflow_core.errors import UsageError
from fashionflow_core.generators.folder import how_to_install
from fashionflow_core.utils.files import check_target

if TYPE_CHECKING:
    import numpy as np

    from fashionflow_core.config import ResolvedSettings
    from fashionflow_core.pipeline import FashionFlowPipeline, RunCost
    from fashionflow_core.video import VideoInfo
    from fashionflow_core.video.finishing import Finisher, FinishOptions, Generated

STDIN = Path("-")


@dataclass(frozen=True)
class VideoOutput:
    """One output file: index of its variation, and its poster and folder of frames where requested."""

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
    """List all files to write and check that each can be written, before any work.

    Args:
        finish: with several targets each video has one file per target.

    Raises:
        UsageError: unknown suffix, or a file that would replace its own source.
        FashionFlowError: a file exists, or its folder is missing or not writable.
    """
    from fashionflow_core.video import FrameFolder

    if out.suffix.lower() not in VIDEO_SUFFIXES:
        known = ", ".join(VIDEO_SUFFIXES)
        raise UsageError(f"--out: {out} does not end in one of {known}", hint="the suffix selects the format")
    targets = []
    for item in range(variations):
        number = "" if variations == 1 else f"-{item + 1}"
        stem = f"{out.stem}{number}"
        names = finish.files(stem, out.suffix) if finish is not None else [stem + out.suffix]
        for name in names:
            path = out.with_name(name)
            picture = path.with_name(f"{path.stem}-poster.png") if poster else None
            # Each of several files has frames of its own size.
            which = number + (name.removeprefix(stem).removesuffix(path.suffix) or path.suffix) * (len(names) > 1)
            folder = frames_dir.with_name(f"{frames_dir.name}{which}") if frames_dir is not None else None
            targets.append(VideoOutput(item, path, picture, folder))
    for target in targets:
        for path in (target.video, target.poster):
            if path is None:
                continue
            if path.exists() and source.exists() and path.samefile(source):
                raise UsageError(f"{path}: would replace its own source", hint="pass another name with -o")
            check_target(path, overwrite)
        if target.frames_dir is not None:
            FrameFolder.check(target.frames_dir, overwrite)
    return targets


def signing_of(cert: Path | None, key: Path | None) -> SigningOptions | None:
    """Certificate and key that sign a command's files; None: they are not signed.

    Raises:
        UsageError, FashionFlowError: one without the other; as `signing.check`.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise UsageError("--c2pa-cert, --c2pa-key: only one of them", hint="pass both")
    from fashionflow_core.video import signing

    found = SigningOptions(str(cert.absolute()), str(key.absolute()))
    signing.check(found)
    return found


@dataclass(frozen=True)
class Studio:
    """A loaded model with the options for writing and reporting its videos.

    Attributes:
        pipe: the model.
        loading: seconds of loading.
        encode: encoder options.
        warned: collected warnings.
        quiet: whether progress is hidden.
        as_json: whether a report is a JSON object instead of a path.
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
        """Open a model folder; for a `planned` run only the parts needed for the plan.

        Raises:
            UsageError, FashionFlowError: as `pipeline.load`.
        """
        note(f"loading {folder}", quiet)
        start = time.perf_counter()
        from fashionflow_core import pipeline  # imports torch, which takes seconds: after the cheap checks

        pipe = pipeline.load_for_planning(folder, load) if planned else pipeline.load(folder, load)
        return cls(pipe, time.perf_counter() - start, encode, warned, quiet, as_json)

    def write(
        self,
        frames: "Iterator[np.ndarray]",
        targets: Sequence[VideoOutput],
        finishers: "Sequence[Finisher]",
        metadata: dict[str, str],
        bar: str,
        sources: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """Write a video's files, posters and frames; returns the fields that both commands report per file.

        Args:
            frames: generated frames, uint8 (h, w, 3), sRGB.
            targets, finishers: one of each per file, in the same order.
            bar: label of a progress bar over the frames; empty: none.
            sources: files that they were made from, for signatures.
        """
        from fashionflow_core.video import poster
        from fashionflow_core.video.finishing import replayed

        picker = poster.PosterPicker() if any(target.poster is not None for target in targets) else None
        found = []
        with ExitStack() as stack:
            count = finishers[0].generated
            written = stack.enter_context(progress(bar, count, "frame", self.quiet)) if bar else lambda done: None
            frames = _watched(frames, written, [picker.add] if picker is not None else [])
            generated = stack.enter_context(replayed(frames, finishers, [target.video for target in targets]))
            for target, finisher in zip(targets, finishers, strict=True):
                info = self._write_one(generated(finisher), target, finisher, metadata, sources)
                if target.poster is not None and picker is not None and picker.poster is not None:
                    poster.write(target.poster, finisher.still(picker.poster), self.encode, metadata, sources)
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
        generated: "Generated",
        target: VideoOutput,
        finisher: "Finisher",
        metadata: dict[str, str],
        sources: Sequence[str],
    ) -> "VideoInfo":
        from fashionflow_core import video
        from fashionflow_core.video import finishing

        with ExitStack() as stack:
            tap = None
            if target.frames_dir is not None:
                # Its own check was made before the work; what it replaces is replaced only when the video is in place.
                tap = stack.enter_context(video.FrameFolder(target.frames_dir, True, self.encode.mark)).add
            return finishing.write(finisher, generated, target.video, metadata, self.encode, tap, sources)

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
