"""`fashionflow interpolate`."""

import time
import warnings
from pathlib import Path
from typing import Annotated

import typer

from fashionflow_cli import options
from fashionflow_cli.console import Warnings, progress, quiet_libraries
from fashionflow_cli.videos import Studio, plan_targets, signing_of
from fashionflow_core.config import VIDEO_SUFFIXES, EncodeOptions, GenerateSettings, LoadOptions, ModelConfig
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, UsageError

EXAMPLES = """[bold]Examples[/bold]

fashionflow interpolate dress.mp4 -o smooth.mp4

fashionflow interpolate dress.mp4 --factor 4 --fps 25 -o slow-motion.mp4
"""


def interpolate(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="VIDEO", help="Any video; sound is dropped.", show_default=False)],
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
        int, options.option(options.SAMPLING, "factor", text="Multiple of the number of frames: 2 or 4.", metavar="2|4")
    ] = 2,
    fit: options.Fit = None,
    codec: options.Codec = None,
    crf: options.Crf = None,
    encoder: options.Encoder = "software",
    no_mark: options.NoMark = False,
    c2pa_cert: options.C2paCert = None,
    c2pa_key: options.C2paKey = None,
    fps: Annotated[
        float | None,
        options.option(
            options.VIDEO, "fps", text="Frames per second of the file. [dim]\\[default: duration unchanged][/dim]"
        ),
    ] = None,
    frames_dir: options.FramesDir = None,
    overwrite: options.Overwrite = False,
    model: options.Model = "mini-latent",
    lora: options.Lora = None,
    frames: Annotated[
        int | None,
        options.option(
            options.SAMPLING,
            "frames",
            text="Frames per interpolated window.",
            default="the model's",
            min=1,
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
    """Interpolate frames of a video with a model trained for it (not a motion model).

    The result has the model's frame size. Given frames pass through the model's VAE.
    """
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
    load = LoadOptions(device, dtype, backend, lora, allow_unverified, compile, low_memory)
    encode = EncodeOptions(crf, codec, encoder, not no_mark, sign=signing_of(c2pa_cert, c2pa_key))
    out = out if out is not None else Path(f"{source.stem}-x{factor}.mp4")
    (target,) = plan_targets(source, out, 1, False, frames_dir, overwrite)
    quiet_libraries()

    from fashionflow_core import video
    from fashionflow_core.dataset import clips
    from fashionflow_core.store import registry
    from fashionflow_core.video.finishing import FinishOptions, Footage

    video.check_options(target.video, encode)
    found = clips.measure(source)
    if found.frames < 2:
        raise FashionFlowError(
            f"{source}: a single frame cannot be interpolated", hint="pass a video of two frames or more"
        )
    rate = fps if fps is not None else (found.fps or 25) * factor
    if not 0 < rate <= video.MAX_FPS:
        raise UsageError(f"--fps: must be above 0 and at most {video.MAX_FPS}, not {rate:g}")
    folder = registry.find(model)
    model_config = ModelConfig.load(folder)
    model_config.check_video()  # refuses unsupported settings before the model is loaded
    settings.resolve(model_config)
    load.check(model_config)
    studio = Studio.open(folder, load, encode, ctx.ensure_object(Warnings), quiet, as_json)
    pipe = studio.pipe
    request = pipe.resolve(settings).filling
    height, width = pipe.config.height, pipe.config.width
    if found.height > height or found.width > width:
        warnings.warn(
            f"{source}: {found.height}x{found.width} is resized to the {height}x{width} of model {pipe.config.name}",
            FashionFlowWarning,
            stacklevel=1,
        )
    plan = pipe.plan(settings, measure=dry_run, video_frames=found.frames, fps=rate)
    if dry_run:
        studio.print_plan(plan, [target])
        return
    start = time.perf_counter()
    about = {
        "title": f"FashionFlow, model {pipe.config.name}",
        "fashionflow_command": "interpolate",
        "fashionflow_model": pipe.config.name,
        "fashionflow_interpolate": str(factor),
        "fashionflow_seed": str(seed),
        "fashionflow_scheduler": request.scheduler,
        "fashionflow_steps": str(request.steps),
        "fashionflow_fit": request.fit,
    }
    about |= {f"fashionflow_{name}": f"{value:g}" for name, value in (("fps", fps), ("frames", frames)) if value}
    with progress("denoising", plan.steps * plan.clips, "step", quiet) as denoised:
        given = clips.steady_frames(found)
        made = pipe.interpolate(given, found.frames, settings, on_step=lambda done, _steps: denoised(done))
        footage = Footage(plan.frames, rate, plan.height, plan.width)
        (report,) = studio.write(made, [target], FinishOptions().finishers(footage), about, "", [str(source)])
    studio.report(report | {"given": found.frames}, request, {"interpolate": time.perf_counter() - start})
