"""L1 to L12: what the log of a channel must be. Each function gives the set of accused things."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations
from typing import Any

from reports.history import Flag
from tests.oracle.case import Message, Record
from tests.oracle.outcomes import Messages, Outcome, final_reads
from tests.oracle.owed import holes, missing

Accused = set[tuple[Any, ...]]


def divergent_serial(m: Messages) -> Accused:
    """L1: a place where bodies show two of the channel's messages; where no body is seen, two acks."""
    accused: Accused = {place for place, messages in m.holders.items() if len(messages) > 1}
    for one, other in combinations(m.acks, 2):
        place = m.place(one)
        if place == m.place(other) and one.message != other.message and place not in m.holders:
            if one.message in m.case.homes and other.message in m.case.homes:
                accused.add(place)
    return accused


def duplicate_commit(m: Messages) -> tuple[Accused, Accused]:
    """L2 and L2x: (message, place) of a message beyond its first place."""
    within: Accused = set()
    beyond: Accused = set()
    for message, places in m.seen_at.items():
        first_seen = {
            p: min(r.t for r in m.at_home if r.message == message and m.place(r) == p) for p in places
        }
        in_order = sorted(places, key=lambda p: (first_seen[p], p))
        for i, place in enumerate(in_order[1:], start=1):
            related = any(m.lineage.together(earlier, place) for earlier in in_order[:i])
            promised = related and within_dedupe(m, message, first_seen[place])
            (within if promised else beyond).add((message, place))
    return within, beyond


def within_dedupe(m: Messages, message: Message, seen_ns: int) -> bool:
    """Whether every attempt that can have caused what was seen was sent within dedupe_s of the first."""
    sent = [r.t for r in m.sends_of(message)]
    causes = [t for t in sent if t <= seen_ns]
    return not causes or max(causes) - min(sent) <= m.case.dedupe_ns


def lost_acked(m: Messages) -> Accused:
    """L3: a message whose first ack names a place where the log does not have it.

    The last final read that covers the place has the message nowhere; or none covers it, somebody
    was owed it, and nothing but the ack ever showed it.
    """
    case, accused = m.case, set()
    reads = final_reads(case, m.channel)
    owed = {x.place for x in missing(case, m)}
    seen_places = {m.place(r) for r in m.arrivals}
    judged: set[Message] = set()
    for ack in m.acks:
        message, place = ack.message, m.place(ack)
        if message in judged or not m.sends_of(message):
            continue
        judged.add(message)
        if case.is_torn(message[0]) or case.is_torn(0):
            continue
        covering = [
            read
            for read in reads
            if m.lineage.holds(read.epoch, place) and read.covers(ack.serial) and ack.t < read.asked_ns
        ]
        if covering:
            last = covering[-1]
            has_it = any(entry.shows and entry.message == message for entry in last.entries)
            unreadable = any(not entry.shows for entry in last.at(ack.serial))
            hidden = not case.echo and message[0] == 0  # a reader does not get its own messages
            if not has_it and not unreadable and not hidden:
                accused.add((message,))
        elif place in owed and place not in seen_places and message not in m.seen_at:
            accused.add((message,))
    return accused


def log_hole(m: Messages) -> Accused:
    """L4: a place in the last final read's range that has no entry and is not L3's; or one that a
    subscriber's stream went over, that nothing ever showed, and that no gap declared."""
    case, accused = m.case, set()
    lost_messages = lost_acked(m)
    lost = {m.place(r) for r in m.acks if (r.message,) in lost_messages}
    if not case.is_torn(0):
        for read in final_reads(case, m.channel)[-1:]:
            for serial in range(read.floor, read.head + 1):
                place = m.lineage.place(read.epoch, serial)
                own = not case.echo and 0 in m.owners.get(place, set())  # a reader does not get its own
                if read.covers(serial) and not read.at(serial) and place not in lost and not own:
                    accused.add(place)
    if case.broken:
        return accused
    known = {place[0] for place in m.shown}
    for subscriber in m.subscribers:
        publishes = any(r.client == subscriber.client for r in m.sends)
        if publishes and not case.echo:
            continue  # its own messages do not come: they are no holes
        for segment in subscriber.segments:
            for serial in holes(segment):
                place = m.lineage.place(segment.windows[-1].epoch, serial)
                quiet = place not in m.shown and serial not in segment.witnessed
                if quiet and not segment.declared(serial) and place[0] in known:
                    accused.add(place)
    return accused


