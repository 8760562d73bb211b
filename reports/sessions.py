"""Connections and subscriptions over time: who was connected, and who was subscribed and live.

A *stay* is one live subscription: from the LIVE record that ended its replay to the first
of UNSUB, CLOSE and the next LIVE of the same client and channel. Client 0 is left out: it is not load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from reports.history import CONN_OK, Flag, Kind
from reports.periods import NS, start_ns

if TYPE_CHECKING:
    from reports.history import History


def closes(history: History) -> pl.DataFrame:
    """Every CLOSE: client u32, t i64, code u32, on_purpose bool; by time."""
    return (
        _rows(history, Kind.CLOSE)
        .select(
            "client",
            "t",
            code=pl.col("serial"),
            on_purpose=pl.col("flags") & int(Flag.ON_PURPOSE) != 0,
        )
        .sort("t", "client")
        .collect()
    )


def connects(history: History) -> pl.DataFrame:
    """Every attempt to connect: client u32, t i64 (answer or failure), result u32, ok bool; by time."""
    return (
        _rows(history, Kind.CONN)
        .select("client", "t", result=pl.col("serial"), ok=pl.col("serial") == CONN_OK)
        .sort("t", "client")
        .collect()
    )


def stays(history: History) -> pl.DataFrame:
    """Live subscriptions: client, channel u32; live_ns i64; end_ns i64, null while none ended it.

    Sorted by live_ns, client, channel.
    """
    live = (
        _rows(history, Kind.LIVE)
        .select("client", "channel", live_ns="t")
        .sort("live_ns", "client", "channel")
    ).collect()
    ends = {
        "closed": (_rows(history, Kind.CLOSE).select("client", closed="t"), ["client"]),
        "left": (_rows(history, Kind.UNSUB).select("client", "channel", left="t"), ["client", "channel"]),
        "again": (
            live.lazy().select("client", "channel", again="live_ns"),
            ["client", "channel"],
        ),
    }
    for name, (frame, by) in ends.items():
        live = live.join_asof(
            frame.sort(name).collect(),
            left_on="live_ns",
            right_on=name,
            by=by,
            strategy="forward",
            allow_exact_matches=name != "again",  # a LIVE does not end itself
            check_sortedness=False,  # both sides are sorted above; polars cannot see it within groups
        )
    return live.select("client", "channel", "live_ns", end_ns=pl.min_horizontal("closed", "left", "again"))


def presence(history: History, stays: pl.DataFrame) -> pl.DataFrame:
    """How many were there, at each change: what ("connected" or "live") str, at_s f64, count i64.

    ``connected``: clients with a connection. ``live``: live subscriptions. By what, then time.

    Args:
        stays: of ``stays``.
    """
    zero = start_ns(history.run)
    ok = (pl.col("kind") == Kind.CONN) & (pl.col("serial") == CONN_OK)
    ends = history.scan().filter((ok | (pl.col("kind") == Kind.CLOSE)) & (pl.col("client") != 0))
    connections = ends.select("t", by=pl.when(ok).then(1).otherwise(-1)).collect()
    steps = {
        "connected": connections,
        "live": pl.concat(
            [
                stays.select(t="live_ns", by=pl.lit(1)),
                stays.drop_nulls("end_ns").select(t="end_ns", by=pl.lit(-1)),
            ]
        ),
    }
    counted = [
        frame.group_by("t")
        .agg(pl.col("by").cast(pl.Int64).sum())
        .sort("t")
        .select(
            what=pl.lit(what),
            at_s=(pl.col("t") - zero) / NS,
            # Below 0 only where a log has lost its beginning.
            count=pl.col("by").cum_sum().clip(lower_bound=0),
        )
        for what, frame in steps.items()
    ]
    return pl.concat(counted)


def _rows(history: History, kind: Kind) -> pl.LazyFrame:
    return history.scan().filter((pl.col("kind") == kind) & (pl.col("client") != 0))
