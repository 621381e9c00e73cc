"""`fashionflow bench`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fashionflow_cli import options
from fashionflow_cli.console import Size, note, parse_size, progress, quiet_libraries, result_json, result_text
from fashionflow_core.errors import FashionFlowError, reason_of
from fashionflow_core.utils.files import check_target

EXAMPLES = """[bold]Examples[/bold]

fashionflow bench                                  the quick set: step, vae, clip, video

fashionflow bench dreampose -o dreampose.json      our speed beside frame-by-frame sampling

fashionflow bench step video --model mini-latent --plots plots/

fashionflow bench backends --model mini-latent-onnx --backend torch --backend onnxruntime
"""
PUBLISHED = "published"  # equals `model_under_test.PUBLISHED`, whose import is too slow for --help


def bench(
    suites: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SUITE",
            help="step, vae, clip, video, dreampose, backends, batch, scale, memory; "
            "none: step, vae, clip and video. See docs/concepts/performance.md.",
            show_default=False,
        ),
    ] = None,
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
        typer.Option(min=1, help="Frames of the clip. [dim]\\[default: 70, on CPUs 8, or the model's][/dim]"),
    ] = None,
    size: Annotated[
        Size | None,
        typer.Option(
            "--latent-size",
            help="Height and width of the [bold]latents[/bold], not pixels. "
            "[dim]\\[default: 80x64, on CPUs 16x16 or 32x32, or the model's][/dim]",
            parser=parse_size,
            metavar="HxW",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Denoising steps of a video. [dim]\\[default: 25, on CPUs 4, or the model's][/dim]"),
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="The published sizes on any device, without extrapolation: hours on CPUs."),
    ] = False,
    narrow: Annotated[
        bool,
        typer.Option("--narrow", help="For dreampose: networks of an eighth of the widths, to check that it runs."),
    ] = False,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="For backends: torch, compiled, onnxruntime, tensorrt or a mixture; repeatable.",
            metavar="<name>",
            show_default="torch, compiled",
        ),
    ] = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs per measurement.")] = 5,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also write the results to this file, as JSON.", metavar="FILE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as one JSON object on stdout, not tables.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables in Markdown.")] = False,
    plots: Annotated[
        Path | None, typer.Option("--plots", help="Also write a plot of each suite to this folder.", metavar="DIR")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure speed and memory of the networks, of whole videos, and against frame-by-frame sampling."""
    if out is not None:
        check_target(out, overwrite)
    quiet_libraries()
    from fashionflow_benchmarks import report
    from fashionflow_benchmarks import suites as known
    from fashionflow_benchmarks.model_under_test import BenchRequest

    names = suites or []
    known.check(names)
    pictures = _pictures(plots, names or known.QUICK, overwrite) if plots is not None else {}
    request = BenchRequest(
        model=model,
        frames=frames,
        height=size.height if size else None,
        width=size.width if size else None,
        steps=steps,
        device=device,
        dtype=dtype,
        repeats=repeats,
        backends=tuple(backend or ()),
        full=full,
        narrow=narrow,
    )

    def announce(name: str) -> None:
        note(f"measuring {name}, {repeats} repeats: {known.expected(name, request)}", quiet)

    measured = []
    with _calls(quiet):
        for one in known.run(names, request, announce):
            if not as_json:
                result_text(("" if not measured else "\n") + report.text(one, markdown))
            measured.append(one)
            # After each suite, so that a later failure loses no finished measurement.
            if out is not None:
                report.write(report.join(measured), out)
            if plots is not None:
                from fashionflow_benchmarks.plots import draw

                draw(one, pictures[one["suite"]])
    if as_json:
        result_json(report.join(measured))


@contextmanager
def _calls(quiet: bool) -> Iterator[None]:
    """A progress bar over the calls of each suite."""
    from fashionflow_benchmarks import timing

    with ExitStack() as stack:
        advance: list[Callable[[int], None]] = []

        def on_call(done: int, total: int) -> None:
            if not done:
                stack.close()
                advance[:] = [stack.enter_context(progress("calls", total, "call", quiet))]
            advance[0](done)

        timing.PROGRESS.on_call = on_call
        try:
            yield
        finally:
            timing.PROGRESS.on_call = timing.CallProgress().on_call


def _pictures(folder: Path, names: "list[str] | tuple[str, ...]", overwrite: bool) -> dict[str, Path]:
    """Path of each suite's plot, checked before the work."""
    from fashionflow_core.utils import plotting

    plotting.check("--plots")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FashionFlowError(
            f"--plots {folder}: cannot be made ({reason_of(error)})", hint="name a folder that can be written"
        ) from None
    return {name: check_target(folder / f"{name}.png", overwrite) for name in names}
