"""A timing wheel: many deadlines, one timer. No clock of its own."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T", bound=Hashable)


class Wheel(Generic[T]):
    """Items, each with one deadline, found in steps of ``step_s``.

    >>> wheel = Wheel[str](step_s=1.0, now=0.0)
    >>> wheel.put("a", 2.5); wheel.put("b", 1.0); wheel.put("a", 0.5)
    >>> wheel.expire(1.0), wheel.expire(3.0)
    (['a', 'b'], [])
    """

    def __init__(self, *, step_s: float, now: float) -> None:
        self.step_s = step_s
        self._spokes: dict[int, list[T]] = {}
        self._where: dict[T, int] = {}
        self._last = int(now // step_s)

    def put(self, item: T, when: float) -> None:
        """Set the item's deadline, in place of the one it had. Found up to ``step_s`` late, never early."""
        spoke = max(-int(-when // self.step_s), self._last + 1)
        if self._where.get(item) != spoke:
            self._where[item] = spoke
            self._spokes.setdefault(spoke, []).append(item)

    def remove(self, item: T) -> None:
        self._where.pop(item, None)

    def expire(self, now: float) -> list[T]:
        """Take out the items whose deadline has come."""
        current = int(now // self.step_s)
        due: list[T] = []
        while self._last < current:
            self._last += 1
            for item in self._spokes.pop(self._last, ()):
                if self._where.get(item) == self._last:
                    del self._where[item]
                    due.append(item)
        return due


class Turn(NamedTuple):
    """How a turn of the wheel went."""

    stood_still: bool  # the process was stopped or busy for more than a step
    expires: bool  # who is due may be given up now


def turn(lag_s: float, step_s: float, before: Turn) -> Turn:
    """Judge a turn that came ``lag_s`` late, after one that went as ``before``.

    When the process stood still, the pongs of that time are yet to be read, so nobody is given up; but for
    no two turns on end, or a process that is always late would keep the dead for good.
    """
    late = lag_s > step_s
    return Turn(late, not late or not before.expires)
