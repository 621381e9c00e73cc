"""`fashionflow bench`: measurements, each with the hardware it was taken on."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fashionflow_cli.console import Size, note, one_of, parse_size, quiet_libraries, result
from fashionflow_core.device import DTYPES
from fashionflow_core.files import check_target

app = typer.Typer(help="Measure speed.", no_args_is_help=True)

# Not a model on this machine but an architecture: its speed does not depend on whose weights are in it.
PUBLISHED = "published"


@app.command(epilog="[bold]Example[/bold]\n\nfashionflow bench step --model mini --repeats 10 -o step.json")
def step(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="A model's name or folder, or [bold]published[/bold]: the published architecture, random weights.",
        ),
    ] = PUBLISHED,
    frames: Annotated[
        int | None,
        typer.Option(min=1, help="Frames of the clip. [dim]\\[default: the model's][/dim]"),
    ] = None,
    size: Annotated[
        Size | None,
        typer.Option(
            "--latent-size",
            help="Height and width of the [bold]latents[/bold], not pixels. [dim]\\[default: the model's][/dim]",
            parser=parse_size,
            metavar="HxW",
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Number type.", envvar="FASHIONFLOW_DTYPE", **one_of(("auto", *DTYPES)))
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", envvar="FASHIONFLOW_DEVICE")] = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of each.")] = 5,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the result as JSON.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing JSON file.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only errors on stderr.", envvar="FASHIONFLOW_QUIET")
    ] = False,
) -> None:
    """Time one denoising step: our U-Net against the literal formulation of the paper, in the same process."""
    if out is not None:
        check_target(out, overwrite)
    quiet_libraries()
    from fashionflow_benchmarks import report, suites

    note(f"measuring one step of {model}, {repeats} times each", quiet)
    given: dict[str, Any] = {"frames": frames}
    if size is not None:
        given |= {"height": size.height, "width": size.width}
    given = {key: value for key, value in given.items() if value is not None}
    measured = suites.bench_step(
        None if model == PUBLISHED else model, **given, dtype=dtype, device=device, repeats=repeats
    )
    result(report.table(measured))
    if out is not None:
        report.write(measured, out)


@app.command(
    epilog="[bold]Example[/bold]\n\nfashionflow bench runtimes --model mini-onnx --backend torch --backend onnxruntime"
)
def runtimes(
    model: Annotated[str, typer.Option("--model", "-m", help="A model's name or folder; of engines, for engines.")],
    backend: Annotated[
        list[str],
        typer.Option(help="torch, compiled, onnxruntime, tensorrt or a mixture; repeat it.", metavar="<name>"),
    ],
    dtype: Annotated[
        str, typer.Option(help="Number type of PyTorch.", envvar="FASHIONFLOW_DTYPE", **one_of(("auto", *DTYPES)))
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.", envvar="FASHIONFLOW_DEVICE")] = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of each.")] = 5,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the result as JSON.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing JSON file.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only errors on stderr.", envvar="FASHIONFLOW_QUIET")
    ] = False,
) -> None:
    """Time one model in several runtimes, interleaved: a denoising step, and the decoding of a few frames."""
    if out is not None:
        check_target(out, overwrite)
    quiet_libraries()
    import json

    from fashionflow_benchmarks import runtimes as suite
    from fashionflow_core.files import write_text

    note(f"measuring {', '.join(backend)}, {repeats} times each", quiet)
    measured = suite.bench_runtimes(model, backend, dtype=dtype, device=device, repeats=repeats)
    result(suite.table(measured))
    if out is not None:
        write_text(out, json.dumps(measured, indent=2) + "\n")
