"""Report page `report.html` of an evaluation or ablation: tables, plots and contact sheets, readable offline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashionflow_core.evaluate import report
from fashionflow_core.evaluate.report import Runs, label, number
from fashionflow_core.utils.pages import render

PAGE, TEMPLATE = "report.html", "report.html.j2"

# Measures of a table of the page, by what they tell.
GROUPS = {
    "Distance between the sets": ("is", "fvd", "vfid", "fid", "rfd"),
    "Likeness to the real clip of the same photo": (
        *("psnr", "ssim", "silhouette_overlap", "width_correlation", "garment_error", "skin_error"),
    ),
    "What is kept of the photo": (
        *("garment_similarity", "pattern_kept", "garment_drift", "garment_drift_median", "garment_drift_last"),
        *("skin_drift", "skin_gap", "first_frame_psnr", "first_frame_ssim", "first_step"),
    ),
    "Motion and steadiness": (
        *("warping_error", "temporal_energy", "motion", "sharpness", "silhouette_range", "silhouette_correlation"),
    ),
}
MEANINGS = {
    "is": "Inception Score: clear and varied classes of frames",
    "fvd": "Fréchet distance of 400 logits of I3D, 16 frames",
    "vfid": "Fréchet distance of 1024 features of I3D",
    "fid": "Fréchet distance of Inception-v3 features of frames",
    "rfd": "Fréchet distance of 64 features of a random network with a fixed seed: a trend without weights, not FVD",
    "psnr": "Peak signal-to-noise ratio, frame by frame",
    "ssim": "Structural similarity, frame by frame",
    "silhouette_overlap": "Intersection over union of the figures, frame by frame; 1 is the same outline",
    "width_correlation": "Correlation over time of the silhouettes' widths",
    "garment_error": "CIEDE2000 difference of the garment's mean colour, frame by frame",
    "skin_error": "CIEDE2000 difference of the skin's median colour, frame by frame",
    "garment_similarity": "Cosine similarity of image-encoder features to the garment in the photo",
    "pattern_kept": "Fine structure of the garment that is still that of the photo; 1 is all",
    "garment_drift": "CIEDE2000 difference of the garment's mean colour from frame 0; 1 is just noticeable",
    "garment_drift_median": "The same, median over frames",
    "garment_drift_last": "The same, in the last frame",
    "skin_drift": "CIEDE2000 difference of the skin's median colour from frame 0",
    "skin_gap": "Largest difference of mean skin drift between two groups of tones",
    "first_frame_psnr": "Frame 0 against the photo",
    "first_frame_ssim": "Frame 0 against the photo",
    "first_step": "Change from frame 0 to 1, relative to the usual change; above 3 is visible",
    "warping_error": "Difference of neighbouring frames after motion compensation, grey levels",
    "temporal_energy": "Second difference over time, grey levels",
    "motion": "Mean change between frames, grey levels",
    "sharpness": "Luma gradient inside the figure",
    "silhouette_range": "Change of the figure's width; shows whether it turns",
    "silhouette_correlation": "Likeness of neighbouring silhouettes; 1 is smooth",
}


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        rows: heading, then rows of cells.
        caption: line above it.
        means: explanation of the first cell of each row, by that cell.
        folded: whether it is shown only when opened.
    """

    rows: Sequence[Sequence[str]]
    caption: str = ""
    means: Mapping[str, str] | None = None
    folded: bool = False

    @property
    def published(self) -> list[bool]:
        """Whether a row contains numbers of the paper."""
        return [row[-1] == report.PAPER for row in self.rows]


@dataclass(frozen=True)
class Picture:
    """A picture next to the page, with its caption."""

    file: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A section of the page: title, paragraphs, tables, pictures, list."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    lines: Sequence[str] = ()


