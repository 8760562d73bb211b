"""Server and host: what the samples of the run say of the machine and the processes."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from reports import wording
from reports.analysis import Analysis
from reports.blocks import Block, Code, Column, Para, Table, Text, pairs

_TOLD: Final = {
    "cpus": "Cores",
    "platform": "Platform",
    "kernel": "Kernel",
    "python": "Python",
    "load1": "Load average before the run",
}
MAX_ROWS: Final = 60  # figures of one process


def build(analysis: Analysis) -> tuple[Block, ...]:
    host: dict[str, Any] = analysis.run.get("host") or {}
    blocks: list[Block] = []
    if host:
        blocks.append(
            pairs([(_TOLD.get(str(k), str(k)), _plain(v)) for k, v in host.items()], caption="Host")
        )
    tables = [_table(name, frame) for name, frame in analysis.samples.items() if frame.height]
    blocks += [table for table in tables if table.rows]
    return tuple(blocks) or (Para("No samples were taken."),)


def _plain(value: object) -> str:
    return wording.decimal(value) if isinstance(value, float) else str(value)


def _table(name: str, frame: pl.DataFrame) -> Table:
    numeric = [c for c, kind in frame.schema.items() if kind.is_numeric() and c not in ("t", "t_ns", "index")]
    groups: list[tuple[str, pl.DataFrame]] = [("", frame)]
    if "index" in frame.columns:
        groups = [(f"{key[0]} ", part) for key, part in frame.group_by("index", maintain_order=True)]
    columns = (
        Column("Figure"),
        *(Column(head, align="right") for head in ("Median", "Highest", "Last")),
    )
    rows: list[tuple[Text, ...]] = []
    for label, part in groups:
        for column in numeric:
            values = (
                part[column].drop_nulls().drop_nans()
                if part[column].dtype.is_float()
                else part[column].drop_nulls()
            )
            if len(values):
                points = (values.median(), values.max(), values[-1])
                rows.append((Code(label + column), *(_figure(column, p) for p in points)))
    return Table(columns, tuple(rows[:MAX_ROWS]), caption=f"{name.capitalize()}: one sample a second")


def _figure(column: str, value: Any) -> str:
    number = float(value)
    if column.endswith("_bytes"):
        return wording.size_bytes(number)
    for suffix, unit in (("_ms", "ms"), ("_seconds", "s"), ("_s", "s")):
        if column.endswith(suffix) and not column.endswith("_per_s"):
            return f"{wording.decimal(number)}{wording.NBSP}{unit}"
    return wording.count(number) if number.is_integer() else wording.decimal(number)
