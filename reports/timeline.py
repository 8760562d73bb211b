"""The run second by second: what was due, sent, acked and delivered, who was there, and how long it took.

One row a second of the schedule, from second 0 to the last in which load was seen, without
holes, so that a stall is a row of zeros and not a missing one. Written as
``analysis/intervals.parquet``; the columns are in COLUMNS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from reports.history import Flag, Kind
from reports.latency import QUANTILES, quantiles_by
from reports.periods import NS, fault_windows, phases, start_ns

if TYPE_CHECKING:
    from reports.history import History

COLUMNS: Final = {
    "second": "start of the interval, seconds since the start of the schedule (i64)",
    "phase": "phase in which the interval begins; empty outside of all phases (str)",
    "warmup": "that phase is a warm-up (bool)",
    "faults": "ids of the faults in force at any time inside it, by comma (str)",
    "scheduled": "messages due in it and sent at some time (i64)",
    "sent": "first writes of a message in it (i64)",
    "acked": "acks of open requests seen in it (i64)",
    "delivered": "live deliveries seen in it (i64)",
    "replayed": "replayed deliveries seen in it (i64)",
    "connected": "clients connected at its end (i64)",
    "live": "live subscriptions at its end (i64)",
    "latency_count": "deliveries of messages due in it (i64)",
    "p50_ms": "median delivery latency of those (f64, null when there is none)",
    "p90_ms": "90th percentile of them",
    "p99_ms": "99th percentile of them",
    "max_ms": "longest of them",
}
MAX_SECONDS: Final = 7 * 86_400  # of a timeline: a stray clock value must not ask for a year of rows
_COUNTED: Final = ("scheduled", "sent", "acked", "delivered", "replayed")


def timeline(history: History, counted: pl.DataFrame, present: pl.DataFrame) -> pl.DataFrame:
    """The intervals of a run.

    Args:
        counted: delivery buckets per second, of ``latency.by_second``.
        present: of ``sessions.presence``.
    Returns:
        The columns of COLUMNS, one row a second; no row when nothing was recorded.
    """
    zero = start_ns(history.run)
    events = _events(history, zero)
    steps = present.with_columns(second=pl.col("at_s").floor().clip(lower_bound=0).cast(pl.Int64))
    seen = [int(last) for frame in (events, steps, counted) if (last := frame["second"].max()) is not None]  # type: ignore[arg-type]
    if not seen:
        return _empty()
    axis = pl.DataFrame({"second": pl.Series(range(min(max(seen), MAX_SECONDS) + 1), dtype=pl.Int64)})
    table = axis.join(events, on="second", how="left", maintain_order="left")
    for column in ("connected", "live"):
        ends = steps.filter(pl.col("what") == column).group_by("second").agg(pl.col("count").last())
        table = table.join(ends.rename({"count": column}), on="second", how="left", maintain_order="left")
    table = table.with_columns(
        pl.col(*_COUNTED).fill_null(0).cast(pl.Int64),
        pl.col("connected", "live").forward_fill().fill_null(0).cast(pl.Int64),
    )
    speeds = quantiles_by(counted, "second").rename({"count": "latency_count"})
    table = table.join(speeds, on="second", how="left").with_columns(pl.col("latency_count").fill_null(0))
    return _labelled(table, history, zero).select(list(COLUMNS)).sort("second")


def _events(history: History, zero: int) -> pl.DataFrame:
    """Counts per second; load before second 0 counts in second 0."""
    kind, flags = pl.col("kind"), pl.col("flags")
    first = (kind == Kind.SEND) & (flags & int(Flag.RETRY) == 0)
    arrived = (kind == Kind.RECV) & (pl.col("client") != 0)
    classes = {
        "scheduled": (first, "t2"),
        "sent": (first, "t"),
        "acked": ((kind == Kind.ACK) & (flags & int(Flag.NOT_OPEN) == 0), "t"),
        "delivered": (arrived & (flags & int(Flag.REPLAYED | Flag.FOREIGN) == 0), "t"),
        "replayed": (arrived & (flags & int(Flag.REPLAYED | Flag.FOREIGN) == int(Flag.REPLAYED)), "t"),
    }
    rows = history.scan().filter(pl.col("publisher") != 0)
    counts = pl.collect_all(
        [
            rows.filter(which).select(_second(at, zero)).group_by("second").agg(pl.len().alias(name))
            for name, (which, at) in classes.items()
        ]
    )
    table = counts[0]
    for frame in counts[1:]:
        table = table.join(frame, on="second", how="full", coalesce=True)
    return table


def _second(column: str, zero: int) -> pl.Expr:
    return ((pl.col(column) - zero) // NS).clip(lower_bound=0).cast(pl.Int64).alias("second")


def _labelled(table: pl.DataFrame, history: History, zero: int) -> pl.DataFrame:
    known = phases(history.run)
    named: list[str] = []
    warm: list[bool] = []
    faults: list[str] = []
    windows = [w for w in fault_windows(history.faults) if w.applied_ns is not None]
    for second in table["second"]:
        begin = zero + second * NS
        phase = next((p for p in known if p.start_ns <= begin < p.end_ns), None)
        named.append(phase.name if phase else "")
        warm.append(phase.warmup if phase else False)
        faults.append(
            ",".join(
                w.id for w in windows if (w.applied_ns or 0) < begin + NS and w.until(begin + 2 * NS) > begin
            )
        )
    return table.with_columns(
        phase=pl.Series(named, dtype=pl.String),
        warmup=pl.Series(warm, dtype=pl.Boolean),
        faults=pl.Series(faults, dtype=pl.String),
    )


def _empty() -> pl.DataFrame:
    kinds: dict[str, type[pl.DataType]] = dict.fromkeys(COLUMNS, pl.Int64)
    kinds |= {"phase": pl.String, "warmup": pl.Boolean, "faults": pl.String}
    kinds |= dict.fromkeys(QUANTILES, pl.Float64)
    return pl.DataFrame(schema={name: kinds[name] for name in COLUMNS})
