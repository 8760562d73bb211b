"""Places: (E1, s) and (E2, s) are the same one where E2 goes on from E1 at a fork of s or later."""

from __future__ import annotations

from reports.history import Kind
from tests.oracle.case import Case

Place = tuple[int, int]  # (epoch, serial), of one channel


class Lineage:
    """The epochs of one channel and who goes on from whom."""

    def __init__(self, case: Case, channel: int) -> None:
        self.parents: dict[int, tuple[int, int]] = {}  # epoch -> (its parent, fork)
        told = {
            (r.epoch, r.publisher, r.serial)
            for r in case.of_kind(Kind.EPOCH)
            if r.channel == channel and r.publisher
        }
        for epoch, parent, fork in sorted(told):
            circle = epoch in self._above(parent)
            known = self.parents.get(epoch)
            if not circle and (known is None or fork < known[1]):  # the lowest fork counts
                self.parents[epoch] = parent, fork

    def _above(self, epoch: int) -> list[int]:
        """An epoch and all that it goes on from."""
        line = [epoch]
        while line[-1] in self.parents:
            line.append(self.parents[line[-1]][0])
        return line

    def place(self, epoch: int, serial: int) -> Place:
        """The one name of a place: in the oldest epoch that has it."""
        while epoch in self.parents and serial <= self.parents[epoch][1]:
            epoch = self.parents[epoch][0]
        return epoch, serial

    def holds(self, epoch: int, place: Place) -> bool:
        """Whether the stream of an epoch has this place."""
        return self.place(epoch, place[1]) == self.place(*place)

    def goes_on(self, older: int, newer: int, after: int) -> bool:
        """Whether ``newer`` is ``older``, or continues it for one who has everything up to ``after``."""
        while newer != older:
            if newer not in self.parents or after > self.parents[newer][1]:
                return False
            newer = self.parents[newer][0]
        return True

    def together(self, one: Place, other: Place) -> bool:
        """Whether one stream has both places: only then do their serials compare."""
        return self.holds(one[0], other) or self.holds(other[0], one) or self._common(one, other)

    def _common(self, one: Place, other: Place) -> bool:
        return any(self.holds(epoch, one) and self.holds(epoch, other) for epoch in self.parents)
