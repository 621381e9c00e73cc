"""Plots of an evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashionflow_core.evaluate.protocol import DISTANCES
from fashionflow_core.evaluate.report import LABELS
from fashionflow_core.utils.plotting import BLUE, GREY, INK, plain, save


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


def garment_drift(result: Mapping[str, Any], out: Path) -> bool:
    """Plot the garment's colour difference from frame 0, per clip and mean. Returns False if there is none."""
    series = [clip["garment_drift_over_time"] for clip in result["clips"] if clip.get("garment_drift_over_time")]
    if not series:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    panel = figure.subplots()
    for values in series:
        panel.plot(
            range(1, len(values) + 1), values, color=BLUE, alpha=max(0.08, min(0.5, 4 / len(series))), linewidth=0.8
        )
    longest = max(map(len, series))
    means = [sum(column) / len(column) for i in range(longest) if (column := [v[i] for v in series if len(v) > i])]
    panel.plot(range(1, longest + 1), means, color=INK, linewidth=2, label=f"mean of {len(series)}")
    panel.set_xlabel("frame", fontsize=9)
    panel.set_ylabel("ΔE 2000 from frame 0", fontsize=9)
    panel.set_title("Garment colour drift", fontsize=10)
    panel.set_xlim(0, longest + 1)
    panel.set_ylim(0, None)
    panel.legend(frameon=False, fontsize=8)
    plain(panel)
    save(figure, out)
    return True
