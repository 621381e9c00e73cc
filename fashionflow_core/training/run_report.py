"""Report of a run, `report.html`: loss curves by noise level, previews over time, events, settings."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from fashionflow_core.training.config import TrainConfig
from fashionflow_core.training.curves import Curve, chart
from fashionflow_core.training.run_folder import RunFolder
from fashionflow_core.training.settings import to_yaml
from fashionflow_core.training.status import NOISE_LEVELS, duration, number
from fashionflow_core.utils.files import write_text

_ROWS = 8  # previews shown per photo, evenly spaced over the run
_PREVIEW = re.compile(r"previews/step-(\d+)-(\d+)\.mp4")
_EVENTS = {
    "out_of_memory": "out of memory; micro-batch of {micro_batch_size}",
    "skipped": "step skipped: {reason}",
    "done": "finished: {path}",
}


@dataclass(frozen=True)
class PreviewRow:
    """One preview of a photo: its step, and the video and its strip of frames as addresses relative to the page."""

    step: int
    video: str
    strip: str


def level_names() -> list[str]:
    """Names of the noise levels by their part of the noise schedule: `0-25 %` has the least noise."""
    return [f"{100 * i // NOISE_LEVELS}-{100 * (i + 1) // NOISE_LEVELS} %" for i in range(NOISE_LEVELS)]


def write_report(folder: RunFolder, config: TrainConfig) -> None:
    """Write `report.html` of a run folder from its log. The page loads only previews that lie next to it.

    Raises:
        FashionFlowError: the page cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    records = folder.records()
    lines = [record for record in records if "loss" in record]
    environment = Environment(
        loader=PackageLoader("fashionflow_core.training", "."), autoescape=True, undefined=StrictUndefined
    )
    by_noise = [Curve(name, f"level-{level}", _points(lines, level)) for level, name in enumerate(level_names())]
    page = environment.get_template("run_report.html.j2").render(
        title=folder.path.absolute().name,
        facts=_facts(lines, config),
        loss=chart([Curve("loss", "total", _values(lines, "loss"))], "loss over steps"),
        by_noise=chart(by_noise, "loss by noise level over steps"),
        levels=[(curve.kind, curve.name) for curve in by_noise if curve.points],
        rate=chart([Curve("learning rate", "total", _values(lines, "lr"))], "learning rate over steps", False),
        previews=_previews(folder, records),
        events=[(record["step"], text) for record in records if (text := _event(record))],
        settings=to_yaml(config),
        built=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    write_text(folder.report, page)


def _values(lines: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(line["step"], line[key]) for line in lines]


def _points(lines: list[dict[str, Any]], level: int) -> list[tuple[float, float]]:
    found = ((line["step"], line.get("loss_by_noise", [])[level : level + 1]) for line in lines)
    return [(step, value[0]) for step, value in found if value and value[0] is not None]


def _facts(lines: list[dict[str, Any]], config: TrainConfig) -> list[tuple[str, str]]:
    """Label and value of each figure at the top of the page."""
    if not lines:
        return [("step", "0")]
    last, schedule = lines[-1], config.schedule
    recent = [line["loss"] for line in lines[-20:]]
    lines_read = f"mean of the last {len(recent)} lines" if len(recent) > 1 else "last line"
    ends = [f"of {schedule.max_steps:,}"] if schedule.max_steps else []
    epochs = [f"of {schedule.max_epochs:g}"] if schedule.max_epochs else []
    speed = last.get("clips_per_second")
    return [
        ("step", " ".join([f"{last['step']:,}", *ends])),
        ("epoch", " ".join([f"{last['epoch']:.2f}", *epochs])),
        (f"loss, {lines_read}", number(sum(recent) / len(recent))),
        ("time in steps", duration(last["seconds"] / 3600)),
        ("clips per second", number(speed) if speed else "-"),
        ("learning rate", f"{last['lr']:.2g}"),
    ]


def _event(record: dict[str, Any]) -> str:
    text = _EVENTS.get(record.get("event", ""))
    return text.format_map(record) if text else ""


def _previews(folder: RunFolder, records: list[dict[str, Any]]) -> list[tuple[int, list[PreviewRow]]]:
    """For each photo its previews over the run, first and last included."""
    photos: dict[int, list[PreviewRow]] = {}
    for record in records:
        found = _PREVIEW.fullmatch(str(record.get("path", ""))) if record.get("event") == "preview" else None
        if found and (folder.path / found[0]).is_file():
            strip = found[0].removesuffix(".mp4") + ".jpg"
            shown = quote(strip) if (folder.path / strip).is_file() else ""
            photos.setdefault(int(found[2]), []).append(PreviewRow(int(found[1]), quote(found[0]), shown))
    return [(photo, _spread(rows)) for photo, rows in sorted(photos.items())]


def _spread(rows: list[PreviewRow]) -> list[PreviewRow]:
    if len(rows) <= _ROWS:
        return rows
    return [rows[round(index * (len(rows) - 1) / (_ROWS - 1))] for index in range(_ROWS)]
