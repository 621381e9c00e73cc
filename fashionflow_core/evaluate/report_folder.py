"""Report folder: JSON, page, plots and contact sheets."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError, option
from fashionflow_core.evaluate import contact_sheet, plots
from fashionflow_core.evaluate.report import methods, results
from fashionflow_core.utils import plotting
from fashionflow_core.utils.files import write_text


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
    """Write `evaluation.json`, `evaluation.md`, `distances.png`, `garment-drift.png` and `clips.png`.

    Raises:
        FashionFlowError: the folder is not writable.
    """
    folder.mkdir(exist_ok=True)
    write_text(folder / "evaluation.json", json.dumps(result, indent=1) + "\n")
    shown = []
    if plots.distances(result, folder / "distances.png"):
        shown.append("![distances and their noise floors](distances.png)")
    if plots.garment_drift(result, folder / "garment-drift.png"):
        shown.append("![garment drift over time](garment-drift.png)")
    sides = [which for which in ("real", "fake") if result[which]]
    folders = [Path(result[which]) for which in sides]
    contact_sheet.grid(folders, folder / "clips.png", columns=8, height=140, limit=12, overwrite=True, titles=sides)
    shown.append("![clips](clips.png)")
    page = ["# Evaluation", results(result, True)]
    if any(result["metrics"].get(metric) is not None for metric in ("is", "fvd", "vfid")):
        page += ["## The paper's table 1", methods({Path(result["fake"]).name: result}, True)]
    text = "\n\n".join([*page, *shown]) + "\n"
    # File names may contain bytes that are not UTF-8.
    write_text(folder / "evaluation.md", text.encode("utf-8", "backslashreplace").decode("utf-8"))
