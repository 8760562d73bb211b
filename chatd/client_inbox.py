"""One channel as a subscriber sees it: what may be shown, and what must be asked for again.

Sans-I/O. Frames of one channel go in; out come ``Message`` and ``GapNotice`` values in
stream order, each message once, and the word ``HOLE`` when something is missing that the
server did not declare. What to do about a hole (subscribe again from ``position``) is the
business of ``chatd.client_core``, which owns the requests.

While an answer to a subscribe is awaited, every push of the channel is dropped: it belongs
to the subscription that is being replaced, and the replay carries it again.
PROTOCOL.md § Client rules.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import msgspec

from .protocol import messages
from .protocol.cursor import Backoff, Cursor, Step
from .protocol.messages import From, GapWhy, Position

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a channel, at its place in the stream.

    ``id`` was chosen by the publisher, ``(epoch, serial)`` by the server. ``raw`` is the body
    as the publisher wrote it, JSON bytes; ``data`` reads it.
    """

    channel: str
    epoch: str
    serial: int
    id: str
    user: str
    time_ms: int  # since 1970, by the server's clock
    kind: str  # text, react, edit or delete
    raw: bytes
    to: int | None = None  # of a reaction, an edit or a deletion: the serial that it is about

    @property
    def position(self) -> Position:
        """The place of this message; a subscription ``from_`` here goes on after it."""
        return self.epoch, self.serial

    @property
    def data(self) -> Any:
        """The body, decoded anew at every access."""
        return msgspec.json.decode(self.raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class GapNotice:
    """The server said that it cannot deliver what lies between two positions.

    ``from_`` is the last position that the application has seen, ``to`` the one before the
    next message. Within one epoch the serials ``from_ + 1 .. to`` are missing, both included.
    """

    channel: str
    why: GapWhy
    from_: Position
    to: Position

    @property
    def missing(self) -> range | None:
        """The missing serials, possibly none; None when the stream's epoch changed."""
        if self.from_[0] != self.to[0]:
            return None
        return range(self.from_[1] + 1, self.to[1] + 1)


Item = Message | GapNotice


def read_message(frame: messages.Message, epoch: str) -> Message:
    """What the application gets for a ``message`` frame."""
    return Message(
        channel=frame.channel,
        epoch=epoch,
        serial=frame.serial,
        id=frame.message,
        user=frame.user,
        time_ms=frame.time,
        kind=frame.kind,
        raw=bytes(frame.data),
        to=frame.to,
    )


class Sign(enum.Enum):
    """What an inbox asks of its owner."""

    HOLE = "hole"


HOLE: Final = Sign.HOLE


@dataclass(frozen=True, slots=True)
class Wants:
    """What a subscription asks for beside its messages."""

    presence: bool = False  # who is present
    signals: bool = False  # who types, and who has read what


PLAIN: Final = Wants()


@dataclass(slots=True)
class Inbox(Generic[T]):
    """The state of one subscription; outlives connections.

    ``ticket`` is the caller's handle for the first answer, opaque here; None once given.
    """

    channel: str
    from_: From
    ticket: T | None
    cursor: Cursor = field(default_factory=Cursor)
    request: int | None = None  # id of the subscribe that awaits its answer
    subscribed: bool = False  # on this connection: pushes count
    live: bool = False  # the replay is over
    paused: bool = False  # the application is behind: nothing is taken until it has caught up
    repaired: Position | None = None  # where the last repair asked from: asking there again cannot help
    backoff: Backoff = field(default_factory=Backoff)
    wants: Wants = PLAIN

    def __post_init__(self) -> None:
        if isinstance(self.from_, tuple):
            self.cursor.start(*self.from_)

    def payload(self, request: int) -> bytes:
        """The frame that subscribes, under the id ``request``."""
        self.request = request
        presence = self.wants.presence
        return messages.encode(
            messages.Subscribe(id=request, channel=self.channel, from_=self.ask, presence=presence)
        )

    def hears(self, frame: messages.Presence | messages.Typing | messages.Receipt) -> bool:
        """Whether the application wants this push."""
        wanted = self.wants.presence if isinstance(frame, messages.Presence) else self.wants.signals
        return self.subscribed and wanted

    @property
    def ask(self) -> From:
        """What a subscribe says in ``from``: the position once there is one."""
        return self.cursor.position or self.from_

    def disconnected(self) -> None:
        """The connection, and so the subscription on it, is gone; the position stays."""
        self.request, self.subscribed, self.live = None, False, False

    def answered(self, frame: messages.Subscribed) -> list[Item]:
        """The server answered: delivery starts. A gap here is the first thing of the stream."""
        before, now = self.cursor.position, (frame.position[0], frame.start)
        self.request, self.subscribed, self.backoff = None, True, Backoff()
        if before is None:
            self.cursor.start(*now)
            return []
        if frame.gap is None and (frame.resumed or now == before):
            # Resumed, perhaps under the epoch that follows ours: the serials go on.
            self.cursor.start(now[0], before[1])
            return []
        # Without a resume there must be a gap; a server that says neither is taken at its start.
        why: GapWhy = frame.gap.why if frame.gap else "trimmed" if now[0] == before[0] else "epoch"
        return self._jump(why, now)

    def message(self, frame: messages.Message, *, dense: bool) -> list[Item] | Sign:
        """A message arrived. ``dense``: serials come without holes (false where echo is off)."""
        if not self.subscribed:
            return []
        step = self.cursor.receive(frame.serial)
        if step is Step.REPEAT:
            return []
        if step is Step.GAP:
            if dense:
                return HOLE
            self.cursor.observe(frame.serial)
        assert self.cursor.epoch is not None
        return [read_message(frame, self.cursor.epoch)]

    def reached(self, frame: messages.Live, *, dense: bool) -> list[Item] | Sign:
        """The replay is over. A position above ours means that its tail never came."""
        if not self.subscribed:
            return []
        if dense and frame.position[1] > self.cursor.serial:
            return HOLE
        self.live = True
        return []

    def gap(self, frame: messages.Gap) -> list[Item] | Sign:
        """The server declares a gap in the middle of the stream."""
        if not self.subscribed:
            return []
        (epoch, serial), ours = frame.from_, self.cursor.serial
        if epoch == self.cursor.epoch and serial > ours:
            return HOLE  # what lies before the gap is still missing
        if frame.to[0] == self.cursor.epoch and frame.why in ("trimmed", "lag") and frame.to[1] <= ours:
            return []  # seen already
        return self._jump(frame.why, frame.to)

    def reset(self, frame: messages.Reset) -> list[Item]:
        """The stream goes on under a new epoch after serial ``fork``."""
        before, epoch = self.cursor.position, frame.position[0]
        if not self.subscribed or before is None or before[0] == epoch:
            return []
        if before[1] <= frame.fork:
            self.cursor.fork(epoch, frame.fork)
            return []
        return self._jump("fork", (epoch, frame.fork))

    def _jump(self, why: GapWhy, to: Position) -> list[Item]:
        before = self.cursor.position
        assert before is not None
        self.cursor.start(*to)
        return [GapNotice(channel=self.channel, why=why, from_=before, to=to)]
