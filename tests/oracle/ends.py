"""The tail: what is owed up to the sentinel, and what became of those who were behind at the deadline."""

from __future__ import annotations

from dataclasses import dataclass

from reports.history import Flag, Kind, Mark
from tests.oracle.case import Case
from tests.oracle.outcomes import Messages
from tests.oracle.windows import Segment


@dataclass(frozen=True)
class Tail:
    """What a segment lacked of its tail at the drain deadline."""

    owed: frozenset[int]  # serials
    never_came: frozenset[int]
    forced: bool  # it was forced to reconnect, and resumed


def tail(case: Case, m: Messages, segment: Segment) -> Tail | None:
    """The tail of a segment that was open from before the sentinel until the deadline; None: it owes none."""
    deadline_ns = case.marked_ns(Mark.FORCED_RECONNECT, Mark.FINAL_READS, Mark.END)
    if deadline_ns is None:
        return None
    owed: set[int] = set()
    for mark in case.marks(Mark.SENTINEL):
        if mark.channel != m.channel:
            continue
        stayed = any(w.sub.t < mark.t and w.open_until(deadline_ns) for w in segment.windows)
        for epoch, serial in m.acked_at(mark.message):
            if not stayed or not m.lineage.holds(segment.epoch, (epoch, serial)):
                continue
            by_then = [r.serial for r in segment.arrivals if r.t <= deadline_ns and r.kind == Kind.RECV]
            stood = max([segment.start, *by_then, *(g.serial for g in segment.gaps if g.t <= deadline_ns)])
            owed |= {
                s
                for s in range(stood + 1, serial + 1)
                if m.lineage.place(segment.epoch, s) in m.shown
                and s not in segment.damaged
                and not segment.declared(s)
                and (case.echo or m.owners.get(m.lineage.place(segment.epoch, s)) != {segment.client})
            }
    if not owed:
        return None
    forced_ns = case.marked_ns(Mark.FORCED_RECONNECT)
    forced = forced_ns is not None and any(
        w.sub.t > forced_ns and w.sub.has(Flag.RESUMED) for w in segment.windows
    )
    return Tail(frozenset(owed), frozenset(s for s in owed if segment.is_missing(s)), forced)


def lost_tail(case: Case, m: Messages, segment: Segment) -> set[int]:
    """Serials of the tail that did not come even after a forced reconnect: D1."""
    found = tail(case, m, segment)
    return set(found.never_came) if found is not None and found.forced else set()


def is_stalled(case: Case, m: Messages, segment: Segment) -> bool:
    """V1: something of the tail came only after the deadline, or was never asked for again."""
    found = tail(case, m, segment)
    return found is not None and (not found.forced or found.never_came != found.owed)
