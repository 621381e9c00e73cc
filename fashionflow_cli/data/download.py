"""`fashionflow data download`."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fashionflow_cli import options
from fashionflow_cli.console import note, progress, quiet_libraries, result, result_json
from fashionflow_core.errors import FashionFlowError, PartialError

STDIN = Path("-")
LIST = "List"
EXAMPLES = """[bold]Examples[/bold]

fashionflow data download fashion_train.txt -o videos/train --jobs 8

fashionflow data download - -o videos < addresses.txt
"""


def download(
    list_: Annotated[
        Path,
        typer.Argument(
            metavar="LIST",
            help="A text file: an address a line; after a tab the file's name, after two spaces sha256:HEX, if wanted; "
            "# begins a remark. - reads it from stdin.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, options.option(LIST, "out", "-o", text="The folder to fill; made where missing.", show_default=False)
    ],
    jobs: Annotated[int, options.option(LIST, "jobs", "-j", text="Files fetched at a time.", min=1, max=64)] = 4,
    limit: Annotated[
        int | None, options.option(LIST, "limit", text="Only the first so many addresses.", min=1, metavar="<int>")
    ] = None,
    overwrite: Annotated[
        bool, options.option(LIST, "overwrite", text="Fetch again what is there, and replace files of other origin.")
    ] = False,
    config: options.Config = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Fetch the videos of a list, several at a time; what is there already is not fetched again.

    Broken connections are taken up where they stopped, also by a later run. downloads.jsonl in the folder records
    each file's address, size and SHA-256.
    """
    start = time.perf_counter()
    quiet_libraries()
    from fashionflow_core.dataset.download import download_all, read_list, read_manifest

    where = "<stdin>" if list_ == STDIN else str(list_)
    taken = {url: fetched.file for url, fetched in read_manifest(out).items()}
    items = read_list(read_text(list_, where), where, taken)[:limit]
    if not items:
        raise FashionFlowError(f"{where}: holds no addresses", hint="write one http or https address a line")
    with progress("downloading", len(items), "file", quiet) as done:
        fetched = download_all(items, out, jobs, overwrite, done)
    failed = [entry for entry in fetched if entry.state == "failed"]
    for entry in failed:
        note(f"failed: {entry.problem}")
    new = [entry for entry in fetched if entry.state == "fetched"]
    seconds = round(time.perf_counter() - start, 3)
    size = sum(entry.bytes for entry in new) / 1e6
    note(f"{len(new)} fetched ({size:.1f} MB), {len(items) - len(new) - len(failed)} kept, in {seconds} s", quiet)
    if as_json:
        result_json({"folder": str(out), "files": [asdict(entry) for entry in fetched], "seconds": seconds})
    if len(failed) == len(items):
        raise FashionFlowError(f"{where}: nothing could be fetched", hint="the lines above say why")
    if not as_json:
        result(str(out))
    if failed:
        raise PartialError(
            f"{len(failed)} of {len(items)} files could not be fetched", hint="the same command tries those again"
        )


def read_text(path: Path, where: str) -> str:
    """The list as text.

    Raises:
        FashionFlowError: no such file, or no text.
    """
    try:
        return (sys.stdin.buffer.read() if path == STDIN else path.read_bytes()).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FashionFlowError(f"{where}: is no text file", hint="write one address a line") from None
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise FashionFlowError(f"{where}: {reason}", hint="check the path of the list") from None
