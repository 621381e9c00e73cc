"""`fashionflow evaluate` and `fashionflow ablation`."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fashionflow_cli import evaluate_options as evaluating
from fashionflow_cli import options
from fashionflow_cli.console import (
    note,
    one_line,
    parse_size,
    progress,
    quiet_libraries,
    result_json,
    result_text,
)
from fashionflow_cli.evaluate_options import CLIPS, OUTPUT, PROTOCOL, check_outputs, option, options_of, settings_of
from fashionflow_core.errors import PartialError, UsageError
from fashionflow_core.generators.folder import config_of
from fashionflow_core.store import registry
from fashionflow_core.utils.files import write_text

if TYPE_CHECKING:
    from fashionflow_core.evaluate.run import EvaluateProgress

EXAMPLES = """[bold]Examples[/bold]

fashionflow evaluate --real fashion/test --fake videos --resize 640x512 -o evaluation.json --report report

fashionflow evaluate --fake videos --photos photos --metrics drift

fashionflow evaluate --model mini-latent --data fashion/test --generated videos --paper
"""
ABLATION_EXAMPLES = """[bold]Examples[/bold]

fashionflow ablation --model-global G --model-local L --model-both B --data fashion/test -o ablation.json

fashionflow data synth -o drawn --clips 24 --seed 9

fashionflow ablation --model-global G --model-local L --model-both B1 --model-both B2 --data drawn --report report
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
    metrics: evaluating.Metrics = (),
    weights_dir: evaluating.Weights = None,
    encoder: evaluating.Encoder = None,
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
    clip_frames: evaluating.ClipFrames = 70,
    fvd_window: evaluating.FvdWindow = "random",
    bn_mode: evaluating.BnMode = "train",
    is_splits: evaluating.Splits = 1,
    inception_frames: evaluating.InceptionFrames = None,
    seed: evaluating.Seed = 0,
    bootstrap: evaluating.Bootstrap = 100,
    conditioning: options.Conditioning = None,
    frames: options.Frames = None,
    steps: options.Steps = None,
    scheduler: options.Scheduler = None,
    device: options.Device = "auto",
    devices: evaluating.Devices = None,
    dtype: evaluating.Dtype = "fp32",
    backend: options.Backend = "auto",
    config: options.Config = None,
    out: evaluating.Out = None,
    report: evaluating.Report = None,
    overwrite: evaluating.Overwrite = False,
    paper: Annotated[
        bool, option(OUTPUT, "paper", text="Also the paper's table of methods, with its figures next to the results.")
    ] = False,
    markdown: evaluating.Markdown = False,
    quiet: options.Quiet = False,
    as_json: evaluating.Json = False,
) -> None:
    """Judge videos: FVD, VFID, FID and IS as the field computes them, PSNR and SSIM, colour drift and more.

    Every number comes with its interval, its noise floor and the protocol that makes it reproducible. A clip that
    cannot be measured is named and takes no part.
    """
    given = dict(locals())
    if (model is None) == (fake is None):
        raise UsageError("--fake, --model: name the clips to judge, or the model to make them, one of both")
    if (model is None) != (data is None):
        raise UsageError("--model, --data: one of them needs the other")
    if model is not None and real is not None:
        raise UsageError("--real: the real clips are those of --data", hint="omit --real")
    check_outputs(given)
    quiet_libraries()
    from fashionflow_core.evaluate import report_folder
    from fashionflow_core.evaluate.generated import evaluate_model
    from fashionflow_core.evaluate.report import methods, results
    from fashionflow_core.evaluate.run import evaluate as measure

    chosen = options_of(given)
    with _bars(quiet) as shown:
        if fake is not None:
            found = measure(real, fake, chosen, shown)
        else:
            assert model is not None and data is not None
            folder = generated if generated is not None else Path(f"generated-{Path(model).name}")
            found = evaluate_model(model, data, folder, settings_of(given), chosen, shown)
    if report is not None:
        report_folder.write(found, report)
    text = results(found, markdown)
    if paper:
        text += "\n\n" + methods({model or Path(found["fake"]).name: found}, markdown)
    _finish(given, found, [found], text)


