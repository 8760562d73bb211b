"""What is due when, for parts of the daemon that wait for few things. No clock of its own."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Agenda(Generic[T]):
    """Items, each with one time. Exact, unlike a ``Wheel``, and it costs nothing while it is empty.

    >>> agenda = Agenda[str]()
    >>> agenda.put("a", 2.0); agenda.put("b", 1.0); agenda.put("a", 0.5); agenda.put("b", None)
    >>> agenda.due, agenda.expire(1.0), agenda.due
    (0.5, ['a'], None)
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._when: dict[T, float] = {}
        self._ticket = itertools.count()  # items themselves need not be comparable

    def put(self, item: T, when: float | None) -> None:
        """Set the item's time in place of the one it had; None takes it off."""
        if when is None:
            self._when.pop(item, None)
        elif self._when.get(item) != when:
            self._when[item] = when
            heapq.heappush(self._heap, (when, next(self._ticket), item))

    @property
    def due(self) -> float | None:
        """The earliest time of all."""
        heap, when = self._heap, self._when
        while heap and when.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def expire(self, now: float) -> list[T]:
        """Take out the items whose time has come, earliest first."""
        items: list[T] = []
        while (due := self.due) is not None and due <= now:
            item = heapq.heappop(self._heap)[2]
            del self._when[item]
            items.append(item)
        return items
