"""`fashionflow inspect`: metadata, marks and signature of a video."""

from pathlib import Path
from typing import Annotated

import typer

from fashionflow_cli import options
from fashionflow_cli.console import result, result_json


def inspect(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video, poster or frame.")],
    as_json: options.Json = False,
) -> None:
    """Show a video's metadata: model, seed, settings, marks, signature, and the command that reproduces it.

    Metadata can be written by anyone; only a valid signature proves who signed the file.
    """
    from fashionflow_core.video import provenance

    found = provenance.inspect(video)
    if as_json:
        result_json(found.to_json())
        return
    rows = {"file": found.path}
    if found.frames:
        rows["video"] = (
            f"{found.frames} frames of {found.height}x{found.width}, {found.fps:g} per second, {found.codec}"
        )
    kind = found.source_type.rsplit("/", 1)[-1]
    rows["marked"] = f"generated ({kind})" if "lgorithmic" in kind else kind or "no"
    rows["signature"] = found.signature or "none"
    rows |= {key.replace("_", " "): value for key, value in (found.settings | found.other).items()}
    if found.again:
        rows["made by"] = found.again
    for name, value in rows.items():
        result(f"{name:18}  {value}")
