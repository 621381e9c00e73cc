"""Tables of an evaluation as text and Markdown, next to the paper's."""

from collections.abc import Mapping, Sequence
from typing import Any

# Metric → label, better direction, digits.
LABELS: dict[str, tuple[str, str, int]] = {
    "is": ("IS", "↑", 3),
    "fvd": ("FVD", "↓", 2),
    "vfid": ("VFID I3D", "↓", 4),
    "fid": ("FID per frame", "↓", 2),
    "psnr": ("PSNR, dB", "↑", 2),
    "ssim": ("SSIM", "↑", 4),
    "garment_drift": ("garment drift, ΔE", "↓", 2),
    "garment_drift_median": ("garment drift, median frame", "↓", 2),
    "garment_drift_last": ("garment drift, last frame", "↓", 2),
    "cell_drift": ("garment drift by cells, ΔE", "↓", 2),
    "skin_drift": ("skin drift, ΔE", "↓", 2),
    "pattern_kept": ("pattern kept", "↑", 3),
    "face_kept": ("face kept", "↑", 3),
    "motion": ("motion, grey levels", "", 2),
    "temporal_energy": ("flicker, grey levels", "", 2),
    "sharpness": ("sharpness, levels/pixel", "", 2),
    "silhouette_range": ("silhouette range, pixels", "", 1),
    "silhouette_correlation": ("silhouette correlation", "↑", 4),
    "width_correlation": ("turns as the real clip", "↑", 3),
    "first_step": ("first step / usual step", "", 2),
    "largest_pop": ("largest jump / its neighbours", "↓", 2),
    "movement": ("movement, grey levels", "", 2),
    "zoom_share": ("zoom, share of the change", "↓", 2),
    "flash": ("flash, grey levels", "↓", 2),
    "wall_shift": ("background shift, ΔE", "↓", 2),
    "fade": ("contrast lost", "↓", 3),
    "first_frame_psnr": ("first frame PSNR, dB", "↑", 2),
    "first_frame_ssim": ("first frame SSIM", "↑", 4),
}

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

_THEIRS = "the paper's"


def label(metric: str) -> str:
    """The name of a metric with its arrow."""
    name, arrow, _ = LABELS.get(metric, (metric, "", 3))
    return f"{name} {arrow}".rstrip()


def number(metric: str, value: float | None) -> str:
    """A value formatted with the digits of its metric; a dash for None."""
    return "-" if value is None else f"{value:.{LABELS.get(metric, (metric, '', 3))[2]}f}"


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


def results(result: Mapping[str, Any], markdown: bool = False) -> str:
    """All metrics of one evaluation: value, interval, noise floor, value of the real clips, number of samples."""
    rows = [["metric", "value", "95 % interval", "noise floor", "real clips", "samples"]]
    for metric in [*LABELS, *(name for name in result["metrics"] if name not in LABELS)]:
        if metric not in result["metrics"]:
            continue
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
    lines = [_heading(result, markdown), "", table(rows, markdown)]
    if groups := result["skin_groups"]:
        heading = ["skin group", "clips", "skin drift, ΔE"]
        cells = [[name, str(group["clips"]), f"{group['skin_drift']:.2f}"] for name, group in groups.items()]
        lines += ["", table([heading, *cells], markdown)]
    bullet = "- " if markdown else "  "
    for title, texts in (
        ("Failed", [failure["reason"] for failure in result["failed"]]),
        ("Remarks", result["warnings"]),
    ):
        if texts:
            lines += ["", f"**{title}**\n" if markdown else f"{title}:", *(bullet + " ".join(t.split()) for t in texts)]
    return "\n".join(lines)


def _heading(result: Mapping[str, Any], markdown: bool) -> str:
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
    rows = [["Method", *map(label, COLUMNS), "source"]]
    rows += [[name, *map(_plain, values), _THEIRS] for name, values in TABLE_1.items()]
    rows += [_ours(name, result) for name, result in measured.items()]
    return "\n".join([table(rows, markdown), "", _note(measured)])


def ablation(measured: Mapping[str, Mapping[str, Any]], markdown: bool = False) -> str:
    """The paper's table 2 with measured rows below published ones: "Global only" etc. → result of an evaluation."""
    rows = [["Method", *map(label, COLUMNS), "source"]]
    for name, values in TABLE_2.items():
        rows.append([name, *map(_plain, values), _THEIRS])
        if name in measured:
            rows.append(_ours(name, measured[name]))
    return "\n".join([table(rows, markdown), "", _note(measured)])


def _plain(value: float) -> str:
    return f"{value:.3f}"


def _ours(name: str, result: Mapping[str, Any]) -> list[str]:
    values = ["-" if (value := result["metrics"].get(metric)) is None else _plain(value) for metric in COLUMNS]
    return [name, *values, f"measured here, {result['samples']['fake']} clips"]


def _note(measured: Mapping[str, Mapping[str, Any]]) -> str:
    note = (
        "Rows from the paper use its authors' test set and windows, which it does not specify. Rows measured here "
        "are comparable with each other, and with the paper's only on the same clips."
    )
    others = {
        loaded["file"]
        for result in measured.values()
        for loaded in result["protocol"]["weights"].values()
        if not loaded["public"]
    }
    if others:
        note += (
            f" The measured rows use other weights than the public ones ({', '.join(sorted(others))}) and are not "
            "comparable with published numbers."
        )
    return note
