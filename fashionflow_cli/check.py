"""`fashionflow check`: whether a video keeps the limits of a shop or platform."""

from pathlib import Path
from typing import Annotated

import typer

from fashionflow_cli import options
from fashionflow_cli.console import result, result_json
from fashionflow_core.errors import FashionFlowError, PartialError

EXAMPLES = """[bold]Examples[/bold]

fashionflow check dress.mp4 --for shopify

fashionflow check *.mp4 --for reels,tiktok --json"""


def check(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="Videos, of any origin.")],
    targets: Annotated[
        str,
        typer.Option("--for", metavar="NAMES", help="One or more of shopify, google, amazon, reels, tiktok, web, gif."),
    ],
    as_json: options.Json = False,
) -> None:
    """Check videos of any origin against the limits of shops and platforms.

    Limits and their sources: docs/guides/targets.md.

    Exit code 0: all kept; 3: some are not.
    """
    from fashionflow_core.video import platforms

    chosen = [platforms.find_platform(name) for name in platforms.names_of(targets)]
    found, bad = [], 0
    for path in videos:
        for target in chosen:
            try:
                problems = platforms.check(path, target)
            except FashionFlowError as error:
                if len(videos) == 1:
                    raise
                problems = [platforms.Problem("file", error.message.removeprefix(f"{path}: "), "a video")]
            bad += bool(problems)
            found.append({"path": str(path), "target": target.name, "problems": [vars(one) for one in problems]})
            if not as_json:
                for problem in problems:
                    result(f"{path}: {target.name}: {problem}")
                if not problems:
                    count = len(target.limits())
                    kept = f"keeps all {count} limits" if count > 1 else "keeps its only limit"
                    result(f"{path}: {target.name}: {kept}")
    if as_json:
        result_json(found)
    if bad:
        raise PartialError(f"{bad} of {len(found)} checks failed", hint="generate the video again with --for")
