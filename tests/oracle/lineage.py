"""Places: (E1, s) and (E2, s) are the same one where E2 goes on from E1 at a fork of s or later."""

from __future__ import annotations

from reports.history import Kind
from tests.oracle.case import Case

Place = tuple[int, int]  # (epoch, serial), of one channel


class Lineage:
    """The epochs of one channel and who goes on from whom."""

    def __init__(self, case: Case, channel: int) -> None:
        self.epochs = {r.epoch for r in case.records if r.channel == channel and r.epoch}
        self.parents: dict[int, tuple[int, int]] = {}  # epoch -> (its parent, fork)
        for record in case.of_kind(Kind.EPOCH):
            if record.channel != channel or not record.publisher or record.publisher == record.epoch:
                continue
            told = record.publisher, record.serial
            known = self.parents.get(record.epoch)
            if known is None or (told[1], told[0]) < (known[1], known[0]):  # the lowest fork counts
                self.parents[record.epoch] = told

    def place(self, epoch: int, serial: int) -> Place:
        """The one name of a place: in the oldest epoch that has it."""
        visited = set()
        while epoch not in visited and epoch in self.parents and serial <= self.parents[epoch][1]:
            visited.add(epoch)
            epoch = self.parents[epoch][0]
        return epoch, serial

    def holds(self, epoch: int, place: Place) -> bool:
        """Whether the stream of an epoch has this place."""
        return self.place(epoch, place[1]) == self.place(*place)

    def together(self, one: Place, other: Place) -> bool:
        """Whether one stream has both places: only then do their serials compare."""
        return any(self.holds(e, one) and self.holds(e, other) for e in {*self.epochs, one[0], other[0]})
