"""How long chatd's event loop stood still, as it counted itself: metrics/chatd.parquet."""

from __future__ import annotations

import fnmatch
from typing import Final

import polars as pl

COLUMN: Final = "chatd_loop_lag_seconds_sum"
SAMPLED_NS: Final = 1_500_000_000  # until what a process has counted is in a sample of it


def lag_rise_s(
    samples: pl.DataFrame | None, during: tuple[int, int], before: tuple[int, int], *, process: str = ""
) -> float | None:
    """The most that the count of the loop's lag rose by from one sample to the next, less the most that
    it rose by before; None where it was not sampled.

    Args:
        samples: ``t`` in ns and chatd's counters, about one row a second. A restart sets them back.
        during, before: begin and end of the two stretches, ns.
        process: whose, by name or pattern, where several were sampled.
    """
    if samples is None or COLUMN not in samples.columns:
        return None
    if process and "process" in samples.columns:
        samples = samples.filter(
            pl.col("process").is_in(fnmatch.filter(samples["process"].unique(), process))
        )
    rise = pl.col(COLUMN).diff()
    rises = samples.sort("t").select("t", rise=rise.over("process") if "process" in samples.columns else rise)

    def most(begin_ns: int, end_ns: int) -> float | None:
        within = rises.filter(pl.col("t").is_between(begin_ns, end_ns, closed="right"))
        return next((float(rise) for rise in within["rise"].sort(descending=True) if rise is not None), None)

    risen = most(*during)
    return None if risen is None else risen - (most(*before) or 0.0)
