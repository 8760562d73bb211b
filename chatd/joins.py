"""Bringing subscribers from where they left off to live; history pages. Reads, never writes.

A subscriber that the hub's tail can serve is live within the call. Any other waits its turn
in its connection's queue: one page of one channel at a time, and the next only when
the connection has taken the last, so that a replay of any length holds one page; the channels
take turns, so that a busy one does not starve the others. History pages wait in the same
queue, and slow consumers are fed by it (chatd/slow.py).
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .connection import Connection
from .effects import Subscription
from .framing import text_frame
from .hub import JOIN_TAIL, TAIL, Channel, Hub, message_payload
from .logs import log
from .protocol.errors import CloseCode, PositionUnrecoverable, Unavailable
from .protocol.messages import From, HistoryPage, HistoryRequest, Position, encode
from .store.base import Head, Page, Store, StoreUnavailable
from .stream import forked

if TYPE_CHECKING:
    from .relay import Relay

PAGE_N: Final = 500
PAGE_BYTES: Final = 128 * 1024
SLOW_PAGE_N: Final = 64  # what a slow consumer does not take is read again: no more than fits
SLOW_PAGE_BYTES: Final = 32 * 1024
HISTORY_BYTES: Final = 1024 * 1024
RETRY_MS: Final = 500

Work = Callable[[], Coroutine[Any, Any, bool]]  # one step; True: all is done
Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Joins:
    """Carries out ``Join`` and ``Read``.

    Args:
        spawn: starts a task that the server owns.
        caught_up: called when nothing is left to be read for a connection.

    ``relay``: where several nodes share the log, what knows how far this one has heard it.
    """

    def __init__(self, store: Store, hub: Hub, spawn: Spawn, caught_up: Callable[[Connection], None]) -> None:
        self._store = store
        self._hub = hub
        self._spawn = spawn
        self._caught_up = caught_up
        self.relay: Relay | None = None
        self._opening: dict[Channel, asyncio.Task[None]] = {}
        self._queues: dict[Connection, deque[tuple[Work, bool]]] = {}

    def join(self, connection: Connection, subscription: Subscription) -> None:
        channel = self._hub.enlist(subscription, connection.outlet)
        if channel.open and not self._seen_more(channel, subscription):
            self._answer(connection, channel, subscription)
            if self._hub.advance(channel, subscription, connection.outlet):
                connection.session.read_done()
                return
        self._later(connection, partial(self._replay, connection, channel, subscription), asked=True)

    def feed(self, connection: Connection, channel: Channel, subscription: Subscription) -> None:
        """Bring a subscriber that the hub has suspended back to live."""
        self._later(connection, partial(self._replay, connection, channel, subscription), asked=False)

    def read(self, connection: Connection, request: HistoryRequest) -> None:
        self._later(connection, partial(self._history, connection, request), asked=True)

    def _later(self, connection: Connection, work: Work, *, asked: bool) -> None:
        """``asked``: the session counts it as one of its reads."""
        queue = self._queues.get(connection)
        if queue is not None:
            queue.append((work, asked))
        else:
            self._queues[connection] = deque([(work, asked)])
            self._spawn(self._work_off(connection))

    async def _work_off(self, connection: Connection) -> None:
        """All reads of one connection, a step of each in turn."""
        queue = self._queues[connection]
        try:
            while queue:
                work, asked = queue.popleft()
                done = True
                try:
                    done = await work()
                except Exception as bug:
                    _close(connection, bug)
                if not done:
                    queue.append((work, asked))
                elif asked:
                    connection.session.read_done()
        finally:
            del self._queues[connection]
        self._caught_up(connection)

    def _answer(self, connection: Connection, channel: Channel, subscription: Subscription) -> None:
        effects, answer = connection.session.subscribed(subscription, channel.head)
        connection.apply(effects)
        self._hub.metrics.resumes += answer.resumed
        self._hub.metrics.gaps += answer.gap is not None

    async def _replay(self, connection: Connection, channel: Channel, subscription: Subscription) -> bool:
        """One page towards live; says whether there is nothing more to do."""
        try:
            while subscription.active and not channel.open:
                await self._opened(channel)
            if self.relay is not None and self._seen_more(channel, subscription):
                await self.relay.settled(channel, "client")
            if subscription.active and not subscription.answered:
                self._answer(connection, channel, subscription)
            await self._writable(connection)
            if not subscription.active or self._hub.advance(channel, subscription, connection.outlet):
                return True
            if connection.outlet.free:
                return await self._page(connection, channel, subscription)
        except StoreUnavailable as bad:
            self._unreadable(connection, subscription, bad)
        return not subscription.active

    def _seen_more(self, channel: Channel, subscription: Subscription) -> bool:
        """Whether the client has been where this node has not heard of: then the log decides."""
        if self.relay is None or subscription.answered or not subscription.active:
            return False
        return channel.open and _beyond(subscription.asked, channel.head)

    async def _page(self, connection: Connection, channel: Channel, subscription: Subscription) -> bool:
        outlet = connection.outlet
        limit, size = (SLOW_PAGE_N, SLOW_PAGE_BYTES) if outlet.slow else (PAGE_N, PAGE_BYTES)
        channel.reading += 1
        try:
            cursor = subscription.cursor
            page = await self._store.read(channel.name, cursor, limit, size)
            if self.relay is not None and _ahead(page, channel.head):
                await self.relay.settled(channel, "epoch")
            elif subscription.active and subscription.cursor == cursor:  # else the stream was reset meanwhile
                self._hub.replay(channel, subscription, outlet, page)
                outlet.flush()
            done = not subscription.active or self._hub.advance(channel, subscription, outlet)
        finally:
            channel.reading -= 1
        await asyncio.sleep(0)  # a store in memory answers at once: others have their turn
        return done

    def _unreadable(self, connection: Connection, subscription: Subscription, bad: StoreUnavailable) -> None:
        if not subscription.active:
            return
        if subscription.answered:
            # A hole must not look like the end of the replay: the client comes back and resumes.
            connection.close(CloseCode.RESYNC, "the store cannot be read")
            return
        error = Unavailable(f"the store cannot be read: {bad}", after_ms=RETRY_MS)
        subscription.active = False
        connection.session.subscriptions.pop(subscription.channel, None)
        self._hub.leave(subscription.channel, connection.outlet)
        if subscription.request_id is None:
            connection.close(CloseCode.RESYNC, "the store cannot be read")
        else:
            connection.apply(connection.session.refuse(subscription.request_id, error))

    async def _writable(self, connection: Connection) -> None:
        if not connection.outlet.free and not connection.gone:
            writable = asyncio.Event()
            connection.on_writable.append(writable.set)
            await writable.wait()

    # Opening a channel: once, whoever asks --------------------------------------------------------

    async def _opened(self, channel: Channel) -> None:
        task = self._opening.get(channel)
        if task is None:
            task = self._opening[channel] = self._spawn(self._open(channel))
            task.add_done_callback(lambda _: self._opening.pop(channel, None))
        await asyncio.shield(task)

    async def _open(self, channel: Channel) -> None:
        """Prime the tail from the log. What is committed meanwhile waits in the tail already."""
        if self.relay is not None:
            await self.relay.open(channel)
        after = 0
        while not channel.open:
            if self.relay is not None:
                self.relay.reading(channel)
            (head,) = await self._store.tops([channel.name])
            after = max(after, head.top - TAIL.n)
            newest = await self._store.read(channel.name, after, JOIN_TAIL.n, JOIN_TAIL.bytes)
            if not channel.begin(newest) and newest.entries:
                after = newest.entries[-1].serial  # large ones: the tail holds fewer
        if self.relay is not None:
            self.relay.opened(channel)

    # History ------------------------------------------------------------------------------------------

    async def _history(self, connection: Connection, request: HistoryRequest) -> bool:
        await self._writable(connection)
        if connection.gone:
            return True
        try:
            page = await self._history_page(request)
        except StoreUnavailable as bad:
            error = Unavailable(f"the store cannot be read: {bad}", after_ms=RETRY_MS)
            connection.apply(connection.session.refuse(request.id, error))
        except PositionUnrecoverable as bad:
            connection.apply(connection.session.refuse(request.id, bad))
        else:
            await self._writable(connection)
            connection.outlet.send(text_frame(encode(page)))
        return True

    async def _history_page(self, request: HistoryRequest) -> HistoryPage:
        store, channel, limit = self._store, request.channel, request.limit
        if request.after is not None:
            page = await store.read(channel, request.after[1], limit, HISTORY_BYTES)
            _check_after(request.after, page.head)
            return _page(request, page, more=bool(page.entries) and page.entries[-1].serial < page.top)
        if request.before is not None:
            end = request.before - 1
        else:
            (head,) = await store.tops([channel])
            end = head.top
        page = await self._ending_at(channel, end, limit)
        return _page(request, page, more=bool(page.entries) and page.entries[0].serial > page.floor)

    async def _ending_at(self, channel: str, end: int, limit: int) -> Page:
        """The ``limit`` messages up to serial ``end``; fewer, but the newest, when they are large."""
        while True:
            begin = max(0, end - limit)
            page = await self._store.read(channel, begin, end - begin, HISTORY_BYTES)
            entries = [entry for entry in page.entries if entry.serial <= end]
            if limit == 1 or not entries or entries[-1].serial >= min(end, page.top):
                return msgspec.structs.replace(page, entries=entries)
            limit //= 2


def _close(connection: Connection, bug: Exception) -> None:
    """One client's work went wrong in a way nobody thought of: the others go on."""
    log("internal_error", level="error", reason=repr(bug), trace="".join(traceback.format_exception(bug)))
    connection.close(CloseCode.INTERNAL, "internal error")


