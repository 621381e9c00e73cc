"""`fashionflow gallery`: the page of a folder of videos, built again."""

from pathlib import Path
from typing import Annotated

import typer

from fashionflow_cli.console import result


def gallery(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that fashionflow generate wrote with -o.")],
) -> None:
    """Rebuild OUT/index.html from OUT/manifest.jsonl: posters, videos, scores, and what failed and why."""
    from fashionflow_core.catalogue.gallery import build

    for page in build(out):
        result(str(page))
