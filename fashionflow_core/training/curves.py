"""Line charts as SVG, for pages without scripts and other files."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fashionflow_core.training.status import number

WIDTH, HEIGHT = 860, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 10, 30  # margins around the lines, for tick labels
_MOST = 300  # points per line: about three pixels each


@dataclass(frozen=True)
class Curve:
    """One line of a chart: its name, its CSS class, and its points (x, y) with increasing x."""

    name: str
    kind: str
    points: Sequence[tuple[float, float]]


def averaged(points: Sequence[tuple[float, float]], most: int = _MOST) -> list[tuple[float, float]]:
    """At most `most` points: means over equally long runs of neighbours, so that noise does not hide the course."""
    run = max(1, math.ceil(len(points) / most))
    runs = [points[start : start + run] for start in range(0, len(points), run)]
    return [(sum(x for x, _ in one) / len(one), sum(y for _, y in one) / len(one)) for one in runs]


def chart(curves: Sequence[Curve], label: str, logarithmic: bool = True) -> str:
    """An SVG element with axes and one polyline per curve over the steps; empty without points.

    Args:
        curves: names are used for tooltips; colours come from the page's rules for their classes.
        label: description of the chart for screen readers.
        logarithmic: whether the y axis is, if all values are above 0.
    """
    lines = [Curve(curve.name, curve.kind, averaged(curve.points)) for curve in curves if curve.points]
    values = [y for line in lines for _, y in line.points]
    if not values:
        return ""
    is_log = logarithmic and min(values) > 0 and max(values) > 1.5 * min(values)
    low, high = _padded(min(values), max(values), is_log)
    first = min(line.points[0][0] for line in lines)
    last = max(*(line.points[-1][0] for line in lines), first + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / (last - first)
        up = math.log(y / low) / math.log(high / low) if is_log else (y - low) / (high - low)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    parts = []
    for y in _log_ticks(low, high) if is_log else _ticks(low, high):
        row = place(first, y)[1]
        parts.append(f'<path class="grid" d="M{_LEFT} {row:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{row + 4:.1f}" text-anchor="end">{number(y)}</text>')
    for x in _ticks(first, last):
        column = place(x, high)[0]
        if column > WIDTH - _RIGHT - 45 or abs(x - round(x)) > 1e-6:  # the axis's name is there; steps are whole
            continue
        parts.append(f'<text x="{column:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{x:,.0f}</text>')
    parts.append(f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 8}" text-anchor="end">step</text>')
    for line in lines:
        path = " ".join(f"{column:.1f},{row:.1f}" for column, row in (place(*point) for point in line.points))
        if len(line.points) == 1:
            column, row = place(*line.points[0])
            parts.append(f'<circle class="dot {line.kind}" cx="{column:.1f}" cy="{row:.1f}" r="3"/>')
        parts.append(f'<polyline class="{line.kind}" points="{path}"><title>{line.name}</title></polyline>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _padded(low: float, high: float, is_log: bool) -> tuple[float, float]:
    if is_log:
        return low / 1.1, high * 1.1
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between two others."""
    unit = 10 ** math.floor(math.log10((high - low) / 5))
    step = next(unit * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (unit * factor) <= 6)
    start = math.ceil(low / step)
    return [index * step for index in range(start, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, or powers alone where those are many; round numbers in a short range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [f * 10.0**power for power in powers for f in factors if low <= f * 10.0**power <= high]
        if len(found) >= 3:
            return found
    return [tick for tick in _ticks(low, high) if tick > 0]
