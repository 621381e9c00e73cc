"""`fashionflow export` and `fashionflow verify`: engines of a model, and whether they say what PyTorch says."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from fashionflow_cli.console import WARNINGS, note, one_of, quiet_libraries, result, result_json
from fashionflow_core.errors import UsageError

EXAMPLES = """[bold]Examples[/bold]

fashionflow export --onnx --model mini -o mini-onnx

fashionflow export --onnx --dtype fp16 --dynamic-frames 8:70 --model ./my-model

fashionflow export --trt --trt-flavor rtx --dtype fp16 --model ./my-model -o engines

fashionflow generate dress.jpg --model mini-onnx
"""
GRAPH_NAMES = ("unet", "vae_decoder", "vae_encoder", "image_encoder")
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A name from [bold]fashionflow models list[/bold], or a model folder.",
        envvar="FASHIONFLOW_MODEL",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.", envvar="FASHIONFLOW_QUIET")]
Json = Annotated[
    bool, typer.Option("--json", help="The record on stdout, instead of the path.", envvar="FASHIONFLOW_JSON")
]


def parse_frames(text: str) -> tuple[int, int]:
    """`8:70` → (8, 70).

    Raises:
        UsageError: it is no such range.
    """
    match = re.fullmatch(r"([0-9]{1,6}):([0-9]{1,6})", text)
    if not match:
        raise UsageError(f"--dynamic-frames: {text!r} is not MIN:MAX, such as 8:70")
    return int(match[1]), int(match[2])


def export(
    onnx: Annotated[bool, typer.Option("--onnx", help="ONNX files, which onnxruntime runs.")] = False,
    model: Model = "mini",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The engine folder to make. [dim]\\[default: model, dtype and shape, here][/dim]"
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="What the networks compute in.", **one_of(("fp32", "fp16")))] = "fp32",
    frames: Annotated[
        int | None, typer.Option(min=2, help="Frames of a clip, fixed. [dim]\\[default: the model's][/dim]")
    ] = None,
    dynamic_frames: Annotated[
        str | None, typer.Option(help="Take every even number of frames in this range.", metavar="MIN:MAX")
    ] = None,
    lora: Annotated[Path | None, typer.Option(help="A LoRA folder, fused into the U-Net.", metavar="DIR")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing engine folder.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make engines of a model, and verify them against PyTorch.

    The folder takes the model's place: fashionflow generate --model DIR needs no PyTorch weights and no other option.
    """
    WARNINGS.quiet = quiet
    runtimes = tuple(name for name, wanted in (("onnxruntime", onnx),) if wanted)
    if not runtimes:
        raise UsageError("export: nothing to make", hint="pass --onnx, --trt or both")
    quiet_libraries()
    from fashionflow_core import registry
    from fashionflow_export.folder import ExportSettings, export_model, require_verified, states

    settings = ExportSettings(
        runtimes=runtimes,
        dtype=dtype,
        frames=frames,
        dynamic_frames=parse_frames(dynamic_frames) if dynamic_frames else None,
    )
    folder, engines = export_model(registry.find(model), out, settings, lora, overwrite, lambda line: note(line, quiet))
    _print(folder, engines, states(engines), quiet, as_json)
    require_verified(folder, engines)


def _print(folder: Path, engines: Any, found: dict[str, str], quiet: bool, as_json: bool) -> None:
    from dataclasses import asdict

    for runtime, state in found.items():
        note(f"{runtime}: {state.replace('_', ' ')}", quiet)
    if as_json:
        result_json({"path": str(folder), **asdict(engines), "warnings": WARNINGS.take()})
    else:
        result(str(folder))
