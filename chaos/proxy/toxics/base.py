"""What a toxic is: data in at a time, pieces out at times. No sockets, no clock.

A toxic is a dataclass. Its constructor's fields are its attributes, as they stand
in the API (of the type of their default: whole numbers or numbers, 0 or more, or strings); fields with
``init=False`` are its state on one direction of one connection, which gets a copy of its own.

The one thing it must have is ``flow``. What else it may have is a small interface each: ``Ending``
(a deadline), ``LastWords``, ``HoldsEnd``, ``EndsOnRemoval``, ``StopsReading``, ``Door`` (who is let in),
``FillsQueue``, ``Ruled``, ``Placed``, ``Keeps``, ``WantsView``.

    source ─► chain.Stage(Latency) ─► chain.Stage(Slicer) ─► destination
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from chaos.proxy.draws import Draws
from chaos.proxy.frame_view import FrameView

NEVER = float("inf")
MS = 1e-3  # seconds
US = 1e-6


class End(Enum):
    """How a direction of a connection ends."""

    EOF = "eof"  # the source will send no more (FIN); the other direction goes on
    CLOSE = "close"  # the whole connection closes, once the bytes before this are written
    RESET = "reset"  # RST to both peers, at once
    VANISH = "vanish"  # both sockets are gone at once, and neither peer is told


@dataclass(frozen=True, slots=True)
class Leave:
    """An end of which one peer is not told: its socket stays and is read, and it hears nothing any more.

    The other peer gets FIN. When the toxic goes, so does what is left of the connection.
    """

    peer: str  # who is not told: "client" or "server"
    toxic: str  # name


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client is told before its connection closes, in the server's place."""

    data: bytes


Chunk = bytes
Item = Chunk | End | Leave
Release = tuple[float, Item]  # (monotonic seconds, what leaves then)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a toxic works: one direction of one connection, and what it may ask and tell there.

    ``whose``: the client's ordinal and which of its connections this is, once its first bytes have come; the
    connection's number where a client has no ordinal. ``counts``: the toxic's figures, over all connections.
    ``emit``: tells listeners of an event.
    """

    name: str  # of the toxic
    since: float  # when the toxic was added, monotonic seconds
    seed: int
    direction: str
    whose: Callable[[], tuple[object, ...]]
    view: FrameView | None
    counts: Counter[str]
    emit: Callable[..., None]


class Toxic(Protocol):
    """What a toxic does to data."""

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """Say what becomes of one chunk: pieces, each with the time it may leave.

        Called lazily: a piece is asked for when the one before it has left, so
        attributes that change meanwhile count from the next piece on. A piece never
        overtakes another, whatever its time. What is not yielded is dropped.

        Args:
            data: one chunk, never empty.
            t: when it came, monotonic seconds.
            draws: this toxic's random numbers on this direction of this connection.
        """
        ...


@runtime_checkable
class Ending(Protocol):
    """A toxic that ends the connection by itself."""

    def deadline(self, started: float) -> Release | None:
        """When and how, for a toxic that began to work on this connection at ``started``."""
        ...


@runtime_checkable
class LastWords(Protocol):
    """A toxic that says something before its deadline ends the connection."""

    def last_words(self, now: float) -> bytes | None:
        """What leaves before the end; None: not yet, ask again soon."""
        ...


@runtime_checkable
class StopsReading(Protocol):
    """A toxic that has the source not read: what its kernel buffers do not take, it cannot send."""

    def stops_reading(self) -> bool:
        """True."""
        ...


@dataclass(frozen=True, slots=True)
class Knock:
    """A connection that has no upstream yet."""

    client: tuple[object, ...]  # as ``Place.whose``
    opened_at: float  # monotonic seconds
    now: float
    since: float  # when the toxic was added
    draws: Draws  # the same each time that this connection is asked about
    first: bytes = b""  # what the client sent first


@runtime_checkable
class Door(Protocol):
    """A toxic that decides who is let in, once a client's first bytes have come or a second has passed.

    Asked again whenever toxics change and when the time has come that it named.
    """

    def admit(self, knock: Knock) -> End | Answer | float:
        """How the connection ends, what it is told before, or when its upstream is dialled: a time past is
        now, NEVER while the toxic is there.
        """
        ...


@runtime_checkable
class FillsQueue(Protocol):
    """A toxic during which the proxy accepts nobody and its queue is full: a client's SYN is not answered."""

    def fills_queue(self) -> bool:
        """True."""
        ...


@runtime_checkable
class HoldsEnd(Protocol):
    """A toxic that holds the end of the stream; all others let it follow the last byte."""

    def end(self, t: float) -> float:
        """When an end that came at ``t`` may leave."""
        ...


@runtime_checkable
class EndsOnRemoval(Protocol):
    """A toxic whose removal ends the connection, since it has lost bytes."""

    def removed(self) -> End | None:
        """How the connection ends; None: it goes on."""
        ...


@runtime_checkable
class Placed(Protocol):
    """A toxic that must know where it works."""

    def begin(self, place: Place) -> None:
        """Called once, before anything else."""
        ...


@runtime_checkable
class Keeps(Protocol):
    """A toxic that keeps bytes beyond the chunk that brought them; the time of a piece is fixed when made."""

    def left(self) -> bytes:
        """All that it keeps, which it then keeps no longer: it goes, or the stream ends."""
        ...


@runtime_checkable
class WantsView(Protocol):
    """A toxic that may need the server's frames read."""

    def wants_view(self) -> str | None:
        """The attribute that cannot be without a frame view."""
        ...


@runtime_checkable
class Ruled(Protocol):
    """A toxic whose attributes have more rules than "a whole number, 0 or more"."""

    def broken_rule(self) -> str | None:
        """``field is value: rule``, or None when the attributes are good."""
        ...
