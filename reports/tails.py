"""p99.9 over time: only of stretches in which it is more than their maximum.

Of n samples, the one at rank ⌈0.999·n⌉ is the largest unless n ≥ 1,000. A second often has fewer, so the
figure is of longer stretches then, up to a minute; where these have too few as well, there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from reports.histogram import UPPER_US

LEAST: Final = 1000  # samples of a stretch
_EACH_S: Final = (1, 2, 5, 10, 15, 20, 30, 60)
_Q: Final = 0.999


@dataclass(frozen=True, slots=True)
class Tail:
    """``each_s``: length of a stretch; None: none of up to a minute has enough samples.

    ``points``: (first second, p99.9 in ms) of every stretch; None: it has too few.
    ``lacking``: stretches that have some, but too few.
    """

    each_s: int | None = None
    points: tuple[tuple[int, float | None], ...] = ()
    lacking: int = 0


def p99_9(counted: pl.DataFrame, seconds: int) -> Tail:
    """p99.9 of delivery, by when messages were due.

    Of the shortest stretches of which half have LEAST samples; there are at least two in the run.

    Args:
        counted: of ``latency.by_second``.
        seconds: how many the time axis has.
    """
    inside = counted.filter(pl.col("second").is_between(0, seconds - 1))
    for each in (s for s in _EACH_S if inside.height and (s == 1 or 2 * s <= seconds)):
        starts = (pl.col("second") // each * each).alias("start")
        merged = inside.group_by(starts, "bucket").agg(pl.col("n").cast(pl.Int64).sum())
        ranked = merged.sort("start", "bucket").with_columns(
            upto=pl.col("n").cum_sum().over("start"), total=pl.col("n").sum().over("start")
        )
        rank = (pl.col("total") * _Q).round(9).ceil()
        place = pl.col("bucket").filter(pl.col("upto") >= rank).min()
        rows = ranked.group_by("start").agg(pl.col("total").first(), place).sort("start")
        enough = rows.filter(pl.col("total") >= LEAST)
        if 2 * enough.height >= rows.height:
            values = dict(
                zip(enough["start"], (UPPER_US[enough["bucket"].to_numpy()] / 1000).tolist(), strict=True)
            )
            points = tuple((start, values.get(start)) for start in range(0, seconds, each))
            return Tail(each, points, rows.height - enough.height)
    return Tail()
