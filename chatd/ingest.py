"""Group commit: publishes that arrive while a commit runs share the next one.

A publish is acknowledged, and delivered, only after the store has it. The order of the queue
is the order of arrival, so each publisher's messages of a channel keep their order. Where several
nodes share the log nothing is delivered from here: it comes over the bus (chatd/relay.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from .connection import Connection
from .hub import Hub
from .logs import log
from .metrics import Metrics
from .protocol.errors import ChatdError, OutcomeUnknown, Unavailable
from .protocol.messages import Write
from .store.base import (
    Append,
    Conflict,
    Duplicate,
    Entry,
    Outcome,
    Placed,
    Store,
    StoreUnavailable,
    StoreUncertain,
)

BATCH: Final = 1000
QUEUE: Final = 20_000  # publishes waiting for a commit, before more are refused
RETRY_MS: Final = 500

Item = tuple[Connection, Write, Append]


class Ingest:
    """The only caller of ``Store.append``.

    Args:
        wall_ms: ms since 1970, the time that messages carry.
    """

    def __init__(
        self, store: Store, hub: Hub, clock: Callable[[], float], wall_ms: Callable[[], int], metrics: Metrics
    ) -> None:
        self._store = store
        self._hub = hub
        self._clock = clock
        self._wall_ms = wall_ms
        self._metrics = metrics
        self._queue: deque[Item] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._failing = False

    def submit(self, connection: Connection, request: Write, append: Append) -> None:
        if len(self._queue) >= QUEUE:
            error = Unavailable(f"{QUEUE} publishes wait for the store", after_ms=RETRY_MS)
            self._fail([(connection, request, append)], error)
            return
        self._queue.append((connection, request, append))
        self._arrived.set()
        self._idle.clear()

    async def run(self) -> None:
        """Commit batch after batch, until cancelled."""
        while True:
            await self._arrived.wait()
            if batch := self._take():
                await self._commit(batch)
            if not self._queue:
                self._arrived.clear()
                self._idle.set()

    @property
    def is_idle(self) -> bool:
        """Nothing is in flight."""
        return self._idle.is_set()

    def _take(self) -> list[Item]:
        """The next batch, without what must wait for a publish that failed after this one was accepted."""
        batch: list[Item] = []
        for _ in range(min(BATCH, len(self._queue))):
            item = self._queue.popleft()
            connection, request, _ = item
            if (effects := connection.session.overtakes(request)) is None:
                batch.append(item)
            else:
                self._metrics.nacks += 1
                connection.apply(effects)
                connection.answered()
        return batch

    async def _commit(self, batch: Sequence[Item]) -> None:
        began = self._clock()
        try:
            outcomes = await self._store.append([append for _, _, append in batch], self._wall_ms())
        except StoreUnavailable as bad:
            self._failed(batch, Unavailable(f"the store cannot write: {bad}", after_ms=RETRY_MS))
        except StoreUncertain as bad:
            reason = f"the store failed while it committed: {bad}; publish again with the same message id"
            self._failed(batch, OutcomeUnknown(reason, after_ms=RETRY_MS))
        else:
            self._metrics.commit_s.observe(self._clock() - began)
            if self._failing:
                self._failing = False
                log("store_recovered")
            self._placed(batch, outcomes)

    def _placed(self, batch: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
        epoch, metrics, alone = self._store.epoch, self._metrics, self._store.bus is None
        fresh: dict[str, list[Entry]] = {}
        for (connection, request, append), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Placed):
                metrics.publishes += 1
                if alone and self._hub.channel(append.channel) is not None:
                    fresh.setdefault(append.channel, []).append(entry_of(append, outcome))
            elif isinstance(outcome, Conflict):
                metrics.conflicts += 1
            elif isinstance(outcome, Duplicate):
                metrics.duplicates += 1
            else:
                metrics.nacks += 1
            connection.apply(connection.session.placed(request, outcome, epoch))
            connection.answered()
        for channel, entries in fresh.items():
            self._hub.committed(channel, entries)

    def _failed(self, batch: Sequence[Item], error: ChatdError) -> None:
        if not self._failing:
            self._failing = True
            log("store_failed", level="error", reason=error.reason)
        self._fail(batch, error)

    def _fail(self, batch: Sequence[Item], error: ChatdError) -> None:
        for connection, request, _ in batch:
            self._metrics.nacks += 1
            connection.apply(connection.session.failed(request, error))
            connection.answered()


def entry_of(append: Append, placed: Placed) -> Entry:
    """A message as the log holds it."""
    return Entry(placed.serial, placed.time, append.user, append.message, append.data, append.kind, append.to)
