"""`fashionflow evaluate` and `fashionflow ablation`: videos judged, and the paper's tables made anew."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fashionflow_cli import evaluate_options as given
from fashionflow_cli import options
from fashionflow_cli.catalogue import devices_of
from fashionflow_cli.console import WARNINGS, note, parse_size, progress, quiet_libraries, result, result_json
from fashionflow_cli.evaluate_options import CLIPS, OUTPUT, PROTOCOL, check_one_form, option
from fashionflow_core.config import GenerateSettings
from fashionflow_core.errors import PartialError, UsageError
from fashionflow_core.files import check_target, write_text

EXAMPLES = """[bold]Examples[/bold]

fashionflow evaluate --real fashion/test --fake videos --resize 640x512 -o evaluation.json --report report

fashionflow evaluate --fake videos --photos photos --metrics drift

fashionflow evaluate --model mini --data fashion/test --generated videos --paper
"""
ABLATION_EXAMPLES = """[bold]Example[/bold]

fashionflow ablation --model-global G --model-local L --model-both B --data fashion/test -o ablation.json
"""


def evaluate(
    fake: Annotated[
        Path | None, option(CLIPS, "fake", text="The clips to judge: videos, or folders of PNG frames.")
    ] = None,
    real: Annotated[Path | None, option(CLIPS, "real", text="Real clips, likewise.")] = None,
    model: Annotated[
        str | None, option(CLIPS, "model", "-m", text="Generate first: a model's name or folder, with --data.")
    ] = None,
    data: Annotated[
        Path | None,
        option(CLIPS, "data", text="Test set: real clips, whose first frames are animated, or photos."),
    ] = None,
    generated: Annotated[
        Path | None,
        option(
            CLIPS,
            "generated",
            text="Folder of the videos that are made; a later run goes on there. "
            "[dim]\\[default: generated-MODEL][/dim]",
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        option(CLIPS, "photos", text="Photos that the clips were made from, of the same names: first-frame fidelity."),
    ] = None,
    metrics: given.Metrics = (),
    weights_dir: given.Weights = None,
    resize: Annotated[
        Any,
        option(
            PROTOCOL,
            "resize",
            text="Bring every clip to this size. [dim]\\[default: with --model its frame, else as they are][/dim]",
            parser=parse_size,
            metavar="HxW",
        ),
    ] = None,
    fit: Annotated[
        str | None,
        option(
            PROTOCOL,
            "fit",
            text="How: stretch, pad or crop. [dim]\\[default: with --model as it does, else stretch][/dim]",
            metavar="<name>",
        ),
    ] = None,
    clip_frames: given.ClipFrames = 70,
    fvd_window: given.FvdWindow = "random",
    bn_mode: given.BnMode = "train",
    is_splits: given.Splits = 1,
    inception_frames: given.InceptionFrames = None,
    seed: given.Seed = 0,
    bootstrap: given.Bootstrap = 100,
    conditioning: options.Conditioning = None,
    frames: options.Frames = None,
    steps: options.Steps = None,
    scheduler: options.Scheduler = None,
    device: options.Device = "auto",
    devices: given.Devices = None,
    dtype: given.Dtype = "fp32",
    backend: options.Backend = "auto",
    config: options.Config = None,
    out: given.Out = None,
    report: given.Report = None,
    overwrite: given.Overwrite = False,
    paper: Annotated[
        bool, option(OUTPUT, "paper", text="Also the paper's table of methods, with its figures beside ours.")
    ] = False,
    markdown: given.Markdown = False,
    quiet: options.Quiet = False,
    as_json: given.Json = False,
) -> None:
    """Judge videos: FVD, VFID, FID and IS as the field computes them, PSNR and SSIM, colour drift and more.

    Every number comes with its interval, its noise floor and the protocol that makes it reproducible. A clip that
    cannot be measured is named and takes no part.
    """
    WARNINGS.quiet = quiet
    if (model is None) == (fake is None):
        raise UsageError("--fake, --model: name the clips to judge, or the model to make them, one of both")
    if (model is None) != (data is None):
        raise UsageError("--model, --data: one of them needs the other")
    if model is not None and real is not None:
        raise UsageError("--real: the real clips are those of --data", hint="leave --real out")
    check_one_form(markdown, as_json)
    _check_outputs(out, report, overwrite)
    quiet_libraries()
    from fashionflow_core.evaluate import reported
    from fashionflow_core.evaluate.generated import evaluate_model, photos_of
    from fashionflow_core.evaluate.report import methods, results
    from fashionflow_core.evaluate.run import evaluate as measure

    has_real = real is not None or (data is not None and photos_of(data)[1])
    protocol = given.protocol_of(
        tuple(metrics) or given.possible(has_real),
        clip_frames=clip_frames,
        fvd_window=fvd_window,
        bn_mode=bn_mode,
        is_splits=is_splits,
        inception_frames=inception_frames,
        resize=tuple(resize) if resize else None,
        fit=fit or "stretch",
        seed=seed,
        bootstrap=bootstrap,
    )
    weights = given.weights_folder(weights_dir)
    workers = devices_of(devices or device)
    with _bars(quiet) as (made, measured):
        if fake is not None:
            found = measure(real, fake, protocol, weights, photos, device, dtype, measured)
        else:
            assert model is not None and data is not None
            settings = GenerateSettings(
                seed=seed, frames=frames, steps=steps, scheduler=scheduler, conditioning=conditioning, fit=fit
            )
            folder = generated if generated is not None else Path(f"generated-{Path(model).name}")
            found = evaluate_model(
                *(model, data, folder, settings, protocol, weights, photos, device, dtype, backend, workers),
                *(made, measured, partial(_say, quiet)),
            )
    if out is not None:
        write_text(out, json.dumps(found, indent=1) + "\n")
    if report is not None:
        reported.write(found, report)
    if as_json:
        result_json(found)
    else:
        result(results(found, markdown))
        if paper:
            result("\n" + methods({model or Path(found["fake"]).name: found}, markdown))
    _finish([found])


def ablation(
    model_global: Annotated[
        str,
        option(CLIPS, "model-global", text="Model that the photo steers by its context alone.", show_default=False),
    ],
    model_local: Annotated[
        str,
        option(
            CLIPS, "model-local", text="Model that the photo steers as pinned first frame alone.", show_default=False
        ),
    ],
    model_both: Annotated[str, option(CLIPS, "model-both", text="Model with both.", show_default=False)],
    data: Annotated[
        Path,
        option(CLIPS, "data", text="Test set: real clips, whose first frames are animated.", show_default=False),
    ],
    generated: Annotated[
        Path, option(CLIPS, "generated", text="Folder of the videos that are made, in three folders.")
    ] = Path("ablation"),
    metrics: given.Metrics = ("is", "fvd", "vfid"),
    weights_dir: given.Weights = None,
    clip_frames: given.ClipFrames = 70,
    fvd_window: given.FvdWindow = "random",
    bn_mode: given.BnMode = "train",
    is_splits: given.Splits = 1,
    inception_frames: given.InceptionFrames = None,
    seed: given.Seed = 0,
    bootstrap: given.Bootstrap = 100,
    frames: options.Frames = None,
    steps: options.Steps = None,
    scheduler: options.Scheduler = None,
    device: options.Device = "auto",
    devices: given.Devices = None,
    dtype: given.Dtype = "fp32",
    backend: options.Backend = "auto",
    config: options.Config = None,
    out: given.Out = None,
    overwrite: given.Overwrite = False,
    markdown: given.Markdown = False,
    quiet: options.Quiet = False,
    as_json: given.Json = False,
) -> None:
    """The paper's table 2: global conditioning alone, local alone, and both, on the same clips.

    One model that was trained for all three may be named three times.
    """
    WARNINGS.quiet = quiet
    check_one_form(markdown, as_json)
    _check_outputs(out, None, overwrite)
    quiet_libraries()
    from fashionflow_core.evaluate.generated import check_model, evaluate_model, photos_of
    from fashionflow_core.evaluate.report import TABLE_2
    from fashionflow_core.evaluate.report import ablation as table

    protocol = given.protocol_of(
        tuple(metrics),
        clip_frames=clip_frames,
        fvd_window=fvd_window,
        bn_mode=bn_mode,
        is_splits=is_splits,
        inception_frames=inception_frames,
        seed=seed,
        bootstrap=bootstrap,
    )
    weights = given.weights_folder(weights_dir)
    shared: dict[str, Any] = {"seed": seed, "frames": frames, "steps": steps, "scheduler": scheduler}
    rows = {
        title: (conditioning, model, GenerateSettings(**shared, conditioning=conditioning))
        for title, conditioning, model in zip(
            TABLE_2, ("global", "local", "both"), (model_global, model_local, model_both), strict=True
        )
    }
    for _, model, settings in rows.values():
        check_model(model, settings)  # the third may be refused after hours of the first
    photos_of(data)
    workers = devices_of(devices or device)
    found: dict[str, dict[str, Any]] = {}
    for title, (conditioning, model, settings) in rows.items():
        note(f"{title}: {model}", quiet)
        with _bars(quiet) as (made, measured):
            found[title] = evaluate_model(
                *(model, data, generated / conditioning, settings, protocol, weights, None, device, dtype, backend),
                *(workers, made, measured, partial(_say, quiet)),
            )
    if out is not None:
        write_text(out, json.dumps(found, indent=1) + "\n")
    if as_json:
        result_json(found)
    else:
        result(table(found, markdown))
    _finish(list(found.values()))


@contextmanager
def _bars(quiet: bool) -> Iterator[tuple[Callable[[int, int], None], Callable[[int, int], None]]]:
    """A bar for the videos that are made, then one for the clips that are measured; how many is known only then."""
    with ExitStack() as stack:
        shown: list[Any] = ["", None]

        def show(label: str, unit: str, done: int, total: int) -> None:
            if shown[0] != label:
                stack.close()
                shown[:] = label, stack.enter_context(progress(label, total, unit, quiet))
            shown[1](done)

        yield partial(show, "generating", "video"), partial(show, "measuring", "clip")


def _say(quiet: bool, line: str) -> None:
    """A line about the run that makes videos, past the bar that may be under way."""
    from tqdm import tqdm

    if not quiet:
        tqdm.write(line, file=sys.stderr)


def _check_outputs(out: Path | None, report: Path | None, overwrite: bool) -> None:
    if out is not None:
        check_target(out, overwrite)
    if report is not None:
        from fashionflow_core.evaluate import reported

        reported.check(report, overwrite)


def _finish(results: list[dict[str, Any]]) -> None:
    failed = [failure for found in results for failure in found["failed"]]
    for failure in failed:
        note(f"failed: {failure['reason']}")
    if failed:
        raise PartialError(
            f"{len(failed)} measurements failed; the others are done", hint="the lines above say what and why"
        )
