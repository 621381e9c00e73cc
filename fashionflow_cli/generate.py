"""`fashionflow generate`: one photo in, one or more videos out; many photos go on to `catalogue`."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fashionflow_cli import catalogue, options
from fashionflow_cli.console import WARNINGS, note, progress, quiet_libraries, result, result_json
from fashionflow_core.config import VIDEO_SUFFIXES, GenerateSettings
from fashionflow_core.errors import UsageError
from fashionflow_core.files import check_target

if TYPE_CHECKING:
    import numpy as np

    from fashionflow_core.pipeline import FashionFlowPipeline, Plan

STDIN = Path("-")
EXAMPLES = """[bold]Examples[/bold]

fashionflow generate dress.jpg -o dress.mp4

fashionflow generate dress.jpg --variations 4 --seed 7 --poster

fashionflow generate dress.heic --fit crop -o dress.webm --frames-dir frames

fashionflow generate photos/ -o videos/ --batch 4

fashionflow generate - --model ./my-model --config shop.yaml --dry-run < dress.png
"""


def generate(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO...",
            help="The garment photo: JPEG, PNG, WebP, AVIF, TIFF, GIF or HEIC; - reads it from stdin. "
            "Or many: several photos, a folder, a pattern, or a list (.txt, .csv, .jsonl; - with -o FOLDER).",
            show_default=False,
        ),
    ],
    out: options.Out = None,
    fit: options.Fit = None,
    size: options.Frame = None,
    background: options.Background = options.WHITE,
    max_megapixels: options.MaxMegapixels = 50.0,
    codec: options.Codec = None,
    crf: options.Crf = None,
    encoder: options.Encoder = "software",
    fps: options.Fps = None,
    frames_dir: options.FramesDir = None,
    poster: options.Poster = False,
    overwrite: options.Overwrite = False,
    format: options.Format = "mp4",
    devices: options.Devices = None,
    batch: options.Batch = 0,
    engine: options.Engine = "local",
    ray_address: options.RayAddress = None,
    gate: options.Gate = False,
    gate_limits: options.GateLimits = None,
    reroll: options.Reroll = 0,
    scores: options.Scores = True,
    retry_failed: options.RetryFailed = False,
    model: options.Model = "mini",
    lora: options.Lora = None,
    conditioning: options.Conditioning = None,
    frames: options.Frames = None,
    interpolate: options.Interpolate = 1,
    steps: options.Steps = None,
    scheduler: options.Scheduler = None,
    guidance: options.Guidance = 1.0,
    guidance_interval: options.GuidanceInterval = options.EVERYWHERE,
    seed: options.Seed = 0,
    variations: options.Variations = 1,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    backend: options.Backend = "auto",
    compile: options.Compile = False,
    low_memory: options.LowMemory = False,
    allow_unverified: options.AllowUnverified = False,
    decode_chunk: options.DecodeChunk = 7,
    config: options.Config = None,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Turn one garment photo into a short video of a moving figure.

    The path of each video goes to stdout, progress and warnings to stderr.
    """
    WARNINGS.quiet = quiet
    settings = GenerateSettings(
        seed=seed,
        frames=frames,
        fps=fps,
        steps=steps,
        scheduler=scheduler,
        fit=fit,
        size=size,
        decode_chunk=decode_chunk,
        guidance_scale=guidance,
        guidance_interval=guidance_interval,
        conditioning=conditioning,
        interpolate=interpolate,
    )
    if catalogue.wanted(photos, out):
        if frames_dir is not None:
            raise UsageError("--frames-dir: is for one photo", hint="leave it out, or name one photo and -o NAME.mp4")
        common = {"dtype": dtype, "background": background, "max_megapixels": max_megapixels}
        common["coding"] = {"crf": crf, "codec": codec, "encoder": encoder}
        opening = {
            "backend": backend,
            "allow_unverified": allow_unverified,
            "compile": compile,
            "low_memory": low_memory,
        }
        common["loading"] = {name: value for name, value in opening.items() if value not in ("auto", False)}
        common["loading"] |= {"lora": str(lora.resolve())} if lora is not None else {}
        more = (gate, gate_limits, reroll, scores, engine, ray_address, retry_failed)
        chosen = catalogue.Options(f".{format}", devices, batch, *more)
        catalogue.generate(
            photos, out, settings, variations, common, chosen, model, device, overwrite, dry_run, quiet, as_json
        )
        return
    (photo,) = photos
    targets = plan_targets(photo, out, variations, poster, frames_dir, overwrite)
    coding = {"crf": crf, "codec": codec, "encoder": encoder}
    quiet_libraries()

    from fashionflow_core import registry, video
    from fashionflow_core.foreground import warn_if_no_figure
    from fashionflow_core.photo import load_photo

    if fps is not None and not fps <= video.MAX_FPS:
        raise UsageError(f"--fps: must be above 0 and at most {video.MAX_FPS}, not {fps}")
    video.check_options(targets[0].video, **coding)
    pixels = load_photo(photo, background=background, max_megapixels=max_megapixels)
    warn_if_no_figure(pixels, "<stdin>" if photo == STDIN else str(photo))
    of_photo = WARNINGS.take()
    folder = registry.find(model)
    note(f"loading {folder}", quiet)
    start = time.perf_counter()
    from fashionflow_core import pipeline  # imports torch, which takes seconds: after all that can be refused without

    pipe = pipeline.load(folder, device, dtype, backend, lora, allow_unverified, compile, low_memory)
    loading = time.perf_counter() - start
    note(f"{pipe.config.name}: {pipe.config.purpose}", quiet)
    if dry_run:
        print_plan(pipe.plan(settings, pixels, measure=True), targets, of_photo + WARNINGS.take(), as_json)
        return
    for target in targets:
        made = make_video(pipe, pixels, settings, target, coding, quiet)
        made["seconds"] = {"load": round(loading, 3), **made["seconds"]}
        made["warnings"] = of_photo + WARNINGS.take()
        if as_json:
            result_json(made)
        else:
            result(str(target.video))


