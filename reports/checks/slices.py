"""A channel that is too large to be judged at once: its deliveries are looked at by ranges of clients.

Twice. First each range gives its *heads*: of every entry that it shows the first and the last record,
and how many there are; with them the ``Whole`` knows all that there is to know of the channel's log in
memory that grows with messages, not with deliveries. Then each ``Slice`` is judged by the classes that
look at one client's stream (``Check.by_client``), against the log of the whole, and leaves its windows,
what was missing and what was passed over. With these the other classes judge the whole.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from .continuity import Continuity, strange
from .facts import Facts
from .fate import Fate
from .messages import Entries, Messages, Places, slots
from .owed import Missing
from .part import Part, Records, by_pair
from .passed import Passed
from .placing import Placed
from .reads import FinalReads
from .rows import NEVER, Bool, Index, Int, Rows, distinct, joined, pack
from .shards import Range
from .tails import Sentinel, Stalled
from .windows import Windows, together, without_arrivals


class Heads:
    """Some deliveries that stand for all: of each entry the first and the last record."""

    def __init__(self) -> None:
        self._rows: list[Rows] = []
        self._weights: list[Int] = []

    def add(self, arrivals: Rows) -> None:
        """The deliveries of some clients, in any order."""
        which, weight = _heads(arrivals)
        self._rows.append(arrivals.where(which))
        self._weights.append(weight)

    def joined(self) -> tuple[Rows, Int]:
        """All, by (channel, client, row), and for how many records each stands."""
        rows, weight = joined(*self._rows), np.concatenate(self._weights)
        order = np.lexsort((rows.row, rows.pair))
        return rows.where(order), weight[order]


def _heads(arrivals: Rows) -> tuple[Index, Int]:
    """Positions of the records that stand for all, and for how many each does.

    Damaged and foreign ones stand for themselves, and so do those of a second message at a serial.
    """
    odd = strange(arrivals)
    place = pack(arrivals.epoch, arrivals.serial)
    slot, count = slots(place)
    if count > 4 * len(place) + 1024:  # serials far apart
        slot = np.unique(place, return_inverse=True)[1]
        count = int(slot.max(initial=-1)) + 1
    message, holder = arrivals.message, np.zeros(count, np.int64)
    plain = np.flatnonzero(~odd)
    holder[slot[plain]] = message[plain]
    other = odd | (holder[slot] != message)
    plain = np.flatnonzero(~other)
    mine, t = slot[plain], arrivals.t[plain]
    first_t, last_t = np.full(count, NEVER), np.full(count, -NEVER)
    np.minimum.at(first_t, mine, t)
    np.maximum.at(last_t, mine, t)
    first = _one_each(arrivals, plain[t == first_t[mine]], slot)
    last = _one_each(arrivals, plain[t == last_t[mine]], slot)
    last = last[~np.isin(last, first)]
    weight = np.bincount(mine, minlength=count)[slot[first]]
    weight[np.isin(slot[first], slot[last])] -= 1  # the last stands for itself
    themselves = np.concatenate([last, np.flatnonzero(other)])
    return np.concatenate([first, themselves]), np.concatenate([weight, np.ones(len(themselves), np.int64)])


def _one_each(arrivals: Rows, some: Index, slot: Int) -> Index:
    """Of some records the first of each slot by (file, row)."""
    some = some[np.lexsort((arrivals.row[some], arrivals.file[some], slot[some]))]
    begins = np.ones(len(some), np.bool_)
    begins[1:] = slot[some][1:] != slot[some][:-1]
    return some[begins]


class Whole(Part):
    """A large channel. What one client saw of it only its slices know: they leave it by ``collect``."""

    def __init__(self, facts: Facts, records: Records, heads: Heads) -> None:
        """``records``: all but the deliveries."""
        arrivals, self._weight = heads.joined()
        super().__init__(facts, replace(records, arrivals=arrivals))
        self._windows: list[Windows] = []
        self._owed: list[Int] = [np.empty(0, np.int64)]
        self._passed: Passed = {}

    def slice(self, clients: Range, arrivals: Rows) -> Slice:
        """A range of clients with their deliveries, in (file, row) order."""
        records = self.records

        def of(rows: Rows) -> Rows:
            return rows.where(np.flatnonzero((rows.client >= clients[0]) & (rows.client <= clients[1])))

        own = {name: of(getattr(records, name)) for name in ("subs", "lives", "unsubs", "gaps", "epochs")}
        arrivals = by_pair(arrivals, np.arange(len(arrivals)))
        return Slice(self, replace(records, arrivals=arrivals, control_arrivals=0, **own))

    def collect(self, piece: Slice) -> None:
        """Keep what the classes that judge the whole need of a slice. Slices come by rising clients."""
        self._windows.append(without_arrivals(piece.windows))
        self._owed.append(piece.owed)
        for hole, over in piece.passed.items():
            self._passed[hole] = min(self._passed.get(hole, over), over)

    def _weights(self) -> Int:
        return self._weight

    @cached_property
    def windows(self) -> Windows:
        """Of all clients, without what belongs to arrivals."""
        return together(self._windows)

    @cached_property
    def owed(self) -> Int:
        return distinct(np.concatenate(self._owed))

    @cached_property
    def passed(self) -> Passed:
        return self._passed

    @cached_property
    def missing(self) -> list[Missing]:
        raise TypeError("what single clients missed is its slices': the class must be `by_client`")

    @cached_property
    def stalled(self) -> list[Stalled]:
        raise TypeError("who stalled is its slices': the class must be `by_client`")

    @cached_property
    def continuity(self) -> Continuity:
        raise TypeError("the continuity of single clients is its slices': the class must be `by_client`")


class Slice(Part):
    """The deliveries of some clients in a channel, and the log of the whole."""

    def __init__(self, whole: Whole, records: Records) -> None:
        super().__init__(whole.facts, records)
        self._whole = whole

    @cached_property
    def places(self) -> Places:
        return self._whole.places

    @cached_property
    def read_place(self) -> Int:
        return self._whole.read_place

    @cached_property
    def acks(self) -> Rows:
        return self._whole.acks

    @cached_property
    def ack_place(self) -> Int:
        return self._whole.ack_place

    @cached_property
    def entries(self) -> Entries:
        return self._whole.entries

    @cached_property
    def at_home(self) -> Bool:
        return self._whole.at_home

    @cached_property
    def observed(self) -> Int:
        return self._whole.observed

    @cached_property
    def seen(self) -> Int:
        return self._whole.seen

    @cached_property
    def shown(self) -> Int:
        return self._whole.shown

    @cached_property
    def messages(self) -> Messages:
        return self._whole.messages

    @cached_property
    def placed(self) -> Placed:
        return self._whole.placed

    @cached_property
    def own(self) -> dict[int, Int]:
        return self._whole.own

    @cached_property
    def channels(self) -> list[int]:
        return self._whole.channels

    @cached_property
    def sentinels(self) -> dict[int, Sentinel]:
        return self._whole.sentinels

    @cached_property
    def final_reads(self) -> FinalReads:
        return self._whole.final_reads

    @cached_property
    def fate(self) -> Fate:
        raise TypeError("the fate of messages is the whole's: the class must not be `by_client`")