def of_evaluation(result: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    """The page of one evaluation."""
    rows = report.result_rows(result)
    sections = [
        Section("Results", tables=_grouped(rows, list(result["metrics"]))),
        Section("Plots and clips", pictures=pictures),
    ]
    if report.has_published(result):
        measured = {Path(result["fake"]).name: result}
        sections.append(Section("The paper's table 1", (report.note(measured),), [Table(report.paper_rows(measured))]))
    if groups := report.group_rows(result):
        sections.append(Section("Skin tones", tables=[Table(groups)]))
    sections += [Section(title, lines=lines) for title, lines in report.remarks([result]).items()]
    sections.append(Section("Details", tables=[_clips(result), _protocol(result)]))
    return rendered(f"Evaluation of {Path(result['fake']).name}", report.heading(result), sections, "evaluation.json")


def of_ablation(measured: Mapping[str, Runs], pictures: Sequence[Picture]) -> str:
    """The page of an ablation: method → results of its runs."""
    first = {name: runs[0] for name, runs in measured.items()}
    everything = [run for runs in measured.values() for run in runs]
    metrics = report.metric_names(measured)
    sections = []
    if any(map(report.has_published, everything)):
        sections.append(Section("The paper's table 2", (report.note(first),), [Table(report.ablation_rows(measured))]))
    sections.append(
        Section("Results by method", (report.MEANS,), _grouped(report.method_rows(measured, metrics), metrics))
    )
    if len(differences := report.difference_rows(measured)) > 1:
        sections.append(
            Section("Differences on the same photos", (report.DIFFERENCES,), [Table(differences, means=_means())])
        )
    sections.append(Section("Plots and clips", pictures=pictures))
    sections += [Section(title, lines=lines) for title, lines in report.remarks(everything).items()]
    details = [_protocol(run, f"{name}, protocol") for name, run in first.items()]
    sections.append(Section("Details", tables=details))
    one = next(iter(first.values()))
    counts = sorted({len(runs) for runs in measured.values()})
    of_runs = f", {' or '.join(map(str, counts))} runs per method" if counts != [1] else ""
    return rendered("Ablation of the conditioning", f"{report.heading(one)}{of_runs}", sections, "ablation.json")


def _means() -> dict[str, str]:
    return {label(metric): text for metric, text in MEANINGS.items()}


def _grouped(rows: Sequence[Sequence[str]], metrics: Sequence[str]) -> list[Table]:
    """Rows of metrics as one table per group; unknown metrics come last."""
    by_label = {row[0]: row for row in rows[1:]}
    known = {metric for names in GROUPS.values() for metric in names}
    groups = GROUPS | {"Other": tuple(metric for metric in metrics if metric not in known)}
    tables = []
    for title, names in groups.items():
        shown = [by_label[label(name)] for name in names if label(name) in by_label]
        if shown:
            tables.append(Table([rows[0], *shown], title, _means()))
    return tables


def _clips(result: Mapping[str, Any]) -> Table:
    names = [m for m in report.metric_names({"": [result]}) if any(m in clip for clip in result["clips"])]
    rows = [["clip", *map(label, names)]]
    rows += [[clip["name"], *(number(m, clip.get(m)) for m in names)] for clip in result["clips"]]
    return Table(rows, f"Measures of each clip ({len(result['clips'])})", _means(), folded=True)


def _protocol(result: Mapping[str, Any], caption: str = "Protocol") -> Table:
    left_out = ("clips", "replicates")
    rows = [["setting", "value"]]
    rows += [[name, _short(value)] for name, value in result["protocol"].items() if name not in left_out]
    return Table(rows, caption, folded=True)


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value))
    return "-" if value is None else str(value)


def rendered(title: str, subtitle: str, sections: Sequence[Section], json_file: str) -> str:
    shown = [s for s in sections if s.tables or s.pictures or s.lines or s.text]
    values = {"title": title, "subtitle": subtitle, "sections": shown, "json_file": json_file}
    return render("fashionflow_core.evaluate", TEMPLATE, **values)
