"""Windows, segments and what a subscriber is owed.

A window is one subscription of one client. A segment is windows that go on from each other. Inside a
segment every serial between its start and its last received one was delivered, declared
missing, damaged on its way, or is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from reports.history import Flag, Kind
from tests.oracle.case import Case, Record
from tests.oracle.lineage import Lineage

MOST_SERIALS = 20_000  # of one range that are looked at one by one


@dataclass
class Window:
    """From SUB to the first of UNSUB, CLOSE, the next SUB of the channel, the end of the log."""

    sub: Record
    records: list[Record] = field(default_factory=list)  # RECV, GAP, LIVE in it
    end: Record | None = None

    @property
    def resumed(self) -> bool:
        return self.sub.has(Flag.RESUMED)

    @property
    def live(self) -> Record | None:
        return next((r for r in self.records if r.kind == Kind.LIVE), None)

    def open_until(self, t_ns: int) -> bool:
        return self.end is None or self.end.t > t_ns

    @property
    def replayed_up_to(self) -> int:
        """The last serial of the replay: where LIVE stands, else the highest that came as replayed."""
        if self.live is not None:
            return self.live.serial
        replayed = [r.serial for r in self.records if r.kind == Kind.RECV and r.has(Flag.REPLAYED)]
        return max(replayed, default=self.sub.serial)


@dataclass
class Segment:
    """A stretch of one client's stream in which nothing may be missing."""

    client: int
    channel: int
    epoch: int
    start: int
    windows: list[Window] = field(default_factory=list)
    delivered: set[int] = field(default_factory=set)
    damaged: set[int] = field(default_factory=set)
    gaps: list[Record] = field(default_factory=list)
    next: int = 0  # after the highest received or declared
    last: int = 0  # the highest received
    arrivals: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.next, self.last = self.start + 1, self.start

    @property
    def stand(self) -> int:
        return self.next - 1

    def declared(self, serial: int) -> bool:
        return any(gap.pub_seq <= serial <= gap.serial for gap in self.gaps)

    def is_missing(self, serial: int) -> bool:
        return (
            self.start < serial
            and serial not in self.delivered
            and serial not in self.damaged
            and not self.declared(serial)
        )

    def missing(self, after: int, up_to: int) -> list[int]:
        """Missing serials in (``after``, ``up_to``]."""
        stop = min(up_to, after + MOST_SERIALS)
        return [serial for serial in range(after + 1, stop + 1) if self.is_missing(serial)]


@dataclass(frozen=True)
class Event:
    """Something wrong with one record of a subscriber: class and record."""

    anomaly: str
    record: Record


@dataclass
class Subscriber:
    """One client on one channel: its segments, what came outside any window, and what was wrong."""

    client: int
    channel: int
    windows: list[Window] = field(default_factory=list)
    orphans: list[Record] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


def subscribers(case: Case) -> list[Subscriber]:
    """All that ever subscribed or received; client 0 only reads."""
    found = []
    for client in case.clients:
        for channel in case.channels:
            if client == 0:
                continue
            subscriber = Subscriber(client, channel)
            _cut_into_windows(case, subscriber)
            if subscriber.windows or subscriber.orphans:
                _Walk(case, subscriber).go()
                found.append(subscriber)
    return found


def _cut_into_windows(case: Case, subscriber: Subscriber) -> None:
    window: Window | None = None
    for record in case.records:
        if record.client != subscriber.client:
            continue
        about = record.channel == subscriber.channel
        ends = record.kind == Kind.CLOSE or (about and record.kind in (Kind.UNSUB, Kind.SUB))
        if ends and window is not None:
            window.end, window = record, None
        if about and record.kind == Kind.SUB:
            window = Window(record)
            subscriber.windows.append(window)
        if about and record.kind in (Kind.RECV, Kind.GAP, Kind.LIVE):
            (subscriber.orphans if window is None else window.records).append(record)


