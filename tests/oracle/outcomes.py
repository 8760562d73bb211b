"""Messages: where they were sent, what answered, where they were seen, and how the attempts fold."""

from __future__ import annotations

from enum import Enum
from functools import cached_property

from reports.history import Flag, Kind
from tests.oracle.case import Case, Message, Record
from tests.oracle.lineage import Lineage, Place


class Outcome(Enum):
    OK = "acked"
    FAIL = "refused for certain"
    COMMITTED = "not answered, yet seen"
    INFO = "not answered, never seen"


class Messages:
    """The messages of one channel."""

    def __init__(self, case: Case, channel: int) -> None:
        self.case, self.channel, self.lineage = case, channel, Lineage(case, channel)
        here = [r for r in case.records if r.channel == channel]
        self.sends = [r for r in here if r.kind == Kind.SEND]
        self.acks = [r for r in here if r.kind == Kind.ACK and r.epoch]
        self.nacks = [r for r in here if r.kind == Kind.NACK]
        self.bodies = [r for r in here if r.shows]
        self.arrivals = [r for r in here if r.kind in (Kind.RECV, Kind.READ)]  # damaged and foreign ones too

    def sends_of(self, message: Message) -> list[Record]:
        return [r for r in self.sends if r.message == message]

    def first_sent_ns(self, message: Message) -> int | None:
        return min((r.t for r in self.sends_of(message)), default=None)

    def place(self, record: Record) -> Place:
        return self.lineage.place(record.epoch, record.serial)

    @cached_property
    def known(self) -> list[Message]:
        """All messages that were sent, answered or seen here."""
        return sorted({r.message for r in (*self.sends, *self.acks, *self.bodies)})

    @cached_property
    def shown(self) -> set[Place]:
        """Places that an ack, a delivery or a read showed."""
        return {self.place(r) for r in (*self.acks, *self.arrivals)}

    def seen_at(self, message: Message) -> set[Place]:
        """Where bodies show a message."""
        return {self.place(r) for r in self.bodies if r.message == message}

    def acked_at(self, message: Message) -> set[Place]:
        return {self.place(r) for r in self.acks if r.message == message}

    def stands_at(self, message: Message) -> set[Place]:
        """Where bodies show it; where none does, where an ack says so."""
        return self.seen_at(message) or self.acked_at(message)

    @cached_property
    def owners(self) -> dict[Place, set[int]]:
        """Whose message is at a place, by bodies and acks."""
        owners: dict[Place, set[int]] = {}
        for record in (*self.bodies, *self.acks):
            owners.setdefault(self.place(record), set()).add(record.publisher)
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
        return Outcome.COMMITTED if self.seen_at(message) else Outcome.INFO


class Reads:
    """The complete final reads of one channel: SUB … LIVE of client 0."""

    def __init__(self, case: Case, channel: int) -> None:
        self.reads: list[FinalRead] = []
        begun: FinalRead | None = None
        for record in case.records:
            if record.client != 0 or record.file != 0 or record.channel != channel:
                continue
            if record.kind == Kind.SUB:
                begun = FinalRead(record)
            elif begun is None:
                continue
            elif record.kind == Kind.READ:
                begun.entries.append(record)
            elif record.kind == Kind.GAP:
                begun.gaps.append(record)
            elif record.kind == Kind.LIVE:
                begun.live = record
                self.reads.append(begun)
                begun = None


class FinalRead:
    """One final read."""

    def __init__(self, sub: Record) -> None:
        self.sub = sub
        self.live = sub  # replaced when its LIVE comes
        self.entries: list[Record] = []
        self.gaps: list[Record] = []

    @property
    def epoch(self) -> int:
        return self.live.epoch

    @property
    def serials(self) -> range:
        """What it covers: from its floor to its head, less nothing (``covers`` knows of gaps)."""
        floor = max(self.sub.serial + 1, self.live.pub_seq)
        return range(floor, self.live.serial + 1)

    def covers(self, serial: int) -> bool:
        declared = any(gap.pub_seq <= serial <= gap.serial for gap in self.gaps)
        return self.sub.epoch == self.live.epoch and serial in self.serials and not declared

    def at(self, serial: int) -> list[Record]:
        return [entry for entry in self.entries if entry.serial == serial]
