"""Growth of chatd's own counters over a stretch of the run: metrics/chatd.parquet."""

from __future__ import annotations

import fnmatch

import polars as pl


def growth(
    samples: pl.DataFrame | None, column: str, during: tuple[int, int], *, process: str = ""
) -> float | None:
    """By how much a counter grew, from the sample before a stretch to the last one within it.

    A counter that fell was set back by a restart: it grew by what it shows since.

    Args:
        samples: ``t`` in ns and chatd's counters, about one row a second and process.
        during: begin and end of the stretch, ns.
        process: whose, by name or pattern; all of them when empty.
    Returns:
        None where it was not sampled within.
    """
    if samples is None or column not in samples.columns:
        return None
    if "process" in samples.columns:
        names = samples["process"].unique()
        if process:
            samples = samples.filter(pl.col("process").is_in(fnmatch.filter(names, process)))
        by_process = samples.partition_by("process")
    else:
        by_process = [samples]
    grown = [found for each in by_process if (found := _growth(each.sort("t"), column, during)) is not None]
    return sum(grown) if grown else None


def _growth(samples: pl.DataFrame, column: str, during: tuple[int, int]) -> float | None:
    step = pl.col(column).diff()
    steps = samples.select("t", step=pl.when(step < 0).then(pl.col(column)).otherwise(step))
    within = steps.filter((pl.col("t") > during[0]) & (pl.col("t") <= during[1]))["step"].drop_nulls()
    return float(within.sum()) if len(within) else None
