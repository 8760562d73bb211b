"""The default store: one SQLite file, and an ack means that it was flushed to disk.

Three threads, each with its own connection: the writer (appends, trims), a reader, and
a checkpointer. The write-ahead log is flushed at every commit (synchronous=FULL), so a
batch is one flush however many messages it holds.

The log table is in rowid order, with one unique index (channel, serial) and none on
message ids: a primary key on (channel, serial) writes four times slower. Duplicates are
found in memory (``Dedupe``), rebuilt at start from the log's tail; so a message is
physically deleted only when retention *and* ``dedupe_s`` have let go of it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Final, TypeVar

from .base import (
    Append,
    Conflict,
    Dedupe,
    Duplicate,
    Durability,
    Entry,
    Head,
    Outcome,
    Page,
    Placed,
    Remembered,
    Retain,
    StoreUnavailable,
    StoreUncertain,
    StoreUnusable,
    content,
    identity,
    judge,
)
from .remember import remember
from .retain import Channel, new_floor

T = TypeVar("T")

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS channels (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, floor INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS log (
    channel INTEGER NOT NULL, serial INTEGER NOT NULL, time INTEGER NOT NULL, user TEXT NOT NULL,
    message TEXT NOT NULL, kind TEXT NOT NULL, before INTEGER NOT NULL, data BLOB NOT NULL,
    about INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX IF NOT EXISTS log_place ON log (channel, serial);
"""
# log.before: bytes of data in all earlier messages of the channel, so that the size of any
# run of messages is one subtraction. log.about: the serial of the message that this one is about.
FORMAT: Final = "2"
UPGRADES: Final = {
    "1": "ALTER TABLE log ADD COLUMN about INTEGER NOT NULL DEFAULT 0"
}  # from there to the next
FILE: Final = "chatd.db"
ANOTHER: Final = "choose another one with --data"
RETRY_S: Final = 1.0  # after a failure, how long appends are refused without trying
CHECKPOINT_BYTES: Final = 4 * 1024 * 1024  # of write-ahead log, before a checkpoint is worth its flush
WAL_BYTES: Final = 64 * 1024 * 1024  # beyond this the writer itself waits for a checkpoint
TRIM_CHANNELS: Final = 500  # looked at in one trim, so that it never holds up appends for long
TRIM_ROWS: Final = 1000


