"""Server and host: what the samples of the run say of the machine and the processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from reports import figures, wording
from reports.analysis import Analysis
from reports.blocks import Block, Code, Column, Para, Picture, Table, Text, pairs

_TOLD: Final = {
    "cpus": "Cores",
    "memory_bytes": "Memory",
    "platform": "Platform",
    "kernel": "Kernel",
    "python": "Python",
    "load1": "Load average before the run",
}
_NO_FIGURE: Final = frozenset({"t", "t_ns", "pid", "started_ms"})  # moments and names
MAX_ROWS: Final = 60  # figures of one table


def build(analysis: Analysis) -> tuple[Block, ...]:
    host: dict[str, Any] = analysis.run.get("host") or {}
    blocks: list[Block] = []
    if host:
        told = [(_TOLD.get(str(k), str(k)), _plain(str(k), v)) for k, v in host.items()]
        blocks.append(pairs(told, caption="Host"))
    chart = figures.processes(analysis)
    if not chart.empty:
        blocks.append(Picture(chart))
    tables = [
        table
        for name, frame in analysis.samples.items()
        for table in (_states(name, frame), _counters(name, frame))
        if table.rows
    ]
    return (*blocks, *tables) or (Para("No samples were taken."),)


def _plain(key: str, value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _figure(key, float(value))
    return str(value)


def _states(name: str, frame: pl.DataFrame) -> Table:
    """Figures that go up and down: median and highest, a row a process where there are several."""
    columns = (
        *([Column("Process")] if "process" in frame.columns else []),
        Column("Figure"),
        Column("Median", align="right"),
        Column("Highest", align="right"),
    )
    rows: list[tuple[Text, ...]] = []
    for process, part in _parts(frame):
        for column in _numeric(part):
            values = _values(part, column)
            if not column.endswith(("_total", "_sum", "_count")) and values:
                middle = sorted(values)[(len(values) - 1) // 2]
                first: tuple[Text, ...] = (Code(process),) if process else ()
                rows.append((*first, Code(column), _figure(column, middle), _figure(column, max(values))))
    return Table(columns, tuple(rows[:MAX_ROWS]), caption=f"{name.capitalize()}, sampled every second")


def _counters(name: str, frame: pl.DataFrame) -> Table:
    """Figures that only grow: by how much, over every restart of their process."""
    rows: list[tuple[Text, ...]] = []
    for process, part in _parts(frame):
        for column in _numeric(part):
            values = _values(part, column)
            if column.endswith(("_total", "_sum", "_count")) and values:
                first: tuple[Text, ...] = (Code(f"{process} {column}".strip()),)
                kind = column.removesuffix("_sum").removesuffix("_total")  # a count has no unit, whatever of
                rows.append((*first, _figure(kind, grown(values))))
    columns = (Column("Counter"), Column("Growth in the run", align="right"))
    return Table(columns, tuple(rows[:MAX_ROWS]), caption=f"{name.capitalize()}, counted")


def grown(values: Sequence[float]) -> float:
    """Growth of a counter that falls back to zero when its process is started again."""
    total, before = 0.0, values[0]
    for value in values[1:]:
        total += value - before if value >= before else value
        before = value
    return total


def _parts(frame: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    if "process" not in frame.columns:
        return [("", frame)]
    named = frame.filter(pl.col("process").is_not_null()).sort("process", maintain_order=True)
    return [(str(key[0]), part) for key, part in named.group_by("process", maintain_order=True)]


def _numeric(frame: pl.DataFrame) -> list[str]:
    return [c for c, kind in frame.schema.items() if kind.is_numeric() and c not in _NO_FIGURE]


def _values(frame: pl.DataFrame, column: str) -> list[float]:
    return [float(v) for v in frame[column].drop_nulls() if v == v]  # NaN is no sample


def _figure(column: str, value: float) -> str:
    if column == "cpu":
        return wording.share(value)
    if column.endswith("_bytes"):
        return wording.size_bytes(value)
    if column.endswith("_ms"):
        return wording.ms(value)
    if column.endswith(("_seconds", "_s")) and not column.endswith("_per_s"):
        return wording.span_s(value)
    return wording.count(value) if value.is_integer() else wording.decimal(value)
