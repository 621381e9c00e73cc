"""`fashionflow train`."""

import os
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from fashionflow_cli.console import note, progress, quiet_libraries, result, result_json
from fashionflow_cli.options import MACHINE, REPORTING, Device, DryRun, Overwrite, Quiet, one_of, option
from fashionflow_core.training.config import FIELDS
from fashionflow_core.utils import extras

RUN, SETTINGS = "Run", "Settings"
PARTS = 100  # of the bar: a run may end by steps, epochs or minutes

_GROUPS = "\n\n".join(
    f"[bold]{group or 'no group'}[/bold]: {', '.join(name.rpartition('.')[2] for name in names)}"
    for group, names in groupby(FIELDS, lambda name: name.rpartition(".")[0])
)
EXAMPLES = f"""[bold]Settings[/bold] of --set GROUP.KEY=VALUE and of the file, explained in docs/guides/training.md

{_GROUPS}

[bold]Examples[/bold]

fashionflow train --set preset=mini-latent --set data.path=cache --set schedule.max_steps=2000 -o runs/first

fashionflow train fashion.yaml --set optimizer.lr=1e-4 -o runs/fashion

fashionflow train fashion.yaml -o runs/fashion --resume

torchrun --nproc-per-node 2 -m fashionflow_cli.main train fashion.yaml -o runs/fashion
"""


def train(
    out: Annotated[
        Path, option(RUN, "out", "-o", text="The folder of the run; made where missing.", show_default=False)
    ],
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONFIG.yaml",
            help="Settings, [bold]group: {key: value}[/bold]; with --resume by default those of the run.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="GROUP.KEY=VALUE",
            help="One setting, over the file's; may be repeated. [bold]preset=paper|published|mini-latent[/bold] "
            "comes first.",
            rich_help_panel=SETTINGS,
        ),
    ] = None,
    init_from: Annotated[
        str | None,
        option(SETTINGS, "init-from", text="Start from this model's weights: short for --set init_from=MODEL."),
    ] = None,
    resume: Annotated[bool, option(RUN, "resume", text="Go on from the last checkpoint of the run in --out.")] = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    dtype: Annotated[
        str, option(MACHINE, "dtype", text="Number type of the arithmetic.", **one_of(("auto", "fp32", "bf16")))
    ] = "auto",
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Annotated[
        bool, option(REPORTING, "json", text="One JSON object on stdout, instead of the model's path.")
    ] = False,
) -> None:
    """Train a model on the cache of [bold]fashionflow data prepare[/bold].

    What was saved goes on exactly where it was: after --resume, SIGTERM or a lost machine.
    """
    from fashionflow_core.errors import FashionFlowError, UsageError
    from fashionflow_core.store import registry
    from fashionflow_core.training.settings import load_config

    if resume and overwrite:
        raise UsageError("--resume: and --overwrite contradict each other")
    if resume and config is None and (out / "config.yaml").is_file():
        config = out / "config.yaml"
    chosen = [*(settings or ()), *([f"init_from={init_from}"] if init_from else [])]
    loaded = load_config(config, chosen)
    base = registry.find(loaded.init_from or loaded.base)
    if find_spec("accelerate") is None:
        raise FashionFlowError("train: needs the package accelerate", hint=extras.install("train"))
    quiet_libraries()
    from fashionflow_core.training import run
    from fashionflow_core.training.loop import Report

    if dry_run:
        result_json(run.plan(loaded, base, out.absolute().name))
        return
    first = os.environ.get("RANK", "0") == "0"
    quiet = quiet or not first
    with progress("training", PARTS, "%", quiet) as bar:
        report = Report(lambda part, loss: bar(int(part * PARTS)), lambda line: note(line, quiet))
        made = run.train(
            loaded,
            out,
            base,
            resume=resume,
            overwrite=overwrite,
            device=device,
            dtype=dtype,
            report=report,
        )
    if first:
        if as_json:
            result_json({"path": str(made), "run": str(out)})
        else:
            result(str(made))
