"""Windows and segments: when a client was subscribed, and where its stream may not break.

A window is one subscription of one client. A segment is windows that go on from each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from reports.history import Flag, Kind
from tests.oracle.case import Case, Record
from tests.oracle.lineage import Lineage


@dataclass
class Window:
    """From SUB to the first of UNSUB, CLOSE, the next SUB of the channel, the end of the log.

    A GAP into another epoch, or an EPOCH that tells of one, inside a window opens a window of its own.
    """

    opened_by: Record
    start: int  # delivery starts after this serial
    records: list[Record] = field(default_factory=list)  # RECV, GAP and LIVE in it
    end: Record | None = None
    top: int = 0  # where the client stood at its end: start, received, or end of a declared gap

    @property
    def epoch(self) -> int:
        return self.opened_by.epoch

    @property
    def turned(self) -> bool:
        """Not opened by a SUB."""
        return self.opened_by.kind != Kind.SUB

    @property
    def resumed(self) -> bool:
        return not self.turned and self.opened_by.has(Flag.RESUMED)

    @property
    def asked(self) -> tuple[int, int]:
        """(epoch, serial) that the SUB asked for; (0, 0): none."""
        return (0, 0) if self.turned else self.opened_by.asked

    @property
    def gaps(self) -> list[Record]:
        return [r for r in self.records if r.kind == Kind.GAP]

    @property
    def live(self) -> Record | None:
        """The end of its replay."""
        return next((r for r in self.records if r.kind == Kind.LIVE), None)

    @property
    def replay_end(self) -> int:
        """Up to which serial ``resumed`` promised everything: its LIVE, or, cut before, where it stood."""
        return self.top if self.live is None else self.live.serial

    def is_open(self, t_ns: int) -> bool:
        return self.opened_by.t <= t_ns and (self.end is None or self.end.t > t_ns)


@dataclass
class Segment:
    """A stretch of one client's stream in which nothing may be missing, repeated or late."""

    client: int
    channel: int
    windows: list[Window] = field(default_factory=list)
    counted: list[Record] = field(default_factory=list)  # intact arrivals of this run, after the start
    early: list[Record] = field(default_factory=list)  # at or before the start
    witnessed: set[int] = field(default_factory=set)  # serials that arrived damaged or foreign

    @property
    def start(self) -> int:
        return self.windows[0].start

    @property
    def top(self) -> int:
        return self.windows[-1].top

    def declared(self, serial: int) -> bool:
        return any(gap.pub_seq <= serial <= gap.serial for w in self.windows for gap in w.gaps)

    def window_of(self, serial: int) -> Window | None:
        """The window in which a serial should have arrived."""
        return next((w for w in self.windows if w.start < serial <= w.top), None)


@dataclass
class Subscriber:
    """One client on one channel."""

    client: int
    channel: int
    windows: list[Window] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    outside: list[Record] = field(default_factory=list)  # RECV with no window open
    strangers: list[tuple[Window, Record]] = field(default_factory=list)  # RECV of another stream


def subscribers(case: Case, channel: int) -> list[Subscriber]:
    """All that ever subscribed or received; client 0 only reads."""
    lineage = Lineage(case, channel)
    found = []
    for client in case.clients:
        subscriber = Subscriber(client, channel)
        if client == 0:
            continue
        _cut_into_windows(case.of_client(client), subscriber)
        _chain(case, lineage, subscriber)
        found.append(subscriber)
    return found


def _cut_into_windows(records: list[Record], subscriber: Subscriber) -> None:
    window: Window | None = None
    early_gaps: list[Record] = []  # before the SUB that they are about
    for r in records:
        about = r.channel == subscriber.channel
        if r.kind == Kind.CLOSE or (about and r.kind in (Kind.UNSUB, Kind.SUB)):
            if window is not None:
                window.end, window = r, None
        if not about:
            continue
        if r.kind == Kind.SUB:
            window = Window(r, r.serial, early_gaps)
            early_gaps = []
            subscriber.windows.append(window)
        elif window is None:
            if r.kind == Kind.GAP:
                early_gaps.append(r)
            elif r.kind == Kind.RECV:
                subscriber.outside.append(r)
        elif r.kind in (Kind.EPOCH, Kind.GAP) and r.epoch not in (0, window.epoch):
            window.end = r
            window = Window(r, 0)  # its start is known when the one before is walked
            subscriber.windows.append(window)
        if window is not None and r.kind in (Kind.RECV, Kind.GAP, Kind.LIVE):
            window.records.append(r)


def _chain(case: Case, lineage: Lineage, subscriber: Subscriber) -> None:
    """Find where the client stood at the end of each window, and which windows go on from the one before."""
    before: Window | None = None
    for window in subscriber.windows:
        goes_on = before is not None and _goes_on(lineage, before, window)
        if before is not None and window.turned:
            fork = window.opened_by.serial
            is_gap = window.opened_by.kind == Kind.GAP
            window.start = before.top if goes_on else fork if is_gap else min(before.top, fork)
        if not goes_on:
            subscriber.segments.append(Segment(subscriber.client, subscriber.channel))
        segment = subscriber.segments[-1]
        segment.windows.append(window)
        window.top = max([window.start, *(gap.serial for gap in window.gaps)])
        for r in window.records:
            if r.kind != Kind.RECV:
                continue
            if not _belongs(lineage, window, r):
                subscriber.strangers.append((window, r))
                continue
            window.top = max(window.top, r.serial)
            _arrive(case, segment, r)
        before = window


def _goes_on(lineage: Lineage, before: Window, window: Window) -> bool:
    """Whether a window continues the one before it: resumed from exactly where the client stood."""
    if not lineage.goes_on(before.epoch, window.epoch, before.top):
        return False
    if window.turned:
        return True
    asked_epoch, asked = window.asked
    return (
        window.resumed
        and asked == before.top == window.start
        and lineage.holds(before.epoch, (asked_epoch, asked))
    )


def _belongs(lineage: Lineage, window: Window, r: Record) -> bool:
    """Whether a message is of the stream that its window serves."""
    after = max(window.start, window.opened_by.serial)
    return lineage.holds(window.epoch, (r.epoch, r.serial)) or lineage.goes_on(window.epoch, r.epoch, after)


def _arrive(case: Case, segment: Segment, r: Record) -> None:
    if not r.shows:
        segment.witnessed.add(r.serial)
    elif r.publisher == r.client and not case.echo:
        pass  # D8's, and no part of the stream
    elif r.serial <= segment.start:
        segment.early.append(r)
    else:
        segment.counted.append(r)
