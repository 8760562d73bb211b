"""What the SQLite store knows of one channel, and how far its retention reaches.

Every row carries the bytes before it and its time, both never falling along a channel;
so "how much is retained" is a subtraction, and "where does retention begin" a binary
search of a few index look-ups instead of a scan or a counter that could drift.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

from .base import Retention


@dataclass(slots=True)
class Channel:
    """A channel as the writer sees it. ``known`` once top, bytes and present were read."""

    id: int
    floor: int  # the oldest serial that a reader may still ask for
    top: int = 0
    bytes: int = 0  # of data, up to and including the top
    present: int = 1  # the oldest serial that is still in the file
    known: bool = False

    def copy(self) -> Channel:
        return replace(self)

    def learn(self, db: sqlite3.Connection) -> None:
        newest = db.execute(
            "SELECT serial, before + length(data) FROM log WHERE channel = ? ORDER BY serial DESC LIMIT 1",
            (self.id,),
        ).fetchone()
        oldest = db.execute("SELECT min(serial) FROM log WHERE channel = ?", (self.id,)).fetchone()[0]
        # With everything deleted the floor still says where the serials had got to.
        self.top, self.bytes = newest or (self.floor - 1, 0)
        self.present = oldest or self.floor
        self.known = True

    def time_of(self, db: sqlite3.Connection, serial: int) -> int:
        return self._column(db, "time", serial)

    def bytes_before(self, db: sqlite3.Connection, serial: int) -> int:
        return self._column(db, "before", serial)

    def _column(self, db: sqlite3.Connection, name: str, serial: int) -> int:
        row = db.execute(
            f"SELECT {name} FROM log WHERE channel = ? AND serial = ?", (self.id, serial)
        ).fetchone()
        value: int = row[0]
        return value


def new_floor(db: sqlite3.Connection, channel: Channel, retention: Retention, now_ms: int) -> int:
    """The oldest serial that is within count, bytes and age; top + 1 when none is."""
    floor = max(channel.floor, channel.top - retention.n + 1)
    if floor > channel.top:
        return floor
    if channel.bytes - channel.bytes_before(db, floor) > retention.bytes:
        least = channel.bytes - retention.bytes
        floor = _search(floor, channel.top + 1, lambda s: channel.bytes_before(db, s) >= least)
        if floor > channel.top:
            return floor
    oldest_ms = int(now_ms - retention.s * 1000)
    if channel.time_of(db, floor) < oldest_ms:
        floor = _search(floor, channel.top + 1, lambda s: channel.time_of(db, s) >= oldest_ms)
    return floor


def _search(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The first serial in [low, high) for which ``holds``; high when there is none."""
    return low + bisect_left(range(low, high), True, key=holds)
