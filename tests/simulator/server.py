"""A correct server's streams: places, memory of what was placed, retention, lives and forks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.builders import Message

from .params import Retention, S

OVERHEAD_BYTES = 60  # of a retained message, besides its body
BODY_BYTES = 100


@dataclass(slots=True)
class Entry:
    """One message in a log, and when it was placed."""

    message: Message
    t: int


@dataclass(slots=True)
class Start:
    """The answer to a subscribe: delivery begins after ``serial``."""

    serial: int
    resumed: bool = False
    gap: str = ""  # why; it goes from what was asked for to ``serial``


@dataclass(slots=True)
class Stream:
    """One channel: the log of its present life, and how that life came about."""

    lineage: list[tuple[int, int]]  # [epoch, its first serial], oldest first; the last is the present one
    log: list[Entry] = field(default_factory=list)  # index = serial - 1
    floor: int = 1
    placed: dict[Message, int] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        return self.lineage[-1][0]

    @property
    def head(self) -> int:
        return len(self.log)

    def append(self, message: Message, t: int) -> int:
        self.log.append(Entry(message, t))
        self.placed[message] = len(self.log)
        return len(self.log)

    def epoch_of(self, serial: int) -> int:
        """The epoch in which a serial was given."""
        return next(epoch for epoch, first in reversed(self.lineage) if serial >= first)

    def locate(self, asked: tuple[int, int]) -> Start:
        """Where one who asks for a position goes on."""
        epoch, serial = asked
        forks = [first - 1 for _, first in self.lineage[1:]]
        epochs = [known for known, _ in self.lineage]
        if epoch not in epochs:
            return Start(self.floor - 1, gap="epoch")
        after = forks[epochs.index(epoch) :]
        if after and serial > min(after):
            return Start(max(min(after), self.floor - 1), gap="fork")
        if serial > self.head:
            return Start(self.head, gap="ahead")
        if serial + 1 < self.floor:
            return Start(self.floor - 1, gap="trimmed")
        return Start(serial, resumed=True)

    def evict(self, now: int, keep: Retention, may: Callable[[], bool]) -> bool:
        """Let go of what retention does not hold any more, as far as ``may`` says; whether anything went."""
        floor, head = self.floor, self.head
        size = (head - floor + 1) * (BODY_BYTES + OVERHEAD_BYTES)
        while floor <= head and may():
            beyond_n, beyond_bytes = head - floor + 1 > keep.n, size > keep.bytes
            if not (beyond_n or beyond_bytes or now - self.log[floor - 1].t > keep.s * S):
                break
            floor += 1
            size -= BODY_BYTES + OVERHEAD_BYTES
        moved, self.floor = floor > self.floor, floor
        return moved

    def begin_again(self, epoch: int) -> None:
        """The log is lost: another life."""
        self.lineage, self.log, self.floor, self.placed = [(epoch, 1)], [], 1, {}

    def fork(self, epoch: int, fork: int) -> None:
        """What stands after ``fork`` is given up; the rest goes on under another name."""
        self.lineage = [*self.lineage, (epoch, fork + 1)]
        for entry in self.log[fork:]:
            del self.placed[entry.message]
        self.log = self.log[:fork]
        self.floor = min(self.floor, fork + 1)