def _beyond(asked: From, head: Head) -> bool:
    if not isinstance(asked, tuple):
        return False
    epoch, serial = asked
    return serial > head.top if epoch == head.epoch else epoch not in dict(head.lineage)


def _ahead(page: Page, head: Head) -> bool:
    """A page of the log is of another epoch than the tail, or of a time when all of the tail is trimmed."""
    return page.epoch != head.epoch or page.floor > head.top + 1


def _check_after(after: Position, head: Head) -> None:
    """A position of an earlier epoch is one of this stream up to the fork."""
    epoch, serial = after
    if epoch == head.epoch:
        return
    fork = forked(epoch, head.lineage)
    if fork is None:
        reason = f"after has epoch {epoch!r}: this stream's is {head.epoch!r}"
    elif serial > fork:
        reason = f"after is {serial} of epoch {epoch!r}, which was left at {fork} for {head.epoch!r}"
    else:
        return
    raise PositionUnrecoverable(f"{reason}; ask without `after`")


def _page(request: HistoryRequest, page: Page, *, more: bool) -> HistoryPage:
    return HistoryPage(
        id=request.id,
        channel=request.channel,
        position=(page.epoch, page.top),
        floor=page.floor,
        epochs=page.head.epochs,
        messages=[msgspec.Raw(message_payload(request.channel, entry)) for entry in page.entries],
        more=more,
    )
