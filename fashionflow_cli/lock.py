"""`fashionflow lock`: put a photo's colours, print and face back into a video made from it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fashionflow_cli import options
from fashionflow_cli.console import note, progress, result, result_json
from fashionflow_cli.videos import plan_targets, signing_of
from fashionflow_core.config import LOCK_LEVELS, VIDEO_SUFFIXES, EncodeOptions
from fashionflow_core.errors import FashionFlowError, UsageError

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = """[bold]Examples[/bold]

fashionflow lock wan.mp4 --photo dress.jpg -o locked.mp4

fashionflow lock wan.mp4 --photo dress.jpg --level colour -o locked.mp4"""

_LEVELS = LOCK_LEVELS[1:]


def lock(
    source: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video of any model.", show_default=False)],
    photo: Annotated[Path, typer.Option("--photo", metavar="PHOTO", help="The photo that it was made from.")],
    out: Annotated[
        Path | None,
        options.option(
            options.VIDEO,
            "out",
            "-o",
            text=f"The video: {', '.join(VIDEO_SUFFIXES)}.",
            default="NAME-locked.mp4",
        ),
    ] = None,
    level: Annotated[
        str | None,
        options.option(
            options.VIDEO,
            "level",
            text="colour, or full: the photo's pixels, too.",
            default="full, or colour without the extra lock",
            **options.one_of(_LEVELS, "NAME"),
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    codec: options.Codec = None,
    crf: options.Crf = None,
    encoder: options.Encoder = "software",
    no_mark: options.NoMark = False,
    c2pa_cert: options.C2paCert = None,
    c2pa_key: options.C2paKey = None,
    background: options.Background = options.WHITE,
    max_megapixels: options.MaxMegapixels = 50.0,
    config: options.Config = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Put a photo's colours, print and face back into a video made from it. More: docs/concepts/lock.md."""
    sign = signing_of(c2pa_cert, c2pa_key)
    if sign is not None:
        sign = replace(sign, sources=(str(photo), str(source)))
    encode = EncodeOptions(crf, codec, encoder, not no_mark, sign=sign)
    out = out or Path(f"{source.stem}-locked.mp4")
    (target,) = plan_targets(source, out, 1, False, None, overwrite)
    if photo.exists() and out.exists() and out.samefile(photo):
        raise UsageError(f"{out}: would replace the photo", hint="pass another name with -o")

    from fashionflow_core import video
    from fashionflow_core.dataset import clips
    from fashionflow_core.images.fitting import fit
    from fashionflow_core.images.loading import load_photo
    from fashionflow_core.lock.flow import opencv
    from fashionflow_core.lock.options import LockOptions
    from fashionflow_core.lock.photo_lock import locked
    from fashionflow_core.video.reproduction import relocked

    video.check_options(target.video, encode)
    if level == "full":
        opencv()  # asked for by name: refused before any work where it is missing
    pixels = load_photo(photo, background=background, max_megapixels=max_megapixels)
    found = clips.measure(source)
    if found.frames < 2:
        raise FashionFlowError(
            f"{source}: holds a single frame, so there is nothing to lock", hint="name a video of two frames or more"
        )
    pixels = fit(pixels, found.height, found.width, "crop").pixels
    asked = LockOptions(level or "full")
    frames, report = locked(lambda: clips.steady_frames(found), pixels, asked)
    about = relocked(video.read_metadata(source), asked.level, encode)
    if background != options.WHITE:
        about["fashionflow_background"] = "#{:02x}{:02x}{:02x}".format(*background)
    start = time.perf_counter()
    with progress("locking", found.frames, "frame", quiet) as done:
        fps = found.fps or 25.0
        info = video.write(_counted(frames(), done), target.video, fps, found.frames, about, encode)
    if report.reason:
        note(f"lock: {report.level} instead of {report.asked}: {report.reason}", quiet)
    if not as_json:
        result(str(target.video))
        return
    result_json(
        {
            "path": str(target.video),
            "photo": str(photo),
            "frames": info.frames,
            "fps": info.fps,
            "height": info.height,
            "width": info.width,
            "lock": report.summary(),
            "seconds": round(time.perf_counter() - start, 3),
        }
    )


def _counted(frames: "Iterator[np.ndarray]", done: Callable[[int], None]) -> "Iterator[np.ndarray]":
    for number, frame in enumerate(frames, start=1):
        yield frame
        done(number)