class SqliteStore:
    """Contract: chatd/store/base.py. Files: ``chatd.db`` and its WAL in ``directory``."""

    durability: Durability = "fsync"
    bus = None

    def __init__(self, directory: Path, retention: Retain, dedupe: Dedupe) -> None:
        self.epoch = ""
        self.healthy = True
        self._directory = directory
        self._path = directory / FILE
        self._retention = retention
        self._dedupe = dedupe
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._reader = ThreadPoolExecutor(1, "store-reader")
        self._checkpointer = ThreadPoolExecutor(1, "store-checkpoint")
        self._checkpoint: asyncio.Future[None] | None = None
        self._checkpointing = Lock()
        self._lock: int | None = None
        self._failed_at = 0.0
        # Owned by the writer thread:
        self._db: sqlite3.Connection
        self._channels: dict[str, Channel] = {}
        self._time = 0
        self._trim_next = 0
        self._restored = False

    # Opening and closing ----------------------------------------------------------------------------

    async def open(self) -> None:
        try:
            await self._run(self._writer, self._open)
            self._reads: sqlite3.Connection = await self._run(self._reader, self._connect_readonly)
            self._checkpoints: sqlite3.Connection = await self._run(self._checkpointer, self._connect)
            self._writer.submit(self._try_to_restore)
        except OSError as bad:
            raise self._unusable(
                f"must be a directory that chatd can write to: {bad.strerror or bad}; {ANOTHER}"
            ) from None
        except sqlite3.Error as bad:
            raise self._unusable(f"{FILE} in it cannot be opened: {bad}; {ANOTHER}") from None

    def _unusable(self, why: str) -> StoreUnusable:
        return StoreUnusable(f"data is {str(self._directory)!r}: {why}")

    def _open(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        self._db = self._connect()
        self._db.executescript(SCHEMA)
        with _transaction(self._db):
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (FORMAT,))
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('epoch', ?)", (secrets.token_hex(6),))
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('probe', '')")
            (found,) = self._db.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
            if found in UPGRADES:
                self._db.execute(UPGRADES[found])
                self._db.execute("UPDATE meta SET value = ? WHERE key = 'format'", (FORMAT,))
        meta = dict(self._db.execute("SELECT key, value FROM meta"))
        if meta["format"] != FORMAT:
            raise self._unusable(f"{FILE} has format {meta['format']}, this chatd reads {FORMAT}; {ANOTHER}")
        self.epoch = meta["epoch"]
        self._load()

    def _take_lock(self) -> None:
        """Two daemons on one log would both give out the same serials."""
        lock = os.open(self._directory / "chatd.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise self._unusable("another chatd uses it; stop that one or choose another directory") from None
        self._lock = lock

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, cached_statements=64)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("PRAGMA busy_timeout = 5000")
        return db

    def _connect_readonly(self) -> sqlite3.Connection:
        db = self._connect()
        db.execute("PRAGMA query_only = ON")
        return db

    def _load(self) -> None:
        self._channels = {
            name: Channel(number, floor)
            for number, name, floor in self._db.execute("SELECT id, name, floor FROM channels")
        }
        self._time = next(iter(self._db.execute("SELECT time FROM log ORDER BY rowid DESC LIMIT 1")), (0,))[0]

    def _restore(self) -> None:
        """Fill the dedupe map from the log's tail. Appends wait behind this in the thread's queue;
        reads and the clients that come back do not."""
        if not self._restored:
            names = {channel.id: name for name, channel in self._channels.items()}
            remember(self._db, self._dedupe, names, time.time() * 1000 - self._dedupe.ttl_ms)
            self._restored = True

    def _try_to_restore(self) -> None:
        with suppress(sqlite3.Error):  # the first append tries again, and fails with the reason
            self._restore()

    async def close(self) -> None:
        if self._checkpoint is not None:
            with suppress(sqlite3.Error):
                await self._checkpoint
        for executor, name in (
            (self._reader, "_reads"),
            (self._checkpointer, "_checkpoints"),
            (self._writer, "_db"),
        ):
            if (db := self.__dict__.pop(name, None)) is not None:
                with suppress(sqlite3.Error):  # closing the last one checkpoints; a full disk may refuse that
                    await self._run(executor, db.close)
            executor.shutdown()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _run(self, executor: ThreadPoolExecutor, call: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, call, *args)

    # Appending (writer thread) ----------------------------------------------------------------------

    async def append(self, batch: Sequence[Append], now_ms: int) -> list[Outcome]:
        if not self.healthy and time.monotonic() - self._failed_at < RETRY_S:
            raise StoreUnavailable("the store failed less than a second ago")
        return await self._run(self._writer, self._append, batch, now_ms)

    def _append(self, batch: Sequence[Append], now_ms: int) -> list[Outcome]:
        staged = _Staged(self, max(self._time, now_ms))
        try:
            self._restore()
            self._db.execute("BEGIN IMMEDIATE")
            outcomes = [staged.place(append) for append in batch]
            staged.write(self._db)
        except sqlite3.Error as bad:
            self._give_up(bad)
            raise StoreUnavailable(str(bad)) from None
        except BaseException:
            self._give_up(None)
            raise
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as bad:
            # The commit frame may have reached the log file without its flush: after a
            # crash it may be found and count. If nothing crashes, the next commit overwrites it.
            self._give_up(bad)
            raise StoreUncertain(str(bad)) from None
        staged.publish()
        self._dedupe.commit(self._time)
        self.healthy = True
        return outcomes

    def _give_up(self, error: sqlite3.Error | None) -> None:
        self._dedupe.rollback()
        if self._db.in_transaction:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
        if error is not None:
            self.healthy = False
            self._failed_at = time.monotonic()

    def channel(self, name: str) -> Channel | None:
        """The writer's view of a channel, its top read from the log on first use."""
        channel = self._channels.get(name)
        if channel is not None and not channel.known:
            channel.learn(self._db)
        return channel

    # Reading (reader thread) ------------------------------------------------------------------------

    async def read(self, channel: str, after: int, limit: int, max_bytes: int) -> Page:
        return await self._run(self._reader, self._read, channel, after, limit, max_bytes)

    async def tops(self, channels: Sequence[str]) -> list[Head]:
        return await self._run(self._reader, self._tops, channels)

    def _read(self, channel: str, after: int, limit: int, max_bytes: int) -> Page:
        with _snapshot(self._reads):
            number, head = self._head(channel)
            entries: list[Entry] = []
            if number is None or after >= head.top or limit < 1:
                return Page(head.epoch, head.top, head.floor, entries)
            total = 0
            for row in self._reads.execute(
                "SELECT serial, time, user, message, data, kind, about FROM log"
                " WHERE channel = ? AND serial > ? ORDER BY serial LIMIT ?",
                (number, max(after, head.floor - 1), limit),
            ):
                entries.append(Entry(*row))
                total += len(row[4])
                if total >= max_bytes:
                    break
            return Page(head.epoch, head.top, head.floor, entries)

    def _tops(self, channels: Sequence[str]) -> list[Head]:
        with _snapshot(self._reads):
            return [self._head(channel)[1] for channel in channels]

    def _head(self, name: str) -> tuple[int | None, Head]:
        row = self._reads.execute("SELECT id, floor FROM channels WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None, Head(self.epoch, 0, 1)
        number, floor = row
        (newest,) = self._reads.execute("SELECT max(serial) FROM log WHERE channel = ?", (number,)).fetchone()
        return number, Head(self.epoch, max(newest or 0, floor - 1), floor)

    # Trimming and checkpoints -----------------------------------------------------------------------

    async def trim(self, now_ms: int) -> dict[str, int]:
        self._maybe_checkpoint()
        try:
            return await self._run(self._writer, self._trim, now_ms)
        except sqlite3.Error as bad:
            raise StoreUnavailable(str(bad)) from None

    def _trim(self, now_ms: int) -> dict[str, int]:
        if not self.healthy:
            self._probe(now_ms)
        names = list(self._channels)
        if self._trim_next >= len(names):
            self._trim_next = 0
        names = names[self._trim_next : self._trim_next + TRIM_CHANNELS]
        self._trim_next += TRIM_CHANNELS
        moved = self._new_floors(names, now_ms)
        doomed = self._deletable(names, moved, now_ms)
        if moved or doomed:
            self._forget(moved, doomed)
        if self._wal_bytes() > WAL_BYTES:
            # The other thread's checkpoints never catch up with a writer that never rests, and
            # the log starts over only when one does. From here it can: nobody else writes. Two
            # checkpoints at once are refused, whatever the timeout: hence the lock.
            with self._checkpointing:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return moved

    def _new_floors(self, names: Sequence[str], now_ms: int) -> dict[str, int]:
        floors = {}
        for name in names:
            channel = self.channel(name)
            assert channel is not None
            floor = new_floor(self._db, channel, self._retention.of(name), now_ms)
            if floor > channel.floor:
                floors[name] = floor
        return floors

    def _deletable(self, names: Sequence[str], floors: dict[str, int], now_ms: int) -> dict[str, int]:
        """Up to which serial trimmed messages can leave the file: dedupe, too, is done with them."""
        ends, room, oldest = {}, TRIM_ROWS, now_ms - self._dedupe.ttl_ms
        for name in names:
            channel = self._channels[name]
            end = min(floors.get(name, channel.floor), channel.present + room)
            if end > channel.present and channel.time_of(self._db, end - 1) < oldest:
                ends[name] = end
                room -= end - channel.present
        return ends

    def _forget(self, floors: dict[str, int], ends: dict[str, int]) -> None:
        """One transaction, so one flush: appends wait behind it."""
        ids = {name: self._channels[name].id for name in (*floors, *ends)}
        with _transaction(self._db):
            self._db.executemany(
                "UPDATE channels SET floor = ? WHERE id = ?",
                [(floor, ids[name]) for name, floor in floors.items()],
            )
            self._db.executemany(
                "DELETE FROM log WHERE channel = ? AND serial < ?",
                [(ids[name], end) for name, end in ends.items()],
            )
        for name, floor in floors.items():
            self._channels[name].floor = floor
        for name, end in ends.items():
            self._channels[name].present = end

    def _probe(self, now_ms: int) -> None:
        """Is the store well again? Writes one row, as an append would."""
        with _transaction(self._db):
            self._db.execute("UPDATE meta SET value = ? WHERE key = 'probe'", (str(now_ms),))
        self.healthy = True

    def _maybe_checkpoint(self) -> None:
        if self._checkpoint is not None:
            if not self._checkpoint.done():
                return
            with suppress(sqlite3.Error):
                self._checkpoint.result()
            self._checkpoint = None
        if self._wal_bytes() > CHECKPOINT_BYTES:
            loop = asyncio.get_running_loop()
            self._checkpoint = loop.run_in_executor(self._checkpointer, self._do_checkpoint)

    def _do_checkpoint(self) -> None:
        with self._checkpointing:
            self._checkpoints.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _wal_bytes(self) -> int:
        try:
            return os.stat(f"{self._path}-wal").st_size
        except OSError:
            return 0


class _Staged:
    """What one batch would change. Nothing of the store moves before its commit."""

    def __init__(self, store: SqliteStore, time_ms: int) -> None:
        self.store = store
        self.time = time_ms
        self.channels: dict[str, Channel] = {}
        self.created: list[tuple[int, str, int]] = []
        self.rows: list[tuple[int, int, int, str, str, str, int, bytes, int]] = []
        self.texts: dict[tuple[int, int], tuple[str, str]] = {}  # (channel, serial) → (user, kind) of rows
        self.looked_at = 0  # of `rows`: only a batch with messages about others needs `texts`

    def place(self, append: Append) -> Outcome:
        dedupe = self.store._dedupe
        key = identity(append.channel, append.user, append.message)
        digest = content(append.kind, append.to, append.data)
        if (found := dedupe.find(key)) is not None and (known := self._digest(found, append)) is not None:
            return Duplicate(found.serial) if known == digest else Conflict(found.serial)
        if append.to and (refused := judge(append, self._target(append))) is not None:
            return refused
        channel = self.channels.get(append.channel) or self._touch(append.channel)
        channel.top += 1
        self.rows.append(
            (
                channel.id,
                channel.top,
                self.time,
                append.user,
                append.message,
                append.kind,
                channel.bytes,
                append.data,
                append.to,
            )
        )
        channel.bytes += len(append.data)
        dedupe.stage(key, channel.top, digest)
        return Placed(channel.top, self.time)

    def _touch(self, name: str) -> Channel:
        known = self.store.channel(name)
        if known is None:
            channel = Channel(len(self.store._channels) + len(self.created) + 1, 1, known=True)
            self.created.append((channel.id, name, channel.floor))
        else:
            channel = known.copy()
        self.channels[name] = channel
        return channel

    def _digest(self, found: Remembered, append: Append) -> bytes | None:
        """Of the content of a message that was placed; None: the log has let go of it."""
        if found.digest is not None:
            return found.digest
        row = self.store._db.execute(
            "SELECT kind, about, data FROM log WHERE channel = ? AND serial = ?",
            (self.store._channels[append.channel].id, found.serial),
        ).fetchone()
        return None if row is None else content(*row)

    def _target(self, append: Append) -> tuple[str, str] | None:
        """User and kind of the message that this one is about, if it is retained."""
        channel = self.channels.get(append.channel) or self.store.channel(append.channel)
        if channel is None or not channel.floor <= append.to <= channel.top:
            return None
        for row in self.rows[self.looked_at :]:
            self.texts[row[0], row[1]] = row[3], row[5]
        self.looked_at = len(self.rows)
        if (staged := self.texts.get((channel.id, append.to))) is not None:
            return staged
        found: tuple[str, str] | None = self.store._db.execute(
            "SELECT user, kind FROM log WHERE channel = ? AND serial = ?", (channel.id, append.to)
        ).fetchone()
        return found

    def write(self, db: sqlite3.Connection) -> None:
        if self.created:
            db.executemany("INSERT INTO channels VALUES (?, ?, ?)", self.created)
        db.executemany(
            "INSERT INTO log (channel, serial, time, user, message, kind, before, data, about)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self.rows,
        )

    def publish(self) -> None:
        self.store._channels.update(self.channels)
        self.store._time = self.time


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise


@contextmanager
def _snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """One consistent view over several reads."""
    try:
        db.execute("BEGIN")
        try:
            yield
        finally:
            db.execute("ROLLBACK")
    except sqlite3.Error as bad:
        raise StoreUnavailable(str(bad)) from None
