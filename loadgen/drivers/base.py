"""The contract of a driver: how a load client talks to one kind of server.

A driver is a codec without I/O. It builds the frames that a client sends and reads
the frames that a server sends; it opens no socket, reads no clock and keeps no
position. One instance serves one connection and is thrown away with it, so it may
hold what belongs to a connection, like request ids. The engine drives it over picows,
client 0 (``scenarios.control``) over ``websockets.sync``; both implement ``Sink``.

``feed`` never raises on what a server sends: a frame that cannot be read, or that is
not legal, is the server's misbehaviour and goes to ``Sink.bad``. It calls the sink with
plain values, in the order of arrival, and builds no event objects: it runs once per
delivery.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple, Protocol

from reports.history import BadReason, GapReason, Transport

Buffer = bytes | bytearray | memoryview
Position = tuple[str, int]  # (epoch, serial)
Start = Position | Literal["new", "first"]  # where a subscription begins


class Capability(enum.StrEnum):
    """What a server promises, and so which checks may hold it to it."""

    ACK = "ack"  # a publish is answered: it was placed, or it was refused
    ACK_POSITION = "ack-position"  # and the answer says at which position it was placed
    SERIAL = "serial"  # messages of a channel are numbered 1, 2, 3, … within an epoch
    CHANNEL_ORDER = "channel-order"  # subscribers of a channel see the same order
    RESUME = "resume"  # a subscription can go on after a position
    DEDUPE = "dedupe"  # a publish that is sent again with its message id is placed once
    RETENTION = "retention"  # what is kept, and for how long, is said in the contract (retain_*)
    HISTORY = "history"  # a channel can be read from its oldest message (start "first"), and in pages
    CHANNELS = "channels"  # channels are joined and left on an open connection
    REACTION = "reaction"  # what is said about a message has a place in the log, as a message has
    TYPING = "typing"
    RECEIPT = "receipt"  # marks of who has read how far
    PRESENCE = "presence"  # who is there, and who comes and goes


class Want(NamedTuple):
    """A subscription to ask for."""

    channel: str
    start: Start = "new"
    presence: bool = False  # also push who is there, and who comes and goes


Delivered = tuple[str, int, Buffer, int]  # channel, serial, body, about: as ``Sink.message`` has them


class Welcome(NamedTuple):
    """The server accepted the connection."""

    node: str  # "" when the server does not say
    ping_s: float  # the server is heard at least this often
    pong_s: float  # and is dead when it is not heard for ping_s + pong_s; 0 and 0: no such promise
    retry_s: tuple[float, float]  # base and cap of the backoff that it asks for
    contract: Mapping[str, object]  # what it promises, in its own words


class Hole(NamedTuple):
    """A declared hole. Missing are the serials after ``after`` up to ``to``, the latter included."""

    why: GapReason
    after: Position
    to: Position


class Subscribed(NamedTuple):
    """Answer to a subscription."""

    channel: str
    epoch: str
    start: int  # delivery starts after this serial
    top: int  # the newest serial when it was answered
    floor: int  # the oldest serial still held
    resumed: bool
    hole: Hole | None
    lineage: Sequence[Position]  # (epoch, its first serial), oldest first; empty: the epoch is the one asked


class Sink(Protocol):
    """What a driver calls while it reads a frame."""

    def connected(self, welcome: Welcome) -> None: ...

    def subscribed(self, answer: Subscribed) -> None: ...

    def live(self, channel: str, epoch: str, serial: int) -> None:
        """The replay of a subscription is over, at this position."""

    def unsubscribed(self, channel: str) -> None: ...

    def message(self, channel: str, serial: int, body: Buffer, about: int = 0) -> None:
        """A delivery. ``body`` is the raw JSON of the body, valid only during the call.

        ``about``: of a reaction, the serial of the message that it is about; its body is what ``react`` got.
        """

    def noticed(self, what: Capability, answer: bool = False) -> None:
        """Something that has no place in a stream: a push, or the ``answer`` to a request."""

    def failed(self, what: Capability, code: int) -> None:
        """A request of ``ActingDriver`` was refused."""

    def gap(self, channel: str, hole: Hole) -> None: ...

    def reset(self, channel: str, epoch: str, fork: int, lineage: Sequence[Position]) -> None:
        """The stream goes on under another epoch after serial ``fork`` of the one before."""

    def ack(self, tag: object | None, message: str, epoch: str, serial: int, duplicate: bool) -> None:
        """A publish was placed. ``tag`` is what ``publish`` was given; None: it answers no open request.

        Without ACK_POSITION ``epoch`` is "" and ``serial`` 0.
        """

    def nack(
        self, tag: object | None, code: int, *, temporary: bool, definite: bool, after_s: float | None
    ) -> None:
        """A publish was refused; ``tag`` as for ``ack``."""

    def refused(self, channel: str | None, code: int, reason: str, *, temporary: bool) -> None:
        """A subscribe or unsubscribe of ``channel``, or (None) the connection itself, was refused."""

    def goodbye(self, code: int, after_s: tuple[float, float], to: Sequence[str]) -> None:
        """The server will close: come back after a wait drawn from ``after_s``, to one of ``to`` if any."""

    def ping(self) -> None:
        """The server asks for a sign of life: send ``pong()``."""

    def bad(self, reason: BadReason) -> None:
        """A frame that cannot be read or is not legal."""


class Driver(Protocol):
    """One connection's codec. Construct with no arguments."""

    name: ClassVar[str]
    capabilities: ClassVar[frozenset[Capability]]
    subprotocol: ClassVar[str | None]  # Sec-WebSocket-Protocol to ask for
    frame_view: ClassVar[
        str
    ]  # "module:attribute" of a FrameView (README.md), for faults on messages; "": none
    connect_subscribes: ClassVar[
        bool
    ]  # ``connect`` asks for the subscriptions; False: each is asked for by ``subscribe``, once connected
    pipelines: ClassVar[bool]  # publishes are sent before earlier ones are answered, and keep their order
    pure_deliveries: ClassVar[bool]  # a frame that is a delivery is that delivery alone, on any connection
    answers: ClassVar[tuple[bytes, ...]]  # frames that begin so come often and go to ``feed`` at once; or ()

    @staticmethod
    def path(ordinal: int) -> str:
        """Path and query that client ``ordinal`` dials, so that a proxy can pick its targets by ordinal."""
        ...

    @staticmethod
    def delivery(payload: bytes) -> Delivered | None:
        """What a frame says that is one delivery and nothing else; None: ``feed`` says what it is.

        Called first, with every text frame, where ``pure_deliveries``: the short way to what ``feed`` would
        tell ``Sink.message``. Never raises.
        """
        ...

    @staticmethod
    def may_return(close_code: int) -> bool:
        """Whether a client should come back after this close code."""
        ...

    def connect(self, client: str, wanted: Sequence[Want], token: str | None = None) -> bytes:
        """The first frame: who we are and, where ``connect_subscribes``, the subscriptions.

        ``wanted`` is empty where not, and for who asks for subscriptions later.
        """
        ...

    def subscribe(self, want: Want) -> bytes:
        """Ask for one more subscription. Client 0 does, to read a channel back, and then unsubscribes."""
        ...

    def unsubscribe(self, channel: str) -> bytes: ...

    def publish(self, channel: str, message: str, body: bytes, tag: object) -> bytes:
        """A publish of the JSON text ``body`` under the publisher's own id ``message``.

        Each call is an attempt of its own; ``tag`` comes back with its answer.
        """
        ...

    def pong(self) -> bytes: ...

    def feed(self, payload: Buffer, sink: Sink) -> None:
        """Read one text frame and tell the sink. Never raises on what a server sends."""
        ...


