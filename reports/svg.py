"""Charts as inline SVG for the page: no script, no inline style, legible at any width.

Text keeps its size when the page is narrow, because only the lines are stretched (a nested
``svg`` with ``preserveAspectRatio="none"``); everything else is placed by per cent. Colours
and dashes are classes, so that the page's light and dark schemes apply and no style
attribute needs an exception in the content security policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from reports.charts import Band, Chart, Panel, Scale, Series, x_scale, y_scale
from reports.escape import for_html
from reports.svg_grids import LANES_KEY, cells, lanes, lanes_px, legend

_SIDE: Final = 1000  # of the stretched coordinate system
_APART: Final = 2.0  # per cent of the width between two numbers of faults, at least, on a wide screen
_APART_NARROW: Final = 6.0  # and on a narrow one


def chart(drawn: Chart) -> str:
    """A ``figure`` element: caption, key, panels, x axis."""
    x = x_scale(drawn)
    panels = "".join(_panel(panel, x, drawn, first=i == 0) for i, panel in enumerate(drawn.panels))
    laned = any(panel.lanes for panel in drawn.panels)  # where each fault has its name beside it
    key = "" if laned else _band_key(drawn)
    return (
        f'<figure class="chart" id="chart-{for_html(drawn.name)}">'
        f"<figcaption><b>{for_html(drawn.title)}</b><span>{for_html(drawn.says)}</span></figcaption>"
        f'<div class="static">{panels}{_x_axis(x, drawn)}</div>{key}</figure>\n'
    )


def _panel(panel: Panel, x: Scale, drawn: Chart, *, first: bool) -> str:
    y = y_scale(panel)
    if panel.lanes:
        return _rows(panel, x, drawn)
    height = "tall" if len(drawn.panels) == 1 else "low"
    grid = "".join(_line("grid", (0, 100), (_down(y, t), _down(y, t))) for t, _ in y.ticks)
    lines = "".join(_path(s, x, y) for s in panel.series if s.kind in ("line", "step"))
    stretched = (
        cells(panel.cells, x)
        if panel.cells
        else (
            f'<svg viewBox="0 0 {_SIDE} {_SIDE}" preserveAspectRatio="none" width="100%" height="100%">'
            f"{lines}</svg>"
        )
    )
    marks = "".join(_bars(s, x, y) if s.kind == "bars" else _dots(s, x, y) for s in panel.series)
    title = panel.title or panel.y.title
    numbers = _numbers(drawn.bands, x) if first else ""
    head = (
        f'<div class="panel-head"><b>{for_html(title)}</b>{_unit(panel)}{_key(panel.series)}'
        f"{legend(panel.cells)}</div>{numbers}"
    )
    edges = _edges(drawn.bands, x) if panel.cells else ""  # which the cells would cover
    only = " only" if len(panel.series) == 1 else ""  # a single line needs no dash to be told from others
    return (
        f'<div class="panel{only}">{head}'
        f'<svg class="y-axis {height}" aria-hidden="true">{_y_ticks(y)}</svg>'
        f'<svg class="plot {height}" role="img" aria-label="{for_html(f"{title}. {drawn.says}")}">'
        f"{_bands(drawn.bands, x)}{grid}{stretched}{marks}{edges}</svg></div>"
    )


def _rows(panel: Panel, x: Scale, drawn: Chart) -> str:
    height = lanes_px(panel.lanes)
    numbers = "".join(
        f'<text x="100%" y="{lanes_px(panel.lanes[:n]) + 12}" dx="-6">{for_html(lane.number)}</text>'
        for n, lane in enumerate(panel.lanes)
    )
    return (
        f'<div class="panel"><div class="panel-head"><b>{for_html(panel.y.title)}</b>{LANES_KEY}</div>'
        f'<svg class="y-axis" height="{height}" aria-hidden="true">{numbers}</svg>'
        f'<svg class="plot lanes" height="{height}" role="group" aria-label="{for_html(drawn.says)}">'
        f"{_bands(drawn.bands, x)}{lanes(panel.lanes, x)}</svg></div>"
    )


def _edges(bands: Sequence[Band], x: Scale) -> str:
    """Both ends of each fault, over what covers its band."""
    ends = [x.at(at) * 100 for band in bands if band.kind == "fault" for at in (band.start, band.end)]
    return "".join(_line("edge", (at, at), (0, 100)) for at in ends)


def _unit(panel: Panel) -> str:
    return f'<span class="unit">{for_html(panel.y.title)}</span>' if panel.title else ""


def _key(series: Sequence[Series]) -> str:
    if len(series) < 2:
        return ""
    items = "".join(
        f'<li><svg class="swatch" aria-hidden="true">{_sample(s)}</svg>{for_html(s.name)}</li>'
        for s in series
    )
    return f'<ul class="key">{items}</ul>'


def _sample(series: Series) -> str:
    if series.kind == "dots":
        return f'<circle class="dot s{series.slot}" cx="13" cy="6" r="3"/>'
    return f'<line class="line s{series.slot}" x1="0" x2="26" y1="6" y2="6"/>'


def _band_key(drawn: Chart) -> str:
    faults = [band for band in drawn.bands if band.kind == "fault"]
    items = "".join(
        f"<li><span>{number}</span> <code>{for_html(band.label)}</code></li>"
        for number, band in enumerate(faults, start=1)
    )
    if len(faults) < len(drawn.bands):
        items += '<li><span class="warm"></span> warm-up</li>'
    return f'<ol class="fault-key" aria-label="{drawn.numbered}">{items}</ol>' if items else ""


def _bands(bands: Sequence[Band], x: Scale) -> str:
    drawn = ""
    for band in bands:
        left, width = _reach(band, x)
        drawn += f'<rect class="band {band.kind}" x="{left:.2f}%" y="0" width="{width:.2f}%" height="100%"/>'
        if band.kind == "fault":
            drawn += _line("edge", (left, left), (0, 100))
    return drawn


def _numbers(bands: Sequence[Band], x: Scale) -> str:
    """A row above the first panel with the number of each fault over its band."""
    faults = [band for band in bands if band.kind == "fault"]
    drawn = ""
    taken: list[float] = []
    for number, band in enumerate(faults, start=1):
        left, width = _reach(band, x)
        middle = min(max(left + width / 2, 1.5), 98.5)
        nearest = min((abs(middle - other) for other in taken), default=100.0)
        if nearest < _APART:
            continue  # it would cover another
        taken.append(middle)
        crowded = " crowded" if nearest < _APART_NARROW else ""
        drawn += f'<text class="number{crowded}" x="{middle:.2f}%" y="10">{number}</text>'
    return f'<svg class="numbers" aria-hidden="true">{drawn}</svg>' if faults else ""


def _reach(band: Band, x: Scale) -> tuple[float, float]:
    """Left edge and width in per cent; a band as short as a moment still shows."""
    left = x.at(band.start) * 100
    return left, max(x.at(band.end) * 100 - left, 0.3)


def _path(series: Series, x: Scale, y: Scale) -> str:
    d, pen = "", False
    before = 0.0
    for at, value in series.points:
        if value is None:
            pen = False
            continue
        right, down = x.at(at) * _SIDE, (1 - y.at(value)) * _SIDE
        if pen and series.kind == "step":
            d += f"V{before:.1f}H{right:.1f}V{down:.1f}"
        else:
            d += f"{'L' if pen else 'M'}{right:.1f} {down:.1f}"
        pen, before = True, down
    return f'<path class="line s{series.slot}" d="{d}"/>' if d else ""


def _dots(series: Series, x: Scale, y: Scale) -> str:
    """Points to which no line leads: those between two holes, and all where there is none."""
    points = [(None, None), *series.points, (None, None)]
    alone = [
        (at, value)
        for (_, before), (at, value), (_, after) in zip(points, points[1:], points[2:], strict=False)
        if at is not None
        and value is not None
        and (series.kind == "dots" or (before is None and after is None))
    ]
    return "".join(
        f'<circle class="dot s{series.slot}" cx="{x.at(at) * 100:.2f}%" cy="{_down(y, value):.2f}%" r="3"/>'
        for at, value in alone
    )


def _bars(series: Series, x: Scale, y: Scale) -> str:
    drawn = ""
    for (left, value), width in zip(series.points, series.widths, strict=True):
        if value:
            begin, end, top = x.at(left) * 100, x.at(left + width) * 100, _down(y, value)
            drawn += (
                f'<rect class="bar s{series.slot}" x="{begin:.2f}%" y="{top:.2f}%" '
                f'width="{max(end - begin, 0.3):.2f}%" height="{100 - top:.2f}%"/>'
            )
    return drawn


def _line(kind: str, x: tuple[float, float], y: tuple[float, float]) -> str:
    return f'<line class="{kind}" x1="{x[0]:.2f}%" x2="{x[1]:.2f}%" y1="{y[0]:.2f}%" y2="{y[1]:.2f}%"/>'


def _down(y: Scale, value: float) -> float:
    """Per cent from the top."""
    return (1 - y.at(value)) * 100


def _y_ticks(y: Scale) -> str:
    return "".join(
        f'<text x="100%" y="{_down(y, value):.2f}%" dx="-6" dy="4">{label}</text>' for value, label in y.ticks
    )


def _x_axis(x: Scale, drawn: Chart) -> str:
    ticks = ""
    for value, label in x.ticks:
        at = x.at(value) * 100
        anchor = "first" if at < 2 else "last" if at > 98 else "mid"
        ticks += f'<text class="{anchor}" x="{at:.2f}%" y="13">{label}</text>'
    return (
        f'<div class="panel x"><svg class="x-axis" aria-hidden="true">{ticks}</svg>'
        f'<div class="x-title">{for_html(drawn.x.title)}</div></div>'
    )
