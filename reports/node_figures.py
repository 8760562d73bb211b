"""Figures of several nodes, second by second, and counts of what clients got in place of what they asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from reports.history import CONN_ERRNO, CONN_OK, Kind
from reports.latency import EVERYTHING, Selection, narrowed
from reports.nodes import lifetimes, on, several, stints
from reports.periods import NS, phases, start_ns

if TYPE_CHECKING:
    from reports.history import History


def node_figures(history: History) -> dict[str, pl.DataFrame]:
    """Ratios by metric, each a frame of second i64 and ratio f64; no rows where the run had one node."""
    last_ns = max((phase.end_ns for phase in phases(history.run)), default=0)
    counted = counts(history, until_ns=last_ns)
    return {"nodes.spread": spread(counted), "nodes.running": running(counted, len(history.names.nodes) - 1)}


def counts(history: History, *, until_ns: int) -> pl.DataFrame:
    """Connections of each node at the end of each second: second i64, node u32, connections i64.

    Only nodes that ran at that moment, by faults.jsonl; of those also the ones with nobody on them.
    """
    zero, served, lives = start_ns(history.run), stints(history), lifetimes(history.faults)
    if not several(history):
        lives = {}
    rows: list[dict[str, int]] = []
    for second in range(max(0, (until_ns - zero) // NS)):
        at_ns = zero + (second + 1) * NS
        there = on(served, at_ns)
        for node, spans in lives.items():
            if any(begin <= at_ns and (end is None or at_ns < end) for begin, end in spans):
                rows.append({"second": second, "node": node, "connections": len(there.get(node, ()))})
    return pl.DataFrame(rows, schema={"second": pl.Int64, "node": pl.UInt32, "connections": pl.Int64})


def spread(counted: pl.DataFrame) -> pl.DataFrame:
    """How uneven the nodes were: second i64, ratio f64, of the fullest node to the mean of all that ran.

    Args:
        counted: of ``counts``. Seconds in which nobody was connected are left out.
    """
    return (
        counted.group_by("second")
        .agg(most=pl.col("connections").max(), mean=pl.col("connections").mean())
        .filter(pl.col("mean") > 0)
        .select("second", ratio=pl.col("most") / pl.col("mean"))
        .sort("second")
    )


def running(counted: pl.DataFrame, nodes: int) -> pl.DataFrame:
    """How many of ``nodes`` ran: second i64, ratio f64. ``counted``: of ``counts``."""
    ran = counted.group_by("second").agg(ratio=pl.len() / nodes)
    return ran.sort("second")


def forked_away(history: History) -> int:
    """Messages that were acked at a place beyond the fork at which their channel went on under another epoch:
    the log holds them no more, and the fork says so. Of several answers about one fork the lowest counts."""
    rows = history.scan().filter(pl.col("client") != 0)
    forks = (
        rows.filter((pl.col("kind") == int(Kind.EPOCH)) & (pl.col("publisher") != 0))
        .group_by("channel", epoch="publisher")
        .agg(fork=pl.col("serial").min())
    )
    acks = rows.filter(pl.col("kind") == int(Kind.ACK)).select("channel", "epoch", "serial").unique()
    beyond = acks.join(forks, on=["channel", "epoch"]).filter(pl.col("serial") > pl.col("fork"))
    return int(beyond.select(pl.len()).collect().item())


def record_count(history: History, name: str, selection: Selection = EVERYTHING) -> int:
    """How often something of ``reports.metrics.RECORD_METRICS`` came about. Only ``phase`` is heeded.

    Raises:
        SelectionError: the run has no such phase.
    """
    if name == "forked_away":
        return forked_away(history)
    rows = history.scan().filter(pl.col("client") != 0)
    if name == "forks":
        went_on = (pl.col("kind") == int(Kind.EPOCH)) & (pl.col("publisher") != 0)
        return int(rows.filter(went_on).select(pl.col("channel").n_unique()).collect().item())
    if name == "nacks":  # one without a code is our own: the write was never made
        wanted = (pl.col("kind") == int(Kind.NACK)) & (pl.col("t2") != 0)
    else:
        status = (pl.col("serial") != CONN_OK) & (pl.col("serial") < CONN_ERRNO)
        wanted = (pl.col("kind") == int(Kind.CONN)) & status
    found = narrowed(rows.filter(wanted).select("client", due_ns="t"), history, selection, scheduled=False)
    return int(found.select(pl.len()).collect().item())
