"""`fashionflow generate`."""

import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fashionflow_cli import generate_catalogue, options
from fashionflow_cli.config_file import refuse_flags, refuse_without, sources
from fashionflow_cli.console import Warnings, note, progress, quiet_libraries
from fashionflow_cli.models import found, lora_of
from fashionflow_cli.videos import STDIN, Studio, VideoOutput, plan_targets, signing_of
from fashionflow_core.config import (
    EncodeOptions,
    GenerateSettings,
    LoadOptions,
)
from fashionflow_core.errors import FashionFlowWarning, UsageError

if TYPE_CHECKING:
    import numpy as np

    from fashionflow_core.motion.distance import Variations
    from fashionflow_core.video.finishing import FinishOptions

EXAMPLES = """[bold]Examples[/bold]

fashionflow generate dress.jpg -o dress.mp4

fashionflow generate dress.jpg --variations 4 --seed 7 --poster

fashionflow generate photos/ -o videos/ --config shop.yaml
"""

# Options that have no effect without one of others.
PARTNERS = {
    "logo-place": ("logo",),
    "logo-opacity": ("logo",),
    "end-card-seconds": ("end-card",),
    "font": ("caption", "visible-mark"),
}
OF_FOLDERS = ("gate", "gate-limits", "reroll", "retry", "retry-failed")  # without effect on a single video


