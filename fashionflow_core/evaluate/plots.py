"""Plots of an evaluation."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fashionflow_core.evaluate.protocol import DISTANCES
from fashionflow_core.evaluate.report import LABELS, Runs, mean_of_runs, metric_names
from fashionflow_core.utils.plotting import BLUE, GREY, INK, plain, save

_LINES = (BLUE, "#c2703d", INK, "#5b8c5a", "#8a6bb1")  # of methods in one panel
_ACROSS = 4  # panels in a row
_BETTER = {"↑": "higher is better", "↓": "lower is better"}


def distances(result: Mapping[str, Any], out: Path) -> bool:
    """Plot one panel per distance: value, interval, noise floor. Returns False if there is none."""
    shown = [metric for metric in DISTANCES if result["metrics"].get(metric) is not None]
    if not shown:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(shown) + 0.4, 3.4), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for panel, metric in zip(panels, shown, strict=True):
        value, ends, floor = result["metrics"][metric], result["intervals"].get(metric), result["floors"].get(metric)
        bars = [("fake", value, BLUE)] + ([("halves of real", floor, GREY)] if floor is not None else [])
        panel.bar(
            [name for name, _, _ in bars], [height for _, height, _ in bars], color=[c for _, _, c in bars], width=0.6
        )
        for place, (_, height, _) in enumerate(bars):
            above = max(height, ends[1]) if ends and place == 0 else height
            shown_value = f"{height:.{LABELS[metric][2]}f}"
            panel.annotate(shown_value, (place, above), (0, 4), textcoords="offset points", ha="center", fontsize=8)
        if ends:
            panel.errorbar([0], [value], [[value - ends[0]], [ends[1] - value]], color=INK, capsize=4, fmt="none")
        panel.set_title(f"{LABELS[metric][0]} (lower is better)", fontsize=9)
        panel.set_ylim(0, 1.18 * max([height for _, height, _ in bars] + [ends[1] if ends else 0] + [1e-6]))
        panel.set_xlim(-0.6, len(bars) - 0.4)
        plain(panel)
    save(figure, out)
    return True


def garment_drift(measured: Mapping[str, Runs], out: Path) -> bool:
    """Plot the garment's colour difference from frame 0: means per method; each clip too if there is one method.

    Returns False if no clip has it.
    """
    series = {
        name: [values for run in runs for clip in run["clips"] if (values := clip.get("garment_drift_over_time"))]
        for name, runs in measured.items()
    }
    series = {name: found for name, found in series.items() if found}
    if not series:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    panel = figure.subplots()
    longest = max(len(values) for found in series.values() for values in found)
    for number, (name, found) in enumerate(series.items()):
        if len(series) == 1:
            alpha = max(0.08, min(0.5, 4 / len(found)))
            for values in found:
                panel.plot(range(1, len(values) + 1), values, color=BLUE, alpha=alpha, linewidth=0.8)
        means = [sum(c) / len(c) for i in range(longest) if (c := [v[i] for v in found if len(v) > i])]
        text = f"{name}, mean of {len(found)}" if name else f"mean of {len(found)}"
        colour = INK if len(series) == 1 else _LINES[number % len(_LINES)]
        panel.plot(range(1, len(means) + 1), means, color=colour, linewidth=2, label=text)
    panel.set_xlabel("frame", fontsize=9)
    panel.set_ylabel("ΔE 2000 from frame 0", fontsize=9)
    panel.set_title("Garment colour drift", fontsize=10)
    panel.set_xlim(0, longest + 1)
    panel.set_ylim(0, None)
    panel.legend(frameon=False, fontsize=8)
    plain(panel)
    save(figure, out)
    return True


def clip_scores(result: Mapping[str, Any], out: Path) -> bool:
    """Plot one panel per measure of clips that has a better direction. Returns False if there is none.

    A panel shows each clip, the mean with its interval, and the mean of the real clips.
    """
    clips = result["clips"]
    values = {
        metric: [clip[metric] for clip in clips if clip.get(metric) is not None]
        for metric in metric_names({"": [result]})
        if LABELS.get(metric, ("", "", 0))[1]
    }
    shown = {metric: found for metric, found in values.items() if found}
    if not shown:
        return False
    figure, panels = _panels(len(shown), 1.9)
    for panel, (metric, found) in zip(panels, shown.items(), strict=True):
        # Golden-ratio steps spread the clips evenly over the panel's height, the same way in every run.
        places = [(index * 0.618034) % 1 * 0.7 - 0.35 for index in range(len(found))]
        panel.scatter(found, places, s=14, color=BLUE, alpha=max(0.15, min(0.7, 30 / len(found))), linewidths=0)
        value, ends = result["metrics"][metric], result["intervals"].get(metric)
        if ends:
            panel.errorbar([value], [0.62], xerr=_sides(value, ends), color=INK, capsize=4)
        panel.plot([value], [0.62], "o", color=INK, markersize=4)
        if (real := result["reference"].get(metric)) is not None:
            panel.axvline(real, color=GREY, linestyle="--", linewidth=1.2)
            panel.annotate("real", (real, -0.52), (3, 0), textcoords="offset points", fontsize=7, color=GREY)
        panel.set_yticks([])
        panel.set_ylim(-0.6, 0.95)
        _title(panel, metric)
        panel.spines["left"].set_visible(False)
    save(figure, out)
    return True


def methods(measured: Mapping[str, Runs], out: Path) -> bool:
    """Plot one panel per metric with a better direction: each method's mean and interval, and its runs as dots.

    Returns False if there is none.
    """
    shown = [
        metric
        for metric in metric_names(measured)
        if LABELS.get(metric, ("", "", 0))[1] and any(mean_of_runs(metric, runs) for runs in measured.values())
    ]
    if not shown:
        return False
    figure, panels = _panels(len(shown), 0.55 + 0.38 * len(measured))
    for index, (panel, metric) in enumerate(zip(panels, shown, strict=True)):
        for place, runs in enumerate(measured.values()):
            found = mean_of_runs(metric, runs)
            if found is None:
                continue
            value, ends = found
            if ends:
                panel.errorbar([value], [-place], xerr=_sides(value, ends), color=INK, capsize=3, linewidth=1.2)
            values = [run["metrics"][metric] for run in runs if run["metrics"].get(metric) is not None]
            if len(values) > 1:
                panel.plot(values, [-place] * len(values), "o", color=GREY, markersize=4)
            panel.plot([value], [-place], "o", color=BLUE, markersize=6)
        references = [run["reference"].get(metric) for runs in measured.values() for run in runs]
        if (real := next((value for value in references if value is not None), None)) is not None:
            panel.axvline(real, color=GREY, linestyle="--", linewidth=1.2)
        panel.set_ylim(0.6 - len(measured), 0.6)
        names = list(measured) if index % _ACROSS == 0 else [""] * len(measured)
        panel.set_yticks([-place for place in range(len(measured))], names)
        _title(panel, metric)
    save(figure, out)
    return True


def _panels(count: int, height: float) -> tuple[Any, list[Any]]:
    """A figure with panels in rows, each of a height in inches."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows, across = math.ceil(count / _ACROSS), min(count, _ACROSS)
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.06)
    figure = Figure(figsize=(2.9 * across + 0.4, (height + 0.55) * rows), layout=layout)
    grid = list(figure.subplots(rows, across, squeeze=False).flat)
    for panel in grid[count:]:
        panel.set_visible(False)
    return figure, grid[:count]


def _sides(value: float, ends: Sequence[float]) -> list[list[float]]:
    """Lengths of an error bar on both sides of a value."""
    return [[max(0.0, value - ends[0])], [max(0.0, ends[1] - value)]]


def _title(panel: Any, metric: str) -> None:
    name, arrow, _ = LABELS[metric]
    panel.set_title(f"{name}\n({_BETTER[arrow]})", fontsize=9)
    plain(panel)
