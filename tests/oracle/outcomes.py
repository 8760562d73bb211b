"""Messages: where they were sent, what answered, where they were seen, and how the attempts fold."""

from __future__ import annotations

from enum import Enum
from functools import cached_property

from reports.history import Flag, Kind
from tests.oracle.case import Case, Message, Record
from tests.oracle.lineage import Lineage, Place
from tests.oracle.windows import Subscriber, subscribers


class Outcome(Enum):
    OK = "acked"
    FAIL = "refused for certain"
    COMMITTED = "not answered, yet seen"
    INFO = "not answered, never seen"


class Messages:
    """The messages of one channel."""

    def __init__(self, case: Case, channel: int) -> None:
        self.case, self.channel, self.lineage = case, channel, Lineage(case, channel)
        here = case.of_channel(channel)
        self.sends = [r for r in here if r.kind == Kind.SEND]
        self.acks = [r for r in here if r.kind == Kind.ACK]
        self.nacks = [r for r in here if r.kind == Kind.NACK]
        self.arrivals = [  # damaged and foreign ones too
            r
            for r in here
            if (r.kind == Kind.RECV and r.client != 0) or (r.kind == Kind.READ and r.client == 0)
        ]
        self.bodies = [r for r in self.arrivals if r.shows]
        self.at_home = [r for r in self.bodies if case.homes.get(r.message) == channel]

    def place(self, record: Record) -> Place:
        return self.lineage.place(record.epoch, record.serial)

    @cached_property
    def subscribers(self) -> list[Subscriber]:
        return subscribers(self.case, self.channel)

    @cached_property
    def _sends(self) -> dict[Message, list[Record]]:
        found: dict[Message, list[Record]] = {}
        for r in self.sends:
            found.setdefault(r.message, []).append(r)
        return found

    def sends_of(self, message: Message) -> list[Record]:
        return self._sends.get(message, [])

    def first_sent_ns(self, message: Message) -> int | None:
        return min((r.t for r in self.sends_of(message)), default=None)

    @cached_property
    def sent(self) -> list[Message]:
        return sorted(self._sends)

    def _places(self, records: list[Record]) -> dict[Message, set[Place]]:
        found: dict[Message, set[Place]] = {}
        for r in records:
            found.setdefault(r.message, set()).add(self.place(r))
        return found

    @cached_property
    def seen_at(self) -> dict[Message, set[Place]]:
        """Where bodies show each message that was sent to this channel."""
        return self._places(self.at_home)

    @cached_property
    def acked_at(self) -> dict[Message, set[Place]]:
        return self._places(self.acks)

    @cached_property
    def holders(self) -> dict[Place, set[Message]]:
        """Which of the channel's messages bodies show at each place."""
        found: dict[Place, set[Message]] = {}
        for r in self.at_home:
            found.setdefault(self.place(r), set()).add(r.message)
        return found

    @cached_property
    def stands(self) -> dict[Message, Place]:
        """Messages whose one place is known: where they were seen, or, seen nowhere, where their acks say.

        Messages at two places, and two messages at one, are other classes' business.
        """
        known = {}
        for message in self.sent:
            places = self.seen_at.get(message) or self.acked_at.get(message) or set()
            if len(places) == 1:
                known[message] = next(iter(places))
        alone = list(known.values())
        return {message: place for message, place in known.items() if alone.count(place) == 1}

    @cached_property
    def shown(self) -> set[Place]:
        """Places that an ack, a delivery or a read showed, damaged ones too."""
        return {self.place(r) for r in (*self.acks, *self.arrivals)}

    @cached_property
    def owners(self) -> dict[Place, set[int]]:
        """Whose message is at a place, by bodies, or, where none of this channel's is seen there, by acks."""
        owners: dict[Place, set[int]] = {}
        for r in self.bodies:
            owners.setdefault(self.place(r), set()).add(r.publisher)
        for r in self.acks:
            if self.place(r) not in self.holders:
                owners.setdefault(self.place(r), set()).add(r.publisher)
        return owners

    def outcome(self, message: Message) -> Outcome:
        if any(r.message == message for r in self.acks):
            return Outcome.OK
        refusals = [
            r
            for r in self.nacks
            if r.message == message
            and not r.has(Flag.NOT_OPEN)
            and (r.has(Flag.DEFINITE) or r.t2 == 0)  # 0: the write was never made
        ]
        attempts = self.sends_of(message)
        if attempts and len(refusals) >= len(attempts):
            return Outcome.FAIL
        return Outcome.COMMITTED if message in self.seen_at else Outcome.INFO


class FinalRead:
    """One complete final read of one channel: SUB … LIVE of client 0."""

    def __init__(self, sub: Record, live: Record, between: list[Record]) -> None:
        self.sub, self.live = sub, live
        self.entries = [r for r in between if r.kind == Kind.READ]
        self.gaps = [r for r in between if r.kind == Kind.GAP]  # trimmed while it was read
        self.asked_ns = sub.t2 or sub.t
        self.epoch = live.epoch or sub.epoch
        self.floor, self.head = max(sub.serial + 1, live.pub_seq), live.serial

    def covers(self, serial: int) -> bool:
        declared = any(gap.pub_seq <= serial <= gap.serial for gap in self.gaps)
        return self.floor <= serial <= self.head and not declared

    def at(self, serial: int) -> list[Record]:
        return [entry for entry in self.entries if entry.serial == serial]


def final_reads(case: Case, channel: int) -> list[FinalRead]:
    """In order. A read without its LIVE proves nothing."""
    found: list[FinalRead] = []
    sub: Record | None = None
    between: list[Record] = []
    for r in case.of_client(0):
        if r.channel != channel:
            continue
        if r.kind == Kind.SUB:
            sub, between = r, []
        elif r.kind == Kind.LIVE and sub is not None:
            found.append(FinalRead(sub, r, between))
            sub = None
        else:
            between.append(r)
    return found
