"""L2 duplicate-commit: one message stands at two serials of one stream.

Deliveries and final reads witness where a message stands; an ack alone does not (one that names
another serial is L9's). A second place is L2 when every attempt that can have caused it was sent
within dedupe_s of the first attempt. It is L2x, reported and never gated, when a retry outside of
dedupe_s can have caused it, or when the places are on streams of which neither goes on from the
other: then the server may have forgotten the first, and did not promise more.

Attempts sent after the second place was first seen cannot have caused it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .part import Part
from .result import CAP, Finding, Found
from .rows import member, repeated, runs
from .telling import earliest_of, finding, place_text


@dataclass(frozen=True, slots=True)
class _Again:
    """A further place of a message: positions among the part's entries."""

    first: int
    again: int
    excused: bool  # L2x


def duplicate_commit(part: Part) -> Found:
    """Counts places of a message beyond its first."""
    return _found(part, "L2", [again for again in _again(part) if not again.excused])


def late_duplicate_commit(part: Part) -> Found:
    """L2x: the same, where deduplication was not promised."""
    return _found(part, "L2x", [again for again in _again(part) if again.excused])


def _again(part: Part) -> Iterator[_Again]:
    entries = part.entries
    mine = np.flatnonzero(part.at_home)
    mine = mine[member(entries.message[mine], repeated(entries.message[mine]))]
    mine = mine[np.lexsort((entries.first_t[mine], entries.message[mine]))]
    begins, ends = runs(entries.message[mine])
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        for later in range(begin + 1, end):
            earlier = [int(mine[i]) for i in range(begin, later)]
            yield _judge(part, earlier, int(mine[later]))


def _judge(part: Part, earlier: list[int], again: int) -> _Again:
    entries = part.entries
    related = [i for i in earlier if one_stream(part, int(entries.place[i]), int(entries.place[again]))]
    if not related:
        return _Again(earlier[0], again, excused=True)
    promised = in_time(part, int(entries.message[again]), int(entries.first_t[again]))
    return _Again(related[0], again, excused=not promised)


def in_time(part: Part, message: int, seen_t: int) -> bool:
    """Whether every attempt that can have caused what was seen was sent within dedupe_s of the first."""
    sent = part.messages.sent(part.messages.find(message))
    causes = sent[sent <= seen_t + part.facts.contract.clock_ns]
    return not len(causes) or bool(causes[-1] - sent[0] <= part.facts.contract.dedupe_ns)


def one_stream(part: Part, one: int, other: int) -> bool:
    """Whether two places lie on one line of epochs: the lower one is a place in both epochs."""
    (channel, epoch), (_, other_epoch) = part.places.stream(one), part.places.stream(other)
    lower = min(one & 0xFFFF_FFFF, other & 0xFFFF_FFFF)
    return part.facts.lineage.same(channel, epoch, other_epoch, lower)


def _found(part: Part, cls: str, found: list[_Again]) -> Found:
    order = sorted(
        found, key=lambda a: (int(part.entries.first_t[a.again]), int(part.entries.place[a.again]))
    )
    one, other = (
        part.entries.first_t[np.array(at, np.intp)]
        for at in ([a.first for a in found], [a.again for a in found])
    )
    return Found(
        len(found),
        tuple(_tell(part, cls, again) for again in order[:CAP]),
        spread=part.facts.spread(np.minimum(one, other), np.maximum(one, other)),
    )


def _tell(part: Part, cls: str, again: _Again) -> Finding:
    entries, facts = part.entries, part.facts
    one, other = int(entries.place[again.first]), int(entries.place[again.again])
    message = int(entries.message[again.again])
    (channel, epoch), (_, other_epoch) = part.places.stream(one), part.places.stream(other)
    serials = sorted({one & 0xFFFF_FFFF, other & 0xFFFF_FFFF})
    attempts = int(part.messages.attempts[part.messages.find(message)])
    first_t, last_t = int(entries.first_t[again.first]), int(entries.first_t[again.again])
    where = place_text(part, channel, epoch, [(one & 0xFFFF_FFFF,) * 2])
    return finding(
        part,
        cls,
        f"{facts.message(message)}, sent {attempts} times, stands at {where} (seen at {facts.at(first_t)}) "
        f"and at {facts.names.epoch(other_epoch)} {other & 0xFFFF_FFFF} (seen at {facts.at(last_t)})",
        channel=channel,
        epoch=epoch,
        ranges=[(serial, serial) for serial in serials],
        first_t=min(first_t, last_t),
        last_t=max(first_t, last_t),
        records=[*witness(part, one, message), *witness(part, other, message)],
        clients=[message >> 32],
        message=message,
    )


def witness(part: Part, place: int, message: int) -> list[tuple[int, int]]:
    """The first record, by time, that showed a message at a place."""
    for rows, places in (
        (part.records.arrivals, part.arrival_place),
        (part.records.reads, part.read_place),
    ):
        at = np.flatnonzero((places == place) & (rows.message == message))
        if len(at):
            mine = rows.where(at)
            return [mine.reference(earliest_of(mine.t, mine)[0])]
    return []
