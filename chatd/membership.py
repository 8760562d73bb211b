"""Which channels this node hears on the bus: those that somebody listens to, and a little longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final

from .store.base import StoreUnavailable
from .store.bus import Bus

AT_ONCE: Final = 500  # channels joined in one request


class Membership:
    """Joins in batches what is asked for at the same time, and leaves what nobody has wanted for two looks.

    Args:
        wanted: whether somebody listens to a channel.
        joined, left: told of each channel that is heard from now on, or no more.
    """

    def __init__(
        self,
        bus: Bus,
        wanted: Callable[[str], bool],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        *,
        joined: Callable[[str], None] = lambda channel: None,
        left: Callable[[str], None] = lambda channel: None,
    ) -> None:
        self._told_joined, self._told_left = joined, left
        self._bus = bus
        self._wanted = wanted
        self._spawn = spawn
        self._joined: set[str] = set()
        self._idle: set[str] = set()  # nobody wanted them at the last look
        self._asked: dict[str, asyncio.Future[None]] = {}
        self._joining = False

    def __contains__(self, channel: str) -> bool:
        return channel in self._joined

    async def join(self, channel: str) -> None:
        """Back when everything that is placed from now on will be heard. Raises ``StoreUnavailable``."""
        self._idle.discard(channel)
        if channel in self._joined:
            return
        future = self._asked.get(channel)
        if future is None:
            future = self._asked[channel] = asyncio.get_running_loop().create_future()
            if not self._joining:
                self._joining = True
                self._spawn(self._join_all())
        await asyncio.shield(future)

    async def _join_all(self) -> None:
        try:
            while self._asked:
                batch = dict(list(self._asked.items())[:AT_ONCE])
                try:
                    await self._bus.join(batch.keys())
                except StoreUnavailable as bad:
                    self._answer(batch, bad)
                else:
                    self._joined |= batch.keys()
                    self._answer(batch, None)
                    for channel in batch:
                        self._told_joined(channel)
        finally:
            self._joining = False

    def _answer(self, batch: Collection[str], bad: StoreUnavailable | None) -> None:
        for channel in batch:
            future = self._asked.pop(channel)
            if bad is None:
                future.set_result(None)
            else:
                future.set_exception(bad)
                future.exception()  # whoever asked may have gone

    async def look(self) -> None:
        """Leave what nobody wanted at this look and the one before. Called about once a second."""
        idle = {channel for channel in self._joined if not self._wanted(channel)}
        leaving, self._idle = idle & self._idle, idle
        if leaving:
            self._joined -= leaving
            self._idle -= leaving
            for channel in leaving:
                self._told_left(channel)
            await self._bus.leave(leaving)
