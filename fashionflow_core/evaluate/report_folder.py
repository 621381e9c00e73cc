"""Report folder: JSON, Markdown, page, plots and contact sheets."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError, option
from fashionflow_core.evaluate import contact_sheet, page, plots
from fashionflow_core.evaluate.report import Runs, ablation, has_published, methods, results
from fashionflow_core.utils import plotting
from fashionflow_core.utils.files import write_text

_SHEET_CLIPS = 6


def check(folder: Path, overwrite: bool) -> None:
    """Check before the work that the report can be written.

    Raises:
        FashionFlowError: matplotlib is missing, or the folder is not empty and `overwrite` is false.
    """
    plotting.check()
    if folder.exists() and not folder.is_dir():
        raise FashionFlowError(f"{folder}: is a file, not a folder for the report", hint="choose another name")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise FashionFlowError(
            f"{folder}: not empty", hint=f"pass {option('overwrite', True)}, or choose another folder"
        )
    if not folder.absolute().parent.is_dir():
        raise FashionFlowError(
            f"{folder}: folder {folder.absolute().parent} does not exist", hint="create it, or choose another one"
        )


def write(result: Mapping[str, Any], folder: Path) -> None:
    """Write the report of an evaluation: `evaluation.json`, `evaluation.md`, `report.html` and its pictures.

    Raises:
        FashionFlowError: the folder is not writable.
    """
    folder.mkdir(exist_ok=True)
    write_text(folder / "evaluation.json", json.dumps(result, indent=1) + "\n")
    pictures = []
    if plots.clip_scores(result, folder / "clip-scores.png"):
        text = "Each clip (dots), mean with 95 % interval, and mean of the real clips (dashed)"
        pictures.append(page.Picture("clip-scores.png", text))
    if plots.distances(result, folder / "distances.png"):
        pictures.append(page.Picture("distances.png", "Distances and their noise floors"))
    if plots.garment_drift({"": [result]}, folder / "garment-drift.png"):
        pictures.append(page.Picture("garment-drift.png", "Garment drift over time"))
    sides = [which for which in ("real", "fake") if result[which]]
    sheet = _sheet([Path(result[which]) for which in sides], folder, sides)
    text = ["# Evaluation", results(result, True)]
    if has_published(result):
        text += ["## The paper's table 1", methods({Path(result["fake"]).name: result}, True)]
    _finish(folder, "evaluation.md", text, [*pictures, sheet], page.of_evaluation(result, [*pictures, sheet]))


def write_ablation(measured: Mapping[str, Runs], folder: Path) -> None:
    """Write the report of an ablation: `ablation.json`, `ablation.md`, `report.html` and its pictures.

    Args:
        measured: method → results of its runs; the first run is shown in the contact sheet.

    Raises:
        FashionFlowError: the folder is not writable.
    """
    folder.mkdir(exist_ok=True)
    write_text(folder / "ablation.json", json.dumps(by_run(measured), indent=1) + "\n")
    first = {name: runs[0] for name, runs in measured.items()}
    real = next((run["real"] for run in first.values() if run["real"]), None)
    shown = ({"Real": real} if real else {}) | {name: run["fake"] for name, run in first.items()}
    pictures = []
    if plots.methods(measured, folder / "methods.png"):
        text = "Mean with 95 % interval; grey dots are single runs, the dashed line the real clips"
        pictures.append(page.Picture("methods.png", text))
    if plots.garment_drift(measured, folder / "garment-drift.png"):
        pictures.append(page.Picture("garment-drift.png", "Garment drift over time, mean over clips and runs"))
    pictures.append(_sheet(list(map(Path, shown.values())), folder, list(shown)))
    text = ["# Ablation", ablation(measured, True)]
    _finish(folder, "ablation.md", text, pictures, page.of_ablation(measured, pictures))


def by_run(measured: Mapping[str, Runs]) -> dict[str, Mapping[str, Any]]:
    """Results under one name each: "Global only", "Global only (2)"."""
    return {
        name if number == 1 else f"{name} ({number})": run
        for name, runs in measured.items()
        for number, run in enumerate(runs, 1)
    }


def _sheet(folders: list[Path], folder: Path, titles: list[str]) -> page.Picture:
    contact_sheet.grid(
        folders, folder / "clips.png", columns=8, height=140, limit=_SHEET_CLIPS, overwrite=True, titles=titles
    )
    return page.Picture("clips.png", f"Clips, eight frames each, evenly spaced in time: {', '.join(titles).lower()}")


def _finish(folder: Path, name: str, text: list[str], pictures: list[page.Picture], html: str) -> None:
    shown = [f"![{picture.caption.split(':')[0].lower()}]({picture.file})" for picture in pictures]
    joined = "\n\n".join([*text, *shown]) + "\n"
    # File names may contain bytes that are not UTF-8.
    write_text(folder / name, joined.encode("utf-8", "backslashreplace").decode("utf-8"))
    write_text(folder / page.PAGE, html)
