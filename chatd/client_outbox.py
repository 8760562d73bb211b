"""The publishes of a client that have no final answer yet, and which of them may go out now.

Sans-I/O. Order within a channel is the order of publishing, whatever fails. On a fresh
connection everything is sent in that order, each message under the id it always had. After
a temporary error the channel is *blocked*: the server refuses what comes behind the failed
publish (412), so its publishes wait until nothing is under way and ``after_ms`` has passed;
then the oldest goes alone, and its final answer opens the channel again.
PROTOCOL.md § Publishing.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from .protocol import messages
from .protocol.cursor import Backoff, Outbox
from .protocol.errors import ChatdError, OutOfOrder

T = TypeVar("T")


class Fate(enum.Enum):
    """What an error means for a publish."""

    FINAL = "final"  # the application is told
    RETRY = "retry"  # it is sent again, with the same id
    STUCK = "stuck"  # the server waits for a message that is not ours to send: only a new connection helps


@dataclass(slots=True)
class Entry(Generic[T]):
    """One publish. ``request``: the id it is under way with on this connection.

    ``frame`` is what asks for it, less its ``id``, which is another one each time.
    """

    ticket: T
    frame: messages.Write
    request: int | None = None

    @property
    def channel(self) -> str:
        return self.frame.channel

    def payload(self, request: int) -> bytes:
        self.request = request
        return messages.encode(msgspec.structs.replace(self.frame, id=request))


@dataclass(slots=True)
class _Block:
    retry_s: float
    backoff: Backoff = field(default_factory=Backoff)
    probe: str | None = None  # the message that was sent alone


@dataclass(slots=True)
class Publishes(Generic[T]):
    """All open publishes of a client; outlives connections."""

    _outbox: Outbox[Entry[T]] = field(default_factory=Outbox)
    _blocks: dict[str, _Block] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._outbox)

    def get(self, message: str) -> Entry[T] | None:
        return self._outbox.get(message)

    def add(self, message: str, entry: Entry[T]) -> bool:
        """Take a publish on; true when it may be sent at once, behind those under way."""
        self._outbox.add(message, entry)
        return entry.channel not in self._blocks

    def due(self, now_s: float) -> list[tuple[str, Entry[T]]]:
        """What is to be sent now, in order. The caller sends it and sets ``request``."""
        pending = self._outbox.pending()
        due = [(m, e) for m, e in pending if e.request is None and e.channel not in self._blocks]
        for channel, block in self._blocks.items():
            if now_s >= block.retry_s and (head := self._idle_head(channel)) is not None:
                block.probe = head[0]
                due.append(head)
        return due

    def settle(self, message: str) -> Entry[T] | None:
        """A final answer came. Afterwards ask ``due``: it may have opened the channel."""
        entry = self._outbox.settle(message)
        if entry is not None and (block := self._blocks.get(entry.channel)) is not None:
            if block.probe == message or not self._of(entry.channel):
                del self._blocks[entry.channel]
        return entry

    def refused(self, message: str, error: ChatdError, now_s: float, rng: random.Random) -> Fate:
        """The server answered with an error. FINAL leaves the entry for ``settle``."""
        entry = self._outbox.get(message)
        out_of_order = isinstance(error, OutOfOrder)
        if entry is None or not (error.temporary or out_of_order):
            return Fate.FINAL
        entry.request = None
        block = self._blocks.get(entry.channel)
        probed = block is not None and block.probe == message
        if out_of_order and probed:
            return Fate.STUCK
        if block is None:
            block = self._blocks[entry.channel] = _Block(retry_s=now_s)
        if error.temporary:
            block.probe = None
            if error.after_ms is not None:
                block.retry_s = max(block.retry_s, now_s + error.after_ms / 1000)
            elif probed or block.backoff.attempt == 0:
                block.retry_s = max(block.retry_s, now_s + block.backoff.next_delay_s(now_s, rng))
        return Fate.RETRY

    def disconnected(self) -> None:
        """Nothing is under way any more, and a new connection has no blocks."""
        self._blocks.clear()
        for _, entry in self._outbox.pending():
            entry.request = None

    def drain(self) -> list[tuple[str, Entry[T]]]:
        """Give everything up, for a client that ends."""
        pending = self._outbox.pending()
        for message, _ in pending:
            self._outbox.settle(message)
        self._blocks.clear()
        return pending

    @property
    def wake_s(self) -> float | None:
        """When ``due`` will have something that it does not have now; None: only an answer can tell."""
        waits = [b.retry_s for channel, b in self._blocks.items() if self._idle_head(channel) is not None]
        return min(waits, default=None)

    def _of(self, channel: str) -> list[tuple[str, Entry[T]]]:
        return [(m, e) for m, e in self._outbox.pending() if e.channel == channel]

    def _idle_head(self, channel: str) -> tuple[str, Entry[T]] | None:
        """The oldest publish of a channel that has none under way."""
        entries = self._of(channel)
        return entries[0] if entries and all(e.request is None for _, e in entries) else None
