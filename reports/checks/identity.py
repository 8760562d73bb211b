"""L5 phantom, L6 misrouted, L7 corrupt: what arrived is not what was sent to that channel.

The identity and the digest of a message travel inside its body, put there by its publisher.

- L7: the digest is wrong, or no identity can be read although the place is known to hold a message
  of this run. Such a record feeds no other check: it witnesses its serial, not an identity.
- L5: intact, and never sent in this run: of another run, or not by its publisher. A publisher whose
  log is torn may have sent it, so its messages are not accused.
- L6: intact and sent, but to another channel.

Deliveries and final reads count; each entry of the log counts once, however many saw it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reports.history import Flag

from .continuity import strange
from .duplicate_commit import witness
from .part import Part
from .result import CAP, Finding, Found
from .rows import Bool, Int, Rows, distinct, joined, member
from .telling import earliest_of, finding, place_text


def corrupt(part: Part) -> Found:
    """Counts places that a damaged message arrived from."""
    rows, place = _strange(part)
    damaged = _damaged(part, rows, place)
    return _told(part, "L7", rows.where(damaged), place[damaged], (place[damaged],), "damaged")


def phantom(part: Part) -> Found:
    """Counts (place, message) pairs."""
    rows, place = _strange(part)
    foreign = ~_damaged(part, rows, place)
    rows, place = rows.where(foreign), place[foreign]
    alien = _told(part, "L5", rows, place, (place, rows.message), "of no publisher of this run")
    entries, owners = part.entries, part.facts.owners
    never_sent = ~part.entry_known & ~owners.broken(np.asarray(entries.message) >> 32)
    return alien + _entries_told(part, "L5", never_sent)


def misrouted(part: Part) -> Found:
    """Counts (place, message) pairs."""
    return _entries_told(part, "L6", (part.sent_to != 0) & ~part.at_home)


def _strange(part: Part) -> tuple[Rows, Int]:
    """Damaged and foreign records, deliveries and reads, with their places."""
    odd, odd_read = np.flatnonzero(part.strange), np.flatnonzero(strange(part.records.reads))
    rows = joined(part.records.arrivals.where(odd), part.records.reads.where(odd_read))
    return rows, np.concatenate([part.arrival_place[odd], part.read_place[odd_read]])


def _damaged(part: Part, rows: Rows, place: Int) -> Bool:
    ours = part.entries.place[part.entry_known]
    known = distinct(np.concatenate([ours, part.ack_place]))
    unreadable = (rows.message == 0) & member(place, known)
    return np.asarray(rows.flag(Flag.BAD_DIGEST) | unreadable)


def _told(part: Part, cls: str, rows: Rows, place: Int, by: Sequence[Int], what: str) -> Found:
    """One finding for each distinct value of ``by``: its earliest record and how many there were."""
    if not len(rows):
        return Found()
    order = np.lexsort((rows.row, rows.file, rows.t, *by))
    begins = np.ones(len(order), np.bool_)
    begins[1:] = np.any([column[order][1:] != column[order][:-1] for column in by], axis=0)
    first = order[begins]
    counts = np.diff(np.append(np.flatnonzero(begins), len(order)))
    heads = rows.where(first)
    told = earliest_of(heads.t, heads).tolist()
    return Found(
        len(first),
        tuple(
            _tell(part, cls, rows, int(first[i]), int(place[first[i]]), int(counts[i]), what) for i in told
        ),
        spread=part.facts.spread(heads.t, heads.t),
    )


def _tell(part: Part, cls: str, rows: Rows, at: int, place: int, count: int, what: str) -> Finding:
    facts, t = part.facts, int(rows.t[at])
    channel, epoch = part.places.stream(place)
    serial, client = int(rows.serial[at]), int(rows.client[at])
    holds = part.message_at(place)
    where = place_text(part, channel, epoch, [(serial, serial)])
    sent = f", which holds {facts.message(holds)}," if holds is not None else ""
    return finding(
        part,
        cls,
        f"a message {what} arrived from {where}{sent} at {facts.names.client(client)} "
        f"at {facts.at(t)} ({count} such records)",
        channel=channel,
        epoch=epoch,
        ranges=[(serial, serial)],
        first_t=t,
        last_t=t,
        records=[rows.reference(at)],
        clients=[client],
        message=holds,
    )


def _entries_told(part: Part, cls: str, guilty: Bool) -> Found:
    entries = part.entries
    at = np.flatnonzero(guilty)
    told = at[np.lexsort((entries.message[at], entries.place[at], entries.first_t[at]))[:CAP]]
    first_t, last_t = entries.first_t[at], entries.last_t[at]
    return Found(
        len(at),
        tuple(_tell_entry(part, cls, int(i)) for i in told),
        spread=part.facts.spread(first_t, last_t, at=first_t),
    )


def _tell_entry(part: Part, cls: str, at: int) -> Finding:
    entries, facts = part.entries, part.facts
    place, message, first_t = int(entries.place[at]), int(entries.message[at]), int(entries.first_t[at])
    channel, epoch = part.places.stream(place)
    serial = place & 0xFFFF_FFFF
    sent_to = int(facts.sends.channel_of(entries.message[at : at + 1])[0])
    how = f"was sent to {facts.names.channel(sent_to)}" if sent_to else "was never sent"
    where = place_text(part, channel, epoch, [(serial, serial)])
    return finding(
        part,
        cls,
        f"{facts.message(message)} {how} and was seen at {where} at {facts.at(first_t)} "
        f"({int(entries.count[at])} such records)",
        channel=channel,
        epoch=epoch,
        ranges=[(serial, serial)],
        first_t=first_t,
        last_t=int(entries.last_t[at]),
        records=witness(part, place, message),
        clients=[message >> 32],
        message=message,
    )
