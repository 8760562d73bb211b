"""The dedupe map, rebuilt from the log's tail when a store starts.

Rows come as one JSON text per ``CHUNK`` rows: SQLite builds it in one step, without the
interpreter, where a step per row would take longer and fight with the event loop's thread for the
interpreter. Contents are not read: what a repeated message looked like is looked up in the log if it ever
is repeated (``Remembered.digest`` is None till then).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

import msgspec

from .base import Dedupe, Remembered, identity

CHUNK: Final = 2000
ROWS: Final = """
SELECT json_group_array(json_array(channel, user, message, serial)), max(time) FROM (
    SELECT channel, user, message, serial, time FROM log WHERE rowid > ? AND rowid <= ? ORDER BY rowid)
"""
_decode = msgspec.json.Decoder(list[tuple[int, str, str, int]]).decode


def remember(db: sqlite3.Connection, dedupe: Dedupe, names: Mapping[int, str], oldest_ms: float) -> int:
    """Put the rows that are not older than ``oldest_ms`` into ``dedupe``; returns how many.

    Args:
        names: of the channels, by their ids.
    """
    top = db.execute("SELECT max(rowid) FROM log").fetchone()[0] or 0
    first, count = _first(db, top, oldest_ms), 0
    while first < top:
        text, newest_ms = db.execute(ROWS, (first, first + CHUNK)).fetchone()
        rows = _decode(text)
        if rows:
            entries = {
                identity(names[channel], user, message): Remembered(serial, None)
                for channel, user, message, serial in rows
            }
            dedupe.restore(entries, newest_ms)
        first, count = first + CHUNK, count + len(rows)
    return count


def _first(db: sqlite3.Connection, top: int, oldest_ms: float) -> int:
    """The rowid after which all are young enough: rows are in time order because their ids are."""
    low, high = 0, top
    while low < high:
        middle = (low + high) // 2
        # Rows that were deleted leave holes: look at the next one that is there.
        at = db.execute("SELECT time FROM log WHERE rowid > ? ORDER BY rowid LIMIT 1", (middle,)).fetchone()
        if at is None or at[0] >= oldest_ms:
            high = middle
        else:
            low = middle + 1
    return low
