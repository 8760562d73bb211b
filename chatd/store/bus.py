"""What a log that several nodes share has besides the log: how the nodes hear of each other.

A node hears only the channels that it has joined, and hears each at most once: an event may be
lost, and none is repeated or reordered within a channel. The log repairs what is lost: a serial
that does not follow, ``Up`` after a break, and a look at the tops now and then all mean "read the log
first" (chatd/relay.py). What a node itself places comes back to it here, like everybody's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Literal, NamedTuple, Protocol

import msgspec

from .base import Entry


class Placing(msgspec.Struct, frozen=True, gc=False):
    """A message was placed, by whichever node."""

    channel: str
    epoch: str
    entry: Entry


class Telling(msgspec.Struct, frozen=True, gc=False):
    """A node told something that is not kept."""

    channel: str
    node: str
    payload: bytes


class Down(msgspec.Struct, frozen=True, gc=False):
    """Nothing is heard until ``Up``."""

    why: str


class Up(msgspec.Struct, frozen=True, gc=False):
    """All that was joined is heard again; what was placed since ``Down`` may have gone unheard."""


Event = Placing | Telling | Down | Up

NodeState = Literal["starting", "up", "draining", "unhealthy"]


class Node(msgspec.Struct, frozen=True):
    """One node, as it last said of itself."""

    name: str
    url: str  # where clients reach it: what `goodbye.to` names
    state: NodeState
    connections: int
    capacity: int  # connections that it takes
    lag_s: float  # p99 of its event loop's lag
    started_ms: int  # since 1970


class Beat(NamedTuple):
    """What a node hears when it says that it is there."""

    nodes: list[Node]  # all that are, by name
    before: Node | None  # what was said last under the name of the one that asks, by whomever


class Bus(Protocol):
    """All methods are called from one event loop. Each raises ``StoreUnavailable`` but where it says so."""

    @property
    def waiting_bytes(self) -> int:
        """Of what was heard and not yet taken from ``events``. Never raises."""

    async def join(self, channels: Collection[str]) -> None:
        """Hear these channels. When it returns, everything placed from now on will be heard, so a
        read that begins after it and the events together have no hole."""

    async def leave(self, channels: Collection[str]) -> None:
        """Hear them no more. Never raises: after a break only what is joined is asked for again."""

    async def tell(self, channel: str, node: str, payload: bytes) -> None:
        """Tell the nodes that have joined ``channel`` something that is not kept; at most once."""

    def events(self) -> AsyncIterator[Event]:
        """Everything that is heard, for one reader, until the store is closed. Breaks are mended by the
        bus itself: it dials and joins again with backoff, and yields ``Down`` and ``Up``."""

    async def heartbeat(self, node: Node, ttl_s: float) -> Beat:
        """Say that ``node`` is there for the next ``ttl_s``."""

    async def part(self, node: str) -> None:
        """The node is gone for good. Never raises: ``ttl_s`` later it is all the same."""
