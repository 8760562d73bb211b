"""Charts as files: plots/<name>.png and .svg, drawn by matplotlib from the same ``Chart`` as the page.

The same chart gives the same bytes: no date, no version, no random ids in the files.
"""

from __future__ import annotations

import io
import warnings
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from reports.charts import Band, Chart, Panel, Scale, Series, x_scale, y_scale
from reports.escape import for_terminal

# Okabe & Ito, "Color Universal Design" (2008), by Series.slot; a dash each, so that hue is never alone.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#b87a00", "#a8518a", "#4b5563")
DASHES: Final[tuple[Any, ...]] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.5)),
    (0, (6, 2, 1.2, 2)),
    (0, (8, 2.5)),
    (0, (3, 1.5)),
)
_INK, _SOFT, _GRID, _FAULT, _WARM = "#1b1f24", "#57606a", "#d8dee4", "#e69f00", "#8b98a5"
_METADATA: Final[dict[str, dict[str, Any]]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}
_STYLE: Final[dict[Any, Any]] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.parse_math": False,  # a "$" in a name is a dollar
    "svg.hashsalt": "chatproof",
    "svg.fonttype": "path",
    "axes.linewidth": 0.8,
    "path.simplify": False,
}


def files(chart: Chart) -> dict[str, bytes]:
    """The chart as "png", 1,200 pixels wide, and as "svg", its text as outlines: it needs no font."""
    made: dict[str, bytes] = {}
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        warnings.simplefilter("ignore")  # a glyph that the font lacks is drawn as a box
        figure = _figure(chart)
        for kind, metadata in _METADATA.items():
            out = io.BytesIO()
            figure.savefig(out, format=kind, dpi=120, metadata=metadata, facecolor="white")
            figure.set_layout_engine("none")  # laid out once, for both
            made[kind] = out.getvalue()
    return made


def _figure(chart: Chart) -> Figure:
    single = len(chart.panels) == 1
    height = 4.6 if single else 1.0 + 1.75 * len(chart.panels)
    figure = Figure(figsize=(10, height), layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.1))
    FigureCanvasAgg(figure)
    x = x_scale(chart)
    grid = figure.subplots(len(chart.panels), 1, sharex=True, squeeze=False)
    figure.suptitle(chart.title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=_INK)
    for place, panel in enumerate(chart.panels):
        axes = grid[place][0]
        _panel(axes, panel, x, chart.bands, numbers=place == 0)
    bottom = grid[-1][0]
    bottom.set_xticks([x.at(v) for v, _ in x.ticks], [label for _, label in x.ticks])
    bottom.set_xlabel(chart.x.title, color=_SOFT)
    figure.align_ylabels()
    faults = [band.label for band in chart.bands if band.kind == "fault"]
    if faults:
        told = "   ".join(f"{n} {for_terminal(label)}" for n, label in enumerate(faults[:12], start=1))
        more = f"   and {len(faults) - 12} more" if len(faults) > 12 else ""
        figure.supxlabel(f"Faults: {told}{more}", x=0.01, ha="left", fontsize=8.5, color=_INK)
    return figure


def _panel(axes: Axes, panel: Panel, x: Scale, bands: tuple[Band, ...], *, numbers: bool) -> None:
    y = y_scale(panel)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_yticks([y.at(v) for v, _ in y.ticks], [label for _, label in y.ticks])
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=_SOFT)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_SOFT)
    axes.set_ylabel(panel.y.title, color=_SOFT)
    if panel.title:
        axes.set_title(panel.title, loc="left", fontsize=9, fontweight="bold", color=_INK)
    _bands(axes, bands, x, numbers=numbers)
    for series in panel.series:
        _draw(axes, series, x, y, dashed=len(panel.series) > 1)
    if len(panel.series) > 1:
        axes.legend(loc="best", frameon=True, framealpha=0.9, edgecolor=_GRID, fontsize=8.5, handlelength=3)


def _draw(axes: Axes, series: Series, x: Scale, y: Scale, *, dashed: bool) -> None:
    colour = COLOURS[series.slot % len(COLOURS)]
    if series.kind == "bars":
        lefts = [x.at(at) for at, _ in series.points]
        rights = [x.at(at + w) for (at, _), w in zip(series.points, series.widths, strict=True)]
        widths = [right - left for left, right in zip(lefts, rights, strict=True)]
        heights = [0.0 if v is None else y.at(v) for _, v in series.points]
        axes.bar(lefts, heights, widths, align="edge", color=colour, edgecolor="white", linewidth=0.8)
        return
    places = [x.at(at) for at, _ in series.points]
    values = [float("nan") if v is None else y.at(v) for _, v in series.points]
    dots = series.kind == "dots"
    axes.plot(
        places,
        values,
        color=colour,
        linestyle="none" if dots else DASHES[series.slot % len(DASHES)] if dashed else "-",
        linewidth=1.5,
        drawstyle="steps-post" if series.kind == "step" else "default",
        marker="o" if dots or len(places) == 1 else "",
        markersize=4,
        label=for_terminal(series.name),
        clip_on=False,
        solid_joinstyle="round",
    )


def _bands(axes: Axes, bands: tuple[Band, ...], x: Scale, *, numbers: bool) -> None:
    number = 0
    for band in bands:
        left, right = x.at(band.start), x.at(band.end)
        fault = band.kind == "fault"
        axes.axvspan(
            left, right, color=_FAULT if fault else _WARM, alpha=0.17 if fault else 0.13, linewidth=0
        )
        number += fault
        if fault:
            axes.axvline(left, color=_FAULT, linewidth=1.0, linestyle=(0, (3, 3)))
        if numbers and fault:
            axes.text(
                (left + right) / 2,
                1.02,
                str(number),
                ha="center",
                va="bottom",
                fontsize=8,
                color=_INK,
                fontweight="bold",
            )
