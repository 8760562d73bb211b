"""D1 to D10: what a subscriber and a publisher must see. Each function gives the set of accused things."""

from __future__ import annotations

from typing import Any

from reports.history import Flag, GapReason, Kind
from tests.oracle.case import NS, Record
from tests.oracle.lineage import Place
from tests.oracle.outcomes import Messages, final_reads
from tests.oracle.owed import excused, missing, serials
from tests.oracle.windows import Segment, Window

Accused = set[tuple[Any, ...]]
OVERHEAD_BYTES = 512  # that a server may count besides a message's body
CLOCK_SHARE, CLOCK_SLACK_NS = 0.01, NS // 10  # by which the server's clock may differ from ours


def _where(r: Record) -> tuple[int, int]:
    return r.file, r.row


def gap(m: Messages) -> Accused:
    """D1: (client, segment, place) owed, not promised by a resume, and never received."""
    return {
        (x.segment.client, _where(x.segment.windows[0].opened_by), x.place)
        for x in missing(m.case, m)
        if not x.in_replay
    }


def false_resume(m: Messages) -> Accused:
    """D2: the SUB that said `resumed` where the replay lacks something, or is another epoch's stream."""
    accused: Accused = {_where(x.window.opened_by) for x in missing(m.case, m) if x.in_replay}
    for subscriber in m.subscribers:
        for window in subscriber.windows:
            asked_epoch, asked = window.asked
            if not window.resumed or not asked_epoch:
                continue
            served = [window.epoch, *([window.live.epoch] if window.live else [])]
            if any(e and not m.lineage.goes_on(asked_epoch, e, asked) for e in served):
                accused.add(_where(window.opened_by))
        accused |= {
            _where(window.opened_by)
            for window, _ in subscriber.strangers
            if window.resumed and window.asked[0]
        }
    return accused


# ── D3 ────────────────────────────────────────────────────────────────────────────────────


def bad_gap_notice(m: Messages) -> Accused:
    """D3: the GAP that is not the real hole, or the SUB whose GAP is lacking."""
    accused: Accused = set()
    for subscriber in m.subscribers:
        for segment in subscriber.segments:
            for window in segment.windows:
                opening = _opening(m, window)
                if opening is not None:
                    accused |= _judge_opening(m, segment, window)
                for notice in window.gaps:
                    if opening is None or notice is not window.gaps[0]:
                        accused |= _judge_inside(m, subscriber.windows, segment, window, notice)
    return accused


def _opening(m: Messages, window: Window) -> tuple[int, int, int, int] | None:
    """What the GAP of a subscription must say that does not start where it was asked to; None: it does."""
    asked_epoch, asked = window.asked
    if not asked_epoch:
        return None
    same = m.lineage.goes_on(asked_epoch, window.epoch, asked) and window.start == asked
    if same or (window.resumed and window.epoch != asked_epoch):  # that is D2's
        return None
    return asked_epoch, asked + 1, window.epoch, window.start


def _judge_opening(m: Messages, segment: Segment, window: Window) -> Accused:
    if window.gaps:
        said = window.gaps[0]
        wrong = (said.publisher, said.pub_seq, said.epoch, said.serial) != _opening(m, window)
        return {_where(said)} if wrong else set()
    followed = any(r.kind in (Kind.RECV, Kind.LIVE) for r in window.records)  # else it may be still to come
    torn = m.case.is_torn(segment.client)
    return {_where(window.opened_by)} if followed and not torn else set()


def _judge_inside(
    m: Messages, windows: list[Window], segment: Segment, window: Window, notice: Record
) -> Accused:
    """A GAP in an open stream: it begins after the last thing, nothing of it comes, what comes follows it."""
    turns = window.turned and window.opened_by is notice
    home = windows[windows.index(window) - 1] if turns else window
    came = [r for r in home.records if r.kind == Kind.RECV and _is_of(m, home, r)]
    stood = max(
        home.start,
        *(r.serial for r in came if r.row < notice.row),
        *(g.serial for g in home.gaps if g.row < notice.row),
        0,
    )
    first, last = notice.pub_seq, notice.serial
    if notice.publisher != home.epoch or first <= stood:
        return {_where(notice)}
    if _lacks(m, segment if not turns else None, home, came, stood, first - 1):
        return {_where(notice)}
    if turns:
        return set()
    following = [r.serial for r in came if r.row > notice.row and r.serial > last]
    wrong = (
        (last < first and notice.t2 != GapReason.AHEAD)
        or any(first <= r.serial <= last for r in came)
        or (following and _lacks(m, segment, home, came, last, following[0] - 1))
    )
    return {_where(notice)} if wrong else set()


def _is_of(m: Messages, window: Window, r: Record) -> bool:
    after = max(window.start, window.opened_by.serial)
    return m.lineage.holds(window.epoch, (r.epoch, r.serial)) or m.lineage.goes_on(
        window.epoch, r.epoch, after
    )


def _lacks(
    m: Messages, segment: Segment | None, window: Window, came: list[Record], after: int, up_to: int
) -> bool:
    """Whether something that was owed in (``after``, ``up_to``] did not come in a window."""
    if segment is None:
        segment = next(
            s for sub in m.subscribers for s in sub.segments
            if any(w.opened_by is window.opened_by for w in s.windows)
        )  # fmt: skip
    if m.case.is_torn(segment.client):
        return False
    there = {r.serial for r in came}
    return any(s not in there and not excused(m, segment, window, s) for s in serials(max(after, 0), up_to))


