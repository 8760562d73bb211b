"""A first look over a history: how many records of which kind, and how to part it.

Parts are ranges of channels with about as many records each, so that memory is bounded by the
part and not by the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from reports.history import Flag, Kind

from .facts import CONTROL
from .part import MAX_ID
from .result import Coverage

if TYPE_CHECKING:
    from reports.history import History

PART_ROWS: Final = 2_000_000  # records of a part, where channels allow it
_IN_CHANNELS: Final = (
    *(Kind.SUB, Kind.LIVE, Kind.UNSUB, Kind.SEND, Kind.ACK),
    *(Kind.NACK, Kind.RECV, Kind.GAP, Kind.EPOCH, Kind.READ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Counts of a history."""

    coverage: Coverage  # what needs no derived facts
    channels: Mapping[int, int]  # records of each channel, by rising id
    unknown_kinds: int

    def parts(self, part_rows: int = PART_ROWS) -> list[tuple[int, int]]:
        """Ranges of channel ids, both inclusive. A channel is never split."""
        parts: list[tuple[int, int]] = []
        rows = 0
        for channel, count in self.channels.items():
            if parts and rows + count <= part_rows:
                parts[-1] = parts[-1][0], channel
                rows += count
            else:
                parts.append((channel, channel))
                rows = count
        return parts


def survey(history: History) -> Survey:
    """Count a history's records, by kind and by channel."""
    load, flag = pl.col("client") != CONTROL, pl.col("flags")
    too_high = pl.max_horizontal("client", "channel", "publisher") > MAX_ID
    in_channels = pl.col("kind").is_in([int(kind) for kind in _IN_CHANNELS])
    kinds, channels, files = pl.collect_all(
        [
            history.scan()
            .group_by("kind", load=load)
            .agg(
                pl.len(),
                marked=((flag & int(Flag.REPLAYED)) != 0).sum(),
                resumed=((flag & int(Flag.RESUMED)) != 0).sum(),
                duplicate=((flag & int(Flag.DUPLICATE)) != 0).sum(),
                lost=pl.col("serial").cast(pl.Int64).sum(),
                too_high=too_high.sum(),
            ),
            history.scan()
            .filter(in_channels & (pl.col("channel") <= MAX_ID))
            .group_by("channel")
            .agg(pl.len())
            .sort("channel"),
            history.scan().select("client", "file").unique().group_by("client").agg(pl.len()),
        ]
    )
    known = {int(kind) for kind in Kind if kind != Kind.NONE}

    def total(kind: Kind, column: str = "len", *, of_load: bool = True) -> int:
        rows = kinds.filter((pl.col("kind") == int(kind)) & (pl.col("load") | (not of_load)))
        return int(rows[column].sum())

    coverage = Coverage(
        delivered=total(Kind.RECV),
        replayed=total(Kind.RECV, "marked"),
        subscriptions=total(Kind.SUB),
        resumed=total(Kind.SUB, "resumed"),
        gaps=total(Kind.GAP),
        duplicate_acks=total(Kind.ACK, "duplicate", of_load=False),
        lost_log=total(Kind.LOST_LOG, "lost", of_load=False),
    )
    coverage.unexplain("BAD: an undecodable or illegal frame", total(Kind.BAD, of_load=False))
    coverage.unexplain("client in the logs of several workers", int((files["len"] > 1).sum()))
    coverage.unexplain("id of a client, channel or publisher above 2^31", int(kinds["too_high"].sum()))
    unknown = int(kinds.filter(~pl.col("kind").is_in(sorted(known)))["len"].sum())
    coverage.unexplain("record of an unknown kind", unknown)
    return Survey(
        coverage=coverage,
        channels=dict(zip(channels["channel"].to_list(), channels["len"].to_list(), strict=True)),
        unknown_kinds=unknown,
    )
