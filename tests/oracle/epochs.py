"""L12: an epoch changed without a server's exit, came back, lost its head or started its serials again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reports.history import GapReason, Kind
from tests.oracle.case import NS
from tests.oracle.outcomes import Messages, final_reads

Accused = set[tuple[Any, ...]]
HEARD_LATE_NS = 1 * NS  # an exit is written down when its supervisor hears of it


@dataclass(frozen=True)
class Sight:
    """An epoch was in force at some time in [begin, end]."""

    epoch: int
    begin_ns: int
    end_ns: int


def epoch_fault(m: Messages) -> Accused:
    """L12: epochs."""
    return changed(m) | came_back(m) | head_went_down(m) | given_twice(m)


def sights(m: Messages) -> list[Sight]:
    """What was asked for, or first sent, at one time and answered, or shown, at another."""
    found, several = [], len(m.case.run.get("nodes") or ()) > 1  # of which one may be behind
    for r in m.case.of_channel(m.channel):
        if not r.epoch:
            continue
        begin_ns: int | None = None
        if r.kind == Kind.SUB and not (several and r.client):
            begin_ns = r.t2 or None
        elif (
            r.kind == Kind.ACK or (r.kind == Kind.RECV and r.client) or (r.kind == Kind.READ and not r.client)
        ):
            begin_ns = m.first_sent_ns(r.message)
        if begin_ns is not None:
            found.append(Sight(r.epoch, begin_ns, r.t))
    return found


def changed(m: Messages) -> Accused:
    """Another epoch was certainly there before, and no process under test ended in between."""
    targets = [line for line in m.case.faults if line.get("role") == "target"]
    if not any(line.get("kind") == "start" for line in targets):
        return set()
    exits = [line["t"] for line in targets if line.get("kind") == "exit"]
    doubt_ns = m.case.uncertainty_ns
    seen = sights(m)
    return {
        (new.epoch,)
        for old in seen
        for new in seen
        if old.epoch != new.epoch
        and old.end_ns + doubt_ns <= new.begin_ns
        and not any(old.begin_ns - doubt_ns <= t <= new.end_ns + HEARD_LATE_NS for t in exits)
    }


def came_back(m: Messages) -> Accused:
    """It was certainly there, then another one was, then it was again."""
    doubt_ns = m.case.uncertainty_ns
    seen = sights(m)
    accused: Accused = set()
    if len({s.epoch for s in seen}) < 2:
        return accused
    for between in seen:
        before = {s.epoch for s in seen if s.end_ns + doubt_ns <= between.begin_ns}
        after = {s.epoch for s in seen if between.end_ns + doubt_ns <= s.begin_ns}
        accused |= {(epoch,) for epoch in before & after if epoch != between.epoch}
    return accused


def head_went_down(m: Messages) -> Accused:
    """A head was told below a serial that had been shown before it was asked for; or a client was told
    that it is ahead of the stream at a serial that something had shown before it asked."""
    doubt_ns = m.case.uncertainty_ns
    known = [(m.place(r), r.t) for r in m.at_home]
    known += [
        (place, r.t)
        for x, place in m.stands.items()
        for r in m.acks
        if r.message == x and m.place(r) == place
    ]
    heads = [(read.epoch, read.head, read.asked_ns) for read in final_reads(m.case, m.channel)]
    accused: Accused = set()
    for subscriber in m.subscribers:
        for window in subscriber.windows:
            asked_ns = window.opened_by.t if window.turned else window.opened_by.t2
            one = len(m.case.run.get("nodes") or ()) < 2  # of several, one may not have heard of all yet
            if one and window.live is not None and not window.resumed and not window.turned and asked_ns:
                heads.append((window.live.epoch, window.live.serial, asked_ns))
            for notice in window.gaps:
                place = m.lineage.place(notice.epoch, notice.pub_seq - 1)
                ahead = notice.t2 == GapReason.AHEAD and notice.publisher == notice.epoch
                if ahead and any(p == place and t + doubt_ns < asked_ns for p, t in known):
                    accused.add((notice.epoch,))
    for epoch, head, asked_ns in heads:
        if any(p[0] == epoch and p[1] > head and t + doubt_ns < asked_ns for p, t in known):
            accused.add((epoch,))
    return accused


def given_twice(m: Messages) -> Accused:
    """A message was acked and seen at a place that had been shown to hold another before it was sent."""
    accused: Accused = set()
    contested = [r for r in m.at_home if len(m.holders[m.place(r)]) > 1]
    for one in contested:
        for other in contested:
            if m.place(one) != m.place(other) or one.message == other.message:
                continue
            sent_ns = m.first_sent_ns(other.message)
            acked = m.place(other) in m.acked_at.get(other.message, set())
            if acked and sent_ns is not None and one.t + m.case.uncertainty_ns < sent_ns:
                accused.add((m.place(one)[0],))
    return accused
