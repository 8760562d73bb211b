"""What the page's script draws with: the charts as compact data, uPlot, and the script itself.

The script only enhances. Every chart is in the page as SVG too (``reports.svg``), and stays
there when no script runs, when the browser cannot unpack the data, and on paper. The script
draws the same ``Chart`` on the same scales, with the same ticks where nothing is zoomed.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from reports.charts import Axis, Chart, Panel, Scale, Series, x_scale, y_scale
from reports.grids import Cells, Lane, shade

_OWN: Final = tuple(Path(__file__).with_name(name) for name in ("grids.js", "report.js"))
_UPLOT: Final = Path(__file__).with_name("vendor") / "uplot"
_X_DIGITS: Final = 9  # significant: milliseconds of a week, and 1 - q of the highest percentile
_Y_DIGITS: Final = 5


def script() -> str:
    """uPlot, its licence, and our script: one text, so that one hash allows it."""
    licence = (_UPLOT / "LICENSE").read_text(encoding="utf-8").strip()
    library = (_UPLOT / "uPlot.iife.min.js").read_text(encoding="utf-8").strip()
    own = "\n".join(path.read_text(encoding="utf-8").strip() for path in _OWN)
    return f"/*!\n{licence}\n*/\n{library}\n{own}\n"


def style() -> str:
    """The rules that uPlot needs."""
    return (_UPLOT / "uPlot.min.css").read_text(encoding="utf-8")


def packed(charts: Iterable[Chart]) -> str:
    """The charts as JSON, gzip and base64; the same charts give the same text."""
    text = json.dumps([_chart(c) for c in charts], ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 9, mtime=0)).decode()


def _chart(chart: Chart) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": chart.name,
        "x": _axis(chart.x, x_scale(chart)),
        "bands": [
            [_short(b.start, _X_DIGITS), _short(b.end, _X_DIGITS), b.label, b.kind] for b in chart.bands
        ],
        "panels": [_panel(panel) for panel in chart.panels],
    }
    if chart.names:
        made["names"] = list(chart.names)
    return made


def _axis(axis: Axis, scale: Scale) -> dict[str, Any]:
    return {
        "title": axis.title,
        "unit": axis.unit,
        "kind": axis.kind,
        "low": scale.low,
        "high": scale.high,
        "ticks": [[value, label] for value, label in scale.ticks],
    }


def _panel(panel: Panel) -> dict[str, Any]:
    made = {"y": _axis(panel.y, y_scale(panel)), "series": [_series(s) for s in panel.series]}
    if panel.cells:
        made["cells"] = _cells(panel.cells)
    if panel.lanes:
        made["lanes"] = [_lane(lane) for lane in panel.lanes]
    return made


def _cells(cells: Cells) -> dict[str, Any]:
    return {
        "x": [_short(edge, _X_DIGITS) for edge in cells.x_edges],
        "y": [_short(edge, _Y_DIGITS) for edge in cells.y_edges],
        "counts": cells.counts,
        "levels": [[least, shade(n, len(cells.levels))] for n, least in enumerate(cells.levels)],
        "unit": cells.unit,
    }


def _lane(lane: Lane) -> dict[str, Any]:
    def at(t: float | None) -> float | int | None:
        return None if t is None else _short(t, _X_DIGITS)

    marks = [[at(m.planned), at(m.begin), at(m.end), m.told] for m in lane.marks]
    return {"label": lane.label, "aside": lane.aside, "marks": marks}


def _series(series: Series) -> dict[str, Any]:
    kept = _distinct(series)
    made: dict[str, Any] = {
        "name": series.name,
        "slot": series.slot,
        "kind": series.kind,
        "x": [x for x, _ in kept],
        "y": [y for _, y in kept],
    }
    if series.widths:
        made["widths"] = [_short(width, _X_DIGITS) for width in series.widths]
    return made


def _distinct(series: Series) -> Sequence[tuple[float, float | None]]:
    """Points with rounded figures; of several at one place the last, as uPlot wants each x once."""
    at = {_short(x, _X_DIGITS): None if y is None else _short(y, _Y_DIGITS) for x, y in series.points}
    return list(at.items())


def _short(value: float, digits: int) -> float | int:
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded
