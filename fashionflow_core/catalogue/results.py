"""Results of a catalogue as tables: `results.csv` and `results.json` of an output folder, one row per item."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from fashionflow_core.catalogue.jobs import DONE
from fashionflow_core.catalogue.manifest import latest, manifest_of, record_at
from fashionflow_core.errors import FashionFlowError, reason_of
from fashionflow_core.utils.files import atomic_path

CSV, JSON = "results.csv", "results.json"
SCORES = (
    *("garment_drift", "first_psnr", "flicker", "motion", "figure_kept"),
    *("movement", "zoom", "flash", "wall_shift", "fade", "doubled_limb"),
    *("cell_drift", "pattern_lost", "face_lost", "blur"),
)
# Columns in order; values of missing files are empty (null in JSON).
COLUMNS = (
    *("item", "photo", "status", "video", "more_videos", "poster", "caption"),
    *("width", "height", "seconds", "fps", "frames", "bytes", "codec"),
    *SCORES,
    *("flags", "warnings", "message", "hint", "model", "seed", "photo_sha256", "video_sha256", "settings_hash"),
)


def write(out: str | Path) -> list[Path]:
    """Write both tables of an output folder from its manifest; each is replaced atomically.

    Items come in the order in which they were first made. Paths of videos and posters are relative to the folder.

    Raises:
        FashionFlowError: no manifest there, or a table cannot be written.
    """
    out = Path(out)
    source = manifest_of(out)
    # Only the offset of each item's line is held: there may be a million.
    starts = list(latest(source).values())
    made = [out / CSV, out / JSON]
    for path, write_rows in zip(made, (_write_csv, _write_json)):
        try:
            with (
                source.open("rb") as manifest,
                atomic_path(path) as temporary,
                # File names may contain bytes that are not UTF-8: they are kept.
                temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
            ):
                write_rows(file, (row(record_at(manifest, start)) for start in starts))
        except OSError as error:
            problem = f"{path}: cannot be written ({reason_of(error)})"
            raise FashionFlowError(problem, hint="check the free disk space") from None
    return made


def row(record: dict[str, Any]) -> dict[str, Any]:
    """A manifest line as a row; lists stay lists."""
    done = record["status"] == DONE
    frames, fps = record.get("frames"), record.get("fps")
    scores = record.get("scores") or {}
    found = {
        "photo": record.get("source"),
        "video": record.get("output"),
        "more_videos": record.get("more_outputs") or [],
        "seconds": _seconds(frames, fps),
        "bytes": record.get("output_bytes"),
        "flags": record.get("flags") or [],
        "warnings": record.get("warnings") or [],
        "photo_sha256": record.get("input_hash") or None,
        "video_sha256": record.get("output_hash"),
        **{name: scores.get(name) for name in SCORES},
    }
    found = {name: found[name] if name in found else record.get(name) for name in COLUMNS}
    return found if done else found | {"video": None, "poster": None, "more_videos": []}


def _seconds(frames: Any, fps: Any) -> float | None:
    try:
        return round(frames / fps, 3)
    except (TypeError, ArithmeticError):
        return None


def _write_csv(file: IO[str], rows: Iterator[dict[str, Any]]) -> None:
    table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    table.writeheader()
    for one in rows:
        table.writerow({key: _cell(value) for key, value in one.items()})


def spreadsheet_text(text: str) -> str:
    """Text that spreadsheets do not interpret as a formula: an apostrophe precedes what could begin one."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _cell(value: Any) -> Any:
    """A list as one text; lone surrogates, which UTF-8 cannot encode, as U+FFFD; no formulas."""
    text = "; ".join(map(str, value)) if isinstance(value, list) else value
    if not isinstance(text, str):
        return text
    return spreadsheet_text(re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text))


def _write_json(file: IO[str], rows: Iterator[dict[str, Any]]) -> None:
    separator = "[\n"
    for one in rows:
        file.write(separator + json.dumps(one))
        separator = ",\n"
    file.write("[]\n" if separator == "[\n" else "\n]\n")
