"""L1 to L12: what the log of a channel must be.

Each function takes a case and gives the set of accused things.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

from reports.history import Flag, GapReason, Kind
from tests.oracle.case import NS, Case, Message, Record
from tests.oracle.delivery import owed_and_missing
from tests.oracle.outcomes import Messages, Outcome, Reads

Accused = set[tuple[Any, ...]]
HEARD_LATE_NS = 1 * NS  # an exit is recorded when the supervisor hears of it


def channels(case: Case) -> Iterator[Messages]:
    for channel in case.channels:
        yield Messages(case, channel)


def divergent_serial(case: Case) -> Accused:
    """L1: (channel, place) where bodies show two identities."""
    return {
        (m.channel, m.place(one))
        for m in channels(case)
        for one, other in combinations(m.bodies, 2)
        if m.place(one) == m.place(other) and one.message != other.message
    }


def duplicate_commit(case: Case) -> tuple[Accused, Accused]:
    """L2 and L2x: (channel, message) that bodies show at two serials."""
    within: Accused = set()
    beyond: Accused = set()
    dedupe_s = case.contract.get("dedupe_s")
    for m in channels(case):
        for message in m.known:
            for one, other in combinations(sorted(m.seen_at(message)), 2):
                second_seen = max(
                    min(r.t for r in m.bodies if r.message == message and m.place(r) == place)
                    for place in (one, other)
                )
                sent = [r.t for r in m.sends_of(message) if r.t <= second_seen]
                retried_in_time = (
                    bool(sent) and dedupe_s is not None and max(sent) - min(sent) <= dedupe_s * NS
                )
                certain = m.lineage.together(one, other) and retried_in_time
                (within if certain else beyond).add((m.channel, message))
    return within, beyond


def lost_acked(case: Case) -> Accused:
    """L3: (channel, place, message) acked, and not in a final read; or owed, and never shown but by the ack."""
    if case.is_torn(0):
        return set()
    accused: Accused = set()
    for m in channels(case):
        reads = Reads(case, m.channel).reads
        owed = {place for _, place in owed_and_missing(case, m)}
        for ack in m.acks:
            if case.is_torn(ack.client):
                continue
            place, message = m.place(ack), ack.message
            covering = [r for r in reads if m.lineage.holds(r.epoch, place) and r.covers(ack.serial)]
            shown_elsewhere = any(e.message == message for r in reads for e in r.entries if e.shows)
            absent = any(
                all(entry.shows and entry.message != message for entry in read.at(ack.serial))
                for read in covering
            )
            never_shown = not any(m.place(r) == place for r in m.arrivals)
            if (absent and not shown_elsewhere) or (
                not covering and place in owed and never_shown and not case.broken
            ):
                accused.add((m.channel, place, message))
    return accused


def log_hole(case: Case) -> Accused:
    """L4: (channel, place) that a final read covers and lacks, or that was owed, and that nothing ever showed."""
    accused: Accused = set()
    for m in channels(case):
        acked = {m.place(r) for r in m.acks}
        if not case.is_torn(0):
            for read in Reads(case, m.channel).reads:
                for serial in read.serials:
                    place = m.lineage.place(read.epoch, serial)
                    if read.covers(serial) and not read.at(serial) and place not in acked:
                        accused.add((m.channel, place))
        if not case.broken:
            accused |= {
                (m.channel, place) for _, place in owed_and_missing(case, m) if place not in m.shown
            }
    return accused


def phantom(case: Case) -> Accused:
    """L5: (channel, place, message) of another run, or that nobody sent."""
    accused: Accused = set()
    sent = {r.message for r in case.of_kind(Kind.SEND)}
    for m in channels(case):
        for r in m.arrivals:
            if r.has(Flag.BAD_DIGEST):
                continue
            never_sent = r.message not in sent and not case.is_torn(r.publisher)
            if r.has(Flag.FOREIGN) or never_sent:
                accused.add((m.channel, m.place(r), r.message))
    return accused


def misrouted(case: Case) -> Accused:
    """L6: (channel, place, message) that was sent, but to other channels."""
    accused: Accused = set()
    for m in channels(case):
        for body in m.bodies:
            targets = {r.channel for r in case.of_kind(Kind.SEND) if r.message == body.message}
            if targets and m.channel not in targets:
                accused.add((m.channel, m.place(body), body.message))
    return accused


def corrupt(case: Case) -> Accused:
    """L7: (file, row) of a delivery or entry whose digest is wrong."""
    return {(r.file, r.row) for r in case.of_kind(Kind.RECV, Kind.READ) if r.has(Flag.BAD_DIGEST)}


def failed_visible(case: Case) -> Accused:
    """L8: (channel, message) refused for certain at each attempt, and seen."""
    return {
        (m.channel, message)
        for m in channels(case)
        for message in m.known
        if m.outcome(message) is Outcome.FAIL and m.seen_at(message) and not case.is_torn(message[0])
    }


def ack_contradiction(case: Case) -> Accused:
    """L9: (channel, message) whose acks disagree, or whose acked place shows another message."""
    accused: Accused = set()
    for m in channels(case):
        for ack in m.acks:
            for other in m.acks:
                if ack.message == other.message and m.place(ack) != m.place(other):
                    if m.lineage.together(m.place(ack), m.place(other)):
                        accused.add((m.channel, ack.message))
            for body in m.bodies:
                if m.place(body) == m.place(ack) and body.message != ack.message:
                    accused.add((m.channel, ack.message))
    return accused


def _is_behind(m: Messages, first: Message, second: Message) -> bool:
    """Whether ``first`` certainly stands after ``second`` in one stream."""
    ones, others = m.stands_at(first), m.stands_at(second)
    if not ones or not others:
        return False
    return all(m.lineage.together(a, b) and a[1] > b[1] for a in ones for b in others)


def publisher_reorder(case: Case) -> Accused:
    """L10: (channel, m1, m2) of one publisher, m1 last sent before m2 was first sent, and placed after it."""
    accused: Accused = set()
    for m in channels(case):
        for one, other in permutations(m.known, 2):
            if one[0] != other[0]:
                continue
            sends, later = m.sends_of(one), m.sends_of(other)
            if not sends or not later:
                continue
            if max((r.file, r.row) for r in sends) < min((r.file, r.row) for r in later):
                if _is_behind(m, one, other):
                    accused.add((m.channel, one, other))
    return accused


def realtime_inversion(case: Case) -> Accused:
    """L11: (channel, m1, m2), m1 acked before m2 was first sent by anyone, and placed after it."""
    accused: Accused = set()
    for m in channels(case):
        for one, other in permutations(m.known, 2):
            acks = [r for r in m.acks if r.message == one]
            sends = m.sends_of(other)
            if not acks or not sends:
                continue
            ack, send = min(acks, key=lambda r: r.t), min(sends, key=lambda r: r.t)
            doubt_ns = 0 if ack.file == send.file else case.uncertainty_ns
            if send.t - ack.t > doubt_ns and _is_behind(m, one, other):
                accused.add((m.channel, one, other))
    return accused


# ── L12 ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Sight:
    """The server certainly served ``epoch`` at some moment of [begin, end]; ``head``: at least this, by then."""

    epoch: int
    begin_ns: int | None
    end_ns: int
    serial: int
    record: Record


def _sights(case: Case, m: Messages) -> list[Sight]:
    sights = []
    for r in case.records:
        if r.channel != m.channel or not r.epoch:
            continue
        begin: int | None
        if r.kind in (Kind.SUB, Kind.LIVE):
            begin = r.t2 or None
        elif r.kind == Kind.ACK or r.shows:
            begin = m.first_sent_ns(r.message)
        else:
            continue
        if r.kind == Kind.ACK:  # a duplicate's ack was given after the retry that it answers
            mine = [s for s in m.sends_of(r.message) if s.file == r.file and s.row < r.row]
            begin = mine[-1].t if mine and len(mine) == 1 else begin
        sights.append(Sight(r.epoch, begin, r.t, r.serial, r))
    return sights


def epoch_fault(case: Case) -> Accused:
    """L12: (channel, epochs, what) where an epoch changed with no exit of a target, came back, or went down."""
    accused: Accused = set()
    targets = [f for f in case.faults if f.get("role") == "target"]
    exits = [f["t"] for f in targets if f.get("kind") == "exit"]
    watched = any(f.get("kind") == "start" for f in targets)
    doubt_ns = case.uncertainty_ns
    for m in channels(case):
        sights = _sights(case, m)
        for old, new in permutations({s.epoch for s in sights}, 2):
            was = [s.begin_ns for s in sights if s.epoch == old and s.begin_ns is not None]
            seen = [s.end_ns for s in sights if s.epoch == new]
            old_seen = min(s.end_ns for s in sights if s.epoch == old)
            new_was = [s.begin_ns for s in sights if s.epoch == new and s.begin_ns is not None]
            began_later = bool(new_was) and old_seen + doubt_ns < max(new_was)
            if watched and was and old_seen < min(seen):
                between = [t for t in exits if min(was) <= t <= min(seen) + HEARD_LATE_NS]
                last_old = max([b for b in was if b <= min(seen)], default=min(was))
                between = [t for t in between if t >= last_old]
                if not between:
                    accused.add((m.channel, old, new, "changed"))
            for b in sights:  # old, new, old again
                if b.epoch != new or b.begin_ns is None or not began_later:
                    continue
                if old_seen + doubt_ns < b.begin_ns and max(was, default=0) > b.end_ns + doubt_ns:
                    accused.add((m.channel, old, new, "came back"))
        accused |= _went_down(case, m, sights)
    return accused


def _went_down(case: Case, m: Messages, sights: list[Sight]) -> Accused:
    accused: Accused = set()
    doubt_ns = case.uncertainty_ns
    heads = [s for s in sights if s.record.kind in (Kind.ACK, Kind.RECV, Kind.LIVE)]
    for live in sights:
        if live.record.kind != Kind.LIVE or live.begin_ns is None:
            continue
        for known in heads:
            same = m.lineage.holds(live.epoch, (known.epoch, known.serial))
            if same and known.serial > live.serial and known.end_ns + doubt_ns < live.begin_ns:
                accused.add((m.channel, live.epoch, live.epoch, "head went down"))
    for gap in case.of_kind(Kind.GAP):
        if gap.channel == m.channel and gap.t2 == GapReason.AHEAD and gap.publisher == gap.epoch:
            accused.add((m.channel, gap.epoch, gap.epoch, "head went down"))
    for one in m.bodies:
        for other in m.bodies:
            sent = m.first_sent_ns(other.message)
            if m.place(one) != m.place(other) or one.message == other.message or sent is None:
                continue
            acked_too = m.place(other) in m.acked_at(other.message)
            if acked_too and one.t + doubt_ns < sent:
                accused.add((m.channel, one.epoch, one.epoch, "serials restarted"))
    return accused
