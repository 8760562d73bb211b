"""Server and host: what the samples of the run say of the machine and the processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from reports import figures, wording
from reports.analysis import Analysis
from reports.blocks import Block, Code, Column, Para, Picture, Table, Text, pairs
from reports.per_node import BUS, MOST_NODES, Node
from reports.periods import NS, phases, start_ns

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
MAX_LIVES: Final = 6  # of one node, in its row


def build(analysis: Analysis) -> tuple[Block, ...]:
    host: dict[str, Any] = analysis.run.get("host") or {}
    blocks: list[Block] = []
    if host:
        told = [(_TOLD.get(str(k), str(k)), _plain(str(k), v)) for k, v in host.items()]
        blocks.append(pairs(told, caption="Host"))
    if analysis.nodes:
        lines = figures.connections_by_node(analysis)
        blocks += [_nodes(analysis), *([] if lines.empty else [Picture(lines)])]
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


def _nodes(analysis: Analysis) -> Table:
    """One row a node, and one for all together."""
    *nodes, every = analysis.nodes
    bus = [kind for kind in BUS if kind in every.bus]
    columns = (
        Column("Node"),
        Column("Connections", "p50", "right"),
        Column("Connections", "peak", "right"),
        Column("Deliveries", align="right"),
        Column("CPU", "µs a delivery", "right"),
        Column("Memory", "largest", "right"),
        *(Column(kind.capitalize(), "bus", "right") for kind in bus),
        Column("Ran", wide=True),
    )
    zero, last = start_ns(analysis.run), max((p.end_ns for p in phases(analysis.run)), default=0)
    rows: tuple[tuple[Text, ...], ...] = tuple(
        (
            Code(node.name) if node.number else node.name,
            _with_share(node.p50, node.p50_share if node.number else None),
            _with_share(node.peak, node.peak_share if node.number else None),
            _with_share(node.deliveries, _ratio(node, every)),
            wording.decimal(node.cpu_us),
            wording.size_bytes(node.rss_bytes),
            *(wording.figure(node.bus.get(kind), "") for kind in bus),
            _ran(node, zero, last) if node.number else "",
        )
        for node in (*nodes, every)
    )
    more = len(analysis.history.names.nodes) - 1 - len(nodes)
    note = (
        "In brackets: the ratio to all nodes. p50 is over the seconds in which a node ran. Clients count the "
        "connections. Nodes count deliveries (replayed ones too) and the bus, and are asked once a second: "
        "what came between that and a kill is missing. CPU is per delivery of its own, outside of warm-ups; "
        "being started again is in it."
    )
    if more > 0 and len(nodes) == MOST_NODES:
        note += f" {wording.plural(more, 'node')} more."
    return Table(columns, rows, caption="Nodes", note=note)


def _with_share(value: float | None, ratio: float | None) -> str:
    told = wording.figure(value, "")
    return told if ratio is None else f"{told} ({ratio * 100:.0f}{wording.NBSP}%)"


def _ratio(node: Node, every: Node) -> float | None:
    if not node.number or node.deliveries is None or not every.deliveries:
        return None
    return node.deliveries / every.deliveries


def _ran(node: Node, zero_ns: int, last_ns: int) -> str:
    """start – 8.20 s (SIGKILL, kill-one), 14.3 s – end."""
    if not node.lives:
        return "not ours"
    told = []
    for life in node.lives[:MAX_LIVES]:
        begin = "start" if life.begin_ns <= zero_ns else wording.span_s((life.begin_ns - zero_ns) / NS)
        end = "end"
        if life.end_ns is not None and (life.end_ns < last_ns or not life.planned):
            end = f"{wording.span_s((life.end_ns - zero_ns) / NS)} ({life.ended})"
        told.append(f"{begin} – {end}")
    more = len(node.lives) - MAX_LIVES
    return "; ".join([*told, *([f"{more} more"] if more > 0 else [])])


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
