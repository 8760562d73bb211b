"""What the client core tells its owner to do, and the other values that the two share.

Plain values: ``chatd.client`` performs them on a socket, the tests compare them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import msgspec

from .client_company import Signal
from .client_inbox import Item, Message, read_message
from .protocol import messages
from .protocol.errors import ERRORS, ChatdError, Internal
from .protocol.messages import Position

T = TypeVar("T")


class State(enum.Enum):
    """Where the connection is."""

    WAITING = "waiting"  # until it is time to dial again
    DIALING = "dialing"
    OPEN = "open"  # `connect` is sent
    CONNECTED = "connected"
    HANGING_UP = "hanging up"  # until `closed`
    OVER = "over"


class ClientEnded(ChatdError):
    """The client is over and does not come back: closed by its owner, or told so by the server.

    ``close_code`` is the server's, or None. A publish that fails with this error may or may not
    have happened; the same ``message`` id, published again within the server's ``dedupe_s``, finds out.
    """

    code = 0
    definite = False

    def __init__(self, reason: str, *, close_code: int | None = None) -> None:
        super().__init__(reason)
        self.close_code = close_code


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A page of what a channel still holds, oldest first.

    ``position`` is the head, ``floor`` the oldest serial retained; ``more`` says that the page was cut.
    """

    position: Position
    floor: int
    messages: list[Message]
    more: bool


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a socket to ``url``."""

    url: str


@dataclass(frozen=True, slots=True)
class Send:
    """Write one text frame."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Hangup:
    """Abort the socket: its peer is silent, or of no use. ``closed`` is expected afterwards."""

    why: str


@dataclass(frozen=True, slots=True)
class Deliver:
    """The next item of a channel's stream, or a signal beside it."""

    channel: str
    item: Item | Signal


@dataclass(frozen=True, slots=True)
class StreamOver:
    """No more items come for this subscription; ``error`` says why when nobody asked for it."""

    channel: str
    error: ChatdError


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """The answer to one request of the application. Each ticket gets one ``Done`` or one ``Failed``."""

    ticket: T
    value: object = None


@dataclass(frozen=True, slots=True)
class Failed(Generic[T]):
    ticket: T
    error: ChatdError


@dataclass(frozen=True, slots=True)
class Renew:
    """Ask the application for a fresh token, and tell ``renewed``."""


@dataclass(frozen=True, slots=True)
class Up:
    """The server said ``connected``."""

    frame: messages.Connected


@dataclass(frozen=True, slots=True)
class Over:
    """The client has ended; nothing follows."""

    error: ChatdError


Action = Dial | Send | Hangup | Deliver | StreamOver | Done[T] | Failed[T] | Renew | Up | Over


Kind = Literal["connect", "subscribe", "unsubscribe", "publish", "read", "auth"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request on this connection: its kind, and the channel or message id that it is about."""

    kind: Kind
    about: str
    sent_s: float


class Requests:
    """The requests of one connection that have no answer yet, in the order in which they were sent."""

    def __init__(self) -> None:
        self.last_id = 0
        self._open: dict[int, Asked] = {}

    def add(self, kind: Kind, about: str, now_s: float) -> int:
        """A request is about to be sent: its id."""
        self.last_id += 1
        self._open[self.last_id] = Asked(kind, about, now_s)
        return self.last_id

    def pop(self, request: int | None, kind: Kind | None = None) -> Asked | None:
        """Take back the one with this id, and of this kind if one is given."""
        asked = None if request is None else self._open.get(request)
        if request is None or asked is None or kind not in (None, asked.kind):
            return None
        return self._open.pop(request)

    @property
    def oldest(self) -> Asked | None:
        return next(iter(self._open.values()), None)

    def clear(self) -> None:
        self._open.clear()


def read_error(frame: messages.Error) -> ChatdError:
    """The exception that stands for an ``error`` frame."""
    cls = ERRORS.get(frame.code)
    if cls is None:
        return Internal(f"{frame.reason} (code {frame.code}, which this client does not know)")
    return cls(frame.reason, after_ms=frame.after_ms)


def read_history(frame: messages.HistoryPage) -> History:
    """A page with its messages decoded, each under the epoch that its serial belongs to.

    Raises:
        msgspec.DecodeError: an entry is no ``message`` frame.
    """
    found: list[Message] = []
    for raw in frame.messages:
        entry = messages.decode_reply(raw)
        if not isinstance(entry, messages.Message):
            raise msgspec.DecodeError(f"type is {type(entry).__name__}: must be message")
        epochs = [epoch for epoch, first in frame.epochs if first <= entry.serial]
        found.append(read_message(entry, epochs[-1] if epochs else frame.position[0]))
    return History(position=frame.position, floor=frame.floor, messages=found, more=frame.more)
