"""Connections and subscriptions over time: who was connected, and who was subscribed and live.

A *stay* is one live subscription: from the LIVE record that ended its replay to the first
of UNSUB, CLOSE and the next LIVE of the same client and channel. Client 0 is left out: it is not load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from reports.history import CONN_OK, Flag, Kind

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


def _rows(history: History, kind: Kind) -> pl.LazyFrame:
    return history.scan().filter((pl.col("kind") == kind) & (pl.col("client") != 0))
