"""`fashionflow models`: which models there are, what one of them is, and how the published checkpoint becomes one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fashionflow_cli.console import note, quiet_libraries, result, result_json

app = typer.Typer(help="List, describe and import models.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, for programs.", envvar="FASHIONFLOW_JSON")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the models this installation knows, and where they are."""
    from fashionflow_core import registry

    entries = registry.list_models()
    if as_json:
        result_json([_entry(entry) for entry in entries])
        return
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        state = "installed" if entry.installed else "missing"
        result(f"{entry.name:{width}}  {state:9}  {entry.summary}")


def _entry(entry: Any) -> dict[str, Any]:
    path = str(entry.path) if entry.path is not None else None
    return {"name": entry.name, "path": path, "installed": entry.installed, "summary": entry.summary}


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name from the list, or a model folder.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Describe one model: purpose, conventions, sizes."""
    from fashionflow_core import registry

    description = registry.show(name)
    if as_json:
        result_json(description)
    else:
        for line in _lines(description):
            result(line)


def _lines(values: dict[str, Any], indent: str = "") -> list[str]:
    """A nested dict as aligned `key  value` lines."""
    width = max((len(str(key)) for key in values), default=0)
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}", *_lines(value, indent + "  ")]
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            lines.append(f"{indent}{key!s:{width}}  {text}".rstrip())
    return lines


@app.command(
    "import",
    epilog="[bold]Example[/bold]\n\nfashionflow models import checkpoint.pth -o models/published",
    no_args_is_help=True,
)
def import_(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="The published checkpoint (.pth with 'net' and 'adapter').", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to make.", show_default=False)],
    vae: Annotated[
        str | None,
        typer.Option(
            help="The VAE: a folder or a hub id. [dim]\\[default: the published model's][/dim]", metavar="SRC"
        ),
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            help="The CLIP image encoder: a folder or a hub id. [dim]\\[default: the published model's][/dim]",
            metavar="SRC",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing model folder.")] = False,
) -> None:
    """Convert the published checkpoint to a model folder that `generate --model` takes.

    Only tensors are read from it: a checkpoint that holds anything else is refused and runs nothing.
    """
    quiet_libraries()
    from fashionflow_core.checkpoint import import_checkpoint

    note(f"importing {checkpoint}")
    result(str(import_checkpoint(checkpoint, out, vae=vae, clip=clip, overwrite=overwrite)))
