"""Throughput: what was due, sent, acked and delivered, per second and in total."""

from __future__ import annotations

from typing import Final

from reports import figures, wording
from reports.analysis import Analysis
from reports.blocks import Block, Column, Para, Picture, Table

_ROWS: Final = (
    ("scheduled", "Messages due"),
    ("sent", "Messages sent"),
    ("acked", "Messages acked"),
    ("delivered", "Deliveries, live"),
    ("replayed", "Deliveries, replayed"),
)


def build(analysis: Analysis) -> tuple[Block, ...]:
    if not analysis.intervals.height:
        return (Para("No load was recorded."),)
    chart = figures.throughput(analysis)
    return (_totals(analysis), *([] if chart.empty else [Picture(chart)]))


def _totals(analysis: Analysis) -> Table:
    steady = analysis.steady
    columns = (
        Column(""),
        Column("Total", align="right"),
        Column("Mean", "/s", "right"),
        Column("Peak", "/s", "right"),
    )
    rows = tuple(
        (
            told,
            wording.count(analysis.total(column)),
            wording.decimal(float(steady[column].mean())) if steady.height else wording.NONE,  # type: ignore[arg-type]
            wording.count(int(analysis.intervals[column].max())),  # type: ignore[arg-type]
        )
        for column, told in _ROWS
    )
    note = "Totals and peaks are of the whole run; means are over whole seconds outside of warm-ups."
    return Table(columns, rows, note=note)
