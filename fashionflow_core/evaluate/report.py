"""Tables of an evaluation as text and Markdown, next to the paper's."""

from collections.abc import Mapping, Sequence
from typing import Any

from fashionflow_core.evaluate.paired import PairedDifference, differences

# Metric → label, better direction, digits.
LABELS: dict[str, tuple[str, str, int]] = {
    "is": ("IS", "↑", 3),
    "fvd": ("FVD", "↓", 2),
    "vfid": ("VFID I3D", "↓", 4),
    "fid": ("FID per frame", "↓", 2),
    "rfd": ("random features (not FVD)", "↓", 4),
    "psnr": ("PSNR, dB", "↑", 2),
    "ssim": ("SSIM", "↑", 4),
    "silhouette_overlap": ("silhouette overlap", "↑", 4),
    "width_correlation": ("turns as the real clip", "↑", 3),
    "garment_error": ("garment colour error, ΔE", "↓", 2),
    "skin_error": ("skin colour error, ΔE", "↓", 2),
    "garment_similarity": ("garment similarity", "↑", 4),
    "pattern_kept": ("pattern kept", "↑", 4),
    "garment_drift": ("garment drift, ΔE", "↓", 2),
    "garment_drift_median": ("garment drift, median frame", "↓", 2),
    "garment_drift_last": ("garment drift, last frame", "↓", 2),
    "cell_drift": ("garment drift by cells, ΔE", "↓", 2),
    "skin_drift": ("skin drift, ΔE", "↓", 2),
    "skin_gap": ("skin gap between groups, ΔE", "↓", 2),
    "warping_error": ("flicker, warping error", "↓", 2),
    "face_kept": ("face kept", "↑", 3),
    "motion": ("motion, grey levels", "", 2),
    "temporal_energy": ("temporal energy, grey levels", "", 2),
    "sharpness": ("sharpness, levels/pixel", "", 2),
    "silhouette_range": ("silhouette range, pixels", "", 1),
    "silhouette_correlation": ("silhouette correlation", "↑", 4),
    "first_step": ("first step / usual step", "", 2),
    "largest_pop": ("largest jump / its neighbours", "↓", 2),
    "movement": ("movement, grey levels", "", 2),
    "zoom_share": ("zoom, share of the change", "↓", 2),
    "doubled_limb": ("doubled limb, share of the figure", "↓", 3),
    "flash": ("flash, grey levels", "↓", 2),
    "wall_shift": ("background shift, ΔE", "↓", 2),
    "fade": ("contrast lost", "↓", 3),
    "blur": ("fine detail lost", "↓", 3),
    "first_frame_psnr": ("first frame PSNR, dB", "↑", 2),
    "first_frame_ssim": ("first frame SSIM", "↑", 4),
}

Runs = Sequence[Mapping[str, Any]]  # results of a method's runs, one per training seed

MEANS = (
    "In brackets: 95 % interval over clips, which needs 4 of them. Several runs: their mean, and the outer ends of "
    "their intervals. No value: no clip has the measure, for example without visible skin."
)
NO_INTERVAL, NOT_COMPUTED, NO_VALUE = "no interval", "not computed", "no value"
NOT_OF_REAL = "not defined"  # measures that compare with the real clips
DIFFERENCES = (
    "Mean difference on the same photos, with its 95 % interval by paired bootstrap over photos (means over runs)."
)
FEW_PHOTOS = "Not computed: needs 4 photos that all methods have."

# Published numbers, tables 1 and 2 of the paper, on the Fashion test set; not measured here.
COLUMNS = ("is", "fvd", "vfid")
TABLE_1 = {
    "ImaGINator": (2.003, 3383.199, 32.179),
    "cINNs": (2.560, 3325.973, 79.386),
    "Poke": (2.823, 3514.5, 25.929),
    "FashionFlow": (2.965, 1659.546, 0.867),
}
TABLE_2 = {
    "Global only": (2.891, 1812.462, 0.881),
    "Local only": (2.801, 2111.037, 1.179),
    "Global and local": (2.965, 1659.546, 0.867),
}

PAPER = "the paper's"


def label(metric: str) -> str:
    """The name of a metric with its arrow."""
    name, arrow, _ = LABELS.get(metric, (metric, "", 3))
    return f"{name} {arrow}".rstrip()


def number(metric: str, value: float | None) -> str:
    """A value formatted with the digits of its metric; a dash for None."""
    return "-" if value is None else f"{value:.{LABELS.get(metric, (metric, '', 3))[2]}f}"


def signed(metric: str, value: float) -> str:
    """A difference formatted with the digits of its metric."""
    return f"{value:+.{LABELS.get(metric, (metric, '', 3))[2]}f}"


def difference_text(metric: str, found: PairedDifference) -> str:
    """A paired difference with its interval."""
    return f"{signed(metric, found.mean)} ({signed(metric, found.low)} .. {signed(metric, found.high)})"


