"""Charts of the page as geometry: numbers in, points of an SVG out. `templates/charts.html` draws them.

Lines differ by dashes and bars by hatching, not by colour alone; every chart carries its numbers as a table, for those
who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 60, 14, 12, 44  # of what the axes' numbers and names need
ROWS = 12  # of a table beside a chart of more points


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, in the drawing, and what it says."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: for the legend.
        path: the `d` of an SVG path.
        points: (x, y, what it says) of each value.
        style: 0, 1, 2, ...: which colour and dashes.
    """

    name: str
    path: str
    points: list[tuple[float, float, str]]
    style: int


@dataclass(frozen=True)
class Bar:
    """A bar of a chart: a rectangle, what it says, and which hatching."""

    x: float
    y: float
    width: float
    height: float
    text: str
    style: int


@dataclass(frozen=True)
class Chart:
    """What `templates/charts.html` draws.

    Attributes:
        title: of the chart.
        about: what one sees, in a sentence: the alternative text.
        x_label: below the axis.
        y_label: above the axis.
        x_ticks: their `at` is x.
        y_ticks: their `at` is y.
        lines: in the order of the legend.
        bars: likewise.
        legend: name and style of each kind of bar.
        band: the `d` of an area around a line; empty without one.
        band_name: what the area is.
        marks: vertical lines.
        header: of the table.
        rows: of the table, as text.
    """

    title: str
    about: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    legend: list[tuple[str, int]] = field(default_factory=list)
    band: str = ""
    band_name: str = ""
    marks: list[Tick] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` drawn from `begin` to `end`."""

    low: float
    high: float
    begin: float
    end: float

    def place(self, value: float) -> float:
        """Where a value is drawn, to a tenth of a pixel; what lies outside, at the end of the axis."""
        inside = min(max(value, self.low), self.high)
        return round(self.begin + (inside - self.low) / (self.high - self.low) * (self.end - self.begin), 1)


def x_axis(low: float, high: float) -> Axis:
    """From left to right; of a single value, around it."""
    return Axis(*_apart(low, high), LEFT, WIDTH - RIGHT)


def y_axis(low: float, high: float, height: int = HEIGHT) -> Axis:
    """From the bottom up."""
    return Axis(*_apart(low, high), height - BOTTOM, TOP)


def _apart(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def round_values(low: float, high: float, most: int = 6, whole: bool = False) -> list[float]:
    """Up to `most` values within [low, high] whose distance is 1, 2 or 5 times a power of ten.

    Args:
        low: end of the range.
        high: end of the range, at least `low`.
        most: values.
        whole: whole numbers alone.
    """
    if high <= low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    steps = (power * factor for factor in (1, 2, 5, 10, 20))
    step = next(step for step in steps if (step >= 1 or not whole) and (high - low) / step < most)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A number as short as it can be said: 12,000, 0.25, 3."""
    if value == round(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def percent(value: float) -> str:
    """A share as a percentage, with a digit behind the point where it is needed."""
    return f"{100 * value:.3g} %" if value < 0.9995 else "100 %"


def line_chart(
    title: str,
    about: str,
    series: Mapping[str, tuple[Array, Array]],
    x_label: str,
    y_label: str,
    *,
    y_range: tuple[float, float] | None = None,
    shares: bool = False,
    band: tuple[Array, Array, Array] | None = None,
    band_name: str = "",
    marks: Mapping[str, float] | None = None,
    height: int = HEIGHT,
) -> Chart | None:
    """A chart of lines over whole numbers; None where no series has a value.

    Args:
        title: of the chart.
        about: its alternative text.
        series: by name x (n,) whole numbers, ascending, and y (n,); values that are not finite are left out.
        x_label: what x is.
        y_label: what y is.
        y_range: the ends of the axis; None: 0, or the least value below it, and the largest one.
        shares: y are shares, shown as percentages.
        band: x (n,), low (n,) and high (n,) of an area.
        band_name: what the area is.
        marks: x of vertical lines, by what they say.
        height: of the drawing.
    """
    kept = {name: (x[np.isfinite(y)], y[np.isfinite(y)]) for name, (x, y) in series.items()}
    kept = {name: both for name, both in kept.items() if len(both[0])}
    if not kept:
        return None
    every_x = np.concatenate([x for x, _ in kept.values()])
    every_y = np.concatenate([y for _, y in kept.values()])
    low, high = y_range or (min(0.0, float(every_y.min())), float(every_y.max()))
    x_scale, y_scale = x_axis(float(every_x.min()), float(every_x.max())), y_axis(low, high, height)
    say = percent if shares else number
    lines = []
    for style, (name, (x, y)) in enumerate(kept.items()):
        points = [
            (x_scale.place(float(a)), y_scale.place(float(b)), f"{name}, {x_label} {number(float(a))}: {say(float(b))}")
            for a, b in zip(x, y, strict=True)
        ]
        lines.append(Line(name, _path(points), points if len(points) <= 80 else [], style))
    area = ""
    if band is not None and len(band[0]):
        upper = [(x_scale.place(float(a)), y_scale.place(float(b))) for a, b in zip(band[0], band[2], strict=True)]
        lower = [(x_scale.place(float(a)), y_scale.place(float(b))) for a, b in zip(band[0], band[1], strict=True)]
        area = f"{_path([*upper, *reversed(lower)])}Z"
    header, rows = _table(x_label, kept, say)
    return Chart(
        title, about, x_label, y_label,
        [Tick(x_scale.place(value), number(value)) for value in round_values(x_scale.low, x_scale.high, whole=True)],
        [Tick(y_scale.place(value), say(value)) for value in round_values(y_scale.low, y_scale.high, most=7)],
        lines=lines, band=area, band_name=band_name if area else "",
        marks=[Tick(x_scale.place(at), text) for text, at in (marks or {}).items()],
        header=header, rows=rows, height=height, bottom=height - BOTTOM,
    )  # fmt: skip


def _path(points: Sequence[tuple[Any, ...]]) -> str:
    return "M" + "L".join(f"{point[0]:g},{point[1]:g}" for point in points)


def _table(x_label: str, series: Mapping[str, tuple[Array, Array]], say: Any) -> tuple[list[str], list[list[str]]]:
    """Header and at most `ROWS` rows, evenly spread; the last value of x is among them."""
    every = np.unique(np.concatenate([x for x, _ in series.values()]))
    shown = every[np.unique(np.linspace(0, len(every) - 1, ROWS).round().astype(int))]
    values = {name: dict(zip(x.tolist(), y.tolist(), strict=True)) for name, (x, y) in series.items()}
    rows = [[number(x), *(say(v[x]) if x in v else "-" for v in values.values())] for x in shown.tolist()]
    return [x_label, *series], rows


def bar_chart(
    title: str,
    about: str,
    low: float,
    high: float,
    counts: Mapping[str, Array],
    x_label: str,
    y_label: str,
    curves: Mapping[str, Array] | None = None,
) -> Chart | None:
    """A histogram, its kinds on top of each other; None where nothing is counted.

    Args:
        title: of the chart.
        about: its alternative text.
        low: where the first bin begins.
        high: where the last one ends.
        counts: by kind (bins,) of bins of equal width.
        x_label: what the values are.
        y_label: what is counted.
        curves: by name (m,) expected counts a bin, at m evenly spread places over [low, high].
    """
    total = np.sum(list(counts.values()), axis=0)
    if not total.any():
        return None
    over = curves or {}
    most = max(float(total.max()), *(float(values.max()) for values in over.values()), 0.0)
    x_scale, y_scale = x_axis(low, high), y_axis(0, most)
    lines = []
    for style, (name, values) in enumerate(over.items(), start=len(counts)):
        places = np.linspace(low, high, len(values))
        points = [(x_scale.place(float(a)), y_scale.place(float(b))) for a, b in zip(places, values, strict=True)]
        lines.append(Line(name, _path(points), [], style))
    edges = np.linspace(low, high, len(total) + 1)
    bars, below = [], np.zeros(len(total))
    for style, (name, kind) in enumerate(counts.items()):
        for i in np.flatnonzero(kind):
            left, right = x_scale.place(edges[i]), x_scale.place(edges[i + 1])
            bottom, top = y_scale.place(below[i]), y_scale.place(below[i] + kind[i])
            text = f"{name}, {edges[i]:.3g} to {edges[i + 1]:.3g}: {number(float(kind[i]))}"
            width, height = round(right - left - 1, 1), round(bottom - top, 1)
            bars.append(Bar(round(left + 0.5, 1), top, width, max(height, 0.5), text, style))
        below = below + kind
    header = [x_label, *counts]
    rows = [
        [f"{edges[i]:.3g} to {edges[i + 1]:.3g}", *(number(float(kind[i])) for kind in counts.values())]
        for i in range(len(total))
    ]
    return Chart(
        title, about, x_label, y_label,
        [Tick(x_scale.place(value), number(value)) for value in round_values(low, high)],
        [Tick(y_scale.place(value), number(value)) for value in round_values(0, y_scale.high, whole=True)],
        lines=lines, bars=bars, legend=list(zip(counts, range(len(counts)), strict=True)), header=header, rows=rows,
    )  # fmt: skip
