"""`fashionflow models`."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from fashionflow_cli import options
from fashionflow_cli.console import note, parse_size, progress, quiet_libraries, result, result_json

app = typer.Typer(help="List, describe, fetch, import and remove models.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, for programs.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the available models."""
    from fashionflow_core.store import registry

    entries = registry.list_models()
    if as_json:
        result_json([_entry(entry) for entry in entries])
        return
    rows = [_entry(entry) for entry in entries]
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        size = _megabytes(row["size_bytes"]) if row["installed"] else ""
        result(f"{row['name']:{width}}  {row['state']:9}  {size:>9}  {row['summary']}")


def _entry(entry: Any) -> dict[str, Any]:
    from fashionflow_core.store import folder as model_folder

    path: Path | None = entry.path
    state = "missing"
    if path is not None:
        damage = model_folder.damage if model_folder.is_model(path) else model_folder.network_damage
        state = "damaged" if damage(path) else "installed"
    return {
        "name": entry.name,
        "path": str(path) if path is not None else None,
        "installed": entry.installed,
        "state": state,
        "size_bytes": model_folder.size(path) if path is not None else 0,
        "summary": entry.summary,
    }


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name from the list, or a model folder.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Describe one model: purpose, conventions, sizes."""
    from fashionflow_core.store import registry

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
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to create.", show_default=False)],
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
    """Convert the published checkpoint to a model folder for `generate --model`.

    Only tensors are loaded (weights_only); a checkpoint with other objects is refused.
    """
    quiet_libraries()
    from fashionflow_core.store.published import import_checkpoint

    note(f"importing {checkpoint}")
    result(str(import_checkpoint(checkpoint, out, vae=vae, clip=clip, overwrite=overwrite)))


@app.command(
    epilog="[bold]Examples[/bold]\n\nfashionflow models pull my-shop/dresses --revision v2\n\n"
    "fashionflow models pull published --checkpoint FashionFlow_checkpoint.pth",
    no_args_is_help=True,
)
def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="[bold]published[/bold]; the hub id ORGANISATION/NAME of a model folder or a pipeline of diffusers; "
            "[bold]base[/bold]: VAE and CLIP alone, for [bold]models new[/bold]; "
            "[bold]parser[/bold]: a SegFormer for clothes, used by motion models to find figures; or "
            "[bold]metrics[/bold]: the networks of [bold]fashionflow evaluate[/bold].",
            show_default=False,
        ),
    ],
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a hub id. [dim]\\[default: its main branch][/dim]")
    ] = None,
    store_as: Annotated[
        str | None,
        typer.Option("--name", help="Local name. [dim]\\[default: the hub id's last part][/dim]", metavar="NAME"),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="For [bold]published[/bold]: the authors' .pth file or its URL.",
            metavar="FILE|ADDRESS",
        ),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", help="Expected hash of the checkpoint.", metavar="HEX")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an installed model of that name.")] = False,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept a licence that restricts use, without being asked.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Download a model from the Hugging Face hub and install it.

    Every file is checked by its hash; only a complete model is installed. HF_HOME, HF_ENDPOINT, HF_TOKEN and
    HF_HUB_OFFLINE are respected.
    """
    quiet_libraries()
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # it logs every reconnection
    from fashionflow_core.store.install import pull as pull_model

    with _transfers(quiet) as show_progress:
        target = pull_model(
            name,
            revision=revision,
            store_as=store_as,
            checkpoint=checkpoint,
            sha256=sha256,
            overwrite=overwrite,
            report=lambda line: note(line, quiet),
            progress=show_progress,
            accept=lambda licence: accept_license or _accepted(licence),
        )
    result(str(target))


def _accepted(licence: str) -> bool:
    """Ask for confirmation on a terminal; False without one."""
    return sys.stdin.isatty() and typer.confirm(f"{licence}\nDo you accept it?", err=True)


def lora_of(lora: Path | None) -> Path | None:
    """Path of a LoRA: a file or folder, or downloaded from the hub."""
    from fashionflow_core.store import registry

    if lora is None or lora.exists() or not registry.is_hub_id(str(lora)) or lora.parent.is_dir():
        return lora
    from fashionflow_core.store.install import fetch_lora

    return fetch_lora(str(lora))


