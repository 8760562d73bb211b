"""Delivery latency before, during and after each fault, and with none in force, by when messages were due.

A message that waited for the end of a fault counts where it was due, which is during the fault.
Seconds in which another fault was in force, and warm-ups, are neither before nor after.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from reports.histogram import Histogram
from reports.periods import FaultWindow, seconds

SPAN_S: Final = 10  # before a fault is applied, and after it is reverted


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Delivery latency around one fault; a histogram with no sample where there is no second to count."""

    fault: str
    before: Histogram
    during: Histogram
    after: Histogram


def exposures(
    counted: pl.DataFrame, intervals: pl.DataFrame, windows: Sequence[FaultWindow], zero_ns: int
) -> Iterator[Exposure]:
    """One for each fault that was applied, in the order of planning; each is half a megabyte.

    Args:
        counted: of ``latency.by_second``.
        intervals: of ``timeline``; says which seconds are quiet.
    """
    by_second = _BySecond(counted)
    quiet_ones = quiet_seconds(intervals)
    last = int(intervals.height)
    for window in windows:
        begin, end = seconds(window.applied_ns, zero_ns), seconds(window.reverted_ns, zero_ns)
        if begin is None:
            continue
        first, over = max(0, math.floor(begin)), last if end is None else math.ceil(end)
        yield Exposure(
            fault=window.id,
            before=by_second.of(first - SPAN_S, first, quiet_ones),
            during=by_second.of(first, max(first, over)),
            after=by_second.of(over, over + SPAN_S, quiet_ones),
        )


def quiet(counted: pl.DataFrame, intervals: pl.DataFrame) -> Histogram:
    """Delivery latency of the messages that were due in a second with no fault in force; no warm-up."""
    return _BySecond(counted).of(0, intervals.height, quiet_seconds(intervals))


def quiet_seconds(intervals: pl.DataFrame) -> frozenset[int]:
    return frozenset(intervals.filter((pl.col("faults") == "") & ~pl.col("warmup"))["second"])


class _BySecond:
    """The buckets of stretches of seconds, found by bisection: the table is in order of seconds."""

    def __init__(self, counted: pl.DataFrame) -> None:
        self._second: npt.NDArray[np.int64] = counted["second"].to_numpy()
        self._bucket: npt.NDArray[np.int64] = counted["bucket"].to_numpy()
        self._n = counted["n"].to_numpy()

    def of(self, first: int, over: int, only: Collection[int] | None = None) -> Histogram:
        """Of the seconds from ``first`` to before ``over``; of those among ``only``, where that is given."""
        begin, end = np.searchsorted(self._second, [first, over])
        buckets, n = self._bucket[begin:end], self._n[begin:end]
        if only is None:
            return Histogram.of_buckets(buckets, n)
        chosen = np.isin(self._second[begin:end], [s for s in range(first, over) if s in only])
        return Histogram.of_buckets(buckets[chosen], n[chosen])
