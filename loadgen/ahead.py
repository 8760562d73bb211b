"""Draws what comes next in another thread, while what was drawn before is used.

A second of a schedule with 40,000 publishes takes 20 ms to draw, and whatever falls due meanwhile
would be late. numpy gives the interpreter's lock away while it sorts, so the loop goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """An iterator over ``items``, one ahead of its reader. ``items`` has no None and no other reader."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._thread = ThreadPoolExecutor(1, "ahead")
        self._next = self._thread.submit(next, items, None)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """The next item; waits where it is not drawn yet, and raises what drawing it raised."""
        item = self._next.result()
        if item is None:
            self.close()
            raise StopIteration
        self._next = self._thread.submit(next, self._items, None)
        return item

    def close(self) -> None:
        """Draw nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
