"""`fashionflow data synth`."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from fashionflow_cli import options
from fashionflow_cli.console import Size, parse_size, progress, result, result_json
from fashionflow_cli.wording import CommandLine
from fashionflow_core.errors import FashionFlowError, UsageError, Wording
from fashionflow_core.utils.files import write_text
from fashionflow_core.utils.signals import STOPS

DEFAULT_SIZE = Size(320, 256)
ATTRIBUTES_FILE = "attributes.jsonl"
MOTION_SUFFIX = ".safetensors"
MAX_CLIPS = 1_000_000  # clip names have six digits
# Each clip contains its request, so that a later run can tell whether it needs to be rendered again.
REQUEST_KEY, ATTRIBUTES_KEY = "fashionflow_request", "fashionflow_attributes"

EXAMPLES = (
    "[bold]Examples[/bold]\n\n"
    "fashionflow data synth -o clips --clips 1000 --size 320x256 --frames 70 --jobs 4\n\n"
    "fashionflow data synth --motion -o motion --clips 2000 --jobs 4\n\n"
    "fashionflow data synth --motion --style 3d --with-video -o motion-3d --clips 16"
)


@dataclass(frozen=True)
class ClipRequest:
    """Settings that determine every pixel of a clip."""

    seed: int
    frames: int
    height: int
    width: int
    fps: float


@dataclass(frozen=True)
class MotionRequest:
    """Settings that determine every byte of a motion clip, and of its video if it has one."""

    seed: int
    style: str
    frames: int = 0  # of the video; 0: none
    fps: float = 25.0


class Style(StrEnum):
    """Kind of figures."""

    DRAWN = "drawn"
    THREE_D = "3d"


def synth(
    out: Annotated[Path, typer.Option("--out", "-o", help="Target folder, created if missing.", show_default=False)],
    clips: Annotated[int, typer.Option(min=1, max=MAX_CLIPS, help="Number of clips.")] = 16,
    size: Annotated[
        Size,
        typer.Option(
            parser=parse_size, metavar="HxW", help="Height and width in pixels, both even.", show_default="320x256"
        ),
    ] = DEFAULT_SIZE,
    frames: Annotated[int, typer.Option(min=1, help="Frames per clip.")] = 70,
    fps: Annotated[float, typer.Option(min=1, max=1000, help="Frames per second.")] = 25.0,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**40,
            help=f"Clip i is rendered with seed × {MAX_CLIPS} + i, so different seeds share no clip.",
        ),
    ] = 0,
    motion: Annotated[
        bool,
        typer.Option(
            "--motion",
            help="Make motion clips instead of videos: photo, matte, parts and true motion channels of a figure. "
            "--size does not apply; --frames and --fps only with --with-video.",
        ),
    ] = False,
    style: Annotated[
        Style,
        typer.Option(help="Figures of motion clips: drawn, or 3-D bodies in simulated clothes (extra synth3d)."),
    ] = Style.DRAWN,
    with_video: Annotated[
        bool, typer.Option("--with-video", help="Also write each motion clip as a video of 640x512.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Parallel processes.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Render existing clips again.")] = False,
    quiet: options.Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON summary instead of the folder.")] = False,
) -> None:
    """Render clips of dressed figures that turn, step and sway: clip-000000.mp4 and so on, with attributes.jsonl.

    An interrupted run resumes; finished clips are kept.
    """
    if size.height % 2 or size.width % 2:
        raise UsageError(f"--size: {size.height}x{size.width} is odd", hint="H.264 video needs even sides")
    if not motion and (style != Style.DRAWN or with_video):
        option = "--with-video" if with_video else f"--style {style.value}"
        raise UsageError(f"{option}: only with --motion", hint="add --motion")
    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    seeds = range(seed * MAX_CLIPS, seed * MAX_CLIPS + clips)
    suffix = MOTION_SUFFIX if motion else ".mp4"
    shown = frames if with_video else 0
    requests = [
        MotionRequest(number, style.value, shown, fps) if motion else ClipRequest(number, frames, *size, fps)
        for number in seeds
    ]
    paths = [out / f"clip-{index:06}{suffix}" for index in range(clips)]
    attributes: dict[Path, Any] = {}
    if not overwrite:
        for path, request in zip(paths, requests):
            if all(made.exists() for made in files_of(path, request)):
                attributes[path] = read_attributes(path, request)
    kept = len(attributes)
    missing = [(path, request) for path, request in zip(paths, requests) if path not in attributes]
    if missing and style == Style.THREE_D:
        from fashionflow_core.synthetic.figures3d.body import body_model

        body_model()  # prepared once, before several processes ask for it
    with progress("rendering", clips, "clip", quiet) as rendered:
        rendered(kept)
        for path, made in _render_all(missing, jobs):
            attributes[path] = made
            rendered(len(attributes))
    lines = [
        json.dumps({"file": path.name, "seed": request.seed, "attributes": attributes[path]}, ensure_ascii=False)
        for path, request in zip(paths, requests)
    ]
    write_text(out / ATTRIBUTES_FILE, "\n".join(lines) + "\n")
    seconds = round(time.perf_counter() - start, 3)
    if as_json:
        result_json({"folder": str(out), "clips": clips, "rendered": clips - kept, "kept": kept, "seconds": seconds})
    else:
        result(str(out))


def render(path: Path, request: ClipRequest | MotionRequest) -> dict[str, Any]:
    """Render one clip to `path`; returns the figure's attributes."""
    if isinstance(request, MotionRequest):
        return _render_motion(path, request)
    from fashionflow_core import video
    from fashionflow_core.synthetic.clips import render_clip

    clip = render_clip(**asdict(request))
    metadata = {
        REQUEST_KEY: json.dumps(asdict(request)),
        ATTRIBUTES_KEY: json.dumps(clip.attributes, ensure_ascii=False),
    }
    video.write(clip.frames, path, fps=request.fps, count=request.frames, metadata=metadata, mark=False)
    return clip.attributes


