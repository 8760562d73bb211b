"""The retained messages of one channel, and where a subscriber begins in them. No I/O.

``Stream`` holds a run of messages without holes. The memory store keeps a channel in
one; the hub keeps the newest few messages of each channel that somebody listens to in
another, so that most resumes need no read.

``locate`` is the judgement that a resume stands on: given what the client asks for and
what the stream still holds, where delivery begins and what is missing, exactly.
"""

from __future__ import annotations

from itertools import dropwhile
from typing import Generic, TypeVar

import msgspec

from .protocol.messages import From, GapInfo, Last, Position
from .store.base import Head, Lineage, Retention

T = TypeVar("T")


class Start(msgspec.Struct, frozen=True):
    """Where delivery begins: after serial ``serial``."""

    serial: int
    resumed: bool  # the client goes on from the position that it asked for, with nothing missing
    gap: GapInfo | None = None


def locate(asked: From, head: Head) -> Start:
    """Decide where a subscription begins. PROTOCOL.md § Resume.

    Args:
        asked: "new" (after the newest message), "first" (all that is retained),
            ``Last(n)``, or a position to go on from.
        head: the ends of the stream now.
    Returns:
        A position that can be served is resumed from. One that cannot has a ``gap``:
        "trimmed" when messages after it are gone, "epoch" when it belongs to another
        life of the stream (delivery then begins at the floor of this one), "ahead"
        when it lies after the newest message (this stream lost what the client saw), "fork"
        when it lies on a branch of an earlier epoch that was given up. Delivery begins after
        ``gap.to``. A position of an earlier epoch that lies before the fork is one of this
        epoch too, so it is resumed from.
    """
    if asked == "new":
        return Start(head.top, False)
    if asked == "first":
        return Start(head.floor - 1, False)
    if isinstance(asked, Last):
        return Start(max(head.top - asked.last, head.floor - 1), False)
    epoch, serial = asked
    if epoch != head.epoch:
        fork = forked(epoch, head.lineage)
        if fork is None:
            return _broken("epoch", asked, (head.epoch, head.floor - 1))
        if serial > fork:
            return _broken("fork", asked, (head.epoch, max(fork, head.floor - 1)))
    if serial > head.top:
        return _broken("ahead", asked, (head.epoch, head.top))
    if serial + 1 < head.floor:
        return _broken("trimmed", asked, (head.epoch, head.floor - 1))
    return Start(serial, True)


def forked(epoch: str, lineage: Lineage) -> int | None:
    """The last serial that an epoch has in common with the newest one; None: it is not of this stream.

    >>> forked("E1", (("E1", 1), ("E2", 101), ("E3", 91))), forked("E2", (("E1", 1), ("E2", 101)))
    (90, None)
    """
    later = [first for _, first in dropwhile(lambda one: one[0] != epoch, lineage)][1:]
    return min(later) - 1 if later else None


def shared(old: Lineage, new: Lineage) -> int:
    """The last serial that two lineages of a channel have in common; 0: none.

    The newest epoch may be unknown to the other: a replica that lagged has never heard of it.

    >>> shared((("E1", 1), ("E2", 101)), (("E1", 1), ("E3", 91))), shared((("E1", 1),), (("E2", 1),))
    (90, 0)
    """
    for epoch, first in reversed(old):
        if (epoch, first) in new:
            ends = [end for end in (forked(epoch, old), forked(epoch, new)) if end is not None]
            return min(ends, default=0)
    return 0


def _broken(why: str, asked: Position, to: Position) -> Start:
    return Start(to[1], False, msgspec.convert({"why": why, "from": asked, "to": to}, GapInfo))


class Stream(Generic[T]):
    """Serials ``floor`` … ``top`` of one channel, each with an item.

    >>> stream = Stream[str](Retention(n=2, s=60, bytes=1000))
    >>> [stream.append(word, 5, 0) for word in ("one", "two", "three")]
    [1, 2, 3]
    >>> stream.trim(0), stream.floor, stream.after(0, 10, 1000)
    (True, 2, ['two', 'three'])
    """

    def __init__(self, retention: Retention, *, top: int = 0) -> None:
        self.retention = retention
        self.top = top
        self.bytes = 0
        self._items: list[T] = []
        self._sizes: list[int] = []
        self._times: list[int] = []
        self._dead = 0  # leading items that are trimmed but not yet taken out of the lists

    @property
    def floor(self) -> int:
        """The oldest serial held; top + 1 when none is."""
        return self.top - (len(self._items) - self._dead) + 1

    def append(self, item: T, size_bytes: int, time_ms: int) -> int:
        """Put an item at the end; returns its serial. ``time_ms`` must not run backwards."""
        self._items.append(item)
        self._sizes.append(size_bytes)
        self._times.append(time_ms)
        self.bytes += size_bytes
        self.top += 1
        return self.top

    def after(self, serial: int, limit: int, max_bytes: int) -> list[T]:
        """Up to ``limit`` items after ``serial`` (or from the floor, if that is later).

        Stops once ``max_bytes`` are reached, but never before the first item.
        """
        begin = self._dead + max(0, serial + 1 - self.floor)
        end = min(len(self._items), begin + max(0, limit))
        if self.bytes > max_bytes:  # otherwise everything fits
            total = 0
            for index in range(begin, end):
                total += self._sizes[index]
                if total >= max_bytes:
                    end = index + 1
                    break
        return self._items[begin:end]

    def cut(self, top: int) -> None:
        """Forget what comes after serial ``top``, which may lie before the floor."""
        if top >= self.top:
            return
        end = self._dead + max(0, top + 1 - self.floor)
        self.bytes -= sum(self._sizes[end:])
        for column in (self._items, self._sizes, self._times):
            del column[end:]
        self.top = top

    def trim(self, now_ms: int) -> bool:
        """Forget what is beyond the retention; says whether the floor moved."""
        keep, oldest_ms = self.retention, now_ms - self.retention.s * 1000
        dead, count = self._dead, len(self._items)
        while dead < count and (
            count - dead > keep.n or self.bytes > keep.bytes or self._times[dead] < oldest_ms
        ):
            self.bytes -= self._sizes[dead]
            dead += 1
        moved, self._dead = dead != self._dead, dead
        if dead > 64 and dead * 2 > count:  # each item is moved once on average
            for column in (self._items, self._sizes, self._times):
                del column[:dead]
            self._dead = 0
        return moved
