"""Catching up: clients that went offline on purpose and came back; how soon they had all, who paid for it.

A *catch-up* is one subscription of such a client: from its request, in the connection that follows a
CLOSE on purpose, to the LIVE that ends its replay. Closes of the drain and after it are the run's own doing
and no absence. Client 0 is left out.

What it costs the others is measured on an affected and a control group at the same time in the same run.
An *episode* is a stretch in which somebody is catching up at every moment. Of the messages that were in
flight in it, those to clients that share a channel with who catches up are the affected group, those to
clients that share none the control group, and those to who catches up belong to neither. What slows down all
channels alike, these groups cannot show; ``delivery`` in the phase of the return does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from reports.histogram import Histogram
from reports.history import Flag, Kind, Mark
from reports.latency import bucket, samples
from reports.periods import NS

if TYPE_CHECKING:
    from reports.history import History

MIN_SAMPLES: Final = 100  # of each group: a p(99) of fewer is their maximum


@dataclass(frozen=True, slots=True)
class Return:
    """One client's return: all of its catch-ups in one connection."""

    client: int
    asked_ns: int  # the first request to subscribe
    caught_up_ns: int | None  # the last LIVE; None: the connection ended before
    replayed: int  # deliveries

    @property
    def took_ns(self) -> int | None:
        return None if self.caught_up_ns is None else self.caught_up_ns - self.asked_ns

    @property
    def replayed_per_s(self) -> float | None:
        """None: nothing was replayed, or not to its end."""
        return self.replayed * NS / self.took_ns if self.replayed and self.took_ns else None


@dataclass(frozen=True, slots=True)
class Groups:
    """Live deliveries of messages in flight while somebody was catching up."""

    affected: Histogram
    control: Histogram


def catch_ups(history: History, closes: pl.DataFrame) -> pl.DataFrame:
    """Every catch-up: client, channel u32; left_ns, asked_ns i64; live_ns i64, null: none; replayed u32.

    Args:
        closes: of ``sessions.closes``.
    """
    load = history.scan().filter(pl.col("client") != 0)
    drain = history.scan().filter((pl.col("kind") == Kind.MARK) & (pl.col("serial") == Mark.DRAIN))
    drain_ns = drain.select(pl.col("t").min()).collect().item()
    ends = closes.select("client", "on_purpose", t="t", left_ns="t").sort("t").lazy()

    def after_absence(rows: pl.LazyFrame) -> pl.LazyFrame:
        joined = rows.sort("t").join_asof(ends, on="t", by="client", check_sortedness=False)
        away = joined.filter(pl.col("on_purpose"))
        return away if drain_ns is None else away.filter(pl.col("left_ns") < drain_ns)

    key = ["client", "channel", "left_ns"]
    replayed = (pl.col("kind") == Kind.RECV) & (pl.col("flags") & int(Flag.REPLAYED) != 0)
    subs, lives, got = (
        after_absence(load.filter(which)).group_by(key)
        for which in (pl.col("kind") == Kind.SUB, pl.col("kind") == Kind.LIVE, replayed)
    )
    return (
        subs.agg(asked_ns=pl.col("t2").min())
        .join(lives.agg(live_ns=pl.col("t").max()), on=key, how="left")
        .join(got.agg(replayed=pl.len()), on=key, how="left")
        .with_columns(pl.col("replayed").fill_null(0))
        .sort("asked_ns", "client", "channel")
        .collect()
    )


def returns(found: pl.DataFrame) -> list[Return]:
    """The catch-ups of each client and return, put together.

    Args:
        found: of ``catch_ups``.
    """
    table = (
        found.group_by("client", "left_ns")
        .agg(
            asked_ns=pl.col("asked_ns").min(),
            live_ns=pl.when(pl.col("live_ns").null_count() == 0).then(pl.col("live_ns").max()),
            replayed=pl.col("replayed").sum(),
        )
        .sort("asked_ns", "client")
    )
    return [Return(*row) for row in table.select("client", "asked_ns", "live_ns", "replayed").iter_rows()]


def groups(history: History, found: pl.DataFrame) -> Groups:
    """Delivery latency of the others during catch-ups that brought something.

    Args:
        found: of ``catch_ups``.
    """
    busy = _episodes(found)
    spans = (
        busy.group_by("episode").agg(begin=pl.col("asked_ns").min(), end=pl.col("live_ns").max()).sort("end")
    )
    members = (
        history.scan()
        .filter((pl.col("kind") == Kind.SUB) & (pl.col("client") != 0))
        .select("client", "channel")
        .unique()
        .collect()
    )
    key = ["episode", "client"]
    sharing = busy.select("episode", "channel").unique().join(members, on="channel").select(key).unique()
    grouped = (
        spans.select("episode")
        .join(members.select("client").unique(), how="cross")
        .join(busy.select(key).unique(), on=key, how="anti")
        .join(sharing.with_columns(affected=pl.lit(True)), on=key, how="left")
    )
    counted = (
        samples(history, "delivery")
        .filter(pl.col("due_ns") <= spans["end"].max(), pl.col("end_ns") >= spans["begin"].min())
        .sort("due_ns")
        .join_asof(spans.lazy(), left_on="due_ns", right_on="end", strategy="forward")
        .filter(pl.col("end_ns") >= pl.col("begin"))
        .join(grouped.lazy(), on=key)
        .group_by(bucket(), affected=pl.col("affected").fill_null(False))
        .len()
        .collect()
    )

    def histogram(affected: bool) -> Histogram:
        mine = counted.filter(pl.col("affected") == affected)
        return Histogram.of_buckets(mine["bucket"].to_numpy(), mine["len"].to_numpy())

    return Groups(affected=histogram(True), control=histogram(False))


def _episodes(found: pl.DataFrame) -> pl.DataFrame:
    """Catch-ups that brought something, with ``episode``: the same number for those that overlap."""
    until = pl.col("live_ns").cum_max().shift(1)
    return (
        found.filter((pl.col("replayed") > 0) & pl.col("live_ns").is_not_null())
        .sort("asked_ns")
        .with_columns(episode=(pl.col("asked_ns") > until).fill_null(True).cum_sum())
    )
