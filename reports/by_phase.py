"""In which stretch of a run anomalies fell, and how many of them fell while a fault was in force.

A run's stretches are: no time, for what has none; before the first phase; the phases in order, where time
between two of them is the earlier one's; and what came after the last: healing, settling, the drain and the
final reads. They are numbered in this order. Every anomaly is in exactly one of them, so that the counts of a
class over all stretches add up to the count of the class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from reports.periods import FaultWindow, Phase

Times = npt.NDArray[np.integer[Any]]
Span = tuple[int, int]  # from and to, ns, both inclusive
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


@dataclass(frozen=True, slots=True)
class Spread:
    """When anomalies fell. Spreads of one run add up.

    ``stretches``: by number of the stretch, how many, and of them under a fault; () for none.
    ``spans``: by number of the span, how many may have happened in it; () for none.
    """

    stretches: tuple[tuple[int, int], ...] = ()
    spans: tuple[int, ...] = ()

    def __add__(self, other: Spread) -> Spread:
        pairs = zip_longest(self.stretches, other.stretches, fillvalue=(0, 0))
        return Spread(
            tuple((a + c, b + d) for (a, b), (c, d) in pairs),
            tuple(a + b for a, b in zip_longest(self.spans, other.spans, fillvalue=0)),
        )


NOTHING: Final = Spread()


def stretches(phases: Iterable[Phase]) -> list[Stretch]:
    """All stretches of a run with these phases, by number."""
    named = [Stretch(Where.PHASE, phase.name, phase.warmup) for phase in _in_order(phases)]
    return [Stretch(Where.NO_TIME), Stretch(Where.BEFORE), *named, Stretch(Where.AFTER)]


def shares(spread: Spread, phases: Iterable[Phase]) -> list[Share]:
    """A spread with its stretches; of a class of which nothing was found all shares are 0."""
    known = stretches(phases)
    counts = spread.stretches or ((0, 0),) * len(known)
    return [Share(stretch, *told) for stretch, told in zip(known, counts, strict=True)]


def by_span(spread: Spread, spans: Mapping[str, Span]) -> dict[str, int]:
    """How many may have happened in each span, by its name."""
    return dict(zip(spans, spread.spans or (0,) * len(spans), strict=True))


class Course:
    """The phases and faults of a run, to count anomalies by."""

    def __init__(
        self,
        phases: Sequence[Phase],
        windows: Iterable[FaultWindow],
        end_ns: int,
        spans: Iterable[Span] = (),
    ) -> None:
        """
        Args:
            end_ns: until when a fault that was never reverted was in force.
            spans: counted beside the stretches; they may overlap.
        """
        ordered = _in_order(phases)
        ends = [ordered[-1].end_ns] if ordered else []
        self._edges = np.array([*(phase.start_ns for phase in ordered), *ends], np.int64)
        self._stretches = len(ordered) + 3
        self._spans = list(spans)
        spans = sorted((w.applied_ns, w.until(end_ns)) for w in windows if w.applied_ns is not None)
        self._begins = np.array([begin for begin, _ in spans], np.int64)
        # Of faults that begin by a time the latest end says whether one was still in force.
        self._until = np.maximum.accumulate(np.array([until for _, until in spans], np.int64))

    def spread(self, at: Times, first: Times, last: Times, weight: Times | None = None) -> Spread:
        """How anomalies spread over the stretches and spans.

        Args:
            at: when each fell, ns; NO_TIME: nobody knows.
            first, last: a fault that was in force at any time between the two counts as in force, and so
                does a span.
            weight: for how many anomalies each stands; None: for itself.
        """
        if not len(at):
            return NOTHING
        weights = np.ones(len(at), np.int64) if weight is None else np.asarray(weight)
        place = 1 + np.searchsorted(self._edges, at, side="right")
        place = np.where(np.asarray(at) == NO_TIME, 0, place)
        counts = np.bincount(place, weights, minlength=self._stretches)
        first, last, timed = np.asarray(first), np.asarray(last), place > 0
        hit = self._in_force(first, last) & timed
        in_fault = np.bincount(place[hit], weights[hit], minlength=self._stretches)
        return Spread(
            tuple((int(n), int(under)) for n, under in zip(counts, in_fault, strict=True)),
            tuple(int(weights[timed & (first <= to) & (last >= since)].sum()) for since, to in self._spans),
        )

    def _in_force(self, first: Times, last: Times) -> npt.NDArray[np.bool_]:
        begun = np.searchsorted(self._begins, last, side="right")
        latest = np.concatenate([[NO_TIME], self._until])[begun]
        return np.asarray((begun > 0) & (latest >= first))


def _in_order(phases: Iterable[Phase]) -> list[Phase]:
    return sorted(phases, key=lambda phase: phase.start_ns)
