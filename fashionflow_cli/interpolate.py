"""`fashionflow interpolate`: a video in, the same with two or four times as many frames out (paper 3.3)."""

import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from fashionflow_cli import options
from fashionflow_cli.console import WARNINGS, note, progress, quiet_libraries, result, result_json
from fashionflow_cli.generate import plan_targets, print_plan, watch
from fashionflow_core.config import VIDEO_SUFFIXES, GenerateSettings
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, UsageError

EXAMPLES = """[bold]Examples[/bold]

fashionflow interpolate dress.mp4 -o smooth.mp4

fashionflow interpolate dress.mp4 --factor 4 --fps 25 -o slow-motion.mp4
"""


def interpolate(
    source: Annotated[Path, typer.Argument(metavar="VIDEO", help="Any video; sound is not kept.", show_default=False)],
    out: Annotated[
        Path | None,
        options.option(
            options.VIDEO,
            "out",
            "-o",
            text=f"The video: {', '.join(VIDEO_SUFFIXES)}. [dim]\\[default: NAME-x2.mp4 in this folder][/dim]",
        ),
    ] = None,
    factor: Annotated[
        int, options.option(options.SAMPLING, "factor", text="Frames for each of the video's: 2 or 4.", metavar="2|4")
    ] = 2,
    fit: options.Fit = None,
    codec: options.Codec = None,
    crf: options.Crf = None,
    encoder: options.Encoder = "software",
    fps: Annotated[
        float | None,
        options.option(
            options.VIDEO, "fps", text="Frames per second of the file. [dim]\\[default: the duration stays][/dim]"
        ),
    ] = None,
    frames_dir: options.FramesDir = None,
    overwrite: options.Overwrite = False,
    model: options.Model = "mini",
    lora: options.Lora = None,
    frames: Annotated[
        int | None,
        options.option(
            options.SAMPLING, "frames", text="Length of the windows that are filled at once.", of_model=True, min=1
        ),
    ] = None,
    steps: options.Steps = None,
    scheduler: options.Scheduler = None,
    seed: options.Seed = 0,
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
    """Fill in frames between those of a video, with a model that was trained for it.

    The result has the model's frame size. Given frames come back as the model's VAE shows them.
    """
    WARNINGS.quiet = quiet
    if factor not in (2, 4):
        raise UsageError(f"--factor: must be 2 or 4, not {factor}")
    settings = GenerateSettings(
        seed=seed,
        frames=frames,
        steps=steps,
        scheduler=scheduler,
        fit=fit,
        decode_chunk=decode_chunk,
        interpolate=factor,
    )
    out = out if out is not None else Path(f"{source.stem}-x{factor}.mp4")
    (target,) = plan_targets(source, out, 1, False, frames_dir, overwrite)
    coding = {"crf": crf, "codec": codec, "encoder": encoder}
    quiet_libraries()

    from fashionflow_core import registry, video
    from fashionflow_core.data import clips

    video.check_options(target.video, **coding)
    found = clips.measure(source)
    if found.frames < 2:
        raise FashionFlowError(f"{source}: holds a single frame, so there is nothing in between")
    rate = fps if fps is not None else (found.fps or 25) * factor
    if not 0 < rate <= video.MAX_FPS:
        raise UsageError(f"--fps: must be above 0 and at most {video.MAX_FPS}, not {rate:g}")
    folder = registry.find(model)
    note(f"loading {folder}", quiet)
    start = time.perf_counter()
    from fashionflow_core import pipeline

    pipe = pipeline.load(folder, device, dtype, backend, lora, allow_unverified, compile, low_memory)
    loading = time.perf_counter() - start
    request = pipe.resolve(settings).filling
    height, width = request.size
    if found.height > height or found.width > width:
        warnings.warn(
            f"{source}: {found.height}x{found.width} is brought to the {height}x{width} of model {pipe.config.name}",
            FashionFlowWarning,
            stacklevel=1,
        )
    plan = pipe.plan(settings, measure=dry_run, video_frames=found.frames, fps=rate)
    if dry_run:
        print_plan(plan, [target], WARNINGS.take(), as_json)
        return
    start = time.perf_counter()
    with ExitStack() as stack:
        denoised = stack.enter_context(progress("denoising", plan.steps * plan.clips, "step", quiet))
        taps = []
        if target.frames_dir is not None:
            taps.append(stack.enter_context(video.FrameFolder(target.frames_dir, overwrite=True)).add)
        made = pipe.interpolate(
            clips.steady_frames(found), found.frames, settings, on_step=lambda done, _steps: denoised(done)
        )
        about = {
            "title": f"FashionFlow, model {pipe.config.name}",
            "fashionflow_model": pipe.config.name,
            "fashionflow_interpolate": str(factor),
            "fashionflow_seed": str(seed),
            "fashionflow_scheduler": request.scheduler,
            "fashionflow_steps": str(request.steps),
        }
        frames_out = watch(made, lambda number: None, taps)
        info = video.write(frames_out, target.video, rate, plan.frames, about, **coding)
    if not as_json:
        result(str(target.video))
        return
    result_json(
        {
            "path": str(target.video),
            "frames_dir": str(target.frames_dir) if target.frames_dir else None,
            "given": found.frames,
            "frames": info.frames,
            "fps": info.fps,
            "height": info.height,
            "width": info.width,
            "codec": info.codec,
            "encoder": info.encoder,
            "seed": seed,
            "model": pipe.config.name,
            "scheduler": request.scheduler,
            "steps": request.steps,
            "seconds": {"load": round(loading, 3), "interpolate": round(time.perf_counter() - start, 3)},
            "warnings": WARNINGS.take(),
        }
    )