def phantom(m: Messages) -> Accused:
    """L5: (place, message) of another run, or that nobody sent."""
    return {
        (m.place(r), r.message)
        for r in m.arrivals
        if (r.shows and r.message not in m.case.homes and not m.case.is_torn(r.publisher))
        or (not r.shows and not _is_damaged(m, r))
    }


def misrouted(m: Messages) -> Accused:
    """L6: (place, message) that was sent, but to another channel."""
    homes = m.case.homes
    return {(m.place(r), r.message) for r in m.bodies if homes.get(r.message, m.channel) != m.channel}


def corrupt(m: Messages) -> Accused:
    """L7: a place from which something damaged arrived."""
    return {m.place(r) for r in m.arrivals if _is_damaged(m, r)}


def _is_damaged(m: Messages, r: Record) -> bool:
    """The digest is wrong; or there is no identity where a message of this run is known to stand."""
    if r.has(Flag.BAD_DIGEST):
        return True
    if not r.has(Flag.FOREIGN) or r.message != (0, 0):
        return False
    ours = [b for b in m.bodies if b.message in m.case.homes] + m.acks
    return any(m.place(known) == m.place(r) for known in ours)


def failed_visible(m: Messages) -> Accused:
    """L8: a message refused for certain at each attempt, and seen."""
    return {(x,) for x in m.seen_at if m.outcome(x) is Outcome.FAIL and not m.case.is_torn(x[0])}


def ack_contradiction(m: Messages) -> Accused:
    """L9: a message whose acks disagree, or whose acked place was seen to hold another, and never it."""
    accused: Accused = set()
    for ack in m.acks:
        if ack.message not in m.case.homes:
            continue
        holders = m.holders.get(m.place(ack), set())
        if holders and ack.message not in holders:
            accused.add((ack.message,))
    for one, other in permutations(m.acks, 2):
        if one.message != other.message or one.t > other.t or one.message not in m.case.homes:
            continue
        a, b = m.place(one), m.place(other)
        if a != b and m.lineage.together(a, b) and within_dedupe(m, other.message, other.t):
            accused.add((one.message,))
    return accused


def _inversions(m: Messages) -> Iterator[tuple[Message, Message]]:
    """(m1, m2) where m1 certainly stands behind m2."""
    for one, other in permutations(m.stands, 2):
        a, b = m.stands[one], m.stands[other]
        if a[1] > b[1] and m.lineage.together(a, b):
            yield one, other


def publisher_reorder(m: Messages) -> Accused:
    """L10: a message before which an earlier one of its publisher, last sent before it, does not stand."""
    accused: Accused = set()
    for one, other in _inversions(m):
        if one[0] != other[0] or m.case.is_torn(one[0]):
            continue
        if max(r.row for r in m.sends_of(one)) < min(r.row for r in m.sends_of(other)):
            accused.add((other,))
    return accused


def realtime_inversion(m: Messages) -> Accused:
    """L11: a message first sent after another was acked where it stands, by anyone, and placed before it."""
    accused: Accused = set()
    for one, other in _inversions(m):
        acked = [r.t for r in m.acks if r.message == one and m.place(r) == m.stands[one]]
        if not acked or m.case.is_torn(other[0]):
            continue
        since_ns = min(r.t for r in m.sends_of(other)) - min(acked)
        if since_ns >= max(m.case.uncertainty_ns, 1):
            accused.add((other,))
    return accused
