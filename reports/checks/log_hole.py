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
from .passed import Hole, Over, Passed, cut
from .reads import Read
from .result import CAP, Finding, Found, Range
from .rows import Int, distinct
from .telling import finding, place_text


def log_hole(part: Part) -> Found:
    """Counts serials."""
    read = {hole: by for by in _last_reads(part) for hole in _lacking(part, by)}
    passed = {} if part.facts.owners.any_broken else part.passed
    fresh = _without(passed, read)
    holes = sorted([*read, *fresh], key=lambda hole: (_time(hole, read, fresh), hole))
    times = [_time(hole, read, fresh) for hole in holes]
    serials = np.array([last - first + 1 for _, first, last in holes], np.int64)
    return Found(
        int(serials.sum()),
        tuple(_tell(part, hole, read[hole] if hole in read else fresh[hole]) for hole in holes[:CAP]),
        spread=part.facts.spread(times, times, weight=serials),
    )


def _last_reads(part: Part) -> list[Read]:
    if part.facts.owners.control_broken:
        return []
    return [several[-1] for several in part.final_reads.by_channel.values()]


def _lacking(part: Part, read: Read) -> list[Hole]:
    """Ranges of serials, inside one stream each, of which a read has nothing."""
    there = distinct(read.rows.serial.astype(np.int64))
    there = there[(there >= read.floor) & (there <= read.head)]
    ends = np.concatenate([[read.floor - 1], there, [read.head + 1]])
    found: list[Range] = [
        (int(ends[i]) + 1, int(ends[i + 1]) - 1) for i in np.flatnonzero(np.diff(ends) > 1).tolist()
    ]
    found = cut(found, read.gaps)
    holes = [
        (stream, first, last)
        for begin, end in found
        for stream, first, last in part.places.streams(read.channel, read.epoch, begin, end)
    ]
    lost = part.ack_place[np.array(part.fate.lost, np.intp)]
    hidden = part.own.get(CONTROL, np.empty(0, np.int64))  # where echo is off, no read of client 0 shows them
    return _apart(holes, distinct(np.concatenate([lost, hidden])))


def _apart(holes: Iterable[Hole], places: Int) -> list[Hole]:
    """Holes without some places."""
    left: list[Hole] = []
    for stream, first, last in holes:
        lo, hi = np.searchsorted(places, [stream << 32 | first, (stream << 32 | last) + 1])
        serials = [(serial, serial) for serial in (places[lo:hi] & 0xFFFF_FFFF).tolist()]
        left += [(stream, begin, end) for begin, end in cut([(first, last)], serials)]
    return left


def _without(passed: Passed, read: Iterable[Hole]) -> Passed:
    """Ranges that streams went over, each serial once, without those that a read lacks."""
    taken: dict[int, list[Range]] = {}
    for stream, first, last in read:
        taken.setdefault(stream, []).append((first, last))
    fresh: Passed = {}
    for (stream, first, last), over in sorted(passed.items()):
        known = taken.setdefault(stream, [])
        for begin, end in cut([(first, last)], known):
            fresh[stream, begin, end] = over
            known.append((begin, end))
    return fresh


def _time(hole: Hole, read: dict[Hole, Read], fresh: Passed) -> int:
    return read[hole].asked_t if hole in read else fresh[hole].t


def _tell(part: Part, hole: Hole, by: Read | Over) -> Finding:
    stream, first, last = hole
    channel, epoch = part.places.stream(stream << 32)
    facts = part.facts
    where = place_text(part, channel, epoch, [(first, last)])
    clients: list[int] = []
    if isinstance(by, Read):
        t, records = by.asked_t, [by.record]
        why = f"the final read at {facts.at(t)} of {by.floor} to {by.head} has no entry there"
    else:
        t, records, clients = by.t, [by.record], [by.client]
        why = (
            f"{facts.names.client(by.client)} received {by.serial} at {facts.at(t)}, "
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
