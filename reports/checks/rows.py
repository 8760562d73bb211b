"""Records as columns: what checks compute with. No Python object per record."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Int = npt.NDArray[np.integer[Any]]
Index = Int  # positions in an array
Bool = npt.NDArray[np.bool_]
Column = npt.NDArray[Any]
NEVER = np.iinfo(np.int64).max  # a time or row that does not come


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Some records of one kind: equally long columns, as in the record, plus `file` and `row`."""

    t: Column
    t2: Column
    client: Column
    channel: Column
    publisher: Column
    pub_seq: Column
    serial: Column
    epoch: Column
    flags: Column
    file: Column
    row: Column

    def __len__(self) -> int:
        return len(self.t)

    def where(self, which: Bool | Index | slice) -> Rows:
        """The rows of a mask, or of positions in their order."""
        return Rows(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    def flag(self, flag: int) -> Bool:
        return np.asarray((self.flags & int(flag)) != 0)

    @property
    def message(self) -> Int:
        """Identity of the message: publisher and pub_seq in one number."""
        return pack(self.publisher, self.pub_seq)

    @property
    def pair(self) -> Int:
        """Client and channel in one number; sorts by channel."""
        return pack(self.channel, self.client)

    def reference(self, i: int | np.integer[Any]) -> tuple[int, int]:
        return int(self.file[i]), int(self.row[i])


def joined(*several: Rows) -> Rows:
    return Rows(**{f.name: np.concatenate([getattr(rows, f.name) for rows in several]) for f in fields(Rows)})


COLUMNS = tuple(f.name for f in fields(Rows))


def rows_of(frame: pl.DataFrame) -> Rows:
    return Rows(**{name: frame[name].to_numpy() for name in COLUMNS})


def pack(high: Column | int, low: Column | int) -> Int:
    """Two numbers below 2^32 as one: ``high << 32 | low``. Sorts by ``high`` while that is below 2^31."""
    return (np.asarray(high).astype(np.int64) << 32) | np.asarray(low).astype(np.int64)


def low(packed: Int | int) -> Any:
    return packed & 0xFFFF_FFFF


def high(packed: Int | int) -> Any:
    return (packed >> 32) & 0xFFFF_FFFF


def runs(sorted_key: Column) -> tuple[Index, Index]:
    """Begin and end positions of each run of equal values."""
    if not len(sorted_key):
        empty = np.empty(0, np.intp)
        return empty, empty
    cuts = np.flatnonzero(sorted_key[1:] != sorted_key[:-1]) + 1
    return np.concatenate([[0], cuts]), np.concatenate([cuts, [len(sorted_key)]])


def distinct(values: Column) -> Int:
    """The distinct values, sorted. (np.unique hashes first, which costs more than sorting does.)"""
    ordered = np.sort(values)
    keep = np.ones(len(ordered), np.bool_)
    keep[1:] = ordered[1:] != ordered[:-1]
    return np.asarray(ordered[keep])


def repeated(values: Column) -> Int:
    """The values that occur more than once, sorted."""
    ordered = np.sort(values)
    return distinct(ordered[1:][ordered[1:] == ordered[:-1]])


def member(values: Column, sorted_set: Column) -> Bool:
    """Which values are in a sorted array."""
    if not len(sorted_set):
        return np.zeros(len(values), np.bool_)
    at = np.searchsorted(sorted_set, values)
    at[at == len(sorted_set)] = 0
    return np.asarray(sorted_set[at] == values)


def next_after(key: Int, sorted_keys: Int) -> Index:
    """For each key the position of the first greater one in a sorted array; its length when none is."""
    return np.searchsorted(sorted_keys, key, side="right")
