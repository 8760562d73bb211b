"""Messages: what became of each publish, and where in the log each message was seen.

All attempts of one (publisher, pub_seq) are folded into one outcome. OK: some attempt was
acked. FAIL: every attempt failed definitely. COMMITTED: neither, yet the message was observed.
INFO: anything else; it may or may not have happened and owes nothing. A timeout is never a failure.

A *place* is a position in the canonical epoch (see lineage), as one number: index of
(channel, epoch) and serial.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import polars as pl

from reports.history import Flag

from .lineage import Lineage
from .rows import NEVER, Column, Int, Rows, distinct, high, low, member, pack, runs


class Outcome(IntEnum):
    OK = 1
    FAIL = 2
    INFO = 3
    COMMITTED = 4


class Places:
    """Numbers the (channel, canonical epoch) pairs of some channels, and so every place in them."""

    def __init__(self, lineage: Lineage, *rows: Rows) -> None:
        self._lineage = lineage
        heads = []
        for some in rows:
            stream = self._streams(some.channel, some.epoch, some.serial)
            heads.append(stream[runs(stream)[0]])
        self._known = distinct(np.concatenate(heads))

    def _streams(self, channel: Column, epoch: Column, serial: Column) -> Int:
        return pack(channel, self._lineage.epochs(channel, epoch, serial))

    def of(self, channel: Column, epoch: Column, serial: Column) -> Int:
        """The place of each position; -1 for a stream that nothing was seen of."""
        stream = self._streams(channel, epoch, serial)
        if not len(self._known):
            return np.full(len(stream), -1, np.int64)
        begins, ends = runs(stream)  # long runs: look each up once
        at = np.minimum(np.searchsorted(self._known, stream[begins]), len(self._known) - 1)
        index = np.where(self._known[at] == stream[begins], at, -1)
        index = np.repeat(index, ends - begins)
        return np.where(index < 0, -1, pack(index, serial))

    def own(self, channel: Column, epoch: Column, serial: Column) -> Int:
        """Places in an epoch's own stream, whatever it goes on from; -1 where nothing was seen of that."""
        stream = pack(channel, epoch)
        if not len(self._known):
            return np.full(len(stream), -1, np.int64)
        at = np.minimum(np.searchsorted(self._known, stream), len(self._known) - 1)
        return np.where(self._known[at] == stream, pack(at, serial), -1)

    def channels(self, place: Int) -> Int:
        """The channel of each place."""
        return np.asarray(high(self._known[np.asarray(place) >> 32])) if len(place) else np.zeros(0, np.int64)

    def epochs(self, place: Int) -> Int:
        """The canonical epoch of each place."""
        return np.asarray(low(self._known[np.asarray(place) >> 32])) if len(place) else np.zeros(0, np.int64)

    def stream(self, place: int) -> tuple[int, int]:
        """Channel and canonical epoch of a place."""
        stream = int(self._known[place >> 32])
        return stream >> 32, stream & 0xFFFF_FFFF

    def streams(self, channel: int, epoch: int, first: int, last: int) -> list[tuple[int, int, int]]:
        """A range of serials of one epoch as (stream, first, last), as far as their streams are known."""
        return [
            (begin >> 32, begin & 0xFFFF_FFFF, end & 0xFFFF_FFFF)
            for begin, end in self.spans(channel, epoch, first, last)
        ]

    def spans(self, channel: int, epoch: int, first: int, last: int) -> list[tuple[int, int]]:
        """A range of serials of one epoch as ranges of places, both inclusive."""
        spans = []
        for canonical, begin, end in self._lineage.pieces(channel, epoch, first, last):
            at = int(np.searchsorted(self._known, stream := (channel << 32) | canonical))
            if at < len(self._known) and self._known[at] == stream:
                spans.append(((at << 32) | begin, (at << 32) | end))
        return spans


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """Every (place, message) that a delivery or a final read showed, sorted by both."""

    place: Int
    message: Int
    first_t: Int
    last_t: Int
    count: Int  # records that showed it


def entries(place: Int, message: Int, t: Int, weight: Int | None = None) -> Entries:
    """Distinct entries among records: the place, message and time of each.

    Args:
        weight: how many records each stands for; None: for itself.
    """
    slot, count = slots(place)
    if count > 4 * len(place) + 1024:  # serials far apart: a table of all between would not fit
        return _grouped(place, message, t, weight)
    holder = np.zeros(count, np.int64)
    holder[slot] = message  # almost always one message a place: the last one seen stands for it
    other = holder[slot] != message
    mine = slice(None) if not other.any() else ~other
    stands_for = None if weight is None else weight[mine]
    records = np.bincount(slot[mine], stands_for, minlength=count).astype(np.int64)
    first_t, last_t = np.full(count, NEVER), np.full(count, -NEVER)
    of_place = np.zeros(count, np.int64)
    np.minimum.at(first_t, slot[mine], t[mine])
    np.maximum.at(last_t, slot[mine], t[mine])
    of_place[slot] = place
    used = np.flatnonzero(records)
    main = Entries(
        place=of_place[used],
        message=holder[used],
        first_t=first_t[used],
        last_t=last_t[used],
        count=records[used],
    )
    if not other.any():
        return main
    return _merged(
        main, _grouped(place[other], message[other], t[other], None if weight is None else weight[other])
    )


