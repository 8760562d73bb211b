"""What a toxic is: data in at a time, pieces out at times. No sockets, no clock.

A toxic is a dataclass. Its constructor's fields are its attributes, as they stand
in the API (whole numbers, 0 or more, 0 by default); fields with ``init=False`` are
its state on one direction of one connection, which gets a copy of its own.

The one thing it must have is ``flow``. What else it may have is a small interface
each: ``Ending`` (a deadline), ``HoldsEnd``, ``EndsOnRemoval``, ``Ruled``.

    source ─► chain.Stage(Latency) ─► chain.Stage(Slicer) ─► destination
"""

from collections.abc import Iterator
from enum import Enum
from typing import Protocol, runtime_checkable

from chaos.proxy.draws import Draws

NEVER = float("inf")
MS = 1e-3  # seconds
US = 1e-6


class End(Enum):
    """How a direction of a connection ends."""

    EOF = "eof"  # the source will send no more (FIN); the other direction goes on
    CLOSE = "close"  # the whole connection closes, once the bytes before this are written
    RESET = "reset"  # RST to both peers, at once


Chunk = bytes
Item = Chunk | End
Release = tuple[float, Item]  # (monotonic seconds, what leaves then)


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
class HoldsEnd(Protocol):
    """A toxic that holds the end of the stream; all others let it follow the last byte."""

    def end(self, t: float) -> float:
        """When an end that came at ``t`` may leave."""
        ...


@runtime_checkable
class EndsOnRemoval(Protocol):
    """A toxic whose removal ends the connection, since it has lost bytes."""

    def removed(self) -> End:
        """How the connection ends."""
        ...


@runtime_checkable
class Ruled(Protocol):
    """A toxic whose attributes have more rules than "a whole number, 0 or more"."""

    def broken_rule(self) -> str | None:
        """``field is value: rule``, or None when the attributes are good."""
        ...