def _render_motion(path: Path, request: MotionRequest) -> dict[str, Any]:
    from fashionflow_core import video
    from fashionflow_core.motion.timing import SPACING
    from fashionflow_core.synthetic.motion_clips import KEYS, make_motion_clip, motion_frames, write_motion_clip

    if request.style == Style.THREE_D:
        from fashionflow_core.synthetic.figures3d.clip import Figure3d

        figure = Figure3d(request.seed, max((KEYS - 1) * SPACING, request.frames / request.fps))
        made, frames = figure.clip(), figure.frames(request.frames, request.fps)
    else:
        made, frames = make_motion_clip(request.seed), motion_frames(request.seed, request.frames, request.fps)
    if request.frames:
        metadata = {REQUEST_KEY: json.dumps(asdict(request))}
        shown = files_of(path, request)[1]
        video.write(frames, shown, fps=request.fps, count=request.frames, metadata=metadata, mark=False)
    write_motion_clip(made, path)
    return made.info["attributes"]


def files_of(path: Path, request: ClipRequest | MotionRequest) -> list[Path]:
    """Files of a request: the clip, and a motion clip's video if it has one."""
    shown = isinstance(request, MotionRequest) and request.frames
    return [path, path.with_suffix(".mp4")] if shown else [path]


def read_attributes(path: Path, request: ClipRequest | MotionRequest) -> dict[str, Any]:
    """The attributes of an existing clip.

    Raises:
        FashionFlowError: the clip was not made from `request`.
    """
    if isinstance(request, MotionRequest):
        from fashionflow_core.synthetic.motion_clips import read_motion_info

        info = read_motion_info(path)
        attributes = info["attributes"]
        if (info.get("seed"), attributes.get("style", "drawn")) != (request.seed, request.style):
            raise _other_settings(path)
        for shown in files_of(path, request)[1:]:
            _read_video(shown, request)
        return attributes
    return json.loads(_read_video(path, request).get(ATTRIBUTES_KEY, "null"))


def _read_video(path: Path, request: ClipRequest | MotionRequest) -> dict[str, str]:
    """The metadata of a video that was made from `request`."""
    from fashionflow_core import video

    metadata = video.read_metadata(path)
    try:
        if json.loads(metadata[REQUEST_KEY]) == asdict(request):
            return metadata
    except (KeyError, ValueError):
        pass
    raise _other_settings(path)


def _other_settings(path: Path) -> FashionFlowError:
    return FashionFlowError(
        f"{path}: exists and was made with other settings", hint="pass --overwrite, or choose another folder with -o"
    )


def _render_all(
    missing: list[tuple[Path, ClipRequest | MotionRequest]], jobs: int
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Render clips here or in `jobs` processes; yields each path with its attributes when done."""
    if jobs == 1 or len(missing) < 2:
        for path, request in missing:
            yield path, render(path, request)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    workers = min(jobs, len(missing))
    # Forking a process that has started threads (the encoder's, the progress bar's) may hang it.
    executor = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)
    try:
        futures = {executor.submit(render, path, request): path for path, request in missing}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        # Not `with`, whose end would wait for all remaining clips.
        executor.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Ignore the signals that the parent handles; SIGTERM ends a worker without leaving half a file."""

    def stop(_signum: int, _frame: FrameType | None) -> None:
        sys.exit(143)

    for signum in STOPS:
        signal.signal(signum, stop if signum == signal.SIGTERM else signal.SIG_IGN)
    Wording.current = CommandLine()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