def table(rows: Sequence[Sequence[str]], markdown: bool) -> str:
    """Format rows of cells as a table: heading first, first column left-aligned, others right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    if markdown:
        # File names may contain anything.
        rows = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|---" + "|---:" * (len(rows[0]) - 1) + "|")
        return "\n".join(lines)
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]).rstrip()
        for row in rows
    )


def result_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """All metrics of one evaluation: value, interval, noise floor, value of the real clips, number of samples."""
    rows = [["metric", "value", "95 % interval", "noise floor", "real clips", "samples"]]
    for metric in metric_names({"": [result]}):
        ends = result["intervals"].get(metric)
        samples = result["samples"].get(metric, "")
        if isinstance(samples, dict):
            samples = " / ".join(str(count) for count in samples.values())
        rows.append(
            [
                label(metric),
                number(metric, result["metrics"][metric]),
                f"{number(metric, ends[0])} .. {number(metric, ends[1])}" if ends else "",
                number(metric, result["floors"][metric]) if metric in result["floors"] else "",
                number(metric, result["reference"][metric]) if result["reference"].get(metric) is not None else "",
                str(samples),
            ]
        )
    return rows


def group_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Skin drift by group of tones; empty without visible skin."""
    groups = result["skin_groups"]
    cells = [[name, str(group["clips"]), f"{group['skin_drift']:.2f}"] for name, group in groups.items()]
    return [["skin group", "clips", "skin drift, ΔE"], *cells] if cells else []


def results(result: Mapping[str, Any], markdown: bool = False) -> str:
    """The tables of one evaluation, with what failed and remarks."""
    lines = [heading(result, markdown), "", table(result_rows(result), markdown)]
    if groups := group_rows(result):
        lines += ["", table(groups, markdown)]
    return "\n".join([*lines, *_lists([result], markdown)])


def _lists(measured: Runs, markdown: bool) -> list[str]:
    """What was not computed, what failed, and remarks, each line once."""
    lines, bullet = [], "- " if markdown else "  "
    for title, texts in remarks(measured).items():
        lines += ["", f"**{title}**\n" if markdown else f"{title}:", *(bullet + " ".join(t.split()) for t in texts)]
    return lines


def remarks(measured: Runs) -> dict[str, list[str]]:
    """What was not computed, what failed, and remarks on the numbers: title → lines, each once."""
    found = {
        "Not computed": [line for result in measured for line in omissions(result)],
        "Failed": [failure["reason"] for result in measured for failure in result["failed"]],
        "Remarks": [line for result in measured for line in result["warnings"]],
    }
    return {title: list(dict.fromkeys(lines)) for title, lines in found.items() if lines}


def omissions(result: Mapping[str, Any]) -> list[str]:
    """One line per reason why metrics were not computed."""
    return [f"{', '.join(o['metrics'])}: {o['reason']}; {o['hint']}" for o in result.get("omitted", ())]


def heading(result: Mapping[str, Any], markdown: bool = False) -> str:
    """What was evaluated: clips, frames, size, windows."""
    samples, protocol = result["samples"], result["protocol"]
    quote = "`" if markdown else ""
    of_real = f" against {samples['real']} of {quote}{result['real']}{quote}" if result["real"] else ""
    size = (
        f", resized to {protocol['resize'][0]}x{protocol['resize'][1]} ({protocol['fit']})"
        if protocol["resize"]
        else ""
    )
    choices = {"fvd": f", FVD window {protocol['fvd_window']}", "vfid": f", VFID in {protocol['bn_mode']} mode"}
    chosen = "".join(text for metric, text in choices.items() if metric in protocol["metrics"])
    return (
        f"{samples['fake']} clips of {quote}{result['fake']}{quote}{of_real}; up to {protocol['clip_frames']} frames"
        f"{size}{chosen}, seed {protocol['seed']}"
    )


def methods(measured: Mapping[str, Mapping[str, Any]], markdown: bool = False) -> str:
    """The paper's table 1, followed by rows measured here: method → result of an evaluation."""
    return "\n".join([table(paper_rows(measured), markdown), "", note(measured)])


def has_published(result: Mapping[str, Any]) -> bool:
    """Whether a result has a metric of the paper's tables."""
    return any(result["metrics"].get(metric) is not None for metric in COLUMNS)