class ActingDriver(Driver, Protocol):
    """A driver whose capabilities include some of these; each method is called only where its own is."""

    def react(self, channel: str, about: int, message: str, body: bytes, tag: object) -> bytes:
        """A reaction to the message of serial ``about``. REACTION.

        Answered as a publish is. ``body`` is a JSON string of 64 hex characters, and must come back in
        ``Sink.message`` of every subscriber.
        """
        ...

    def typing(self, channel: str) -> bytes:
        """Somebody types. TYPING."""
        ...

    def receipt(self, channel: str, serial: int) -> bytes:
        """Everything up to ``serial`` was read. RECEIPT."""
        ...

    def presence(self, channel: str, enter: bool) -> bytes:
        """Be present on a channel, or leave it. PRESENCE."""
        ...

    def history(self, channel: str, limit: int) -> bytes:
        """Read the newest messages. HISTORY."""
        ...


class HttpDriver(Driver, Protocol):
    """A driver over HTTP/1.1, for those whose WebSocket does not get through.

    What it returns to be sent are whole requests without a Host, which the engine adds: ``connect`` a GET
    whose answer is a stream of server-sent events, or one piece (``Transport.POLL``); all others POSTs, sent
    one at a time. ``feed`` reads one frame: an event's data, one of ``frames``, or the body of an answer.
    """

    most_channels: ClassVar[int]  # of one client
    goodbye_code: int  # close code that the server has announced with its goodbye; 0: none

    def __init__(self, transport: Transport = Transport.SSE, known: Welcome | None = None) -> None:
        """``known``: what an earlier connection of this client was told; a later one may not be told."""

    def at(self, ordinal: int) -> None:
        """Before ``connect``: whose requests these are, so that a proxy can pick its targets."""
        ...

    def closing(self, kind: bytes, data: bytes) -> int | None:
        """The close code that an event of a stream says; None: its data is a frame."""
        ...

    def frames(self, body: Buffer, sink: Sink) -> Sequence[Buffer]:
        """What the answer to a poll holds; each is to be fed. Never raises on what a server sends."""
        ...

    def poll(self) -> tuple[bytes, Mapping[str, Position]]:
        """The next poll, and the positions that it asks for: those that the answer before gave."""
        ...

    def answered(self, status: int, body: Buffer, sink: Sink) -> None:
        """Read the answer to the POST that waits for one. Never raises on what a server sends."""
        ...
