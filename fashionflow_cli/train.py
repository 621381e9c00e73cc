"""`fashionflow train`."""

import os
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from fashionflow_cli.console import live_line, note, quiet_libraries, result, result_json, result_text
from fashionflow_cli.options import MACHINE, REPORTING, Device, DryRun, Overwrite, Quiet, one_of, option
from fashionflow_core.training.config import FIELDS
from fashionflow_core.utils import extras

RUN, SETTINGS = "Run", "Settings"

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
    out: Annotated[Path, option(RUN, "out", "-o", text="Run folder, created if missing.", show_default=False)],
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONFIG.yaml",
            help="Settings as [bold]group: {key: value}[/bold]; with --resume those of the run by default.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="GROUP.KEY=VALUE",
            help="Override one setting of the file; may be repeated. "
            "[bold]preset=paper|published|mini-latent[/bold] comes first.",
            rich_help_panel=SETTINGS,
        ),
    ] = None,
    init_from: Annotated[
        str | None,
        option(SETTINGS, "init-from", text="Start from the weights of this model; same as --set init_from=MODEL."),
    ] = None,
    resume: Annotated[bool, option(RUN, "resume", text="Resume from the last checkpoint in --out.")] = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    dtype: Annotated[
        str, option(MACHINE, "dtype", text="Dtype of the arithmetic.", **one_of(("auto", "fp32", "bf16")))
    ] = "auto",
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Annotated[
        bool, option(REPORTING, "json", text="Print one JSON object instead of the model's path or the plan.")
    ] = False,
) -> None:
    """Train a model on the cache of [bold]fashionflow data prepare[/bold].

    A resumed run equals an uninterrupted one. --dry-run checks base, data and memory, and estimates the hours.
    """
    from fashionflow_core.errors import FashionFlowError, UsageError
    from fashionflow_core.training.base import find_base
    from fashionflow_core.training.settings import load_config
    from fashionflow_core.training.status import status_line

    if resume and overwrite:
        raise UsageError("--resume, --overwrite: only one of them")
    if resume and config is None and (out / "config.yaml").is_file():
        config = out / "config.yaml"
    chosen = [*(settings or ()), *([f"init_from={init_from}"] if init_from else [])]
    loaded = load_config(config, chosen)
    base = find_base(loaded)
    if find_spec("accelerate") is None:
        raise FashionFlowError("train: needs the package accelerate", hint=extras.install("train"))
    quiet_libraries()
    if dry_run:
        from fashionflow_core.training.dry_run import describe, make_plan

        plan = make_plan(loaded, base, out, device, dtype)
        if as_json:
            result_json(asdict(plan))
        else:
            result_text("\n".join(describe(plan)))
        return
    from fashionflow_core.training import run
    from fashionflow_core.training.loop import Report

    first = os.environ.get("RANK", "0") == "0"
    quiet = quiet or not first
    with live_line(quiet) as line:
        report = Report(lambda status: line(partial(status_line, status)), lambda text: note(text, quiet))
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
