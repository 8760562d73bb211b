"""How a node follows a log that others write too: by the bus, and where that said too little, by the log.

The judgement is in chatd/repair.py; here are the tasks that listen, read and look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, Final

from .hub import Channel, Hub
from .logs import log
from .membership import Membership
from .repair import Repairs, Why
from .store.base import Head, Store, StoreUnavailable
from .store.bus import Bus, Down, Placing, Telling, Up

PAGE_N: Final = 500
PAGE_BYTES: Final = 128 * 1024
PAGES: Final = 8  # read at a time
TOPS: Final = 500  # channels whose tops are asked for in one round trip
RETRY_S: Final = 0.25
SETTLE_S: Final = 0.05  # what is placed is on its way over the bus for so long at most, as a rule
TURN: Final = 256  # events, before the loop gets its turn


class Relay:
    """Feeds the hub from the bus and the log.

    Args:
        spawn: starts a task that the server owns.
        tail_check_s: how often the tops of all channels are looked at.
        wall_ms: ms since 1970.

    ``told`` takes what nodes tell each other that is not kept; ``joined`` and ``left`` are told which
    channels are heard from now on, or no more. Set them before the tasks begin.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        hub: Hub,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        *,
        tail_check_s: float,
        wall_ms: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._bus = bus
        self._hub = hub
        self._metrics = hub.metrics
        self._tail_check_s = tail_check_s
        self.told: Callable[[Telling], None] = lambda telling: None
        self.joined: Callable[[str], None] = lambda channel: None
        self.left: Callable[[str], None] = lambda channel: None
        self._sleep = sleep
        self._wake = asyncio.Event()
        self._repairs = Repairs(hub, self._wake.set, wall_ms)
        self._members = Membership(
            bus,
            lambda name: hub.channel(name) is not None,
            spawn,
            joined=lambda name: self.joined(name),
            left=lambda name: self.left(name),
        )
        self._waiting: dict[Channel, list[asyncio.Future[None]]] = {}

    @property
    def hearing(self) -> bool:
        """False from a break of the bus to its mending."""
        return self._metrics.hearing

    def hears(self, name: str) -> bool:
        """Whether what is placed and told on a channel is heard."""
        return name in self._members

    def paused(self) -> None:
        """The process did not run for a while: who knows what went unheard."""
        self._repairs.doubt_all("pause")

    # Listening --------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Until the store is closed."""
        count = 0
        async for event in self._bus.events():
            match event:
                case Placing():
                    self._repairs.hear(event)
                case Telling():
                    self.told(event)
                case Down():
                    self._metrics.hearing = False
                    log("bus_down", level="error", why=event.why)
                case Up():
                    self._metrics.hearing = True
                    log("bus_up")
                    self._repairs.doubt_all("bus")
            count += 1
            if count % TURN == 0:
                await asyncio.sleep(0)

    # Opening ----------------------------------------------------------------------------------------

    async def open(self, channel: Channel) -> None:
        """Hear a channel that is about to be read for the first time. Raises ``StoreUnavailable``."""
        self._repairs.doubt(channel.name, "opening")
        await self._members.join(channel.name)

    def reading(self, channel: Channel) -> None:
        """The read that opens it begins."""
        self._repairs.begin(channel)

    def opened(self, channel: Channel) -> None:
        """It has its first page: what was heard meanwhile follows."""
        self._repairs.learn(channel, channel.head)

    async def settled(self, channel: Channel, why: Why) -> None:
        """Back when the channel has everything that is in the log now. Raises ``StoreUnavailable``."""
        self._repairs.doubt(channel.name, why)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(channel, []).append(future)
        await future

    # Mending ----------------------------------------------------------------------------------------

    async def mend(self) -> None:
        """Read the log of the channels that are in doubt, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._read(self._repairs.due())
            except StoreUnavailable as bad:
                self._answer(bad)
                self._wake.set()
                await self._sleep(RETRY_S)
            else:
                self._answer(None)

    async def _read(self, channels: list[Channel]) -> None:
        if len(channels) > PAGES:
            for some in _runs(channels, TOPS):
                await self._heads(some)
            channels = [one for one in channels if self._repairs.doubts(one)]
        for some in _runs(channels, PAGES):
            results = await asyncio.gather(*map(self._page, some), return_exceptions=True)
            for bad in results:
                if bad is not None:
                    raise bad

    async def _heads(self, channels: Sequence[Channel]) -> None:
        """Most of many channels have missed nothing: their tops show it."""
        for channel in channels:
            self._repairs.begin(channel)
        heads = await self._store.tops([channel.name for channel in channels])
        for channel, head in zip(channels, heads, strict=True):
            epoch = channel.epoch
            self._repairs.learn(channel, head)
            if channel.epoch != epoch:
                await asyncio.sleep(0)  # all its subscribers were told

    async def _page(self, channel: Channel) -> None:
        self._repairs.begin(channel)
        page = await self._store.read(channel.name, channel.head.top, PAGE_N, PAGE_BYTES)
        self._repairs.learn(channel, page.head, page.entries)

    def _answer(self, bad: StoreUnavailable | None) -> None:
        """To whoever waits for a channel: it is settled or gone, or cannot be read."""
        for channel in [*self._waiting]:
            if bad is None and self._repairs.doubts(channel):
                continue
            for future in self._waiting.pop(channel):
                if future.done():
                    continue
                if bad is None:
                    future.set_result(None)
                else:
                    future.set_exception(bad)

    # Looking ----------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Compare all tops with the log's now and then, until cancelled: only so is the last message
        found that was placed before a silence and went unheard."""
        while True:
            await self._sleep(self._tail_check_s)
            await self._members.look()
            try:
                suspicions = [
                    one
                    for some in _runs(self._repairs.trusted(), TOPS)
                    for one in self._repairs.suspect(some, await self._tops(some))
                ]
            except StoreUnavailable:
                continue  # the next look finds it
            if suspicions:
                await self._sleep(SETTLE_S)
                self._repairs.confirm(suspicions)

    async def _tops(self, channels: Sequence[Channel]) -> list[Head]:
        return await self._store.tops([channel.name for channel in channels])


def _runs(channels: list[Channel], size: int) -> Iterator[list[Channel]]:
    for first in range(0, len(channels), size):
        yield channels[first : first + size]