@dataclass(frozen=True)
class Target:
    """One video to make: its number among the variations, its file, and its poster and folder of frames if wanted."""

    item: int
    video: Path
    poster: Path | None
    frames_dir: Path | None


def plan_targets(
    photo: Path, out: Path | None, variations: int, poster: bool, frames_dir: Path | None, overwrite: bool
) -> list[Target]:
    """Name everything that will be written, and check that it may be, before any work.

    Raises:
        UsageError: no suffix of a video, or a file that would replace the photo (or video) it is made from.
        FashionFlowError: a file exists, or its folder is missing or not writable.
    """
    from fashionflow_core.video import FrameFolder

    stem = "video" if photo == STDIN else photo.stem or "video"
    out = out if out is not None else Path(f"{stem}{VIDEO_SUFFIXES[0]}")
    if out.suffix.lower() not in VIDEO_SUFFIXES:
        known = ", ".join(VIDEO_SUFFIXES)
        raise UsageError(f"--out: {out} does not end in one of {known}", hint="the suffix chooses the kind of video")
    targets = []
    for item in range(variations):
        number = "" if variations == 1 else f"-{item + 1}"
        path = out.with_name(f"{out.stem}{number}{out.suffix}")
        first = path.with_name(f"{path.stem}-poster.png") if poster else None
        folder = frames_dir.with_name(f"{frames_dir.name}{number}") if frames_dir is not None else None
        targets.append(Target(item, path, first, folder))
    for target in targets:
        for path in (target.video, target.poster):
            if path is None:
                continue
            if path.exists() and photo.exists() and path.samefile(photo):
                raise UsageError(f"{path}: would replace what it is made from", hint="pass another name with -o")
            check_target(path, overwrite)
        if target.frames_dir is not None:
            FrameFolder.check(target.frames_dir, overwrite)
    return targets


def make_video(
    pipe: "FashionFlowPipeline",
    photo: "np.ndarray",
    settings: GenerateSettings,
    target: Target,
    coding: dict[str, Any],
    quiet: bool,
) -> dict[str, Any]:
    """Generate and write one video with its poster and frames; returns what `--json` reports about it."""
    from fashionflow_core import image, video

    request = pipe.resolve(settings)  # refused before a bar is drawn
    start = time.perf_counter()
    with progress("denoising", pipe.count_steps(request), "step", quiet) as denoised:
        clip = pipe.generate(photo, settings, item=target.item, on_step=lambda done, _steps: denoised(done))
    generated = time.perf_counter()
    first: list[np.ndarray] = []
    with ExitStack() as stack:
        taps = [lambda frame: None if first else first.append(frame)]
        if target.frames_dir is not None:
            # Its own check was made before the work; what it replaces is replaced only when the video is in place.
            taps.append(stack.enter_context(video.FrameFolder(target.frames_dir, overwrite=True)).add)
        decoded = stack.enter_context(progress("decoding", clip.count, "frame", quiet))
        frames = watch(clip.frames, decoded, taps)
        info = video.write(frames, target.video, clip.fps, clip.count, clip.metadata, **coding)
    if target.poster is not None:
        image.write_png(target.poster, first[0])
    written = time.perf_counter()
    return {
        "path": str(target.video),
        "poster": str(target.poster) if target.poster else None,
        "frames_dir": str(target.frames_dir) if target.frames_dir else None,
        "frames": info.frames,
        "fps": info.fps,
        "height": info.height,
        "width": info.width,
        "codec": info.codec,
        "encoder": info.encoder,
        "seed": request.seed,
        "item": target.item,
        "model": pipe.config.name,
        "scheduler": request.scheduler,
        "steps": request.steps,
        "seconds": {"denoise": round(generated - start, 3), "decode": round(written - generated, 3)},
    }


def watch(
    frames: "Iterator[np.ndarray]", on_frame: Callable[[int], None], taps: "list[Callable[[np.ndarray], None]]"
) -> "Iterator[np.ndarray]":
    """Pass frames on as they come, show each to the taps, and report how many there were."""
    for number, frame in enumerate(frames, start=1):
        for tap in taps:
            tap(frame)
        yield frame
        on_frame(number)


def print_plan(plan: "Plan", targets: list[Target], warned: list[str], as_json: bool) -> None:
    """What `--dry-run` says: what would be made, how, and at what cost."""
    files = [str(path) for target in targets for path in (target.video, target.poster, target.frames_dir) if path]
    described: dict[str, Any] = {"videos": len(targets), "files": files, **asdict(plan), "warnings": warned}
    if as_json:
        result_json(described)
        return
    described["tflop"] = ", ".join(f"{part} {count:.3g}" for part, count in plan.tflop.items())
    described["seconds"] = f"{plan.seconds:.0f} a video, reckoned from one timed step" if plan.seconds else None
    described["weights_bytes"] = f"{plan.weights_bytes:,}"
    for name, value in described.items():
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        result(f"{name.replace('_', ' '):14}  {'-' if text in (None, '') else text}")
