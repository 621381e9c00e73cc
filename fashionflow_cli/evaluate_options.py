"""Options of evaluate, ablation, compare and grid.

None can be set by an environment variable: FASHIONFLOW_DTYPE or FASHIONFLOW_MODEL, set for `generate`, would change
what is measured without anybody seeing it. What is measured by is on the command line, or in the file of --config.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fashionflow_cli.generate_catalogue import devices_of
from fashionflow_cli.options import MACHINE
from fashionflow_core.config import GenerateSettings
from fashionflow_core.errors import UsageError
from fashionflow_core.utils.files import check_target

if TYPE_CHECKING:
    from fashionflow_core.evaluate.protocol import EvaluateOptions

CLIPS, PROTOCOL, OUTPUT = "Clips", "Protocol", "Output"


def option(panel: str, name: str, *short: str, text: str, **more: Any) -> Any:
    """An option of a help panel."""
    return typer.Option(f"--{name}", *short, help=text, rich_help_panel=panel, **more)


def parse_metrics(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """`fvd,is` → ("fvd", "is"), for typer's `parser=`, which is also given the default."""
    if isinstance(text, tuple):
        return text
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    if not names:
        raise typer.BadParameter("names no metric")
    return names


Metrics = Annotated[
    Any,
    option(
        PROTOCOL,
        "metrics",
        text="Which: fvd, vfid, fid, is (need weights), rfd (random features: a trend without weights), psnr, ssim, "
        "silhouette (need real clips of the same names), drift (colours, motion), skin (gap between tones), pattern, "
        "flicker (extra lock), garment (needs an encoder). [dim]\\[default: all that can be computed][/dim]",
        parser=parse_metrics,
        metavar="NAME,...",
        show_default=False,
    ),
]
Weights = Annotated[
    Path | None,
    option(
        PROTOCOL,
        "weights-dir",
        text="Folder of the feature networks' files. [dim]\\[default: where models pull metrics puts them][/dim]",
    ),
]
Encoder = Annotated[
    Path | None,
    option(
        PROTOCOL,
        "encoder",
        text="Folder of an image encoder, DINOv2 or CLIP, for garment similarity. "
        "[dim]\\[default: encoder in the folder of the weights][/dim]",
    ),
]
ClipFrames = Annotated[
    int, option(PROTOCOL, "clip-frames", text="Of each clip at most so many consecutive frames.", min=1)
]
FvdWindow = Annotated[
    str,
    option(
        PROTOCOL,
        "fvd-window",
        text="Which 16 of those FVD takes: random, first, middle, last or spread.",
        metavar="<name>",
    ),
]
BnMode = Annotated[
    str,
    option(PROTOCOL, "bn-mode", text="BatchNorm of VFID: train (published script) or eval.", metavar="<name>"),
]
Splits = Annotated[int, option(PROTOCOL, "is-splits", text="Parts of the Inception Score.", min=1)]
InceptionFrames = Annotated[
    int | None,
    option(PROTOCOL, "inception-frames", text="Frames of each clip for IS and FID. [dim]\\[default: all][/dim]", min=1),
]
Seed = Annotated[
    int,
    option(PROTOCOL, "seed", text="Fixes windows, halves and intervals; and what is generated.", min=0, max=2**63 - 1),
]
Bootstrap = Annotated[
    int, option(PROTOCOL, "bootstrap", text="Replicates of the intervals; 0: none.", min=0, max=100_000)
]
Out = Annotated[Path | None, option(OUTPUT, "out", "-o", text="Also write the result as JSON.")]
Report = Annotated[
    Path | None,
    option(OUTPUT, "report", text="Also write this folder: page, Markdown, JSON, plots and contact sheet."),
]
Overwrite = Annotated[bool, option(OUTPUT, "overwrite", text="Replace existing files.")]
Json = Annotated[bool, option(OUTPUT, "json", text="One JSON object on stdout, instead of the table.")]
Markdown = Annotated[bool, option(OUTPUT, "markdown", text="The table as Markdown.")]
Devices = Annotated[
    str | None,
    option(
        MACHINE,
        "devices",
        text="Generate with one worker on each, such as cuda:0,cuda:1; all: every GPU. "
        "[dim]\\[default: --device][/dim]",
        metavar="LIST",
    ),
]
Dtype = Annotated[str, option(MACHINE, "dtype", text="Number type of the feature networks; fp32 is comparable.")]


def check_one_form(markdown: bool, as_json: bool) -> None:
    """Refuse two forms of output at once."""
    if markdown and as_json:
        raise UsageError("--json, --markdown: name one of them")


def check_outputs(given: Mapping[str, Any]) -> None:
    """Refuse two forms of output at once, and files or a report that are there already."""
    check_one_form(given["markdown"], given["as_json"])
    if given["out"] is not None:
        check_target(given["out"], given["overwrite"])
    if given.get("report") is not None:
        from fashionflow_core.evaluate import report_folder

        report_folder.check(given["report"], given["overwrite"])


def options_of(given: Mapping[str, Any]) -> "EvaluateOptions":
    """The options of a command, by the names of its parameters."""
    from fashionflow_core.evaluate.protocol import EvaluateOptions, Protocol

    protocol = {field.name: given[field.name] for field in fields(Protocol) if given.get(field.name) is not None}
    protocol["metrics"] = tuple(given["metrics"]) or None
    if "resize" in protocol:
        protocol["resize"] = tuple(protocol["resize"])
    others = {name: given[name] for name in ("encoder", "device", "dtype", "backend")}
    devices = devices_of(given["devices"] or given["device"])
    return EvaluateOptions(Protocol(**protocol), given["weights_dir"], given.get("photos"), **others, devices=devices)


def settings_of(given: Mapping[str, Any]) -> GenerateSettings:
    """The settings that videos are made with, likewise."""
    values: dict[str, Any] = {
        field.name: given[field.name] for field in fields(GenerateSettings) if field.name in given
    }
    return GenerateSettings(**values)
