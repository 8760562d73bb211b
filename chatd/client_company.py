"""The others in a channel, as a client sees them: who is present, who types, how far they have read.

Sans-I/O. ``Company`` also keeps what this client has read, because a server that is restarted forgets
it: it is reported again after each ``live``. PROTOCOL.md § Presence, § Typing, § Receipts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .protocol import messages
from .protocol.messages import ReceiptKind


@dataclass(frozen=True, slots=True)
class Present:
    """Who is present in a channel now.

    ``members`` has what each of them says of himself, by user; None when they are more than the server
    tells (only ``count`` is known then).
    """

    channel: str
    count: int
    members: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Typing:
    """A user began to type, goes on, or (``on`` false) stopped. Nothing more for ``ttl_s``: he stopped."""

    channel: str
    user: str
    on: bool
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """A user has got all up to serial ``delivered``, and read all up to ``read``; 0: he does not say."""

    channel: str
    user: str
    delivered: int
    read: int


Signal = Present | Typing | Receipt
"""What has no place in the stream, and may be left out of it when the client is slow."""


@dataclass(slots=True)
class Table:
    """The members of one channel, after the rules of PROTOCOL.md § Presence."""

    version: int = -1
    members: dict[str, Any] | None = None

    def hear(self, frame: messages.Presence) -> Present | None:
        """None: a push before this one was left out; the server sends the whole list later."""
        if frame.changes is None:
            listed = frame.members
            self.members = None if listed is None else {m.user: msgspec.json.decode(m.data) for m in listed}
        elif frame.version == self.version + 1 and self.members is not None:
            for change in frame.changes:
                if change.op == "leave":
                    self.members.pop(change.user, None)
                else:
                    self.members[change.user] = msgspec.json.decode(change.data)
        else:
            return None
        self.version = frame.version
        return Present(frame.channel, frame.count, None if self.members is None else dict(self.members))


@dataclass(slots=True)
class Company:
    """What a client says of itself, and hears of the others; outlives connections."""

    _tables: dict[str, Table] = field(default_factory=dict)
    _marks: dict[str, dict[ReceiptKind, int]] = field(default_factory=dict)

    def tell(self, notice: messages.Notice) -> bytes | None:
        """The frame of a notice; None: a receipt that says nothing new."""
        if isinstance(notice, messages.ReceiptNotice):
            marks = self._marks.setdefault(notice.channel, {})
            if notice.serial <= marks.get(notice.kind, 0):
                return None
            marks[notice.kind] = notice.serial
        return messages.encode(notice)

    def live(self, channel: str) -> Iterator[bytes]:
        """A subscription is open again: the frames to send, in case the server was restarted."""
        for kind, serial in self._marks.get(channel, {}).items():
            yield messages.encode(messages.ReceiptNotice(channel=channel, serial=serial, kind=kind))

    def left(self, channel: str) -> None:
        """The application has unsubscribed."""
        self._marks.pop(channel, None)
        self._tables.pop(channel, None)

    def hear(self, frame: messages.Presence | messages.Typing | messages.Receipt) -> list[Signal]:
        """A push of a channel that is subscribed."""
        match frame:
            case messages.Presence():
                present = self._tables.setdefault(frame.channel, Table()).hear(frame)
                return [] if present is None else [present]
            case messages.Typing():
                return [Typing(frame.channel, frame.user, frame.on, frame.ttl_ms / 1000)]
            case messages.Receipt():
                return [Receipt(frame.channel, mark.user, mark.delivered, mark.read) for mark in frame.marks]