# ── D4 ────────────────────────────────────────────────────────────────────────────────────


def retention_breach(m: Messages) -> Accused:
    """D4: the notice that declares trimmed what was certainly still retained.

    A notice is a GAP, or the floor of the channel's last final read. Of what it declares the newest
    message of known place is judged, with every doubt in the server's favour.
    """
    case = m.case
    kept = case.retention(m.channel)
    foreign = any(r.kind == Kind.RECV and r.has(Flag.FOREIGN) for r in m.arrivals)
    if case.broken or foreign or any(value is None for value in kept.values()):
        return set()  # how much was published, or promised, is not known
    notices = [  # record, epoch, first, last, when
        (g, g.epoch, g.pub_seq, g.serial, g.t)
        for subscriber in m.subscribers
        for window in subscriber.windows
        for g in window.gaps
        if g.t2 == GapReason.TRIMMED and g.publisher == g.epoch
    ]
    notices += [(r.live, r.epoch, 1, r.floor - 1, r.live.t) for r in final_reads(case, m.channel)[-1:]]
    return {
        _where(record)
        for record, epoch, first, last, t_ns in notices
        if _certainly_retained(m, m.lineage.place(epoch, last), first, t_ns, kept)
    }


def _certainly_retained(m: Messages, end: Place, first: int, t_ns: int, kept: dict[str, Any]) -> bool:
    """Whether the newest known message in [``first``, ``end``] was within all three limits at ``t_ns``."""
    stream = {x: place[1] for x, place in m.stands.items() if place[0] == end[0]}
    declared = {x: serial for x, serial in stream.items() if first <= serial <= end[1]}
    if not declared:
        return False
    newest = max(declared, key=lambda x: declared[x])
    at = declared[newest]
    older = set()  # certainly at or before it: all attempts were made by then
    for x in sorted(stream, key=lambda x: stream[x]):
        if stream[x] > at or any(r.t > t_ns for r in m.sends_of(x)):
            break
        older.add(x)
    newer = [r for r in m.sends if r.t <= t_ns and r.message not in older]
    begun = [serial for x, serial in stream.items() if min(r.t for r in m.sends_of(x)) <= t_ns]
    count = max(len(newer), max([at, *begun]) - at)
    own = m.sends_of(newest)
    size = sum(r.serial + OVERHEAD_BYTES for r in newer) + sum(r.serial + OVERHEAD_BYTES for r in own)
    age_ns = (t_ns - min(r.t for r in own)) * (1 + CLOCK_SHARE) + CLOCK_SLACK_NS
    return bool(
        count < int(kept["retain_n"]) and age_ns < kept["retain_s"] * NS and size <= kept["retain_bytes"]
    )


# ── one record at a time ──────────────────────────────────────────────────────────────────


def duplicate_delivery(m: Messages) -> Accused:
    """D5: a delivery of a serial that had been delivered in the segment."""
    return {
        _where(r)
        for subscriber in m.subscribers
        for segment in subscriber.segments
        for i, r in enumerate(segment.counted)
        if any(earlier.serial == r.serial for earlier in segment.counted[:i])
    }


def delivery_reorder(m: Messages) -> Accused:
    """D6: a first delivery of a serial that comes after a higher one."""
    return {
        _where(r)
        for subscriber in m.subscribers
        for segment in subscriber.segments
        for i, r in enumerate(segment.counted)
        if any(earlier.serial > r.serial for earlier in segment.counted[:i])
        and not any(earlier.serial == r.serial for earlier in segment.counted[:i])
        and r.serial not in segment.witnessed
    }


def unsolicited(m: Messages) -> Accused:
    """D7: a delivery with no open window. A torn log may have lost the SUB; a damaged one is L7's alone."""
    return {
        _where(r)
        for subscriber in m.subscribers
        for r in subscriber.outside
        if not m.case.is_torn(r.client) and not r.has(Flag.BAD_DIGEST)
    }


def echo(m: Messages) -> Accused:
    """D8: a client's own message, though echo is off."""
    own = (r for r in m.bodies if r.kind == Kind.RECV and r.client == r.publisher)
    return set() if m.case.echo else {_where(r) for r in own}


def start_edge(m: Messages) -> Accused:
    """D9: a delivery at or before the start of its segment."""
    return {
        _where(r) for subscriber in m.subscribers for segment in subscriber.segments for r in segment.early
    }


def ack_protocol(m: Messages) -> Accused:
    """D10: an answer to no attempt, to another's, or one more than attempts so far."""
    accused: Accused = set()
    open_attempts: dict[tuple[int, int], int] = {}
    for r in m.case.of_channel(m.channel):
        if r.kind == Kind.SEND:
            open_attempts[r.message] = open_attempts.get(r.message, 0) + 1
        if r.kind not in (Kind.ACK, Kind.NACK):
            continue
        if r.has(Flag.NOT_OPEN):
            accused.add(_where(r))
        elif m.case.is_torn(r.client):
            continue
        elif r.client != r.publisher or open_attempts.get(r.message, 0) == 0:
            accused.add(_where(r))
        else:
            open_attempts[r.message] -= 1
    return accused
