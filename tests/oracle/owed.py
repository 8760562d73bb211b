"""What subscribers were owed and never got, and who was behind at the drain deadline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reports.history import Kind, Mark
from tests.oracle.case import Case, Record
from tests.oracle.lineage import Place
from tests.oracle.outcomes import Messages
from tests.oracle.windows import Segment, Window

MOST_SERIALS = 5_000  # of one range that are looked at one by one


@dataclass(frozen=True)
class Missing:
    """One serial that one subscriber was owed and never got."""

    segment: Segment
    window: Window
    place: Place
    in_replay: bool  # a resume had promised it


@dataclass(frozen=True)
class Stalled:
    """A subscription that had not its channel's sentinel at the deadline."""

    segment: Segment
    window: Window  # open at the deadline
    sentinel: Record  # its ACK
    serves: bool  # the stream that the sentinel is in


def serials(after: int, up_to: int) -> range:
    """(``after``, ``up_to``]."""
    return range(after + 1, min(up_to, after + MOST_SERIALS) + 1)


def holes(segment: Segment) -> list[int]:
    """Serials in (start, last received] that never came."""
    came = {r.serial for r in segment.counted}
    return [s for s in serials(segment.start, max(came, default=0)) if s not in came]


def excused(m: Messages, segment: Segment, window: Window, serial: int) -> bool:
    """Whether a serial that did not come is no loss of this subscriber's."""
    place = m.lineage.place(window.epoch, serial)
    own = not m.case.echo and m.owners.get(place) is not None and segment.client in m.owners[place]
    return place not in m.shown or serial in segment.witnessed or segment.declared(serial) or own


def missing(case: Case, m: Messages) -> Iterator[Missing]:
    """All that the channel's subscribers with a whole log were owed and never got."""
    for subscriber in m.subscribers:
        if case.is_torn(subscriber.client):
            continue
        for segment in subscriber.segments:
            for serial in holes(segment):
                window = segment.window_of(serial)
                if window is not None and not excused(m, segment, window, serial):
                    in_replay = window.resumed and serial <= window.replay_end
                    yield Missing(segment, window, m.lineage.place(window.epoch, serial), in_replay)
            for window in segment.windows:  # a replay that ended before its end
                if window.resumed:
                    for serial in serials(window.top, window.replay_end):
                        if not excused(m, segment, window, serial):
                            yield Missing(segment, window, m.lineage.place(window.epoch, serial), True)
    for behind in stalled(case, m):
        yield from _lost_tail(case, m, behind)


# ── the tail ──────────────────────────────────────────────────────────────────────────────


def sentinel(case: Case, m: Messages) -> Record | None:
    """The ack of the channel's sentinel."""
    found = None
    for mark in case.of_kind(Kind.MARK):
        if mark.serial == Mark.SENTINEL and mark.channel == m.channel and m.sends_of(mark.message):
            found = next((r for r in m.acks if r.message == mark.message), found)
    return found


def deadline_ns(case: Case) -> int | None:
    """By when everything up to the sentinel is owed, before anything is forced."""
    return case.marked_ns(Mark.FORCED_RECONNECT, Mark.FINAL_READS, Mark.END)


def stalled(case: Case, m: Messages) -> list[Stalled]:
    """Segments open from before the sentinel until the deadline that had not everything by then."""
    ack, by_ns = sentinel(case, m), deadline_ns(case)
    is_used = any(r.client != 0 and r.kind in (Kind.SUB, Kind.SEND) for r in case.of_channel(m.channel))
    if ack is None or by_ns is None or not is_used:
        return []
    sent_ns = m.first_sent_ns(ack.message)
    found = []
    for subscriber in m.subscribers:
        for segment in subscriber.segments:
            for window in segment.windows:
                before = sent_ns is not None and segment.windows[0].opened_by.t < sent_ns
                if not (before and window.is_open(by_ns)) or case.is_torn(subscriber.client):
                    continue
                serves = m.lineage.holds(window.epoch, (ack.epoch, ack.serial)) or m.lineage.goes_on(
                    window.epoch, ack.epoch, window.start
                )
                arrived = [
                    r.serial
                    for r in window.records
                    if r.t <= by_ns and (r.kind == Kind.GAP or _is_of(m, window, r))
                ]
                if not serves or max([window.start, *arrived]) < ack.serial:
                    found.append(Stalled(segment, window, ack, serves))
    return found


def _is_of(m: Messages, window: Window, r: Record) -> bool:
    after = max(window.start, window.opened_by.serial)
    return r.kind == Kind.RECV and (
        m.lineage.holds(window.epoch, (r.epoch, r.serial)) or m.lineage.goes_on(window.epoch, r.epoch, after)
    )


def _lost_tail(case: Case, m: Messages, behind: Stalled) -> Iterator[Missing]:
    """What did not come after the forced reconnect either, of one that was resumed and stayed."""
    segment, last = behind.segment, behind.segment.windows[-1]
    over_ns = case.waited_until_ns
    came_back = (
        case.marked_ns(Mark.FORCED_RECONNECT) is not None
        and over_ns is not None
        and last is not behind.window
        and last.resumed
        and last.is_open(over_ns)
    )
    if not came_back or not behind.serves:
        return
    for serial in serials(max(last.top, last.replay_end), behind.sentinel.serial):
        if not excused(m, segment, last, serial):
            yield Missing(segment, last, m.lineage.place(last.epoch, serial), False)
