"""What arrived, measured against what is owed once and in order: repeats, late arrivals, holes.

Per segment, over the serials of its arrivals in the order of rows. Serials at or before the
segment's start take no part; nor do arrivals with a wrong digest or of another run, which only
*witness* their serial: it is then no hole, and an intact copy of it is no late arrival.
Where echo is off, one's own messages take no part.

A segment whose serials only rise, the rule, is done by differences; only the others are sorted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports.history import Flag

from .rows import Bool, Index, Int, Rows, distinct, member, pack
from .windows import Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuity:
    """Positions are of arrivals."""

    repeat: Index  # arrivals whose serial had been delivered in the segment
    original: Index  # for each the first delivery of that serial
    late: Index  # first deliveries that come after a higher serial
    overtaker: Index  # for each the delivery with the highest serial before it
    hole_segment: Int  # serials in (start, last received] that never arrived, as ranges
    hole_first: Int
    hole_last: Int
    hole_before: Index  # the arrival next below each hole; -1: it begins at the segment's start
    hole_after: Index  # the arrival next above
    witnessed: Int  # sorted (segment, serial) of arrivals that only witness
    before_start: Index  # arrivals at or before their segment's start: D9's


@dataclass(frozen=True, slots=True)
class _Track:
    """Arrivals that count, by segment and row."""

    at: Index  # position among all arrivals
    segment: Int
    serial: Int
    start: Int  # of its segment

    def where(self, which: Bool) -> _Track:
        return _Track(self.at[which], self.segment[which], self.serial[which], self.start[which])


def strange(arrivals: Rows) -> Bool:
    """Arrivals that witness a serial and no identity."""
    return arrivals.flag(Flag.BAD_DIGEST) | arrivals.flag(Flag.FOREIGN)


def measure(arrivals: Rows, windows: Windows, *, echo: bool) -> Continuity:
    """Repeats, late arrivals and holes of every segment."""
    starts = windows.start[np.flatnonzero(~windows.chained)] if len(windows) else np.zeros(0, np.int64)
    odd = strange(arrivals)
    counted = np.flatnonzero(windows.sequel & ~odd & (echo | (arrivals.client != arrivals.publisher)))
    segment = windows.segment[windows.window[counted]]
    serial = arrivals.serial[counted].astype(np.int64)
    track = _Track(counted, segment, serial, starts[segment])
    after_start = track.serial > track.start
    early = counted[~after_start]
    if len(early):
        track = track.where(after_start)
    begins = _begins(track.segment)
    previous = np.where(begins, track.start, np.roll(track.serial, 1))
    step = track.serial - previous
    disorderly = member(track.segment, distinct(track.segment[step <= 0]))
    jumps = np.flatnonzero((step > 1) & ~disorderly)
    slow = _sort_out(track.where(disorderly))
    seen = np.flatnonzero(windows.sequel & odd)
    witnessed = distinct(pack(windows.segment[windows.window[seen]], arrivals.serial[seen]))
    late = ~member(pack(windows.segment[windows.window[slow.late]], arrivals.serial[slow.late]), witnessed)
    return Continuity(
        repeat=slow.repeat,
        original=slow.original,
        late=slow.late[late],
        overtaker=slow.overtaker[late],
        hole_segment=np.concatenate([track.segment[jumps], slow.hole_segment]),
        hole_first=np.concatenate([previous[jumps] + 1, slow.hole_first]),
        hole_last=np.concatenate([track.serial[jumps] - 1, slow.hole_last]),
        hole_before=np.concatenate([_before(track.at, begins, jumps), slow.hole_before]),
        hole_after=np.concatenate([track.at[jumps], slow.hole_after]),
        witnessed=witnessed,
        before_start=early,
    )


def _begins(key: Int) -> Bool:
    begins = np.ones(len(key), np.bool_)
    begins[1:] = key[1:] != key[:-1]
    return begins


def _before(at: Index, begins: Bool, which: Index) -> Index:
    """The arrival before each of some in its segment; -1 for the first."""
    return np.where(begins[which], -1, at[np.maximum(which - 1, 0)])


def _sort_out(track: _Track) -> Continuity:
    """The segments whose serials do not only rise."""
    order = np.argsort(pack(track.segment, track.serial), kind="stable")
    segment, serial = track.segment[order], track.serial[order]
    is_first = _begins(pack(segment, serial))
    first_at = order[np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))]
    repeats = np.flatnonzero(~is_first)
    by_row = repeats[np.argsort(order[repeats])]
    at, start = track.at[order[is_first]], track.start[order[is_first]]
    segment, serial = segment[is_first], serial[is_first]
    begins = _begins(segment)
    previous = np.where(begins, start, np.roll(serial, 1))
    jumps = np.flatnonzero(serial - previous > 1)
    firsts = np.sort(order[is_first])
    late, overtaker = _overtaken(track.segment[firsts], track.serial[firsts])
    return Continuity(
        repeat=track.at[order[by_row]],
        original=track.at[first_at[by_row]],
        late=track.at[firsts[late]],
        overtaker=track.at[firsts[overtaker]],
        hole_segment=segment[jumps],
        hole_first=previous[jumps] + 1,
        hole_last=serial[jumps] - 1,
        hole_before=_before(at, begins, jumps),
        hole_after=at[jumps],
        witnessed=np.empty(0, np.int64),
        before_start=np.empty(0, np.intp),
    )


def _overtaken(segment: Int, serial: Int) -> tuple[Index, Index]:
    """Positions below the highest serial before them in their segment, and the position of that one."""
    if not len(serial):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    ranked = pack(np.cumsum(_begins(segment)), serial)  # rises from segment to segment
    highest = np.maximum.accumulate(ranked)
    holder = np.maximum.accumulate(np.where(ranked == highest, np.arange(len(ranked)), 0))
    late = np.flatnonzero(ranked < highest)
    return late, holder[late]
