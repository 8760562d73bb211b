"""Final reads: client 0 reads each channel from its oldest message to its head, twice.

A read is a SUB(`first`), READ records, and the LIVE that gives head and floor. Without its
LIVE a read is incomplete and proves nothing. It covers the serials from floor to head.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from reports.history import Flag

from .lineage import Lineage
from .result import Range
from .rows import Bool, Int, Rows, distinct, next_after, pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One complete final read of one channel."""

    channel: int
    epoch: int
    floor: int
    head: int
    asked_t: int  # a message acked later need not be in it
    t: int  # when it was complete
    rows: Rows  # READ records, in order
    record: tuple[int, int]  # its LIVE
    gaps: tuple[Range, ...] = ()  # trimmed while it was read

    def intact(self) -> Rows:
        return self.rows.where(~self._strange())

    def strange_serials(self) -> Int:
        """Serials whose entry cannot be read: they are there, whose they are is not known."""
        return distinct(self.rows.serial[self._strange()])

    def _strange(self) -> Bool:
        return self.rows.flag(Flag.BAD_DIGEST) | self.rows.flag(Flag.FOREIGN)

    def within(self, floor: int, head: int, *, less: Iterable[Range] = ()) -> Int:
        """What it says of a range, less some ranges: serial, publisher, pub_seq of each entry, sorted."""
        inside = (self.rows.serial >= floor) & (self.rows.serial <= head)
        for first, last in less:
            inside &= (self.rows.serial < first) | (self.rows.serial > last)
        rows = self.rows.where(inside)
        order = np.lexsort((rows.pub_seq, rows.publisher, rows.serial))
        return np.stack([rows.serial, rows.publisher, rows.pub_seq])[:, order]

    def covers(self, lineage: Lineage, epoch: Int, serial: Int) -> Bool:
        """Which places of its channel, given in their canonical epochs, it would show."""
        mine = lineage.epochs(np.full(len(serial), self.channel), np.full(len(serial), self.epoch), serial)
        inside = (mine == epoch) & (serial >= self.floor) & (serial <= self.head)
        for first, last in self.gaps:
            inside &= (serial < first) | (serial > last)
        return np.asarray(inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalReads:
    """All complete reads by channel, in order."""

    by_channel: dict[int, list[Read]]
    outside: int  # READ records of no complete read

    def of(self, channel: int) -> list[Read]:
        return self.by_channel.get(channel, [])

    def complete(self) -> int:
        return sum(len(reads) for reads in self.by_channel.values())

    def disagreeing(self) -> list[int]:
        """Channels of which two reads of one epoch show different entries where both look."""
        channels = []
        for channel, reads in self.by_channel.items():
            for one, other in pairwise(reads):
                floor, head = max(one.floor, other.floor), min(one.head, other.head)
                trimmed = (*one.gaps, *other.gaps)  # meanwhile: the earlier read may still have had it
                mine, others = (read.within(floor, head, less=trimmed) for read in (one, other))
                same = np.array_equal(mine, others)
                if one.epoch == other.epoch and not same:
                    channels.append(channel)
                    break
        return channels


def final_reads(subs: Rows, lives: Rows, reads: Rows, gaps: Rows) -> FinalReads:
    """Put client 0's records together. All of client 0, in any order."""
    subs, lives, reads, gaps = (
        rows.where(np.argsort(pack(rows.channel, rows.row), kind="stable"))
        for rows in (subs, lives, reads, gaps)
    )
    sub_key, live_key, read_key, gap_key = (
        pack(rows.channel, rows.row) for rows in (subs, lives, reads, gaps)
    )
    live_at = next_after(sub_key, live_key)
    bounds = np.append(sub_key[1:], np.iinfo(np.int64).max)[: len(sub_key)]
    by_channel: dict[int, list[Read]] = {}
    inside = 0
    for i, (begin, bound) in enumerate(zip(sub_key.tolist(), bounds.tolist(), strict=True)):
        at, channel = int(live_at[i]), int(subs.channel[i])
        if at == len(lives) or live_key[at] >= bound or int(lives.channel[at]) != channel:
            continue
        lo, hi = np.searchsorted(read_key, [begin, live_key[at]])
        inside += int(hi - lo)
        holes = gaps.where(slice(*np.searchsorted(gap_key, [begin, live_key[at]])))
        asked_t = int(subs.t2[i])
        by_channel.setdefault(channel, []).append(
            Read(
                channel=channel,
                epoch=int(lives.epoch[at]) or int(subs.epoch[i]),
                floor=max(int(lives.pub_seq[at]), int(subs.serial[i]) + 1),
                head=int(lives.serial[at]),
                asked_t=asked_t or int(subs.t[i]),
                t=int(lives.t[at]),
                rows=reads.where(np.arange(lo, hi)),
                record=lives.reference(at),
                gaps=tuple(zip(holes.pub_seq.tolist(), holes.serial.tolist(), strict=True)),
            )
        )
    return FinalReads(by_channel=by_channel, outside=len(reads) - inside)