class _Walk:
    """Goes through one subscriber's windows, record by record."""

    def __init__(self, case: Case, subscriber: Subscriber) -> None:
        self.case, self.subscriber = case, subscriber
        self.lineage = Lineage(case, subscriber.channel)
        self.segment: Segment | None = None

    def accuse(self, anomaly: str, record: Record) -> None:
        self.subscriber.events.append(Event(anomaly, record))

    def begin(self, epoch: int, start: int, window: Window) -> Segment:
        self.segment = Segment(self.subscriber.client, self.subscriber.channel, epoch, start, [window])
        self.subscriber.segments.append(self.segment)
        return self.segment

    def go(self) -> None:
        for orphan in self.subscriber.orphans:
            if orphan.kind == Kind.RECV and not orphan.has(Flag.BAD_DIGEST):
                self.accuse("D7", orphan)
        for window in self.subscriber.windows:
            self.open(window)
            for number, record in enumerate(window.records):
                if record.kind == Kind.GAP:
                    self.gap(window, record, first=number == 0)
                elif record.kind == Kind.RECV:
                    self.receive(window, record)

    # ── SUB ───────────────────────────────────────────────────────────────────────────────

    def open(self, window: Window) -> None:
        sub, before = window.sub, self.segment
        asked_epoch, asked = sub.asked
        went_on = bool(asked_epoch) and self.lineage.holds(sub.epoch, sub.asked) and sub.serial == asked
        if (
            before is not None
            and window.resumed
            and went_on
            and asked == before.stand
            and self.lineage.holds(sub.epoch, (before.epoch, before.stand))
        ):
            before.windows.append(window)
            before.epoch = sub.epoch
        else:
            self.begin(sub.epoch, sub.serial, window)
        if not asked_epoch:
            return
        if window.resumed:
            if not self.lineage.holds(sub.epoch, sub.asked):
                self.accuse("D2", sub)  # another epoch's stream
            elif sub.serial > asked:
                self.accuse("D2", sub)  # the serials in between are missing
            return
        hole = not self.lineage.holds(sub.epoch, sub.asked) or sub.serial > asked
        follows = window.records[0] if window.records else None
        if hole and follows is not None and follows.kind != Kind.GAP:
            self.accuse("D3", sub)

    # ── GAP ───────────────────────────────────────────────────────────────────────────────

    def gap(self, window: Window, gap: Record, *, first: bool) -> None:
        segment, sub = self.segment, window.sub
        assert segment is not None
        if first and not window.resumed and sub.asked[0]:
            asked_epoch, asked = sub.asked
            said = gap.publisher, gap.pub_seq, gap.epoch, gap.serial
            if said != (asked_epoch, asked + 1, sub.epoch, sub.serial):
                self.accuse("D3", gap)
            return
        real = self.lineage.holds(segment.epoch, (gap.publisher, gap.pub_seq - 1)) and self.follows(
            segment, gap.pub_seq
        )
        goes_on = self.lineage.holds(gap.epoch, (segment.epoch, segment.stand))
        if not real or (goes_on and gap.serial < gap.pub_seq):
            self.accuse("D3", gap)
        if not goes_on:
            self.begin(gap.epoch, gap.serial, window)
            return
        segment.epoch = gap.epoch
        segment.gaps.append(gap)
        segment.next = max(segment.next, gap.serial + 1)

    def follows(self, segment: Segment, serial: int) -> bool:
        """Whether a serial is the next one; where echo is off, one's own may stand in between."""
        if serial == segment.next:
            return True
        return not self.case.echo and serial > segment.next

    # ── RECV ──────────────────────────────────────────────────────────────────────────────

    def receive(self, window: Window, record: Record) -> None:
        segment, serial = self.segment, record.serial
        assert segment is not None
        if record.epoch != segment.epoch:
            segment = self.change_epoch(window, segment, record)
        if record.has(Flag.BAD_DIGEST):  # witnesses its serial, and nothing else
            segment.damaged.add(serial)
            segment.next = max(segment.next, serial + 1)
            segment.last = max(segment.last, serial)
            return
        segment.arrivals.append(record)
        own = record.publisher == record.client and not record.has(Flag.FOREIGN)
        if own and not self.case.echo:
            self.accuse("D8", record)
        if serial in segment.delivered:
            self.accuse("D5", record)
        elif serial <= segment.start:
            self.accuse("D5" if window.resumed else "D9", record)
        elif serial in segment.damaged:
            pass
        elif segment.declared(serial):
            self.accuse("D3", next(gap for gap in segment.gaps if gap.pub_seq <= serial <= gap.serial))
        elif serial < segment.next:
            self.accuse("D6", record)
        segment.delivered.add(serial)
        segment.next = max(segment.next, serial + 1)
        segment.last = max(segment.last, serial)

    def change_epoch(self, window: Window, segment: Segment, record: Record) -> Segment:
        """A message of another epoch than the last one, with no GAP in between."""
        if self.lineage.holds(record.epoch, (segment.epoch, segment.stand)):
            segment.epoch = record.epoch
            return segment
        parent = self.lineage.parents.get(record.epoch)
        if parent is not None and parent[0] == segment.epoch:  # back to the fork, as EPOCH told
            return self.begin(record.epoch, parent[1], window)
        self.accuse("D2" if window.resumed else "D3", record)
        return self.begin(record.epoch, record.serial - 1, window)
