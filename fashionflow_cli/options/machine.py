"""Options of devices, dtypes and runtimes."""

from pathlib import Path
from typing import Annotated

import typer

from fashionflow_cli.config_file import read_config
from fashionflow_cli.console import Warnings
from fashionflow_cli.options.base import ADVANCED, MACHINE, RARE, REPORTING, between, one_of, option
from fashionflow_core.utils.device import DTYPES


def _silence(ctx: typer.Context, quiet: bool) -> bool:
    ctx.ensure_object(Warnings).quiet = quiet
    return quiet


Device = Annotated[str, option(MACHINE, "device", text="auto, cpu, cuda, cuda:1 or mps.", metavar="NAME")]
Dtype = Annotated[
    str,
    option(MACHINE, "dtype", text=f"auto, {', '.join(DTYPES)}.", **one_of(("auto", *DTYPES), "NAME")),
]
Backend = Annotated[
    str,
    option(
        MACHINE,
        "backend",
        text="auto, torch, onnxruntime or tensorrt.",
        metavar="NAME",
    ),
]
Compile = Annotated[bool, option(ADVANCED, "compile", text="Compile PyTorch's networks first.", flag=True)]
LowMemory = Annotated[bool, option(ADVANCED, "low-memory", text="PyTorch: slower, for small GPUs.", flag=True)]
AllowUnverified = Annotated[
    bool,
    option(RARE, "allow-unverified", text="Also run unverified or failed engines.", flag=True),
]
DecodeChunk = Annotated[
    int,
    option(RARE, "decode-chunk", text="Frames decoded at a time.", default="7", **between(1)),
]
Config = Annotated[
    Path | None,
    option(
        REPORTING,
        "config",
        text="A YAML file of options, such as [bold]steps: 25[/bold].",
        metavar="FILE",
        is_eager=True,
        callback=read_config,
    ),
]
DryRun = Annotated[
    bool, option(REPORTING, "dry-run", text="Check everything and print the plan and its cost.", flag=True)
]
Quiet = Annotated[bool, option(REPORTING, "quiet", "-q", text="Only errors on stderr.", flag=True, callback=_silence)]
Json = Annotated[bool, option(REPORTING, "json", text="One JSON object per video on stdout.", flag=True)]
