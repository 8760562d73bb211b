"""The records of a history, sorted into parts in one pass and read again part by part.

The history is read once, in blocks; each block goes to an unnamed file in the run directory, ordered by
part. A part is then read by itself: memory is bounded by the part, time is linear in the records, and nothing
is left behind, whatever ends the process. The file takes 46 bytes a record: about what the live
segments took while the run went on. A history of one part needs no file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from reports.history import NO_CHANNEL, Kind

from .facts import CONTROL, Sends
from .rows import COLUMNS, Bool, Column, Index, Int, Rows, rows_of

if TYPE_CHECKING:
    from reports.history import History

MAX_ID: Final = (1 << 31) - 1  # of a client or channel; ids above are left out and counted
BLOCK_ROWS: Final = 1 << 18  # read at once
IN_CHANNELS: Final = (
    *(Kind.SUB, Kind.LIVE, Kind.UNSUB, Kind.SEND, Kind.ACK),
    *(Kind.NACK, Kind.RECV, Kind.GAP, Kind.EPOCH, Kind.READ),
)
_READ: Final = ("kind", *COLUMNS)

Range = tuple[int, int]  # of ids, both inclusive


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """What is judged at once: some channels; or, of one large channel, clients range by range."""

    channels: Range
    rows: int
    clients: tuple[Range, ...] = ()  # whose deliveries are judged range by range; (): all at once

    @property
    def pieces(self) -> int:
        """How many pieces are read: all but the deliveries of the ranges, then those of each range."""
        return 1 + len(self.clients)


@dataclass(frozen=True, slots=True)
class Some:
    """Records in (file, row) order, with the kind of each."""

    kind: Column
    rows: Rows

    def __len__(self) -> int:
        return len(self.kind)

    def where(self, which: Bool | Index) -> Some:
        return Some(self.kind[which], self.rows.where(which))


@dataclass(frozen=True, slots=True)
class _Block:
    """Where a block's columns are in the file, and its records by piece."""

    at: tuple[int, ...]  # of each column of `_READ`
    begins: Int  # of each piece, and the end of the last


