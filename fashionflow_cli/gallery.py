"""`fashionflow gallery`: rebuild the page of a folder of videos."""

from pathlib import Path
from typing import Annotated

import typer

from fashionflow_cli.console import result


def gallery(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A folder, or URL, that fashionflow generate wrote with -o.")
    ],
) -> None:
    """Rebuild OUT/index.html from OUT/manifest.jsonl: posters, videos, scores, and what failed and why."""
    from fashionflow_core.catalogue import run, storage

    for page in run.rebuild(storage.as_given(out)):
        result(page)
