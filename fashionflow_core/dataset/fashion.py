"""Fashion dataset (Zablotskaia et al. 2019, DwNet; paper 4.1): published lists, splits, integrity."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fashionflow_core import video
from fashionflow_core.dataset.download import ListEntry, read_list, read_manifest
from fashionflow_core.errors import FashionFlowError, reason_of
from fashionflow_core.utils import download as http
from fashionflow_core.utils import hashing
from fashionflow_core.utils.files import write_text

NAME = "fashion"
PAGE = "https://vision.cs.ubc.ca/datasets/fashion/"
SPLITS = {"train": 500, "test": 100}  # videos (paper 4.1)
LISTS = {split: f"{PAGE}resources/fashion_dataset/fashion_{split}.txt" for split in SPLITS}
LICENCE = (
    f"the Fashion dataset lists product videos of a shop, and {PAGE} states no licence for them: the rights are their "
    "owners'; check what your use needs before you train on them or publish frames"
)
REPORT_FILE = "integrity.json"


@dataclass
class SplitReport:
    """One split after a download.

    Attributes:
        expected, listed, complete: videos by the paper, in the list, and on disk with the recorded hash.
        frames: fewest and most frames of a video.
        sizes: number of videos by `HEIGHTxWIDTH`.
        missing: listed files that are not there.
    """

    expected: int
    listed: int
    complete: int = 0
    frames: tuple[int, int] = (0, 0)
    sizes: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


@dataclass
class DatasetReport:
    """Integrity of a downloaded dataset: its splits by name, and what is wrong, one line each."""

    splits: dict[str, SplitReport]
    problems: list[str]
    licence: str = LICENCE


def list_text(source: str, folder: Path) -> str:
    """The text of a list from a file, or from an http(s) address.

    Args:
        folder: folder of the dataset, for the download.

    Raises:
        FashionFlowError: no such file, a failed download, or not text.
    """
    path = Path(source)
    fetched = None
    if "://" in source:
        path = fetched = http.download(source, folder / ".partial")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FashionFlowError(f"{source}: {reason_of(error)}", hint="check the path") from None
    except UnicodeDecodeError:
        raise FashionFlowError(f"{source}: not a text file", hint="name the list of one address per line") from None
    finally:
        if fetched is not None:
            fetched.unlink(missing_ok=True)
    if text.lstrip().lower().startswith(("<!doctype html", "<html")):
        raise FashionFlowError(f"{source}: a web page, not a list", hint=f"get the list from {PAGE}")
    return text


def read_splits(texts: Mapping[str, str], folder: Path) -> tuple[dict[str, list[ListEntry]], list[str]]:
    """The entries of every split, named `SPLIT/FILE`, and problems of the lists.

    An address in both lists stays in the test split only: a video that was trained on measures nothing.

    Args:
        texts: text of the list by split.
        folder: folder of the dataset, whose earlier names are kept.
    """
    before = read_manifest(folder)
    entries: dict[str, list[ListEntry]] = {}
    for split, text in texts.items():
        prefix = f"{split}/"
        taken = {url: row.file.removeprefix(prefix) for url, row in before.items() if row.file.startswith(prefix)}
        entries[split] = [
            replace(entry, name=prefix + entry.name) if entry.name else entry
            for entry in read_list(text, f"list of {split}", taken)
        ]
    tested = {entry.url for entry in entries.get("test", [])}
    twice = [entry.url for entry in entries.get("train", []) if entry.url in tested]
    if twice:
        entries["train"] = [entry for entry in entries["train"] if entry.url not in tested]
    return entries, [f"{http.shortened(url)}: in both lists; kept in test only" for url in twice]


def check_dataset(
    folder: Path,
    entries: Mapping[str, list[ListEntry]],
    problems: list[str],
    on_done: Callable[[int], None] = lambda done: None,
) -> DatasetReport:
    """Compare a folder with its lists and its record of downloads, and write `integrity.json`.

    Every file is hashed and probed. Equal videos in different splits, and numbers other than the paper's, are problems.

    Args:
        entries, problems: result of `read_splits`.
        on_done: called with the number of checked files.

    Raises:
        FashionFlowError: the report cannot be written.
    """
    recorded = read_manifest(folder)
    report = DatasetReport({}, list(problems))
    owners: dict[str, str] = {}
    done = 0
    for split, listed in entries.items():
        found = report.splits[split] = SplitReport(SPLITS.get(split, len(listed)), len(listed))
        frames: list[int] = []
        for entry in listed:
            info = _whole(folder, entry, recorded, found, report.problems)
            if info is not None:
                frames.append(info["frames"])
                size = f"{info['height']}x{info['width']}"
                found.sizes[size] = found.sizes.get(size, 0) + 1
                other = owners.setdefault(info["sha256"], entry.name)
                if other != entry.name:
                    report.problems.append(f"{entry.name}: same video as {other}")
            on_done(done := done + 1)
        if frames:
            found.frames = (min(frames), max(frames))
        if found.listed != found.expected:
            report.problems.append(f"{split}: {found.listed} videos listed, the paper has {found.expected}")
    write_text(folder / REPORT_FILE, json.dumps(asdict(report), indent=2) + "\n")
    return report


def _whole(
    folder: Path, entry: ListEntry, recorded: Mapping[str, Any], found: SplitReport, problems: list[str]
) -> dict[str, Any] | None:
    """Facts of one file if it is as recorded; else None, with the reason in `found` or `problems`."""
    row, path = recorded.get(entry.url), folder / entry.name
    if not entry.name or row is None or not path.is_file():
        found.missing.append(entry.name or entry.url)
        return None
    sha256 = hashing.sha256(path)
    if sha256 != row.sha256:
        problems.append(f"{entry.name}: changed since its download (SHA-256 {sha256}, not {row.sha256})")
        return None
    try:
        info = video.probe(path)
    except FashionFlowError as error:
        problems.append(error.message)
        return None
    found.complete += 1
    return {"frames": info.frames, "height": info.height, "width": info.width, "sha256": sha256}
