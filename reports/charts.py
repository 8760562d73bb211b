"""Charts as data: what is drawn, before it is an SVG in the page or a file made by matplotlib.

Both renderers read the same ``Chart``, so the page and the plot files cannot disagree.
Series are thinned here to at most MAX_POINTS, by the minimum and maximum of equal stretches:
a spike of one second survives in a chart of a day.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from reports.grids import Cells, Lane

MAX_POINTS: Final = 600
AxisKind = Literal["linear", "log", "quantile"]
Point = tuple[float, float | None]  # None: no value there, the line is broken


@dataclass(frozen=True, slots=True)
class Axis:
    """``kind`` "quantile" draws q at 1/(1-q) on a log scale: 0.9, 0.99, 0.999 are equally far apart."""

    label: str
    unit: str = ""
    kind: AxisKind = "linear"
    whole: bool = False  # counts: no tick between two of them
    zero: bool = True  # a linear axis begins at 0 when no value is negative

    @property
    def title(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True, slots=True)
class Series:
    """One line or set of bars. ``slot`` picks colour and dash: the same thing has the same slot everywhere.

    Bars: points are (left edge, height), and ``widths`` their widths in x. Dots: no line between them.
    """

    name: str
    points: tuple[Point, ...]
    slot: int = 0
    kind: Literal["line", "step", "bars", "dots"] = "line"
    widths: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of x in which a fault was in force (``kind`` "fault") or warm-up lasted ("warmup").

    Of a chart whose ``numbered`` says so, "fault" bands are something else that happened.
    """

    start: float
    end: float
    label: str
    kind: Literal["fault", "warmup"] = "fault"


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot; panels of a chart stand on each other and share x.

    ``cells`` or ``lanes``: it is a heat map, or rows of marks, and has no series.
    """

    y: Axis
    series: tuple[Series, ...] = ()
    title: str = ""
    cells: Cells | None = None
    lanes: tuple[Lane, ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """``name``: stem of the plot file. ``says``: what it shows, in words, for those who cannot see it.

    ``numbered``: what its bands are. ``names``: of x = 1, 2, 3 …, where these are things and no quantity.
    """

    name: str
    title: str
    x: Axis
    panels: tuple[Panel, ...]
    says: str
    bands: tuple[Band, ...] = ()
    filed: bool = True  # also written to plots/
    x_range: tuple[float, float] | None = None
    numbered: str = "Faults"
    names: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Nothing to draw: no panel has a value."""
        points = (y for panel in self.panels for s in panel.series for _, y in s.points)
        return all(y is None for y in points) and not any(p.cells or p.lanes for p in self.panels)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to 0…1 along an axis and holds its ticks as (value, label)."""

    low: float
    high: float
    kind: str
    ticks: tuple[tuple[float, str], ...]

    def at(self, value: float) -> float:
        low, high, x = (_warp(v, self.kind) for v in (self.low, self.high, value))
        return min(1.0, max(0.0, (x - low) / (high - low)))


def _warp(value: float, kind: str) -> float:
    if kind == "log":
        return math.log10(max(value, 1e-12))
    if kind == "quantile":
        return -math.log10(max(1 - value, 1e-9))
    return value


def scale(values: Sequence[float], axis: Axis, *, zero: bool = True) -> Scale:
    """A scale that holds all values and ends at round figures.

    Args:
        values: at least one; for a log axis, those <= 0 are left out.
        zero: a linear scale begins at 0 when no value is negative.
    """
    if axis.kind == "quantile":
        top = min(max([*values, 0.99]), 0.999999)
        marks = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999]
        return Scale(0.0, top, "quantile", tuple((q, f"{q * 100:g}") for q in marks if q <= top))
    if axis.kind == "log":
        return _logarithmic([v for v in values if v > 0] or [1.0])
    low, high = min(values, default=0.0), max(values, default=1.0)
    low = min(low, 0.0) if zero else low
    return _linear(low, high if high > low else low + 1, whole=axis.whole)


def exact(low: float, high: float, kind: AxisKind = "linear", *, whole: bool = False) -> Scale:
    """A scale from ``low`` to ``high``, with round ticks inside."""
    if kind == "log":
        inside = _sparse([r for r in _round_figures(low, high) if low <= r <= high])
        return Scale(low, high, "log", tuple((r, _short(r)) for r in inside))
    high = high if high > low else low + 1
    step = _step(high - low, 8)
    step = math.ceil(step) if whole else step
    first = math.ceil(round(low / step, 9))
    marks = [i * step for i in range(first, math.floor(round(high / step, 9)) + 1)]
    return Scale(low, high, "linear", tuple((m, _short(m)) for m in marks))


def _logarithmic(values: Sequence[float]) -> Scale:
    """From the round figure (1, 2 or 5 times a power of ten) below the lowest to that above the highest."""
    rounds = _round_figures(min(values), max(values))
    low = max(r for r in rounds if r <= min(values) * (1 + 1e-9))
    high = min(r for r in rounds if r > low * 1.5 and r >= max(values) * (1 - 1e-9))
    return Scale(
        low, high, "log", tuple((r, _short(r)) for r in _sparse([r for r in rounds if low <= r <= high]))
    )


def _round_figures(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, from one that is not above ``low`` to one that is above ``high``."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 2)
    return [m * 10.0**e for e in exponents for m in (1, 2, 5)]


def _sparse(inside: list[float]) -> list[float]:
    """At most 8 of the round figures on an axis, else powers of ten alone."""
    if len(inside) <= 8:
        return inside
    return [r for r in inside if abs(math.log10(r) - round(math.log10(r))) < 1e-9]


def _linear(low: float, high: float, *, whole: bool) -> Scale:
    step = _step(high - low, 5)
    step = math.ceil(step) if whole else step
    first, last = math.floor(round(low / step, 9)), math.ceil(round(high / step, 9))
    return Scale(
        first * step,
        last * step,
        "linear",
        tuple((i * step, _short(i * step)) for i in range(first, last + 1)),
    )


def _step(span: float, most: int) -> float:
    """A round step that cuts ``span`` into at most ``most`` parts."""
    size = 10.0 ** math.floor(math.log10(span / most))
    return next(m * size for m in (1, 2, 2.5, 5, 10) if m * size * most >= span * (1 - 1e-9))


def _short(value: float) -> str:
    """A tick: 0, 0.05, 250, 1.5k, 2M."""
    size = abs(value)
    for limit, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / (1e3 if sign == 'k' else limit):g}{sign}"
    return f"{round(value, 10):,g}" if size < 1e3 else f"{value:,.0f}"


def x_scale(chart: Chart) -> Scale:
    """The scale that all panels of a chart share."""
    if chart.x_range is not None:
        return exact(*chart.x_range, chart.x.kind, whole=chart.x.whole)
    return scale([x for panel in chart.panels for s in panel.series for x, _ in s.points], chart.x)


def y_scale(panel: Panel) -> Scale:
    if panel.cells:
        return exact(panel.cells.y_edges[0], panel.cells.y_edges[-1], panel.y.kind)
    if panel.lanes:  # from above; a number stands at the middle of its lane
        count = len(panel.lanes)
        middles = tuple((count - n - 0.5, lane.number) for n, lane in enumerate(panel.lanes))
        return Scale(0.0, count, "linear", middles)
    values = [y for s in panel.series for _, y in s.points if y is not None]
    return scale(values, panel.y, zero=panel.y.zero)


def merged(bands: Sequence[Band], most: int) -> tuple[Band, ...]:
    """At most ``most`` bands: those with the smallest gaps between them become one that says how many."""
    if len(bands) <= most:
        return tuple(bands)
    ordered = sorted(bands, key=lambda band: (band.start, band.end))
    gaps: list[float] = []
    reach = ordered[0].end
    for band in ordered[1:]:
        gaps.append(band.start - reach)
        reach = max(reach, band.end)
    cuts = sorted(sorted(range(len(gaps)), key=lambda i: (-gaps[i], i))[: most - 1])
    edges = [0, *(cut + 1 for cut in cuts), len(ordered)]
    groups = [ordered[a:b] for a, b in pairwise(edges)]
    return tuple(
        group[0]
        if len(group) == 1
        else Band(group[0].start, max(b.end for b in group), f"{len(group)} faults", group[0].kind)
        for group in groups
    )


def thin(points: Sequence[Point], most: int = MAX_POINTS) -> tuple[Point, ...]:
    """At most ``most`` points: of each stretch, its lowest and its highest value, in their order.

    A stretch with no value at all keeps one empty point, so that a hole stays a hole.
    """
    if len(points) <= most:
        return tuple(points)
    stretches = max(1, most // 2)
    kept: list[Point] = []
    for k in range(stretches):
        part = points[k * len(points) // stretches : (k + 1) * len(points) // stretches]
        valued = [(y, i) for i, (_, y) in enumerate(part) if y is not None]
        if not valued:
            kept.append((part[0][0], None))
            continue
        kept += [part[i] for i in sorted({min(valued)[1], max(valued)[1]})]
    return tuple(kept)


def bins(values: Sequence[float], most: int = 24) -> tuple[tuple[Point, ...], tuple[float, ...]]:
    """A histogram of values with round edges: (left edge, count) points and the bars' widths."""
    if not values:
        return (), ()
    low, high = min(values), max(values)
    step = _step(max(high - low, abs(high) * 0.05, 1e-6), most)
    first = math.floor(round(low / step, 9))
    places = [math.floor(round(v / step, 9)) - first for v in values]
    edges = [round((first + i) * step, 12) for i in range(max(places) + 2)]
    return _bars(places, edges)


def log_bins(values: Sequence[float], per_decade: int = 10) -> tuple[tuple[Point, ...], tuple[float, ...]]:
    """As ``bins``, of positive values, with edges equally far apart on a log axis."""
    positive = [v for v in values if v > 0]
    if not positive:
        return (), ()
    spots = [math.floor(round(math.log10(v) * per_decade, 9)) for v in positive]
    first = min(spots)
    edges = [10 ** ((first + i) / per_decade) for i in range(max(spots) - first + 2)]
    return _bars([spot - first for spot in spots], edges)


def _bars(places: Sequence[int], edges: Sequence[float]) -> tuple[tuple[Point, ...], tuple[float, ...]]:
    counts = [0] * (len(edges) - 1)
    for place in places:
        counts[place] += 1
    widths = tuple(right - left for left, right in pairwise(edges))
    return tuple((left, float(n)) for left, n in zip(edges, counts, strict=False)), widths
