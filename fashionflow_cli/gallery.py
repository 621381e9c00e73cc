"""`fashionflow gallery`: the page of a folder of videos, as files or served for a review."""

from pathlib import Path
from typing import Annotated

import typer

from fashionflow_cli.console import result
from fashionflow_core.errors import UsageError


def gallery(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Output folder or URL of fashionflow generate.")],
    review: Annotated[
        bool,
        typer.Option("--review", help="Serve the page on this machine to approve and reject videos (extra serve)."),
    ] = False,
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="Port of --review; 0: any free port.")
    ] = 8000,
) -> None:
    """Rebuild OUT/index.html from OUT/manifest.jsonl: posters, videos, scores, failures and their reasons."""
    from fashionflow_core.catalogue import run, storage

    for page in run.rebuild(storage.as_given(out)):
        result(page)
    if not review:
        return
    if storage.is_url(storage.as_given(out)):
        raise UsageError("--review: needs a local folder", hint="copy the videos here first")
    from fashionflow_cli import serve
    from fashionflow_core.catalogue.jobs import RunSpec
    from fashionflow_core.serve.settings import ServerLimits, ServerOptions
    from fashionflow_core.store import registry

    work = RunSpec(model=str(registry.find("mini")), out=str(out), scratch="")
    limits = ServerLimits(keep_seconds=float("inf"))
    serve.start(ServerOptions(work, port=port, devices=(), limits=limits), quiet=True)
    run.rebuild(str(out))