def slots(place: Int) -> tuple[Int, int]:
    """Numbers places from 0, in their order, with room for the serials between."""
    stream, serial = np.asarray(place) >> 32, np.asarray(low(place))
    streams = int(stream.max(initial=-1)) + 1
    least, most = np.full(streams, 1 << 32, np.int64), np.zeros(streams, np.int64)
    np.minimum.at(least, stream, serial)
    np.maximum.at(most, stream, serial)
    room = np.maximum(most - least + 1, 0)
    offset = np.cumsum(room) - room
    return serial + (offset - least)[stream], int(room.sum())


def _grouped(place: Int, message: Int, t: Int, weight: Int | None) -> Entries:
    stands_for = np.ones(len(place), np.int64) if weight is None else weight
    frame = (
        pl.DataFrame({"place": place, "message": message, "t": t, "weight": stands_for})
        .group_by("place", "message")
        .agg(first_t=pl.col("t").min(), last_t=pl.col("t").max(), count=pl.col("weight").sum())
        .sort("place", "message")
    )
    return Entries(**{name: frame[name].to_numpy() for name in Entries.__slots__})


def _merged(one: Entries, other: Entries) -> Entries:
    columns = {n: np.concatenate([getattr(one, n), getattr(other, n)]) for n in Entries.__slots__}
    order = np.lexsort((columns["message"], columns["place"]))
    return Entries(**{name: column[order] for name, column in columns.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """Every message sent, by identity, with its outcome."""

    message: Int
    channel: Int
    outcome: Int  # Outcome
    attempts: Int
    begin: Int  # of its attempts in `sent_t`
    sent_t: Int  # of every attempt, by message and time
    first_row: Int  # of its first attempt, in its publisher's log
    last_row: Int
    sent_bytes: Int  # of the bodies of all attempts

    def find(self, message: int) -> int:
        """Position of a message; -1: never sent."""
        at = int(np.searchsorted(self.message, message))
        return at if at < len(self.message) and self.message[at] == message else -1

    def sent(self, at: int) -> Int:
        """Times of the attempts of the message at a position, rising."""
        return self.sent_t[self.begin[at] : self.begin[at] + self.attempts[at]]

    def count(self, outcome: Outcome, *, load_only: bool = True) -> int:
        mine = self.outcome == outcome
        return int((mine & (high(self.message) != 0)).sum() if load_only else mine.sum())


def fold(sends: Rows, acks: Rows, nacks: Rows, observed: Int) -> Messages:
    """Fold all attempts of each message into one outcome.

    Args:
        observed: sorted messages that a delivery or a final read showed.
    """
    order = np.lexsort((sends.t, sends.message))
    message = sends.message[order]
    begins, ends = runs(message)
    known, attempts = message[begins], ends - begins
    # An answer to no open request may be a second answer to one attempt: it proves no other one failed.
    definite = nacks.where((nacks.flag(Flag.DEFINITE) | (nacks.t2 == 0)) & ~nacks.flag(Flag.NOT_OPEN))
    refused = np.bincount(
        np.searchsorted(known, definite.message[member(definite.message, known)]), minlength=len(known)
    )
    acked = member(known, distinct(acks.message))
    outcome = np.full(len(known), Outcome.INFO, np.int64)
    outcome[refused >= attempts] = Outcome.FAIL
    outcome[(outcome == Outcome.INFO) & member(known, observed)] = Outcome.COMMITTED
    outcome[acked] = Outcome.OK
    return Messages(
        message=known,
        channel=sends.channel[order][begins].astype(np.int64),
        outcome=outcome,
        attempts=attempts,
        begin=begins,
        sent_t=sends.t[order],
        first_row=sends.row[order[begins]].astype(np.int64),
        last_row=sends.row[order[ends - 1]].astype(np.int64),
        sent_bytes=np.add.reduceat(np.append(sends.serial[order].astype(np.int64), 0), begins)
        if len(begins)
        else np.zeros(0, np.int64),
    )


def serial_of(place: Int | int) -> Int:
    """The serial of places."""
    return np.asarray(low(place))