class Shards:
    """The pieces of a history's shards. A context manager: it holds a file open."""

    def __init__(
        self,
        history: History,
        sends: Sends,
        shards: Sequence[Shard],
        sorted_rows: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``sorted_rows``: told how many records are sorted, while that goes on."""
        self.shards = shards
        self._history, self._sends, self._sorted_rows = history, sends, sorted_rows
        self._types = dict(zip(_READ, _types(history), strict=True))
        self._pieces = sum(shard.pieces for shard in shards)
        self._blocks: list[_Block] = []
        self._stack = ExitStack()

    def __enter__(self) -> Shards:
        if self._pieces > 1:
            with ExitStack() as stack:  # what does not come to its end leaves no file
                self._file = stack.enter_context(tempfile.TemporaryFile(dir=_folder(self._history.path)))
                self._sort()
                self._file.flush()
                self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def read(self, shard: int, piece: int = 0) -> Some:
        """All records of a piece; of piece 0 of a shard with ranges of clients all but their deliveries."""
        number = sum(earlier.pieces for earlier in self.shards[:shard]) + piece
        if self._pieces > 1:
            return self._read(number)
        return in_channels(self._history, self._sends, *self.shards[shard].channels)

    def _sort(self) -> None:
        firsts = np.array([shard.channels[0] for shard in self.shards], np.uint32)
        pieces = np.cumsum([0, *(shard.pieces for shard in self.shards)])[:-1]
        done = 0
        split = [number for number, shard in enumerate(self.shards) if shard.clients]
        for frame in _wanted(self._history.scan()).collect_batches(
            chunk_size=BLOCK_ROWS, maintain_order=True
        ):
            some = _homed(_some(frame), self._sends)
            inside = some.rows.channel <= MAX_ID
            if not inside.all():
                some = some.where(np.flatnonzero(inside))
            shard = np.searchsorted(firsts, some.rows.channel, side="right") - 1
            piece = pieces[shard]
            for number in split:
                mine = (shard == number) & (some.kind == Kind.RECV) & (some.rows.client != CONTROL)
                at = np.flatnonzero(mine)
                lows = np.array([low for low, _ in self.shards[number].clients], np.uint32)
                piece[at] += np.searchsorted(lows, some.rows.client[at], side="right")
            self._blocks.append(self._write(some, piece))
            done += len(some)
            self._sorted_rows(done)

    def _write(self, some: Some, piece: Int) -> _Block:
        small = piece.astype(np.min_scalar_type(self._pieces))
        order = np.argsort(small, kind="stable")  # of 16 bits numpy sorts by radix
        at = []
        for name in _READ:
            column = some.kind if name == "kind" else getattr(some.rows, name)
            at.append(self._file.tell())
            self._file.write(column[order].astype(self._types[name], copy=False).data)
        counts = np.bincount(small, minlength=self._pieces)
        return _Block(tuple(at), np.concatenate([[0], np.cumsum(counts)]))

    def _read(self, piece: int) -> Some:
        counts = [int(block.begins[piece + 1] - block.begins[piece]) for block in self._blocks]
        columns = {}
        for number, name in enumerate(_READ):
            column, done = np.empty(sum(counts), self._types[name]), 0
            for block, count in zip(self._blocks, counts, strict=True):
                at = block.at[number] + int(block.begins[piece]) * column.itemsize
                self._fill(column[done : done + count].view(np.uint8), at)
                done += count
            columns[name] = column
        return Some(columns.pop("kind"), Rows(**columns))

    def _fill(self, raw: Column, at: int) -> None:
        done = 0
        while done < len(raw):
            got = os.preadv(self._file.fileno(), [raw[done:].data], at + done)
            if not got:
                raise OSError("the file that the records were sorted into is cut off")
            done += got


def in_channels(history: History, sends: Sends, first: int, last: int) -> Some:
    """The records of the channels first to last, both inclusive."""
    some = _homed(_some(_wanted(history.scan(), first, last).collect()), sends)
    return some.where(np.flatnonzero((some.rows.channel >= first) & (some.rows.channel <= last)))


def _wanted(scan: pl.LazyFrame, first: int = 0, last: int = MAX_ID) -> pl.LazyFrame:
    """Records of channels, with answers to no open request, which have none yet."""
    kind = pl.col("kind")
    answers = kind.is_in([int(Kind.ACK), int(Kind.NACK)]) & (pl.col("channel") == NO_CHANNEL)
    inside = pl.col("channel").is_between(first, last) | answers
    of_channels = kind.is_in([int(kind) for kind in IN_CHANNELS])
    return scan.filter(of_channels & inside & (pl.col("client") <= MAX_ID)).select(_READ)


def _some(frame: pl.DataFrame) -> Some:
    return Some(frame["kind"].to_numpy(), rows_of(frame))


def _homed(some: Some, sends: Sends) -> Some:
    """An answer goes where its message was sent: one to no open request has no channel of its own."""
    rows = some.rows
    answers = np.flatnonzero((some.kind == Kind.ACK) | (some.kind == Kind.NACK))
    sent_to = sends.channel_of(rows.where(answers).message)
    moves = (sent_to != rows.channel[answers]) & (sent_to != NO_CHANNEL)
    if not moves.any():
        return some
    channel = rows.channel.copy()
    channel[answers[moves]] = sent_to[moves]
    return Some(some.kind, replace(rows, channel=channel))


def _types(history: History) -> list[np.dtype[np.generic]]:
    empty = history.scan().select(_READ).head(0).collect()
    return [empty[name].to_numpy().dtype for name in _READ]


def _folder(path: Path) -> Path | None:
    """The run directory, where there is room for a run; a history in memory has none."""
    return path if path.is_dir() and os.access(path, os.W_OK) else None