def generate(
    ctx: typer.Context,
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO...",
            help="JPEG, PNG, WebP, AVIF, TIFF, GIF or HEIC; - is stdin. With -o FOLDER also several, "
            "folders, patterns, lists (.txt, .csv, .jsonl; -).",
            show_default=False,
        ),
    ],
    # video
    out: options.Out = None,
    fps: options.Fps = None,
    poster: options.Poster = False,
    overwrite: options.Overwrite = False,
    # photo
    fit: options.Fit = None,
    size: options.Frame = None,
    lock: options.Lock = None,
    ratio: options.Ratio = None,
    # motion
    motion: options.Motion = None,
    motion_amount: options.MotionAmount = None,
    loop: options.Loop = False,
    duration: options.Duration = None,
    # prompt
    prompt: options.Prompt = None,
    # model and machine
    model: options.Model = "mini",
    lora: options.Lora = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    backend: options.Backend = "auto",
    # sampling
    seed: options.Seed = 0,
    variations: options.Variations = 1,
    frames: options.Frames = None,
    steps: options.Steps = None,
    # several photos
    format: options.Format = "mp4",
    devices: options.Devices = None,
    gate: options.Gate = False,
    reroll: options.Reroll = 0,
    scores: options.Scores = True,
    retry: options.Retry = None,
    retry_failed: options.RetryFailed = False,
    # settings and reporting
    config: options.Config = None,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    # shops and platforms
    targets: options.Targets = None,
    visible_mark: options.VisibleMark = None,
    caption: options.Caption = None,
    font: options.Font = None,
    logo: options.Logo = None,
    logo_place: options.LogoPlace = "top-right",
    logo_opacity: options.LogoOpacity = 1.0,
    end_card: options.EndCardFile = None,
    end_card_seconds: options.EndCardSeconds = 2.0,
    c2pa_cert: options.C2paCert = None,
    c2pa_key: options.C2paKey = None,
    # advanced
    matte: options.MatteFile = None,
    background: options.Background = options.WHITE,
    max_megapixels: options.MaxMegapixels = 50.0,
    codec: options.Codec = None,
    crf: options.Crf = None,
    encoder: options.Encoder = "software",
    no_mark: options.NoMark = False,
    frames_dir: options.FramesDir = None,
    interpolate: options.Interpolate = 1,
    scheduler: options.Scheduler = None,
    guidance: options.Guidance = None,
    guidance_interval: options.GuidanceInterval = options.EVERYWHERE,
    negative_prompt: options.NegativePrompt = None,
    megapixels: options.Megapixels = None,
    conditioning: options.Conditioning = None,
    batch: options.Batch = 0,
    gate_limits: options.GateLimits = None,
    executor: options.Executor = "local",
    ray_address: options.RayAddress = None,
    compile: options.Compile = False,
    low_memory: options.LowMemory = False,
    allow_unverified: options.AllowUnverified = False,
    decode_chunk: options.DecodeChunk = 7,
    help_all: options.HelpAll = False,
) -> None:
    """Turn garment photos into short videos of a moving figure. More: docs/reference/cli.md."""
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
        motion=motion,
        motion_amount=motion_amount,
        loop=loop,
        duration=duration,
        lock=lock,
        prompt=prompt,
        negative_prompt=negative_prompt,
        megapixels=megapixels,
    )
    lora = lora_of(lora)
    load = LoadOptions(device, dtype, backend, lora, allow_unverified, compile, low_memory)
    encode = EncodeOptions(crf, codec, encoder, not no_mark, sign=signing_of(c2pa_cert, c2pa_key))
    from fashionflow_core.video.finishing import FinishOptions, Footage
    from fashionflow_core.video.overlays import EndCard, LogoOptions

    finish = FinishOptions.parse(
        targets,
        ratio=ratio or "",
        visible_mark=visible_mark or "",
        caption=caption or "",
        font=font or "",
        logo=LogoOptions(str(logo.absolute()), logo_place, logo_opacity) if logo is not None else None,
        end_card=EndCard(str(end_card.absolute()), end_card_seconds) if end_card is not None else None,
    )
    refuse_without(ctx, PARTNERS)
    finish.check()
    if generate_catalogue.wanted(photos, out):
        for option, value in (("--frames-dir", frames_dir), ("--matte", matte)):
            if value is not None:
                raise UsageError(f"{option}: for one photo only", hint="omit it, or pass one photo and -o NAME.mp4")
        from fashionflow_core.catalogue.jobs import RunSpec
        from fashionflow_core.catalogue.planner import Rules
        from fashionflow_core.catalogue.run import LOCAL, Request

        limits = generate_catalogue.limits_of(gate, gate_limits, reroll)
        work = RunSpec(
            model=model,
            out=generate_catalogue.folder_of(out),
            scratch="",
            settings=settings,
            load=load if lora is None else replace(load, lora=str(lora.absolute())),
            encode=encode,
            finish=finish,
            batch=batch,
            suffix=finish.suffix() if sources(ctx)["format"][1] == "default" else f".{format}",
            background=background,
            max_megapixels=max_megapixels,
            scores=scores or limits is not None,
            gate=limits,
            reroll=reroll,
        )
        again = (retry or "").split(",")
        rules = Rules(
            retry_failed or "failed" in again,
            "rejected" in again,
            overwrite,
            keep_other_models=sources(ctx)["model"][1] == "default",
        )
        workers = generate_catalogue.devices_of(devices or device, executor == LOCAL)
        request = Request((), work, variations, workers, rules, executor=executor, ray_address=ray_address)
        generate_catalogue.generate(photos, request, dry_run, quiet, as_json)
        return
    refuse_flags(ctx, OF_FOLDERS, "for several photos only", "name a folder: -o videos/, or omit it")
    (photo,) = photos
    out = out or Path(f"{'video' if photo == STDIN else photo.stem or 'video'}{finish.suffix()}")
    if finish.caption:
        from fashionflow_core.video.captions import filled

        values = {"name": "photo" if photo == STDIN else photo.stem, "photo": photo.name}
        finish = replace(finish, caption=filled(finish.caption, values))
    outputs = plan_targets(photo, out, variations, poster, frames_dir, overwrite, finish)
    quiet_libraries()

    from fashionflow_core import video
    from fashionflow_core.generators.folder import config_of
    from fashionflow_core.images.fitting import Frame
    from fashionflow_core.images.loading import load_photo
    from fashionflow_core.images.person import warn_if_no_figure

    if fps is not None and not fps <= video.MAX_FPS:
        raise UsageError(f"--fps: must be above 0 and at most {video.MAX_FPS}, not {fps}")
    for output in outputs[: max(1, len(finish.targets))]:
        video.check_options(output.video, finish.encode(encode, output.video))
    name = "<stdin>" if photo == STDIN else str(photo)
    kept = StdinBytes() if photo == STDIN and encode.sign is not None else None
    pixels = load_photo(photo, background=background, max_megapixels=max_megapixels, digest=kept)
    folder = found(model, quiet)
    model_config = config_of(folder)
    settings = finish.adapted(settings, model_config)
    request = settings.resolve(model_config)  # refuses unsupported settings before the model is loaded
    finish.check_length(request)
    box = Frame.of(model_config, request).fit(pixels).box
    for finisher in finish.finishers(Footage(request.video_frames, request.fps, box.height, box.width)):
        finisher.check()
    load.check(model_config)
    if matte is not None:
        model_config.check_matte()
    if model_config.latents == "appearance":
        warn_if_no_figure(pixels, name)
    mask = None if matte is None else read_mask(matte, pixels.shape[:2], max_megapixels)
    warned = ctx.ensure_object(Warnings)
    studio = Studio.open(folder, load, encode, warned, quiet, as_json, planned=dry_run)
    note(f"{studio.pipe.config.name}: {studio.pipe.config.purpose}", quiet)
    if dry_run:
        studio.print_plan(studio.pipe.plan(settings, pixels, measure=True), outputs)
        return
    of_photo = warned.take()
    from fashionflow_core.motion.distance import Variations

    variations_made = Variations()
    about = {"fashionflow_background": "#{:02x}{:02x}{:02x}".format(*background)} if background != options.WHITE else {}
    about |= {"fashionflow_matte": matte.name} if matte is not None else {}
    with source_files(photo, kept) as named:
        for item in range(variations):
            warned.lines = of_photo + warned.lines
            files = [output for output in outputs if output.item == item]
            make_video(studio, pixels, settings, finish, files, name, mask, variations_made, about, named)


