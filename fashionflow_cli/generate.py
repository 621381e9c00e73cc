"""`fashionflow generate`: one photo in, one or more videos out."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fashionflow_cli.console import Size, note, one_of, parse_size, progress, quiet_libraries, result, result_json
from fashionflow_core.config import FIT_MODES, SCHEDULERS, GenerateSettings
from fashionflow_core.device import DTYPES
from fashionflow_core.errors import UsageError
from fashionflow_core.files import check_target

if TYPE_CHECKING:
    import numpy as np

    from fashionflow_core.pipeline import FashionFlowPipeline

INPUT, MODEL, SAMPLING, MACHINE, REPORTING = "Input and output", "Model", "Sampling", "Machine", "Reporting"
SUFFIX = ".mp4"
EXAMPLES = """[bold]Examples[/bold]

fashionflow generate dress.jpg -o dress.mp4

fashionflow generate dress.jpg --variations 4 --seed 7 --poster

fashionflow generate dress.jpg --model ./my-model --steps 25 --scheduler dpm++ --json
"""


def generate(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="The garment photo: JPEG or PNG.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The video to write (.mp4). [dim]\\[default: the photo's name, in this folder][/dim]",
            envvar="FASHIONFLOW_OUT",
            rich_help_panel=INPUT,
        ),
    ] = None,
    poster: Annotated[
        bool,
        typer.Option(
            "--poster",
            help="Also write the first frame, as NAME-poster.png beside the video NAME.mp4.",
            envvar="FASHIONFLOW_POSTER",
            rich_help_panel=INPUT,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace existing files.", envvar="FASHIONFLOW_OVERWRITE", rich_help_panel=INPUT
        ),
    ] = False,
    fit: Annotated[
        str | None,
        typer.Option(
            help="How the photo is brought to the model's frame. [dim]\\[default: the model's][/dim]",
            envvar="FASHIONFLOW_FIT",
            rich_help_panel=INPUT,
            **one_of(FIT_MODES),
        ),
    ] = None,
    size: Annotated[
        Size | None,
        typer.Option(
            help="Frame size in pixels; only the model's own is possible, so this only states what you expect.",
            parser=parse_size,
            metavar="HxW",
            envvar="FASHIONFLOW_SIZE",
            rich_help_panel=INPUT,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="A name from [bold]fashionflow models list[/bold], or a model folder.",
            envvar="FASHIONFLOW_MODEL",
            rich_help_panel=MODEL,
        ),
    ] = "mini",
    frames: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            metavar="<int>",
            help="Number of frames. [dim]\\[default: the model's][/dim]",
            envvar="FASHIONFLOW_FRAMES",
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Frames per second of the file. [dim]\\[default: the model's][/dim]",
            envvar="FASHIONFLOW_FPS",
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Denoising steps. [dim]\\[default: the model's][/dim]",
            envvar="FASHIONFLOW_STEPS",
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="The sampler. [dim]\\[default: the model's][/dim]",
            envvar="FASHIONFLOW_SCHEDULER",
            rich_help_panel=SAMPLING,
            **one_of(SCHEDULERS),
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**63 - 1,
            metavar="<int>",
            help="The same seed gives the same video.",
            envvar="FASHIONFLOW_SEED",
            rich_help_panel=SAMPLING,
        ),
    ] = 0,
    variations: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of different videos of this photo: NAME-1.mp4, NAME-2.mp4 and so on.",
            envvar="FASHIONFLOW_VARIATIONS",
            rich_help_panel=SAMPLING,
        ),
    ] = 1,
    device: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", envvar="FASHIONFLOW_DEVICE", rich_help_panel=MACHINE),
    ] = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            help="Number type of the networks.",
            envvar="FASHIONFLOW_DTYPE",
            rich_help_panel=MACHINE,
            **one_of(("auto", *DTYPES)),
        ),
    ] = "auto",
    decode_chunk: Annotated[
        int,
        typer.Option(
            min=1,
            help="Frames decoded at a time; fewer need less memory. Halved by itself when memory runs out.",
            envvar="FASHIONFLOW_DECODE_CHUNK",
            rich_help_panel=MACHINE,
        ),
    ] = 7,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Only errors on stderr.", envvar="FASHIONFLOW_QUIET", rich_help_panel=REPORTING
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="One JSON object a video on stdout, instead of its path.",
            envvar="FASHIONFLOW_JSON",
            rich_help_panel=REPORTING,
        ),
    ] = False,
) -> None:
    """Turn one garment photo into a short video of a moving figure.

    The path of each video goes to stdout, progress to stderr.
    """
    settings = GenerateSettings(
        seed=seed,
        frames=frames,
        fps=fps,
        steps=steps,
        scheduler=scheduler,
        fit=fit,
        size=size,
        decode_chunk=decode_chunk,
    )
    targets = plan_targets(photo, out, variations, poster, overwrite)
    quiet_libraries()

    from fashionflow_core import image, registry, video

    if fps is not None and not fps <= video.MAX_FPS:
        raise UsageError(f"--fps: must be above 0 and at most {video.MAX_FPS}, not {fps}")
    pixels = image.load_photo(photo)
    folder = registry.find(model)
    note(f"loading {folder}", quiet)
    start = time.perf_counter()
    from fashionflow_core import pipeline  # imports torch, which takes seconds: after all that can be refused without

    pipe = pipeline.load(folder, device=device, dtype=dtype)
    loading = time.perf_counter() - start
    note(f"{pipe.config.name}: {pipe.config.purpose}", quiet)
    for target in targets:
        made = make_video(pipe, pixels, settings, target, quiet)
        made["seconds"] = {"load": round(loading, 3), **made["seconds"]}
        if as_json:
            result_json(made)
        else:
            result(str(target.video))


@dataclass(frozen=True)
class Target:
    """One video to make: its number among the variations, its file, and its poster if one is wanted."""

    item: int
    video: Path
    poster: Path | None


def plan_targets(photo: Path, out: Path | None, variations: int, poster: bool, overwrite: bool) -> list[Target]:
    """Name every file that will be written, and check that it may be, before any work.

    Raises:
        UsageError: not an .mp4, or a file that would replace the photo.
        FashionFlowError: a file exists, or its folder is missing or not writable.
    """
    out = out if out is not None else Path(f"{photo.stem or 'video'}{SUFFIX}")
    if out.suffix.lower() != SUFFIX:
        raise UsageError(f"--out: {out} does not end in {SUFFIX}", hint=f"videos are written as {SUFFIX} (H.264)")
    targets = []
    for item in range(variations):
        path = out if variations == 1 else out.with_name(f"{out.stem}-{item + 1}{out.suffix}")
        targets.append(Target(item, path, path.with_name(f"{path.stem}-poster.png") if poster else None))
    for path in (path for target in targets for path in (target.video, target.poster) if path is not None):
        if path.exists() and photo.exists() and path.samefile(photo):
            raise UsageError(f"{path}: would replace the photo itself", hint="pass another name with -o")
        check_target(path, overwrite)
    return targets


def make_video(
    pipe: "FashionFlowPipeline", photo: "np.ndarray", settings: GenerateSettings, target: Target, quiet: bool
) -> dict[str, Any]:
    """Generate and write one video and its poster; returns what `--json` reports about it."""
    from fashionflow_core import image, video

    steps = settings.steps or pipe.config.steps
    start = time.perf_counter()
    with progress("denoising", steps, "step", quiet) as denoised:
        clip = pipe.generate(photo, settings, item=target.item, on_step=lambda done, _steps: denoised(done))
    generated = time.perf_counter()
    first: list[np.ndarray] = []
    with progress("decoding", clip.count, "frame", quiet) as decoded:
        frames = _watch(clip.frames, decoded, first)
        info = video.write(frames, target.video, fps=clip.fps, count=clip.count, metadata=clip.metadata)
    if target.poster is not None:
        image.write_png(target.poster, first[0])
    written = time.perf_counter()
    return {
        "path": str(target.video),
        "poster": str(target.poster) if target.poster else None,
        "frames": info.frames,
        "fps": info.fps,
        "height": info.height,
        "width": info.width,
        "seed": settings.seed,
        "item": target.item,
        "model": pipe.config.name,
        "scheduler": settings.scheduler or pipe.config.scheduler,
        "steps": steps,
        "seconds": {"denoise": round(generated - start, 3), "decode": round(written - generated, 3)},
    }


def _watch(
    frames: "Iterator[np.ndarray]", on_frame: Callable[[int], None], first: "list[np.ndarray]"
) -> "Iterator[np.ndarray]":
    """Pass frames on as they come, report how many there were, and keep the first one in `first`."""
    for number, frame in enumerate(frames, start=1):
        if number == 1:
            first.append(frame)
        yield frame
        on_frame(number)
