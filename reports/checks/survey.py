"""A first look over a history: how many records of which kind, and how to part it.

Shards are ranges of channels with about as many records each, or of one large channel ranges of
clients, so that memory is bounded by the shard and not by the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import polars as pl

from reports.history import Flag, Kind

from .facts import CONTROL
from .result import Coverage
from .shards import IN_CHANNELS, MAX_ID, Range, Shard

if TYPE_CHECKING:
    from reports.history import History

PART_ROWS: Final = 1_000_000  # records of a part


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Counts of a history."""

    coverage: Coverage  # what needs no derived facts
    channels: Mapping[int, int]  # records of each channel, by rising id
    unknown_kinds: int


def survey(history: History) -> Survey:
    """Count a history's records, by kind and by channel."""
    kind, load = pl.col("kind"), pl.col("client") != CONTROL
    # One after the other: each reads ahead as far as its own memory allows.
    counted = _collected(history.scan().group_by("kind", "flags", load=load).agg(pl.len()))
    lost = _collected(
        history.scan().filter(kind == int(Kind.LOST_LOG)).select(pl.col("serial").cast(pl.Int64).sum())
    )
    too_high = _collected(
        history.scan()
        .filter(pl.any_horizontal(pl.col("client", "channel", "publisher") > MAX_ID))
        .select(pl.len())
    )
    in_channels = kind.is_in([int(kind) for kind in IN_CHANNELS]) & (pl.col("channel") <= MAX_ID)
    channels = _collected(
        history.scan().filter(in_channels).group_by("channel").agg(pl.len()).sort("channel")
    )
    files = _collected(
        history.scan().group_by("client").agg(several=pl.col("file").min() != pl.col("file").max())
    )
    known = {int(kind) for kind in Kind if kind != Kind.NONE}

    def total(kind: Kind, flag: Flag | None = None, *, of_load: bool = True) -> int:
        rows = counted.filter((pl.col("kind") == int(kind)) & (pl.col("load") | (not of_load)))
        if flag is not None:
            rows = rows.filter((pl.col("flags") & int(flag)) != 0)
        return int(rows["len"].sum())

    coverage = Coverage(
        delivered=total(Kind.RECV),
        replayed=total(Kind.RECV, Flag.REPLAYED),
        subscriptions=total(Kind.SUB),
        resumed=total(Kind.SUB, Flag.RESUMED),
        gaps=total(Kind.GAP),
        duplicate_acks=total(Kind.ACK, Flag.DUPLICATE, of_load=False),
        lost_log=int(lost.item() or 0),
    )
    coverage.unexplain("BAD: an undecodable or illegal frame", total(Kind.BAD, of_load=False))
    coverage.unexplain("client in the logs of several workers", int(files["several"].sum()))
    coverage.unexplain("id of a client, channel or publisher above 2^31", int(too_high.item()))
    unknown = int(counted.filter(~pl.col("kind").is_in(sorted(known)))["len"].sum())
    coverage.unexplain("record of an unknown kind", unknown)
    return Survey(
        coverage=coverage,
        channels=dict(zip(channels["channel"].to_list(), channels["len"].to_list(), strict=True)),
        unknown_kinds=unknown,
    )


def _collected(frame: pl.LazyFrame) -> pl.DataFrame:
    return frame.collect(engine="streaming")


def parted(history: History, channels: Mapping[int, int], part_rows: int = PART_ROWS) -> list[Shard]:
    """Shards of at most ``part_rows`` records, where single clients of a channel have no more.

    Args:
        channels: records of each channel, by rising id.
    """
    ranges = _client_ranges(history, [c for c, count in channels.items() if count > part_rows], part_rows)
    shards: list[Shard] = []
    for channel, count in channels.items():
        before = shards[-1] if shards else None
        if channel in ranges:
            shards.append(Shard(channels=(channel, channel), rows=count, clients=ranges[channel]))
        elif before is None or before.clients or before.rows + count > part_rows:
            shards.append(Shard(channels=(channel, channel), rows=count))
        else:
            shards[-1] = Shard(channels=(before.channels[0], channel), rows=before.rows + count)
    return shards


def _client_ranges(history: History, large: list[int], part_rows: int) -> dict[int, tuple[Range, ...]]:
    """Of large channels ranges of clients with about ``part_rows`` deliveries each, where more than one."""
    if not large:
        return {}
    mine = (pl.col("kind") == int(Kind.RECV)) & pl.col("channel").is_in(large)
    mine &= (pl.col("client") != CONTROL) & (pl.col("client") <= MAX_ID)
    counts = history.scan().filter(mine).group_by("channel", "client").agg(pl.len()).sort("channel", "client")
    ranges: dict[int, list[Range]] = {}
    rows = 0
    for channel, client, count in _collected(counts).iter_rows():
        known = ranges.setdefault(channel, [])
        if known and rows + count <= part_rows:
            known[-1] = known[-1][0], client
            rows += count
        else:
            known.append((client, client))
            rows = count
    return {channel: _closed(known) for channel, known in ranges.items() if len(known) > 1}


def _closed(ranges: list[Range]) -> tuple[Range, ...]:
    """Ranges stretched so that every load client is in one, those without a delivery too."""
    lows = [CONTROL + 1, *(low for low, _ in ranges[1:]), MAX_ID + 1]
    return tuple((low, following - 1) for low, following in pairwise(lows))
