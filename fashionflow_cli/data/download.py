"""`fashionflow data download`."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fashionflow_cli import options
from fashionflow_cli.console import note, progress, quiet_libraries, result, result_json
from fashionflow_core.errors import FashionFlowError, PartialError, SettingError, reason_of

if TYPE_CHECKING:
    from fashionflow_core.dataset.download import Fetched
    from fashionflow_core.dataset.fashion import DatasetReport

STDIN = Path("-")
LIST, FASHION = "List", "The Fashion dataset (paper 4.1)"
EXAMPLES = """[bold]Examples[/bold]

fashionflow data download fashion -o fashion --jobs 8

fashionflow data download fashion --train-list fashion_train.txt --test-list fashion_test.txt -o fashion

fashionflow data download addresses.txt -o videos --jobs 8

fashionflow data download - -o videos < addresses.txt
"""


def download(
    list_: Annotated[
        Path,
        typer.Argument(
            metavar="LIST",
            help="A text file with one address per line, optionally followed by a tab and a file name, and by two "
            "spaces and sha256:HEX; lines with # are skipped. - reads it from stdin. [bold]fashion[/bold]: the "
            "published lists of the Fashion dataset.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, options.option(LIST, "out", "-o", text="Target folder, created if missing.", show_default=False)
    ],
    jobs: Annotated[int, options.option(LIST, "jobs", "-j", text="Parallel downloads.", min=1, max=64)] = 4,
    limit: Annotated[
        int | None,
        options.option(LIST, "limit", text="Download only the first N of each list.", min=1, metavar="<int>"),
    ] = None,
    overwrite: Annotated[
        bool, options.option(LIST, "overwrite", text="Download existing files again and replace other files.")
    ] = False,
    train_list: Annotated[
        str | None,
        options.option(
            FASHION, "train-list", text="List of the split train: a file or address.", default="as published"
        ),
    ] = None,
    test_list: Annotated[
        str | None,
        options.option(FASHION, "test-list", text="List of the split test: a file or address.", default="as published"),
    ] = None,
    config: options.Config = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Download the videos of a list in parallel; existing ones are kept.

    Broken downloads are resumed, also by a later run. downloads.jsonl in the folder records address, size and SHA-256
    of each file. [bold]fashion[/bold] keeps the splits as train/ and test/ and writes integrity.json.
    """
    start = time.perf_counter()
    quiet_libraries()
    from fashionflow_core.dataset import fashion
    from fashionflow_core.dataset.download import download_all, read_list, read_manifest

    is_fashion = str(list_) == fashion.NAME and not list_.is_file()  # the output folder may have that name
    if not is_fashion and (train_list or test_list):
        raise SettingError("train_list" if train_list else "test_list", f"only for the dataset {fashion.NAME}")
    splits, problems = {}, []
    if is_fashion:
        note(f"licence: {fashion.LICENCE}", quiet)
        sources = {"train": train_list or fashion.LISTS["train"], "test": test_list or fashion.LISTS["test"]}
        where = ", ".join(sources.values())
        texts = {split: fashion.list_text(source, out) for split, source in sources.items()}
        splits, problems = fashion.read_splits(texts, out)
        splits = {split: entries[:limit] for split, entries in splits.items()}
        items = [entry for entries in splits.values() for entry in entries]
    else:
        where = "<stdin>" if list_ == STDIN else str(list_)
        taken = {url: fetched.file for url, fetched in read_manifest(out).items()}
        items = read_list(read_text(list_, where), where, taken)[:limit]
    if not items:
        raise FashionFlowError(f"{where}: contains no addresses", hint="write one http or https address per line")
    with progress("downloading", len(items), "file", quiet) as done:
        fetched = download_all(items, out, jobs, overwrite, done)
    report = None
    if is_fashion:
        with progress("checking", len(items), "file", quiet) as done:
            report = fashion.check_dataset(out, splits, problems, done)
    _finish(fetched, report, where, out, round(time.perf_counter() - start, 3), quiet, as_json)


def _finish(
    fetched: "list[Fetched]",
    report: "DatasetReport | None",
    where: str,
    out: Path,
    seconds: float,
    quiet: bool,
    as_json: bool,
) -> None:
    """Report the run.

    Raises:
        FashionFlowError: nothing was downloaded.
        PartialError: some files failed.
    """
    failed = [entry for entry in fetched if entry.state == "failed"]
    for entry in failed:
        note(f"failed: {entry.problem}")
    new = [entry for entry in fetched if entry.state == "fetched"]
    size = sum(entry.bytes for entry in new) / 1e6
    kept = len(fetched) - len(new) - len(failed)
    note(f"{len(new)} downloaded ({size:.1f} MB), {kept} kept, in {seconds} s", quiet)
    for line in _described(report):
        note(line, quiet)
    if as_json:
        found: dict[str, Any] = {"folder": str(out), "files": [asdict(entry) for entry in fetched], "seconds": seconds}
        result_json(found | ({"integrity": asdict(report)} if report else {}))
    if len(failed) == len(fetched):
        raise FashionFlowError(f"{where}: no file could be downloaded", hint="see the lines above")
    if not as_json:
        result(str(out))
    if failed:
        raise PartialError(
            f"{len(failed)} of {len(fetched)} files could not be downloaded", hint="run the command again to retry"
        )


def _described(report: "DatasetReport | None") -> list[str]:
    """The integrity report, one line per split and problem."""
    if report is None:
        return []
    lines = []
    for split, found in report.splits.items():
        sizes = ", ".join(f"{count} of {size}" for size, count in sorted(found.sizes.items()))
        frames = f", {found.frames[0]} to {found.frames[1]} frames, {sizes}" if sizes else ""
        lines.append(f"{split}: {found.complete} of {found.listed} videos complete (paper: {found.expected}){frames}")
    return lines + [f"problem: {problem}" for problem in report.problems]


def read_text(path: Path, where: str) -> str:
    """The list as text.

    Raises:
        FashionFlowError: no such file, or not text.
    """
    try:
        return (sys.stdin.buffer.read() if path == STDIN else path.read_bytes()).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FashionFlowError(f"{where}: not a text file", hint="write one address per line") from None
    except OSError as error:
        raise FashionFlowError(f"{where}: {reason_of(error)}", hint="check the path of the list") from None
