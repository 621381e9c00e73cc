"""`fashionflow compare` and `fashionflow grid`."""

from pathlib import Path
from typing import Annotated

import typer

from fashionflow_cli import options
from fashionflow_cli.console import note, quiet_libraries, result, result_json, result_text
from fashionflow_cli.evaluate_options import CLIPS, OUTPUT, Json, Markdown, Overwrite, check_one_form, option
from fashionflow_core.errors import FashionFlowError, PartialError

COMPARE_EXAMPLES = """[bold]Examples[/bold]

fashionflow compare before.json after.json

fashionflow compare a/step.json b/step.json --markdown
"""
GRID_EXAMPLES = """[bold]Examples[/bold]

fashionflow grid real first second -o grid.png

fashionflow grid real first -o grid.mp4 --limit 4
"""


def compare(
    a: Annotated[Path, typer.Argument(metavar="A.json", help="A result of evaluate or bench.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B.json", help="A later result of the same kind.", show_default=False)],
    tolerance: Annotated[
        float, option(OUTPUT, "tolerance", text="For bench: allowed slowdown of B; 1.05 is 5 %.", min=1.0, max=100.0)
    ] = 1.05,
    markdown: Markdown = False,
    as_json: Json = False,
) -> None:
    """Compare two results, of evaluations or of benchmarks, and list what was measured differently.

    Exit code 1 if B is worse or slower beyond noise. Results from other machines, settings or samples are shown but
    not judged.
    """
    from fashionflow_core.evaluate import compare as comparing

    check_one_form(markdown, as_json)
    try:
        comparison = comparing.compare(comparing.read(a), comparing.read(b), tolerance)
    except FashionFlowError as error:
        named = error.message if str(a) in error.message or str(b) in error.message else f"{a}, {b}: {error.message}"
        raise FashionFlowError(named, error.hint) from None
    if as_json:
        result_json(comparison.record())
    else:
        result_text(comparing.text(comparison, markdown))
    if worse := comparison.regressions:
        raise FashionFlowError(
            f"{b}: worse than {a} beyond noise in {', '.join(worse)}", hint="see the table for the differences"
        )


def grid(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders of clips, one per method.", show_default=False)
    ],
    out: Annotated[
        Path,
        option(OUTPUT, "out", "-o", text="The grid: .png or .jpg, or a video such as .mp4.", show_default=False),
    ],
    columns: Annotated[int, option(CLIPS, "columns", text="Frames per row of a picture.", min=1, max=100)] = 6,
    height: Annotated[int, option(CLIPS, "height", text="Height of a frame in pixels.", min=16, max=2160)] = 160,
    limit: Annotated[int, option(CLIPS, "limit", text="Show at most N clips.", min=1)] = 8,
    overwrite: Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Show the same clips of several methods side by side, as one picture (the paper's Figure 3) or one video."""
    quiet_libraries()
    from fashionflow_core.evaluate import contact_sheet

    failed = contact_sheet.grid(folders, out, columns, height, limit, overwrite)
    for line in failed:
        note(f"failed: {line}")
    result(str(out))
    if failed:
        raise PartialError(
            f"{len(failed)} clips or folders are not in {out}", hint="see the lines above for the reasons"
        )
