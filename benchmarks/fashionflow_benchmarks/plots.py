"""Plots of benchmark results, one PNG per suite."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashionflow_core.utils.plotting import BLUE, GREY, INK, plain, save


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Plot `scale` as lines on logarithmic axes, `dreampose` as points on one, other suites as bars with quartiles.

    Raises:
        FashionFlowError: the file is not writable.
    """
    from matplotlib.figure import Figure

    if result["suite"] == "scale":
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        _growth(figure, result)
    else:
        rows = _shown(result)
        figure = Figure(figsize=(6.4, 1.3 + 0.42 * len(rows)), layout="constrained")
        _rows(figure.subplots(), result["suite"], rows)
    machine = result["hardware"]
    where = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} threads"
    made = f"\n{result['reduced']}" if result["reduced"] else ""
    figure.suptitle(
        f"{result['title']}: {result['model']['name']}\n{where}; {machine['dtype']}{made}", fontsize=9, color=INK
    )
    save(figure, path)


def _shown(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Comparable rows: for `dreampose` whole videos, by name, not single calls."""
    rows = result["results"]
    if result["suite"] != "dreampose":
        return rows
    names = dict(note.split(" ", 1) for note in result["notes"] if note.startswith("("))  # (a) → what it is
    return {name.replace("video", names[name[:3]]): row for name, row in rows.items() if " video" in name}


def _rows(panel: Any, suite: str, rows: Mapping[str, Any]) -> None:
    memory = suite == "memory"
    names = list(rows)
    values = [rows[name]["peak_memory_bytes"] / 2**20 if memory else rows[name]["median_s"] for name in names]
    places = list(range(len(names)))
    if suite == "dreampose":  # from seconds to hours, and a bar has no meaning on a logarithmic axis: it starts at 0
        panel.set_xscale("log")
        panel.set_xlim(min(values) / 3, 3 * max(values))
        panel.plot(values, places, "o", color=BLUE, markersize=7)
        panel.set_ylim(-0.6, len(names) - 0.4)
        panel.grid(axis="x", color=GREY, alpha=0.3)
    else:
        panel.barh(places, values, color=BLUE, height=0.62)
    if not memory:
        low = [value - rows[name]["lower_quartile_s"] for name, value in zip(names, values)]
        high = [rows[name]["upper_quartile_s"] - value for name, value in zip(names, values)]
        panel.errorbar(values, places, xerr=[low, high], color=INK, capsize=3, fmt="none", linewidth=1)
    ends = [value if memory else rows[name]["upper_quartile_s"] for name, value in zip(names, values)]
    for place, value, end in zip(places, values, ends):
        shown = f"{value:,.0f} MiB" if memory else f"{value:,.0f} s" if value >= 100 else f"{value:.3g} s"
        panel.annotate(shown, (end, place), (8, 0), textcoords="offset points", va="center", fontsize=8)
    panel.set_yticks(places, names, fontsize=8)
    panel.invert_yaxis()
    if suite != "dreampose":
        panel.set_xlim(0, 1.2 * max(ends))
    scale = ", logarithmic" if suite == "dreampose" else ""
    panel.set_xlabel("peak memory, MiB" if memory else f"seconds, median and quartiles{scale}", fontsize=8)
    plain(panel)


def _growth(figure: Any, result: Mapping[str, Any]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    panels = figure.subplots(1, len(result["exponents"]), sharey=True)
    sizes = result["input"]["sizes"]
    for panel, (axis, fitted) in zip(panels, result["exponents"].items()):
        names = [name for name in sizes if name.startswith(f"{axis} ")]
        xs, ys = [sizes[name] for name in names], [result["results"][name]["median_s"] for name in names]
        panel.loglog(xs, ys, "o-", color=BLUE, linewidth=1.4, label=f"measured, exponent {fitted['seconds']:.2f}")
        panel.loglog(xs, [ys[0] * x / xs[0] for x in xs], "--", color=GREY, linewidth=1, label="proportional")
        panel.set_xticks(xs, [str(x) for x in xs], fontsize=8)
        panel.set_xticks([], minor=True)
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.set_xlabel("latent pixels" if axis == "pixels" else axis, fontsize=8)
        panel.legend(fontsize=7, frameon=False)
        plain(panel)
    panels[0].set_ylabel("seconds of a U-Net pass", fontsize=8)
