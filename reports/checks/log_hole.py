"""L4 log-hole: the log has no entry at a serial that it must have.

Either the last complete final read of a channel has nothing at a serial from its floor to its head
(an acked message that should be there is L3's; what was trimmed while it was read is declared), or a
subscriber's stream went over a serial that nothing, no ack, delivery or read, ever showed, and no
gap declared it. Such a serial is never the subscriber's loss (D1): nobody knows that it ever held anything.

The second kind rests on all logs: where one is torn, nothing is said. Where echo is off, a publisher's
own stream proves nothing, and a final read lacks client 0's own messages, the sentinels.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .facts import CONTROL
from .part import Part
from .reads import Read
from .result import CAP, Finding, Found, Range
from .rows import Bool, Index, Int, distinct, member
from .telling import finding, place_text

_Hole = tuple[int, int, int]  # stream (part.places), first and last serial


def log_hole(part: Part) -> Found:
    """Counts serials."""
    read = {hole: by for by in _last_reads(part) for hole in _lacking(part, by)}
    passed = {} if part.facts.owners.any_broken else _passed_over(part)
    fresh = _without(passed, read)
    holes = sorted([*read, *fresh], key=lambda hole: (_time(part, hole, read, fresh), hole))
    return Found(
        sum(last - first + 1 for _, first, last in holes),
        tuple(_tell(part, hole, read.get(hole), fresh.get(hole, -1)) for hole in holes[:CAP]),
    )


def _last_reads(part: Part) -> list[Read]:
    if part.facts.owners.control_broken:
        return []
    return [several[-1] for several in part.final_reads.by_channel.values()]


def _lacking(part: Part, read: Read) -> list[_Hole]:
    """Ranges of serials, inside one stream each, of which a read has nothing."""
    there = distinct(read.rows.serial.astype(np.int64))
    there = there[(there >= read.floor) & (there <= read.head)]
    ends = np.concatenate([[read.floor - 1], there, [read.head + 1]])
    found: list[Range] = [
        (int(ends[i]) + 1, int(ends[i + 1]) - 1) for i in np.flatnonzero(np.diff(ends) > 1).tolist()
    ]
    found = _cut(found, read.gaps)
    if found and len(part.fate.lost):
        acks = part.records.acks.where(np.array(part.fate.lost, np.intp))
        mine = sorted({int(s) for s in acks.serial[acks.channel == read.channel]})
        found = _cut(found, [(serial, serial) for serial in mine])
    holes = [
        (stream, first, last)
        for begin, end in found
        for stream, first, last in part.places.streams(read.channel, read.epoch, begin, end)
    ]
    hidden = part.own.get(CONTROL, np.empty(0, np.int64))  # where echo is off, no read of client 0 shows them
    return _apart(holes, hidden) if len(hidden) else holes


def _apart(holes: Iterable[_Hole], places: Int) -> list[_Hole]:
    """Holes without some places."""
    left: list[_Hole] = []
    for stream, first, last in holes:
        lo, hi = np.searchsorted(places, [stream << 32 | first, (stream << 32 | last) + 1])
        serials = [(serial, serial) for serial in (places[lo:hi] & 0xFFFF_FFFF).tolist()]
        left += [(stream, begin, end) for begin, end in _cut([(first, last)], serials)]
    return left


def _cut(ranges: Iterable[Range], away: Iterable[Range]) -> list[Range]:
    """Ranges without what lies in others."""
    left = list(ranges)
    for first, last in away:
        pieces = []
        for begin, end in left:
            if last < begin or first > end:
                pieces.append((begin, end))
                continue
            pieces += [(a, b) for a, b in ((begin, first - 1), (last + 1, end)) if a <= b]
        left = pieces
    return left


def _passed_over(part: Part) -> dict[_Hole, int]:
    """Ranges that nothing showed and some stream went over, with the arrival after each."""
    windows, continuity, echo = part.windows, part.continuity, part.facts.contract.echo
    found: dict[_Hole, int] = {}
    published = distinct(part.records.sends.pair) if not echo else np.empty(0, np.int64)
    for i in np.flatnonzero(_unshown(part)).tolist():
        w = int(_last_windows(part)[i])
        channel, pair = int(windows.channel[w]), int(windows.channel[w]) << 32 | int(windows.client[w])
        if not echo and member(np.array([pair]), published)[0]:
            continue
        segment, first, last = (
            int(c[i]) for c in (continuity.hole_segment, continuity.hole_first, continuity.hole_last)
        )
        known = [*part.ledger.declared(segment), *part.ledger.showed(w, first, last)]
        for begin, end in _cut([(first, last)], known):
            for stream, a, b in part.places.streams(channel, int(windows.epoch[w]), begin, end):
                found.setdefault((stream, a, b), int(continuity.hole_after[i]))
    return found


def _last_windows(part: Part) -> Index:
    """Of the segment of each hole: its epoch is the newest, and has all that the others had."""
    return np.searchsorted(part.windows.segment, part.continuity.hole_segment, side="right") - 1


def _unshown(part: Part) -> Bool:
    """Holes of segments that cannot be all shown: all are looked at once, few are left."""
    windows, continuity = part.windows, part.continuity
    if not len(continuity.hole_segment):
        return np.zeros(0, np.bool_)
    w = _last_windows(part)
    first = part.places.of(windows.channel[w], windows.epoch[w], continuity.hole_first)
    last = part.places.of(windows.channel[w], windows.epoch[w], continuity.hole_last)
    shown = np.searchsorted(part.shown, last, side="right") - np.searchsorted(part.shown, first)
    simple = (first >= 0) & (first >> 32 == last >> 32)
    return np.asarray(~simple | (shown < continuity.hole_last - continuity.hole_first + 1))


def _without(passed: dict[_Hole, int], read: Iterable[_Hole]) -> dict[_Hole, int]:
    """Ranges that streams went over, each serial once, without those that a read lacks."""
    taken: dict[int, list[Range]] = {}
    for stream, first, last in read:
        taken.setdefault(stream, []).append((first, last))
    fresh: dict[_Hole, int] = {}
    for (stream, first, last), after in sorted(passed.items()):
        for begin, end in _cut([(first, last)], taken.get(stream, [])):
            fresh[stream, begin, end] = after
            taken.setdefault(stream, []).append((begin, end))
    return fresh


def _time(part: Part, hole: _Hole, read: dict[_Hole, Read], fresh: dict[_Hole, int]) -> int:
    return read[hole].asked_t if hole in read else int(part.records.arrivals.t[fresh[hole]])


def _tell(part: Part, hole: _Hole, read: Read | None, after: int) -> Finding:
    stream, first, last = hole
    channel, epoch = part.places.stream(stream << 32)
    facts, arrivals = part.facts, part.records.arrivals
    where = place_text(part, channel, epoch, [(first, last)])
    clients: list[int] = []
    if read is not None:
        t, records = read.asked_t, [read.record]
        why = f"the final read at {facts.at(t)} of {read.floor} to {read.head} has no entry there"
    else:
        t, records, clients = (
            int(arrivals.t[after]),
            [arrivals.reference(after)],
            [int(arrivals.client[after])],
        )
        why = (
            f"{facts.names.client(clients[0])} received {int(arrivals.serial[after])} at {facts.at(t)}, "
            "and nothing ever showed what should stand before it"
        )
    return finding(
        part,
        "L4",
        f"{where} is empty: {why}",
        channel=channel,
        epoch=epoch,
        ranges=[(first, last)],
        first_t=t,
        last_t=t,
        records=records,
        clients=clients,
    )
