"""`fashionflow export` and `fashionflow verify`."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from fashionflow_cli import options
from fashionflow_cli.console import Warnings, note, quiet_libraries, result, result_json
from fashionflow_cli.options import one_of
from fashionflow_core.errors import UsageError

EXAMPLES = """[bold]Examples[/bold]

fashionflow export --onnx --model mini -o mini-onnx

fashionflow export --onnx --dtype fp16 --dynamic-frames 8:70 --model ./my-model

fashionflow export --trt --trt-flavor rtx --dtype fp16 --model ./my-model -o engines

fashionflow generate dress.jpg --model mini-onnx
"""
SHAPE, TRT = "Numbers and shapes", "TensorRT"
Json = Annotated[bool, typer.Option("--json", help="JSON record on stdout instead of the path.")]


def parse_frames(text: str) -> tuple[int, int]:
    """`8:70` → (8, 70).

    Raises:
        UsageError: not such a range.
    """
    match = re.fullmatch(r"([0-9]{1,6}):([0-9]{1,6})", text)
    if not match:
        raise UsageError(f"--dynamic-frames: {text!r} is not MIN:MAX, such as 8:70")
    return int(match[1]), int(match[2])


def export(
    ctx: typer.Context,
    onnx: Annotated[bool, typer.Option("--onnx", help="Export ONNX files for onnxruntime.")] = False,
    trt: Annotated[bool, typer.Option("--trt", help="Build TensorRT engines for NVIDIA GPUs.")] = False,
    model: options.Model = "mini",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The engine folder. [dim]\\[default: model, dtype and shape, here][/dim]"),
    ] = None,
    lora: Annotated[Path | None, typer.Option(help="A LoRA folder, fused into the U-Net.", metavar="DIR")] = None,
    networks: Annotated[
        str | None,
        typer.Option(
            help="Networks, separated by commas; generation needs all. [dim]\\[default: all][/dim]",
            metavar="NAMES",
        ),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Compare with PyTorch.")] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an engine folder; matching engines in it are kept.")
    ] = False,
    dtype: Annotated[
        str, typer.Option(help="Compute dtype of the networks.", rich_help_panel=SHAPE, **one_of(("fp32", "fp16")))
    ] = "fp32",
    frames: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Fixed number of frames (motion models: keyframes). [dim]\\[default: the model's][/dim]",
            rich_help_panel=SHAPE,
        ),
    ] = None,
    dynamic_frames: Annotated[
        str | None,
        typer.Option(
            help="Accept every even number of frames in this range.", metavar="MIN:MAX", rich_help_panel=SHAPE
        ),
    ] = None,
    decode_chunk: Annotated[
        int,
        typer.Option(min=1, help="Maximum frames decoded at a time; fewer need less memory.", rich_help_panel=SHAPE),
    ] = 7,
    trt_flavor: Annotated[
        str,
        typer.Option(
            help="tensorrt builds on a GPU, rtx (TensorRT-RTX) anywhere; auto prefers the first.",
            rich_help_panel=TRT,
            **one_of(("auto", "tensorrt", "rtx")),
        ),
    ] = "auto",
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            help="Target GPU for rtx, such as 8.9; repeatable. [dim]\\[default: all][/dim]",
            metavar="X.Y",
            rich_help_panel=TRT,
        ),
    ] = None,
    workspace_gb: Annotated[
        float | None,
        typer.Option(help="Maximum workspace of an engine, GB.", metavar="<n>", rich_help_panel=TRT),
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="TensorRT timing cache file.", metavar="FILE", rich_help_panel=TRT)
    ] = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="Build refittable TensorRT engines.", rich_help_panel=TRT)
    ] = False,
    quiet: options.Quiet = False,
    as_json: Json = False,
) -> None:
    """Export a model to ONNX or TensorRT and verify the engines against PyTorch.

    Use the folder as a model: fashionflow generate --model DIR needs no PyTorch weights and no other option.
    """
    runtimes = tuple(name for name, wanted in (("onnxruntime", onnx), ("tensorrt", trt)) if wanted)
    if not runtimes:
        raise UsageError("export: no runtime selected", hint="pass --onnx, --trt or both")
    from fashionflow_core.store import registry
    from fashionflow_export.settings import EngineSettings, ExportSettings

    settings = ExportSettings(
        runtimes=runtimes,
        dtype=dtype,
        frames=frames,
        dynamic_frames=parse_frames(dynamic_frames) if dynamic_frames else None,
        networks=() if networks is None else tuple(name.strip() for name in networks.split(",")),
        decode_chunk=decode_chunk,
        verify=verify,
        engines=EngineSettings(
            flavor=trt_flavor,
            capabilities=tuple(compute_capability or ()),
            workspace_gb=workspace_gb,
            timing_cache=timing_cache,
            refit=refit,
        ),
    )
    source = registry.find(model)
    quiet_libraries()
    from fashionflow_export.export import export_model  # imports torch and diffusers: after the cheap checks

    folder, engines = export_model(source, out, settings, lora, overwrite, lambda line: note(line, quiet))
    _print(folder, engines, ctx.ensure_object(Warnings), as_json)


def verify(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An engine folder.", show_default=False)],
    device: Annotated[
        str,
        typer.Option(
            help="auto (onnxruntime on the CPU, TensorRT on the GPU), cpu, cuda or cuda:1.",
            envvar="FASHIONFLOW_DEVICE",
        ),
    ] = "auto",
    quiet: options.Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare an engine folder with the PyTorch outputs stored in it, and record the result there.

    Needs no PyTorch weights. Each network is compared, then a short generation.
    """
    from fashionflow_core.store.engine_folder import Engines

    record = Engines.load(folder)
    quiet_libraries()
    from fashionflow_export.verify import verify_folder

    engines = verify_folder(folder, record, None, device, lambda line: note(line, quiet))
    _print(folder, engines, ctx.ensure_object(Warnings), as_json)


def _print(folder: Path, engines: Any, warned: Warnings, as_json: bool) -> None:
    """Print the states and the result; exit code 1 if a check failed."""
    from dataclasses import asdict

    from fashionflow_export.verify import require_verified

    for runtime, record in engines.runtimes.items():
        note(
            f"{runtime}: {record.state.replace('_', ' ')}" + (f" ({record.reason})" if record.reason else ""),
            warned.quiet,
        )
    if as_json:
        result_json({"path": str(folder), **asdict(engines), "warnings": warned.take()})
    elif all(record.state != "failed" for record in engines.runtimes.values()):
        result(str(folder))
    require_verified(folder, engines)
