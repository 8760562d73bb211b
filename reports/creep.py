"""What moves while the load stands still: memory and p99, by the second, over the phases that are no warm-up.

A leak is a slope whose interval lies above 0. The interval is what a run can say: a short one says little,
and its interval is wide (Theil-Sen with 95 %, Sen 1968).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

import polars as pl

from reports.capacity import Slope, slope
from reports.periods import NS

HOUR_S: Final = 3600
MOST_POINTS: Final = 2000  # of a slope: their pairs are what it costs


@dataclass(frozen=True, slots=True)
class Creep:
    """A second, with the ends of the 95 % interval; None with fewer than three points."""

    rss_bytes_per_s: Slope | None = None
    p99_ms_per_s: Slope | None = None


def creep(
    intervals: pl.DataFrame, processes: pl.DataFrame | None, targets: Collection[str], *, zero_ns: int
) -> Creep:
    """The slopes of a run.

    Args:
        intervals: of ``timeline``.
        processes: metrics/processes.parquet, where the run has it.
        targets: names of the processes under test; their memory is added up.
        zero_ns: the start of the schedule, on the clock of the samples.
    """
    steady = intervals.filter(~pl.col("warmup") & (pl.col("phase") != "")).sort("second")
    p99 = slope(_thinned(steady.select("second", "p99_ms").iter_rows()))
    if processes is None or not steady.height:
        return Creep(None, p99)
    first, last = steady["second"][0], steady["second"][-1]
    begin_ns, end_ns = zero_ns + first * NS, zero_ns + (last + 1) * NS
    own = processes.filter(
        pl.col("process").is_in(sorted(targets)) & pl.col("t").is_between(begin_ns, end_ns)
    )
    by_time = own.group_by("t").agg(pl.col("rss_bytes").sum()).sort("t")
    points = (((t - begin_ns) / NS, float(size)) for t, size in by_time.iter_rows())
    return Creep(slope(_thinned(points)), p99)


def _thinned(points: Iterable[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """At most MOST_POINTS, evenly: a slope looks at every pair."""
    known = [point for point in points if point[1] is not None]
    step = -(-len(known) // MOST_POINTS) or 1
    return known[::step]
