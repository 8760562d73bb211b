"""Which nodes there are: each tells the others once a second that it is there, and how it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from .balance import weight
from .logs import log
from .store.base import StoreUnavailable
from .store.bus import Bus, Node

BEAT_S: Final = 1.0
TTL_S: Final = 5.0
SURE: Final = 2  # beats on end
PART_S: Final = 1.0  # for a farewell that need not be heard


class NameTaken(Exception):
    """Another node goes by this one's name, and was there before it."""


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
        self._heard = False
        self._gone = False  # what stands under its name is another's
        self._doubles = 0  # beats on end between which another node spoke under this one's name

    @property
    def nodes(self) -> list[Node]:
        """By name."""
        return sorted([self._me(), *self._others], key=lambda one: one.name)

    async def beat(self) -> None:
        """Say so, and hear who else is there, until cancelled. Out of reach, the others are as last heard.

        Raises:
            NameTaken: another node has this one's name. Whoever started last has to go.
        """
        while self._bus is not None:
            me = self._me()
            with suppress(StoreUnavailable):
                nodes, before = await self._bus.heartbeat(me, TTL_S)
                self._others = [one for one in nodes if one.name != me.name]
                self._compare(me, before)
            self.beaten()
            await asyncio.sleep(BEAT_S)

    def _compare(self, me: Node, before: Node | None) -> None:
        """Is somebody else by this name alive? One that said so before the first beat may have been this
        node's own last life, and so may one that a broker remembers when it comes back; one that speaks
        again between two beats is not."""
        double = before if before is not None and self._heard and before.started_ms != me.started_ms else None
        self._heard = True
        self._doubles = self._doubles + 1 if double is not None and double.state != "draining" else 0
        if double is None or self._doubles < SURE:
            return
        if self._doubles == SURE:
            log("name_shared", level="error", node=me.name, url=double.url)
        if (me.started_ms, me.url) > (double.started_ms, double.url):
            self._gone = True
            raise NameTaken(
                f"node is {me.name!r}: a node of that name is there already, at {double.url}; "
                "give each node a name of its own with --node"
            )

    async def part(self) -> None:
        """Say that this node is gone; a broker that does not answer holds up no end."""
        if self._bus is not None and not self._gone:
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
