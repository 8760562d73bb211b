"""The stream of one channel, as the application iterates over it."""

from __future__ import annotations

import asyncio
import collections
from typing import TYPE_CHECKING, Final, Self

from .client_company import Signal
from .client_inbox import GapNotice, Item, Message
from .protocol.errors import ChatdError
from .protocol.messages import Position, ReceiptKind, ReceiptNotice, TypingNotice

if TYPE_CHECKING:
    from .client import Client


class Subscription:
    """One channel's stream, an asynchronous iterator; made by ``Client.subscribe``.

    It ends when it is unsubscribed or its client is closed, and raises ``ChatdError`` when the
    server ends it.
    """

    def __init__(self, client: Client, channel: str) -> None:
        self.channel: Final = channel
        self.position: Position = ("", 0)
        """The place of the last item taken; ``subscribe(channel, from_=position)`` goes on after it."""
        self._client = client
        self._items: collections.deque[Item | Signal] = collections.deque()
        self._changed = asyncio.Event()
        self._over = False
        self._error: ChatdError | None = None
        self._paused = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item | Signal:
        while not self._items:
            if self._over:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        item = self._items.popleft()
        if isinstance(item, Message | GapNotice):
            self.position = item.to if isinstance(item, GapNotice) else item.position
        if self._paused and not self._over and len(self._items) <= self._client.buffer // 2:
            self._paused = False
            self._client._perform(self._client._core.proceed(self.channel, self._client._now()))
        return item

    def typing(self, on: bool = True) -> None:
        """Tell the others that the user types; again every few seconds while he does. Not while there
        is no connection: what is late says nothing."""
        self._client._tell(TypingNotice(channel=self.channel, on=on))

    def receipt(self, serial: int, kind: ReceiptKind = "read") -> None:
        """Tell the others that the user has read, or got, all up to this serial. Kept, and said again
        after a disconnect; a serial below one that was told before changes nothing."""
        self._client._tell(ReceiptNotice(channel=self.channel, serial=serial, kind=kind))

    async def unsubscribe(self) -> None:
        """End the stream; items not taken yet are dropped. Does nothing the second time."""
        if not self._over:
            self._items.clear()
            self._end(None)
            await self._client._unsubscribe(self.channel)

    def _deliver(self, item: Item | Signal) -> bool:
        """Take an item in; true when the buffer is full now."""
        self._items.append(item)
        self._changed.set()
        if self._paused or len(self._items) < self._client.buffer:
            return False
        self._paused = True
        return True

    def _end(self, error: ChatdError | None) -> None:
        self._over, self._error = True, error
        self._changed.set()