def paper_rows(measured: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The paper's table 1, followed by measured rows."""
    rows = [["Method", *map(label, COLUMNS), "source"]]
    rows += [[name, *map(_plain, values), PAPER] for name, values in TABLE_1.items()]
    return rows + [_measured_row(name, result) for name, result in measured.items()]


def ablation(measured: Mapping[str, Runs], markdown: bool = False) -> str:
    """Three tables: the paper's table 2 with measured rows, all metrics by method, and differences on the same photos.

    Args:
        measured: "Global only" etc. → results of its runs.
    """
    first = {name: runs[0] for name, runs in measured.items()}
    lines: list[str] = []
    if any(map(has_published, first.values())):
        lines = [table(ablation_rows(measured), markdown), "", note(first), ""]
    lines += [table(method_rows(measured), markdown), "", MEANS]
    if len(rows := difference_rows(measured)) > 1:
        lines += ["", table(rows, markdown), "", DIFFERENCES]
    every = [run for runs in measured.values() for run in runs]
    return "\n".join([*lines, *_lists(every, markdown)])


def ablation_rows(measured: Mapping[str, Runs]) -> list[list[str]]:
    """The paper's table 2 with measured rows below published ones."""
    rows = [["Method", *map(label, COLUMNS), "source"]]
    for name, values in TABLE_2.items():
        rows.append([name, *map(_plain, values), PAPER])
        rows += [_measured_row(name, result) for result in measured.get(name, ())]
    return rows


def method_rows(measured: Mapping[str, Runs], metrics: Sequence[str] | None = None) -> list[list[str]]:
    """All metrics as rows, methods as columns: mean of the runs with its interval; and the value of the real clips."""
    names = metrics if metrics is not None else metric_names(measured)
    rows = [["metric", *measured, "real clips"]]
    every = [run for runs in measured.values() for run in runs]
    for metric in names:
        cells = [method_cell(metric, runs) for runs in measured.values()]
        rows.append([label(metric), *cells, _reference_cell(metric, every)])
    return rows


def _reference_cell(metric: str, runs: Runs) -> str:
    """The value of the real clips, which all runs share, with its interval."""
    found = next((run for run in runs if run["reference"].get(metric) is not None), None)
    if found is None:
        return NO_VALUE if any(metric in run["reference"] for run in runs) else NOT_OF_REAL
    # Older results have no intervals of the real clips.
    return _with_ends(metric, found["reference"][metric], found.get("reference_intervals", {}).get(metric))


def metric_names(measured: Mapping[str, Runs]) -> list[str]:
    """All measures of the results, in the order of tables."""
    found = dict.fromkeys(name for runs in measured.values() for run in runs for name in run["metrics"])
    return [*(name for name in LABELS if name in found), *(name for name in found if name not in LABELS)]


def mean_of_runs(metric: str, runs: Runs) -> tuple[float, list[float] | None] | None:
    """Mean of a metric over runs, and the lowest and highest end of their intervals; None if no run has it."""
    values = [value for run in runs if (value := run["metrics"].get(metric)) is not None]
    if not values:
        return None
    ends = [run["intervals"][metric] for run in runs if metric in run["intervals"]]
    return sum(values) / len(values), [min(e[0] for e in ends), max(e[1] for e in ends)] if ends else None


def method_cell(metric: str, runs: Runs) -> str:
    """A value with its interval, or words on what is missing."""
    found = mean_of_runs(metric, runs)
    if found is None:
        return NO_VALUE if any(metric in run["metrics"] for run in runs) else NOT_COMPUTED
    return _with_ends(metric, *found)


def _with_ends(metric: str, value: float, ends: Sequence[float] | None) -> str:
    interval = f"{number(metric, ends[0])} .. {number(metric, ends[1])}" if ends else NO_INTERVAL
    return f"{number(metric, value)} ({interval})"


def difference_rows(measured: Mapping[str, Runs], metrics: Sequence[str] | None = None) -> list[list[str]]:
    """Paired differences of the last method from each other one, for the measures that clips have."""
    *others, last = measured
    pairs = {f"{last} − {other}": differences(measured[other], measured[last]) for other in others}
    rows = [["metric", *pairs, "photos"]]
    for metric in metrics if metrics is not None else metric_names(measured):
        found = [pair.get(metric) for pair in pairs.values()]
        if any(found):
            photos = {one.photos for one in found if one}
            cells = [difference_text(metric, one) if one else NOT_COMPUTED for one in found]
            rows.append([label(metric), *cells, " / ".join(map(str, sorted(photos)))])
    return rows


def _plain(value: float) -> str:
    return f"{value:.3f}"


def _measured_row(name: str, result: Mapping[str, Any]) -> list[str]:
    values = [_short_cell(metric, result) for metric in COLUMNS]
    return [name, *values, f"measured here, {result['samples']['fake']} clips"]


def _short_cell(metric: str, result: Mapping[str, Any]) -> str:
    """A value with the paper's digits and its interval, or words on what is missing."""
    value = result["metrics"].get(metric)
    if value is None:
        return NOT_COMPUTED
    ends = result["intervals"].get(metric)
    return f"{_plain(value)} ({f'{_plain(ends[0])} .. {_plain(ends[1])}' if ends else NO_INTERVAL})"


def note(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """What the paper's rows and measured rows may be compared with."""
    text = (
        "Rows from the paper use its authors' test set and windows, which it does not specify. Rows measured here "
        "are comparable with each other, and with the paper's only on the same clips. In brackets: 95 % interval over "
        "clips; the paper has none."
    )
    others = {
        loaded["file"]
        for result in measured.values()
        for loaded in result["protocol"]["weights"].values()
        if not loaded["public"]
    }
    if others:
        text += (
            f" The measured rows use other weights than the public ones ({', '.join(sorted(others))}) and are not "
            "comparable with published numbers."
        )
    return text