def found(model: str, quiet: bool) -> Path:
    """The folder of a model. A hub id is downloaded first if needed, unless its licence restricts use.

    Raises:
        FashionFlowError: as `registry.find` and `install.pull`.
    """
    from fashionflow_core.store import registry

    of_hub = registry.is_hub_id(model) and not Path(model).exists() and not Path(model.split("/")[0]).is_dir()
    if of_hub and registry.pulled_from(model) is None:
        from fashionflow_core.store.install import pull as pull_model

        with _transfers(quiet) as show_progress:
            return pull_model(model, report=lambda line: note(line, quiet), progress=show_progress)
    return registry.find(model)


@contextmanager
def _transfers(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar per downloaded file, one after the other."""
    with ExitStack() as bars:
        current: list[Any] = ["", None]

        def show(label: str, done: int, total: int) -> None:
            if current[0] != label:
                bars.close()
                name = "/".join(label.split("/")[-2:])
                current[:] = label, bars.enter_context(progress(name, total // 1000, "kB", quiet))
            current[1](done // 1000)

        yield show


@app.command(
    epilog="[bold]Examples[/bold]\n\nfashionflow models new paper\n\n"
    "fashionflow models new small --vae mini-latent --clip mini-latent --size 384x256 -o models/small",
    no_args_is_help=True,
)
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.", show_default=False)],
    vae: Annotated[
        str,
        typer.Option(
            help="VAE: a folder, hub id or model. [dim]\\[default: that of [/dim]base[dim]][/dim]",
            metavar="SRC",
            show_default=False,
        ),
    ] = "",
    clip: Annotated[
        str,
        typer.Option(
            help="CLIP image encoder: a folder, hub id or model. [dim]\\[default: that of [/dim]base[dim]][/dim]",
            metavar="SRC",
            show_default=False,
        ),
    ] = "",
    preset: Annotated[
        str, typer.Option(help="Training preset with the form of the networks.", metavar="NAME")
    ] = "paper",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="GROUP.KEY=VALUE", help="Override one setting of the preset; may be repeated."),
    ] = None,
    size: Annotated[
        Any,
        typer.Option(
            parser=parse_size,
            metavar="HxW",
            help="Frame size. [dim]\\[default: that of the VAE's model, or 640x512][/dim]",
            show_default=False,
        ),
    ] = None,
    frames: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Frames per clip. [dim]\\[default: those of the VAE's model, or 70][/dim]",
            show_default=False,
        ),
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Model folder. [dim]\\[default: NAME among the installed models][/dim]"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing model folder.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a model folder with fresh networks, to train: `train --set base=NAME`.

    VAE and CLIP are those of [bold]models pull base[/bold], of a folder, of the hub or of another model.
    """
    quiet_libraries()
    from fashionflow_core.training.new_model import NewModelOptions, new_model

    asked = NewModelOptions(
        vae=vae,
        clip=clip,
        preset=preset,
        settings=tuple(settings or ()),
        size=None if size is None else (size.height, size.width),
        frames=frames,
        overwrite=overwrite,
    )
    result(str(new_model(name, out, asked, lambda line: note(line, quiet))))


@app.command(
    epilog="[bold]Example[/bold]\n\nfashionflow models merge mini-latent runs/lora/lora -o my-model",
    no_args_is_help=True,
)
def merge(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A name from the list, or a model folder.", show_default=False)
    ],
    lora: Annotated[
        Path,
        typer.Argument(metavar="LORA", help="The folder lora/ of a training run.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to create.", show_default=False)],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing model folder.")] = False,
) -> None:
    """Fuse a LoRA into a model: a new model folder that needs no `--lora` and can be exported."""
    quiet_libraries()
    from fashionflow_core.runtimes.lora import merge_lora
    from fashionflow_core.store import registry

    result(str(merge_lora(registry.find(model), lora, out, overwrite=overwrite)))


@app.command(no_args_is_help=True)
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from the list.", show_default=False)],
    quiet: options.Quiet = False,
) -> None:
    """Delete an installed model. Bundled models and models outside the models folder are kept."""
    from fashionflow_core.store import registry

    folder, freed = registry.remove(name)
    note(f"removed {folder} ({_megabytes(freed)}, {freed} bytes)", quiet)


@app.command(no_args_is_help=True)
def path(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name from the list, or a model folder.", show_default=False)
    ],
) -> None:
    """Print the folder of a model."""
    from fashionflow_core.store import registry

    result(str(registry.find(name).absolute()))
