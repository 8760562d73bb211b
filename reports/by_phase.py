"""In which stretch of a run anomalies fell, and how many of them fell while a fault was in force.

A run's stretches are: no time, for what has none; before the first phase; the phases in order, where time
between two of them is the earlier one's; and what came after the last: healing, settling, the drain and the
final reads. They are numbered in this order. Every anomaly is in exactly one of them, so that the counts of a
class over all stretches add up to the count of the class.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from reports.periods import FaultWindow, Phase

Times = npt.NDArray[np.integer[Any]]
Spread = tuple[tuple[int, int], ...]  # by number of the stretch: how many, and of them under a fault
NO_TIME: Final = 0  # of an anomaly of which nobody knows when it was


class Where(StrEnum):
    """What a stretch is."""

    NO_TIME = "no time"
    BEFORE = "before"
    PHASE = "phase"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Stretch:
    """``phase``: its name; empty for what is none."""

    where: Where
    phase: str = ""
    warmup: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """What of a class fell into one stretch. ``in_fault``: of ``count``, while a fault was in force."""

    stretch: Stretch
    count: int
    in_fault: int


def stretches(phases: Iterable[Phase]) -> list[Stretch]:
    """All stretches of a run with these phases, by number."""
    named = [Stretch(Where.PHASE, phase.name, phase.warmup) for phase in _in_order(phases)]
    return [Stretch(Where.NO_TIME), Stretch(Where.BEFORE), *named, Stretch(Where.AFTER)]


def shares(spread: Spread, phases: Iterable[Phase]) -> list[Share]:
    """A spread with its stretches; of a class of which nothing was found all shares are 0."""
    known = stretches(phases)
    counts = spread or ((0, 0),) * len(known)
    return [Share(stretch, *told) for stretch, told in zip(known, counts, strict=True)]


def together(one: Spread, other: Spread) -> Spread:
    """The sum of two spreads over the same stretches."""
    return tuple((a + c, b + d) for (a, b), (c, d) in zip_longest(one, other, fillvalue=(0, 0)))


class Course:
    """The phases and faults of a run, to count anomalies by."""

    def __init__(self, phases: Sequence[Phase], windows: Iterable[FaultWindow], end_ns: int) -> None:
        """``end_ns``: until when a fault that was never reverted was in force."""
        ordered = _in_order(phases)
        ends = [ordered[-1].end_ns] if ordered else []
        self._edges = np.array([*(phase.start_ns for phase in ordered), *ends], np.int64)
        self._stretches = len(ordered) + 3
        spans = sorted((w.applied_ns, w.until(end_ns)) for w in windows if w.applied_ns is not None)
        self._begins = np.array([begin for begin, _ in spans], np.int64)
        # Of faults that begin by a time the latest end says whether one was still in force.
        self._until = np.maximum.accumulate(np.array([until for _, until in spans], np.int64))

    def spread(self, at: Times, first: Times, last: Times, weight: Times | None = None) -> Spread:
        """How anomalies spread over the stretches.

        Args:
            at: when each fell, ns; NO_TIME: nobody knows.
            first, last: a fault that was in force at any time between the two counts as in force.
            weight: for how many anomalies each stands; None: for itself.
        Returns:
            () for none.
        """
        if not len(at):
            return ()
        weights = np.ones(len(at), np.int64) if weight is None else np.asarray(weight)
        place = 1 + np.searchsorted(self._edges, at, side="right")
        place = np.where(np.asarray(at) == NO_TIME, 0, place)
        counts = np.bincount(place, weights, minlength=self._stretches)
        hit = self._in_force(np.asarray(first), np.asarray(last)) & (place > 0)
        in_fault = np.bincount(place[hit], weights[hit], minlength=self._stretches)
        return tuple((int(n), int(under)) for n, under in zip(counts, in_fault, strict=True))

    def _in_force(self, first: Times, last: Times) -> npt.NDArray[np.bool_]:
        begun = np.searchsorted(self._begins, last, side="right")
        latest = np.concatenate([[NO_TIME], self._until])[begun]
        return np.asarray((begun > 0) & (latest >= first))


def _in_order(phases: Iterable[Phase]) -> list[Phase]:
    return sorted(phases, key=lambda phase: phase.start_ns)
