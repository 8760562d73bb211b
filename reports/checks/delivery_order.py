"""D5 duplicate-delivery and D6 delivery-reorder: what arrived again, and what arrived late.

Within one segment, in the order of one client's log. A serial that had been delivered is
delivered again: D5 (live, overlapping a resume, or replayed and live). A serial that arrives for
the first time after a higher one: D6; it is then no longer missing, so reorder and gap never
count the same serial. Damaged and foreign arrivals only witness their serial: an intact copy of
it is neither.

Both are positive evidence, so a torn log accuses as well.
"""

from __future__ import annotations

from reports.history import Flag

from .part import Part
from .result import Finding, Found
from .telling import earliest_of, finding, place_text


def duplicate_delivery(part: Part) -> Found:
    """Counts deliveries beyond the first of a serial to one subscriber in one segment."""
    continuity, arrivals = part.continuity, part.records.arrivals
    again = arrivals.where(continuity.repeat)
    told = earliest_of(arrivals.t[continuity.original], again).tolist()
    return Found(
        len(continuity.repeat),
        tuple(_tell_repeat(part, int(continuity.repeat[i]), int(continuity.original[i])) for i in told),
        spread=part.facts.spread(arrivals.t[continuity.original], again.t),
    )


def delivery_reorder(part: Part) -> Found:
    """Counts first deliveries of a serial that come after a higher one."""
    continuity, arrivals = part.continuity, part.records.arrivals
    late = arrivals.where(continuity.late)
    told = earliest_of(arrivals.t[continuity.overtaker], late).tolist()
    return Found(
        len(continuity.late),
        tuple(_tell_late(part, int(continuity.late[i]), int(continuity.overtaker[i])) for i in told),
        spread=part.facts.spread(arrivals.t[continuity.overtaker], late.t),
    )


def _tell_repeat(part: Part, at: int, first: int) -> Finding:
    arrivals, facts, windows = part.records.arrivals, part.facts, part.windows
    serial = int(arrivals.serial[at])
    same_window = windows.window[at] == windows.window[first]
    replayed = bool(arrivals.flags[at] & Flag.REPLAYED)
    how = "replayed" if replayed else "live"
    if not same_window:
        how += " after a resume"
    return _tell(
        part,
        "D5",
        at,
        first,
        f"at {facts.at(int(arrivals.t[first]))} and again, {how}, at {facts.at(int(arrivals.t[at]))}",
        serial,
    )


def _tell_late(part: Part, at: int, overtaker: int) -> Finding:
    arrivals, facts = part.records.arrivals, part.facts
    return _tell(
        part,
        "D6",
        at,
        overtaker,
        f"at {facts.at(int(arrivals.t[at]))}, after {int(arrivals.serial[overtaker])} "
        f"at {facts.at(int(arrivals.t[overtaker]))}",
        int(arrivals.serial[at]),
    )


def _tell(part: Part, cls: str, at: int, other: int, how: str, serial: int) -> Finding:
    arrivals, names = part.records.arrivals, part.facts.names
    channel, client, epoch = (int(c[at]) for c in (arrivals.channel, arrivals.client, arrivals.epoch))
    message = int(arrivals.message[at])
    ranges = ((serial, serial),)
    return finding(
        part,
        cls,
        f"{names.client(client)} received {place_text(part, channel, epoch, ranges)} "
        f"({part.facts.message(message)}) {how}",
        channel=channel,
        epoch=epoch,
        ranges=ranges,
        first_t=int(arrivals.t[other]),
        last_t=int(arrivals.t[at]),
        records=[arrivals.reference(at), arrivals.reference(other)],
        clients=[client],
        message=message,
    )
