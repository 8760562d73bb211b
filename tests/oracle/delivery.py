"""D1 to D10: what a subscriber and a publisher must see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reports.history import Flag, GapReason, Kind
from tests.oracle.case import NS, Case
from tests.oracle.ends import lost_tail
from tests.oracle.lineage import Place
from tests.oracle.outcomes import Messages
from tests.oracle.windows import Segment, subscribers

Accused = set[tuple[Any, ...]]


def owed_and_missing(case: Case, m: Messages) -> Iterator[tuple[Segment, Place]]:
    """Of each segment of a channel, the places that it was owed and that never came.

    Owed is what stands after the start and up to the last received one, and the tail where the client
    stayed and was forced back in vain; not one's own messages where echo is off.
    """
    for subscriber in subscribers(case):
        if subscriber.channel != m.channel or case.is_torn(subscriber.client):
            continue
        for segment in subscriber.segments:
            missing = set(segment.missing(segment.start, segment.last)) | lost_tail(case, m, segment)
            for serial in sorted(missing):
                place = m.lineage.place(segment.epoch, serial)
                own = m.owners.get(place) == {segment.client}
                if case.echo or not own:
                    yield segment, place


def missing(case: Case) -> tuple[Accused, Accused]:
    """D1 and D2 by what is missing: (channel, place, client, number of segment).

    What a resumed window's replay left out is D2; everything else D1. A serial that nothing ever showed is neither.
    """
    gaps: Accused = set()
    resumes: Accused = set()
    for channel in case.channels:
        m = Messages(case, channel)
        for segment, place in owed_and_missing(case, m):
            if place not in m.shown:
                continue
            in_replay = any(
                w.resumed and w.sub.serial < place[1] <= w.replayed_up_to for w in segment.windows
            )
            thing = channel, place, segment.client, segment.windows[0].sub.row
            (resumes if in_replay else gaps).add(thing)
    return gaps, resumes


def events(case: Case, anomaly: str) -> Accused:
    """Records that are wrong by themselves: (file, row)."""
    return {
        (e.record.file, e.record.row)
        for subscriber in subscribers(case)
        for e in subscriber.events
        if e.anomaly == anomaly
        if anomaly != "D3" or not case.is_torn(subscriber.client)
    }


def retention_breach(case: Case) -> Accused:
    """D4: (channel, place, client) declared trimmed though certainly still retained."""
    accused: Accused = set()
    if case.broken:
        return accused  # what else was sent is not known
    for channel in case.channels:
        m, kept = Messages(case, channel), case.retention(channel)
        if any(value is None for value in kept.values()):
            continue
        for gap in case.of_kind(Kind.GAP):
            if gap.channel != channel or gap.t2 != GapReason.TRIMMED or gap.client == 0:
                continue
            for serial in range(gap.pub_seq, min(gap.serial, gap.pub_seq + 10_000) + 1):
                place = m.lineage.place(gap.epoch, serial)
                if _certainly_retained(case, m, place, gap.t, kept):
                    accused.add((channel, place, gap.client))
    return accused


def _certainly_retained(case: Case, m: Messages, place: Place, t_ns: int, kept: dict[str, Any]) -> bool:
    """Whether an entry is within all three limits, by the worst case, at ``t_ns``."""
    here = [x for x in m.known if place in m.stands_at(x)]
    sent = [t for x in here if (t := m.first_sent_ns(x)) is not None]
    placed = [r.t for r in (*m.acks, *m.arrivals) if m.place(r) == place]
    if not sent or min(placed) > t_ns:
        return False
    newer, newer_bytes = set(), 0
    for message in m.known:
        sends = m.sends_of(message)
        if sends and min(r.t for r in sends) > t_ns + case.uncertainty_ns:
            continue
        places = m.stands_at(message)
        if not places or any(p[1] > place[1] for p in places) or not sends:
            newer.add(message)
            newer_bytes += max((r.serial for r in sends), default=0)
    own_bytes = max(r.serial for x in here for r in m.sends_of(x))
    return bool(
        len(newer) < kept["retain_n"]
        and t_ns - min(sent) < kept["retain_s"] * NS
        and newer_bytes + own_bytes <= kept["retain_bytes"]
    )


def ack_protocol(case: Case) -> Accused:
    """D10: (file, row) of an answer to no attempt, or of one more answer than attempts."""
    accused: Accused = set()
    for client in case.clients:
        open_attempts: dict[tuple[int, int, int], int] = {}
        for r in case.records:
            if r.client != client:
                continue
            attempt = r.channel, r.publisher, r.pub_seq
            if r.kind == Kind.SEND:
                open_attempts[attempt] = open_attempts.get(attempt, 0) + 1
            elif r.kind in (Kind.ACK, Kind.NACK):
                if r.has(Flag.NOT_OPEN) or open_attempts.get(attempt, 0) == 0:
                    accused.add((r.file, r.row))
                else:
                    open_attempts[attempt] -= 1
    return accused


