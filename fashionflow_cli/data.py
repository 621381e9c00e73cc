"""`fashionflow data`: videos for training. Here: `synth`, rendered clips of dressed figures, the same for each seed."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from fashionflow_cli import data_download, data_prepare
from fashionflow_cli.console import Size, parse_size, progress, result, result_json
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.files import write_text

app = typer.Typer(help="Make, fetch and prepare training data.", no_args_is_help=True)

DEFAULT_SIZE = Size(320, 256)
ATTRIBUTES_FILE = "attributes.jsonl"
MAX_CLIPS = 1_000_000  # clip names have six digits
# Each clip carries what it was made from, so that a later run knows whether it is the one that is wanted.
REQUEST_KEY, ATTRIBUTES_KEY = "fashionflow_request", "fashionflow_attributes"

app.command("download", epilog=data_download.EXAMPLES, no_args_is_help=True)(data_download.download)
app.command("prepare", epilog=data_prepare.EXAMPLES, no_args_is_help=True)(data_prepare.prepare)


@dataclass(frozen=True)
class Request:
    """What fixes every pixel of a clip."""

    seed: int
    frames: int
    height: int
    width: int
    fps: float


@app.command(
    epilog="[bold]Example[/bold]\n\nfashionflow data synth -o clips --clips 1000 --size 320x256 --frames 70 --jobs 4",
    no_args_is_help=True,
)
def synth(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The folder to fill; made where missing.", show_default=False)
    ],
    clips: Annotated[int, typer.Option(min=1, max=MAX_CLIPS, help="Number of clips.")] = 16,
    size: Annotated[
        Size,
        typer.Option(
            parser=parse_size, metavar="HxW", help="Height and width in pixels, both even.", show_default="320x256"
        ),
    ] = DEFAULT_SIZE,
    frames: Annotated[int, typer.Option(min=1, help="Frames of each clip.")] = 70,
    fps: Annotated[float, typer.Option(min=1, max=1000, help="Frames per second.")] = 25.0,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**40,
            help=f"Clip i is rendered with seed × {MAX_CLIPS} + i, so different seeds share no clip.",
        ),
    ] = 0,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes that render.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Render existing clips again.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only errors on stderr.", envvar="FASHIONFLOW_QUIET")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="A JSON summary on stdout, instead of the folder.", envvar="FASHIONFLOW_JSON"),
    ] = False,
) -> None:
    """Render clips of dressed figures that turn, step and sway: clip-000000.mp4 and so on, with attributes.jsonl.

    An interrupted run goes on where it stopped: finished clips are kept.
    """
    if size.height % 2 or size.width % 2:
        raise UsageError(f"--size: {size.height}x{size.width} is odd", hint="H.264 video needs even sides")
    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    requests = [Request(seed * MAX_CLIPS + index, frames, *size, fps) for index in range(clips)]
    paths = [out / f"clip-{index:06}.mp4" for index in range(clips)]
    attributes: dict[Path, Any] = {}
    if not overwrite:
        for path, request in zip(paths, requests):
            if path.exists():
                attributes[path] = read_attributes(path, request)
    kept = len(attributes)
    missing = [(path, request) for path, request in zip(paths, requests) if path not in attributes]
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


def render(path: Path, request: Request) -> dict[str, Any]:
    """Render one clip to `path`; returns the figure's attributes."""
    from fashionflow_core import video
    from fashionflow_core.data.synthetic import render_clip

    clip = render_clip(**asdict(request))
    metadata = {
        REQUEST_KEY: json.dumps(asdict(request)),
        ATTRIBUTES_KEY: json.dumps(clip.attributes, ensure_ascii=False),
    }
    video.write(clip.frames, path, fps=request.fps, count=request.frames, metadata=metadata)
    return clip.attributes


def read_attributes(path: Path, request: Request) -> dict[str, Any]:
    """The attributes of an existing clip.

    Raises:
        FashionFlowError: the clip was not made from `request`.
    """
    from fashionflow_core import video

    metadata = video.read_metadata(path)
    try:
        if json.loads(metadata[REQUEST_KEY]) == asdict(request):
            return json.loads(metadata[ATTRIBUTES_KEY])
    except (KeyError, ValueError):
        pass
    raise FashionFlowError(
        f"{path}: exists, and was made with other settings", hint="pass --overwrite, or another folder with -o"
    )


def _render_all(missing: list[tuple[Path, Request]], jobs: int) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Render clips as they are asked for, or in `jobs` processes; yields each path with its attributes when done."""
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
        # Not `with`: its end would wait for every clip that is still to come.
        executor.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Ctrl-C is for the parent, which then lets running clips finish; SIGTERM ends a worker without half a file."""

    def stop(_signum: int, _frame: FrameType | None) -> None:
        sys.exit(143)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
