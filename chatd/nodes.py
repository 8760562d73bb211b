"""This node among the others: what it knows of them, whom it sends to them, what it tells them.

The judgements are elsewhere (chatd/balance.py, chatd/company.py); here are the tasks that carry them out. A
daemon whose log is its own is alone: then nothing here does anything.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

from .balance import Shedder, destinations, emptier
from .company import Company
from .ephemeral import Ephemeral
from .registry import Registry
from .relay import Relay
from .store.base import StoreUnavailable
from .store.bus import Bus, Node, Telling

TELLINGS: Final = 10_000  # that wait to be told; of more the oldest are dropped, and told again in time


class Nodes:
    """The other nodes.

    Args:
        me: this node, as it is now.
        clock: seconds, monotonic. ``wall_ms``: since 1970.
        send_away: send so many connections away: how many, why, and what draws for each where to go.
        rebalance: whether to do so when this node has more than its share.
    """

    def __init__(
        self,
        bus: Bus | None,
        relay: Relay | None,
        ephemeral: Ephemeral,
        me: Callable[[], Node],
        *,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
        send_away: Callable[[int, str, Callable[[], Sequence[str]]], None],
        rebalance: bool,
        rng: random.Random | None = None,
    ) -> None:
        self._bus = bus
        self._me = me
        self._clock = clock
        self._wall_ms = wall_ms
        self._rng = rng or random.Random()
        self._send_away = send_away
        self._shedder = Shedder() if rebalance else None
        self._tellings: deque[tuple[str, bytes]] = deque(maxlen=TELLINGS)
        self._told = asyncio.Event()
        self.registry = Registry(bus, me, wall_ms, self._beaten)
        self._company: Company | None = None
        if bus is not None and relay is not None:
            self._company = Company(ephemeral, self._tell, relay.hears, clock)
            relay.told = self._hear
            relay.joined, relay.left = self._company.joined, self._company.left

    def destinations(self) -> list[str]:
        """Where one client that leaves this node should go, the best first; [] when it is alone."""
        return destinations(self.registry.nodes, self._me().name, self._wall_ms(), self._rng)

    def emptier(self) -> list[str]:
        """As ``destinations``, for a client of whom this node has too many: to those who have too few."""
        return emptier(self.registry.nodes, self._me().name, self._rng)

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """What runs for as long as the node does, until cancelled."""
        return [self.registry.beat(), self._pass_on()]

    def _beaten(self) -> None:
        """The registry was just asked."""
        nodes, now = self.registry.nodes, self._clock()
        if self._company is not None:
            self._company.tick(now, {node.name for node in nodes})
        if self._shedder is not None and (shed := self._shedder.observe(now, self._me(), nodes)):
            self._send_away(shed, "balance", self.emptier)

    def _hear(self, telling: Telling) -> None:
        if self._company is not None and telling.node != self._me().name:
            self._company.heard(telling.channel, telling.node, telling.payload)

    def _tell(self, channel: str, payload: bytes) -> None:
        self._tellings.append((channel, payload))
        self._told.set()

    async def _pass_on(self) -> None:
        """Pass on what this node has to tell, until cancelled. What fails is told again in time."""
        while self._bus is not None:
            await self._told.wait()
            self._told.clear()
            while self._tellings:
                channel, payload = self._tellings.popleft()
                with suppress(StoreUnavailable):
                    await self._bus.tell(channel, self._me().name, payload)