def ablation(
    model_global: Annotated[
        list[str],
        option(
            CLIPS,
            "model-global",
            text="Model that the photo steers by its context alone; again for a model of another training seed.",
            show_default=False,
        ),
    ],
    model_local: Annotated[
        list[str],
        option(
            CLIPS,
            "model-local",
            text="Model that the photo steers as pinned first frame alone; likewise.",
            show_default=False,
        ),
    ],
    model_both: Annotated[
        list[str], option(CLIPS, "model-both", text="Model with both; likewise.", show_default=False)
    ],
    data: Annotated[
        Path,
        option(CLIPS, "data", text="Test set: real clips, whose first frames are animated.", show_default=False),
    ],
    generated: Annotated[
        Path, option(CLIPS, "generated", text="Folder of the videos that are made, in one folder per model.")
    ] = Path("ablation"),
    metrics: evaluating.Metrics = (),
    weights_dir: evaluating.Weights = None,
    encoder: evaluating.Encoder = None,
    clip_frames: evaluating.ClipFrames = 70,
    fvd_window: evaluating.FvdWindow = "random",
    bn_mode: evaluating.BnMode = "train",
    is_splits: evaluating.Splits = 1,
    inception_frames: evaluating.InceptionFrames = None,
    seed: evaluating.Seed = 0,
    bootstrap: evaluating.Bootstrap = 100,
    frames: options.Frames = None,
    steps: options.Steps = None,
    scheduler: options.Scheduler = None,
    device: options.Device = "auto",
    devices: evaluating.Devices = None,
    dtype: evaluating.Dtype = "fp32",
    backend: options.Backend = "auto",
    config: options.Config = None,
    out: evaluating.Out = None,
    report: evaluating.Report = None,
    overwrite: evaluating.Overwrite = False,
    markdown: evaluating.Markdown = False,
    quiet: options.Quiet = False,
    as_json: evaluating.Json = False,
) -> None:
    """The paper's table 2: global conditioning alone, local alone, and both, on the same clips.

    The table has the metrics that are asked for, each with its interval, and the differences on the same photos. One
    model that was trained for all three may be named three times; models of several training seeds are averaged.
    """
    given = dict(locals())
    check_outputs(given)
    quiet_libraries()
    from fashionflow_core.evaluate import report_folder
    from fashionflow_core.evaluate.availability import check
    from fashionflow_core.evaluate.generated import evaluate_model, photos_of
    from fashionflow_core.evaluate.report import TABLE_2
    from fashionflow_core.evaluate.report import ablation as tables

    chosen = options_of(given)
    rows = [
        (title, number, model, replace(settings_of(given), conditioning=conditioning))
        for title, conditioning, models in zip(
            TABLE_2, ("global", "local", "both"), (model_global, model_local, model_both), strict=True
        )
        for number, model in enumerate(models, 1)
    ]
    for _, _, model, settings in rows:
        settings.resolve(config_of(registry.find(model)))  # the last may be refused after hours of the first
    check(data if photos_of(data)[1] else None, generated, chosen)
    found: dict[str, list[dict[str, Any]]] = {}
    for title, number, model, settings in rows:
        note(f"{title}: {model}", quiet)
        folder = generated / (str(settings.conditioning) if number == 1 else f"{settings.conditioning}-{number}")
        with _bars(quiet) as shown:
            found.setdefault(title, []).append(evaluate_model(model, data, folder, settings, chosen, shown))
    if report is not None:
        report_folder.write_ablation(found, report)
    everything = [result for results in found.values() for result in results]
    _finish(given, report_folder.by_run(found), everything, tables(found, markdown))


@contextmanager
def _bars(quiet: bool) -> Iterator["EvaluateProgress"]:
    """A bar for the videos that are made, then one for the clips that are measured; how many is known only then."""
    from tqdm import tqdm

    from fashionflow_core.evaluate.run import EvaluateProgress

    with ExitStack() as stack:
        bars: dict[str, Any] = {}

        def show(label: str, unit: str, done: int, total: int) -> None:
            if label not in bars:
                stack.close()
                bars[label] = stack.enter_context(progress(label, total, unit, quiet))
            bars[label](done)

        def say(line: str) -> None:  # past the bar that may be under way
            if not quiet:
                tqdm.write(one_line(line), file=sys.stderr)

        yield EvaluateProgress(partial(show, "generating", "video"), partial(show, "measuring", "clip"), say)


def _finish(given: dict[str, Any], record: Mapping[str, Any], results: list[dict[str, Any]], text: str) -> None:
    """Write and print what was found, then name what failed."""
    if given["out"] is not None:
        write_text(given["out"], json.dumps(record, indent=1) + "\n")
    if given["as_json"]:
        result_json(record)
    else:
        result_text(text)
    failed = [failure for found in results for failure in found["failed"]]
    for failure in failed:
        note(f"failed: {failure['reason']}")
    if failed:
        raise PartialError(
            f"{len(failed)} measurements failed; the others are done", hint="the lines above say what and why"
        )
