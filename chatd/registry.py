"""Which nodes there are: each tells the others once a second that it is there, and how it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from .balance import weight
from .store.base import StoreUnavailable
from .store.bus import Bus, Node

BEAT_S: Final = 1.0
TTL_S: Final = 5.0
PART_S: Final = 1.0  # for a farewell that need not be heard


class Registry:
    """The nodes, as far as this one knows. Without a bus it is alone.

    Args:
        me: this node, as it is now.
        wall_ms: since 1970.
        beaten: called after each beat, heard or not.
    """

    def __init__(
        self,
        bus: Bus | None,
        me: Callable[[], Node],
        wall_ms: Callable[[], int],
        beaten: Callable[[], None],
    ) -> None:
        self._wall_ms = wall_ms
        self._bus = bus
        self._me = me
        self.beaten = beaten
        self._others: list[Node] = []

    @property
    def nodes(self) -> list[Node]:
        """By name."""
        return sorted([self._me(), *self._others], key=lambda one: one.name)

    async def beat(self) -> None:
        """Say so, and hear who else is there, until cancelled. Out of reach, the others are as last heard."""
        while self._bus is not None:
            me = self._me()
            with suppress(StoreUnavailable):
                nodes = await self._bus.heartbeat(me, TTL_S)
                self._others = [one for one in nodes if one.name != me.name]
            self.beaten()
            await asyncio.sleep(BEAT_S)

    async def part(self) -> None:
        """Say that this node is gone; a broker that does not answer holds up no end."""
        if self._bus is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(PART_S):
                    await self._bus.part(self._me().name)

    def page(self) -> str:
        """``GET /nodes``."""
        now_ms = self._wall_ms()
        nodes = [
            {"node": one.name, **msgspec.structs.asdict(one), "weight": round(weight(one, now_ms), 1)}
            for one in self.nodes
        ]
        for one in nodes:
            del one["name"]
        return msgspec.json.encode(nodes).decode() + "\n"
