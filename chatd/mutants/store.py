"""Mutants of the log: stand-ins for the stores, for what they remember and for what they keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ..store.base import (
    Append,
    Dedupe,
    Outcome,
    Placed,
    Remembered,
    Retain,
    Retention,
    StoreUnavailable,
)
from ..store.sqlite import SqliteStore
from ..store.valkey.records import remembered_as
from ..store.valkey.store import ValkeyStore
from .chosen import Trigger

TAIL: Final = 5  # messages of a channel that `forget-tail` forgets


class ForgetfulDedupe(Dedupe):
    """Does not find what it remembers, be it committed or in the same batch."""

    def __init__(self, ttl_s: float, *, trigger: Trigger) -> None:
        super().__init__(ttl_s)
        self._fires = trigger.fires

    def find(self, key: bytes) -> Remembered | None:
        found = super().find(key)
        return None if found is not None and self._fires() else found


class EarlyRetain:
    """Keeps the newest half of what was promised, each time that it is asked."""

    def __init__(self, retain: Retain, *, trigger: Trigger) -> None:
        self._retain = retain
        self._fires = trigger.fires

    def of(self, channel: str) -> Retention:
        kept = self._retain.of(channel)
        return Retention(self.less(kept.n), kept.s, kept.bytes) if self._fires() else kept

    @staticmethod
    def less(n: int) -> int:
        return max(1, n // 2)


class ShortRetain(EarlyRetain):
    """Keeps one message less than was promised."""

    @staticmethod
    def less(n: int) -> int:
        return max(1, n - 1)


class BrokenSqlite(SqliteStore):
    """What all of them share."""

    def __init__(self, directory: Path, retention: Retain, dedupe: Dedupe, *, trigger: Trigger) -> None:
        super().__init__(directory, retention, dedupe)
        self._fires = trigger.fires

    def _open(self) -> None:
        super()._open()
        if self._db.execute("SELECT 1 FROM log LIMIT 1").fetchone():
            self.began_again()

    def began_again(self) -> None:
        """Opened by a later process than the one that began the log (writer thread)."""


class ForgetAcked(BrokenSqlite):
    """Deletes a message, acked and delivered by now, when the next one of its channel is placed."""

    def _append(self, batch: Sequence[Append], now_ms: int) -> list[Outcome]:
        outcomes = super()._append(batch, now_ms)
        for append, outcome in zip(batch, outcomes, strict=True):
            # Neither the newest nor the oldest: the ends of a channel tell what else it holds.
            if isinstance(outcome, Placed) and outcome.serial > 2 and self._fires():
                place = (self._channels[append.channel].id, outcome.serial - 1)
                self._db.execute("DELETE FROM log WHERE channel = ? AND serial = ?", place)
        return outcomes


class SkipSerial(BrokenSqlite):
    """Passes over a serial."""

    def _append(self, batch: Sequence[Append], now_ms: int) -> list[Outcome]:
        for append in batch:
            channel = self.channel(append.channel)
            if channel is not None and self._fires():
                channel.top += 1
        return super()._append(batch, now_ms)


class ReuseEpoch(BrokenSqlite):
    """Forgets all messages in a restart, but not the epoch: its serials start again."""

    def began_again(self) -> None:
        if self._fires():
            self._db.execute("DELETE FROM log")
            self._db.execute("DELETE FROM channels")
            self._load()


class ForgetTail(BrokenSqlite):
    """Forgets the newest messages of a channel in a restart, as if they had not been flushed."""

    def began_again(self) -> None:
        for channel, top in self._db.execute(
            "SELECT channel, max(serial) FROM log GROUP BY channel"
        ).fetchall():
            if top > TAIL and self._fires():
                self._db.execute("DELETE FROM log WHERE channel = ? AND serial > ?", (channel, top - TAIL))


class ClosedAfterRestart(BrokenSqlite):
    """Takes no publish any more once it was started on a log that had begun."""

    _closed = False

    def began_again(self) -> None:
        self._closed = True

    async def append(self, batch: Sequence[Append], now_ms: int) -> list[Outcome]:
        if self._closed and self._fires():
            raise StoreUnavailable("closed, says a mutant")
        return await super().append(batch, now_ms)


SQLITE: Final[Mapping[str, type[BrokenSqlite]]] = {
    "forget-acked": ForgetAcked,
    "skip-serial": SkipSerial,
    "reuse-epoch": ReuseEpoch,
    "forget-tail": ForgetTail,
    "closed-after-restart": ClosedAfterRestart,
}


class ForgetfulValkey(ValkeyStore):
    """Lets the server forget a message id before the message is placed again."""

    def __init__(self, url: str, retention: Retain, dedupe: Dedupe, *, trigger: Trigger) -> None:
        super().__init__(url, retention, dedupe)
        self._fires = trigger.fires

    async def append(self, batch: Sequence[Append], now_ms: int) -> list[Outcome]:
        ids = [remembered_as(append) for append in batch]
        known = await self._writes.ask([("EXISTS", id) for id in ids])
        if forgotten := [id for id, found in zip(ids, known, strict=True) if found and self._fires()]:
            await self._writes.ask([("DEL", *forgotten)])
        return await super().append(batch, now_ms)


VALKEY: Final[Mapping[str, type[ForgetfulValkey]]] = {"no-dedupe": ForgetfulValkey}
DEDUPES: Final = {"no-dedupe": ForgetfulDedupe}
RETAINS: Final = {"evict-early": EarlyRetain, "trim-off-by-one": ShortRetain}
