"""Epochs and their lineage: which places of a channel are the same place.

An EPOCH record says that an epoch goes on from a parent after a fork: (E1, s <= fork) and
(E2, s) are then the same place. The *canonical* epoch of a place is the oldest one that has
it. An epoch without a recorded parent is a fresh life and shares nothing.

Records about one epoch should agree. Where they do not, the lowest fork counts: the fewest
places are taken for the same, so the fewest accusations rest on it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .rows import Int, Rows


class Lineage:
    """Parent and fork of (channel, epoch), for those that have one."""

    def __init__(self, parents: Mapping[tuple[int, int], tuple[int, int]], *, conflicts: int = 0) -> None:
        """``parents``: (channel, epoch) -> (parent, fork), without cycles."""
        self._parents = dict(parents)
        self.conflicts = conflicts  # EPOCH records that contradict another
        table = sorted((channel << 16 | epoch, *up) for (channel, epoch), up in self._parents.items())
        self._keys, self._up, self._forks = np.array(table, np.int64).reshape(-1, 3).T

    @classmethod
    def of(cls, epochs: Rows) -> Lineage:
        """From EPOCH records."""
        parents: dict[tuple[int, int], tuple[int, int]] = {}
        conflicts = 0
        stated = np.stack([epochs.channel, epochs.epoch, epochs.publisher, epochs.serial], axis=1)
        for channel, epoch, parent, fork in np.unique(stated.astype(np.int64), axis=0).tolist():
            known = parents.get((channel, epoch))
            if known is not None or _ancestor(parents, channel, epoch, parent):
                conflicts += 1
            if (
                parent
                and not _ancestor(parents, channel, epoch, parent)
                and (known is None or fork < known[1])
            ):
                parents[channel, epoch] = parent, fork
        return cls(parents, conflicts=conflicts)

    @property
    def children(self) -> list[tuple[int, int]]:
        """(channel, epoch) of all epochs that have a parent."""
        return sorted(self._parents)

    def epoch(self, channel: int, epoch: int, serial: int) -> int:
        """Canonical epoch of a place."""
        while (up := self._parents.get((channel, epoch))) is not None and serial <= up[1]:
            epoch = up[0]
        return epoch

    def epochs(self, channel: Int, epoch: Int, serial: Int) -> Int:
        """``epoch`` for many places at once."""
        canonical = np.asarray(epoch).astype(np.int64)
        if not len(self._keys):
            return canonical
        base, places = np.asarray(channel).astype(np.int64) << 16, np.asarray(serial)
        while True:
            at = np.minimum(np.searchsorted(self._keys, base | canonical), len(self._keys) - 1)
            moves = (self._keys[at] == base | canonical) & (places <= self._forks[at])
            if not moves.any():
                return canonical
            canonical[moves] = self._up[at[moves]]

    def pieces(self, channel: int, epoch: int, first: int, last: int) -> list[tuple[int, int, int]]:
        """A range of serials of one epoch as (canonical epoch, first, last), in the order of serials."""
        forks: set[int] = set()
        at = epoch
        while (up := self._parents.get((channel, at))) is not None:
            at, fork = up
            forks.add(fork)
        bounds = sorted(fork for fork in forks if first <= fork < last)
        begins, ends = [first, *(bound + 1 for bound in bounds)], [*bounds, last]
        return [
            (self.epoch(channel, epoch, begin), begin, end) for begin, end in zip(begins, ends, strict=True)
        ]

    def same(self, channel: int, one: int, other: int, serial: int) -> bool:
        """Whether a serial is one place in two epochs."""
        return one == other or self.epoch(channel, one, serial) == self.epoch(channel, other, serial)

    def goes_on(self, channel: int, older: int, newer: int, after: int) -> bool:
        """Whether ``newer`` continues ``older`` for one who has everything up to serial ``after``."""
        while newer != older:
            up = self._parents.get((channel, newer))
            if up is None or after > up[1]:
                return False
            newer = up[0]
        return True


def _ancestor(parents: Mapping[tuple[int, int], tuple[int, int]], channel: int, epoch: int, at: int) -> bool:
    """Whether ``epoch`` is ``at`` or above it: making ``at`` its parent would close a circle."""
    while at != epoch:
        up = parents.get((channel, at))
        if up is None:
            return False
        at = up[0]
    return True