def make_video(
    studio: Studio,
    photo: "np.ndarray",
    settings: GenerateSettings,
    finish: "FinishOptions",
    files: list[VideoOutput],
    name: str,
    mask: "np.ndarray | None",
    variations: "Variations",
    about: Mapping[str, str],
    sources: Sequence[str],
) -> None:
    """Generate one video; write and report its files with their posters and frames.

    Args:
        about: metadata besides that of the clip.
        sources: files that signatures name.
    """
    from fashionflow_core.video.finishing import Footage, is_loop

    pipe = studio.pipe
    request = pipe.resolve(settings)  # refuses unsupported settings before a progress bar is drawn
    start = time.perf_counter()
    with progress("denoising", pipe.count_steps(request), "step", studio.quiet) as denoised:
        (clip,) = pipe.generate_batch(
            [photo],
            [settings],
            [files[0].item],
            lambda done, _steps: denoised(done),
            None if mask is None else [mask],
        )
    for line in clip.warnings:
        warnings.warn(f"{name}: {line}", FashionFlowWarning, stacklevel=1)
    distance = None
    if request.motion is not None and (found := variations.add(name, clip.latents)) is not None:
        distance = round(found, 4)
        note(f"motion distance from the nearest variation: {distance:.2f}", studio.quiet)
    generated = time.perf_counter()
    footage = Footage(clip.count, clip.fps, clip.height, clip.width, is_loop(request))
    made = studio.write(clip.frames, files, finish.finishers(footage), {**clip.metadata, **about}, "decoding", sources)
    seconds = {"denoise": generated - start, "decode": time.perf_counter() - generated}
    if clip.lock is not None and clip.lock.reason:
        note(f"lock: {clip.lock.level} instead of {clip.lock.asked}: {clip.lock.reason}", studio.quiet)
    for one in made:
        details: dict[str, Any] = {
            "item": files[0].item,
            "lock": clip.lock.summary() if clip.lock else None,
            "motion": asdict(request.motion) if request.motion else None,
            "motion_distance": distance,
        }
        studio.report(one | details, request, seconds)


class StdinBytes:
    """The bytes of a photo on standard input, which a signature names; collected as hash objects are fed."""

    def __init__(self) -> None:
        self.data = bytearray()

    def update(self, data: bytes, /) -> None:
        """Add the next bytes."""
        self.data += data


@contextmanager
def source_files(photo: Path, kept: StdinBytes | None) -> Iterator[tuple[str, ...]]:
    """Files that a signature names: the photo, or for the time being a copy of standard input."""
    if kept is None:
        yield () if photo == STDIN else (str(photo),)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "stdin"
        copy.write_bytes(kept.data)
        yield (str(copy),)


def read_mask(path: Path, shape: tuple[int, ...], max_megapixels: float) -> "np.ndarray":
    """A mask from a picture: float32 (h, w), 0 to 1, white is the figure.

    Raises:
        UsageError: its size differs from the photo's.
        FashionFlowError: it cannot be read.
    """
    from fashionflow_core.images.loading import load_photo

    grey = load_photo(path, background=options.BLACK, max_megapixels=max_megapixels)
    if grey.shape[:2] != tuple(shape):
        raise UsageError(
            f"--matte: {path} has {grey.shape[0]}x{grey.shape[1]} pixels, the photo {shape[0]}x{shape[1]}",
            hint="make the mask from the photo itself",
        )
    return grey.mean(axis=2, dtype="float32") / 255
