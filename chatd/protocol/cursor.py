"""Sans-I/O core of a chatd client: where it is in a channel, what it has not had
acked, when it may dial again.

``chatd.client`` and the load driver share these three values. They do no I/O, read
no clock and draw no randomness of their own: ``now_s`` and ``rng`` are arguments.
Client rules: PROTOCOL.md § Client rules.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .messages import Position

T = TypeVar("T")


class Step(enum.Enum):
    """What an arriving serial means to a client that wants each message once, in order."""

    DELIVER = "deliver"
    REPEAT = "repeat"  # serial <= last: drop it
    GAP = "gap"  # serial > last + 1: do not render; subscribe again from `position`


@dataclass(slots=True)
class Cursor:
    """A client's place in one channel. Never raises on what a server sends.

    >>> cursor = Cursor()
    >>> cursor.start("E1", 40)
    >>> cursor.receive(41), cursor.receive(43), cursor.position
    (<Step.DELIVER: 'deliver'>, <Step.GAP: 'gap'>, ('E1', 41))
    """

    epoch: str | None = None  # None until the first answer to a subscribe
    serial: int = 0

    @property
    def position(self) -> Position | None:
        """Where a resume asks from; None before the first subscription was answered."""
        return None if self.epoch is None else (self.epoch, self.serial)

    def start(self, epoch: str, serial: int) -> None:
        """Delivery starts after ``serial`` of ``epoch`` (an answer to subscribe, or a gap's end)."""
        self.epoch, self.serial = epoch, serial

    def receive(self, serial: int) -> Step:
        """Judge the next message; moves only on DELIVER, so that a resume asks from before a hole."""
        if serial <= self.serial:
            return Step.REPEAT
        if serial > self.serial + 1:
            return Step.GAP
        self.serial = serial
        return Step.DELIVER

    def observe(self, serial: int) -> None:
        """Take note of an arrival without judging it: a load client only observes, and resumes
        from the highest serial it has seen."""
        if serial > self.serial:
            self.serial = serial

    def fork(self, epoch: str, fork: int) -> None:
        """The stream went on under a new epoch after serial ``fork``."""
        self.epoch, self.serial = epoch, min(self.serial, fork)


@dataclass(slots=True)
class Outbox(Generic[T]):
    """Publishes without a final answer, in the order they were made.

    After any disconnect, and after an error that is temporary, they are sent again with
    the same message id and in the same order.
    """

    _pending: dict[str, T] = field(default_factory=dict)

    def add(self, message: str, entry: T) -> None:
        self._pending[message] = entry

    def settle(self, message: str) -> T | None:
        """The message got its final answer. None: nothing with that id was open."""
        return self._pending.pop(message, None)

    def get(self, message: str) -> T | None:
        return self._pending.get(message)

    def pending(self) -> list[tuple[str, T]]:
        return list(self._pending.items())

    def __len__(self) -> int:
        return len(self._pending)


@dataclass(slots=True)
class Backoff:
    """Full-jitter exponential backoff, from ``base_s`` to ``cap_s``.

    The attempt counter starts again only when a connection has lasted ``stable_s``, so
    that a server which accepts and drops is not hammered.

    Source: Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """

    base_s: float = 0.5
    cap_s: float = 30.0
    stable_s: float = 5.0
    attempt: int = 0
    _connected_s: float | None = None

    def connected(self, now_s: float) -> None:
        self._connected_s = now_s

    def next_delay_s(self, now_s: float, rng: random.Random) -> float:
        """How long to wait before the next dial, drawn from [0, min(cap, base x 2^attempt))."""
        if self._connected_s is not None and now_s - self._connected_s >= self.stable_s:
            self.attempt = 0
        self._connected_s = None
        ceiling_s = min(self.cap_s, self.base_s * 2.0 ** min(self.attempt, 62))
        self.attempt += 1
        return rng.random() * ceiling_s
