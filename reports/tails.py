"""p99.9 over time: only of stretches in which it is more than their maximum.

Of n samples, the one at rank ⌈0.999·n⌉ is the largest unless n ≥ 1,000. A second often has fewer, so the
figure is of longer stretches then, up to a minute; where these have too few as well, there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from reports.latency import histograms_by_second

LEAST: Final = 1000  # samples of a stretch
MOST: Final = 120  # stretches that can be told from each other in a chart
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

    Of the shortest stretches of which half have LEAST samples; there are two in the run at least, and MOST
    at most, unless that takes more than a minute.

    Args:
        counted: of ``latency.by_second``.
        seconds: how many the time axis has.
    """
    inside = counted.filter(pl.col("second").is_between(0, seconds - 1))
    totals = np.bincount(inside["second"].to_numpy(), inside["n"].to_numpy(), seconds)
    few = [each for each in _EACH_S if each * MOST >= seconds] or [_EACH_S[-1]]
    for each in (s for s in few if inside.height and (s == 1 or 2 * s <= seconds)):
        sums = np.add.reduceat(totals, np.arange(0, seconds, each))
        enough, some = sums >= LEAST, sums > 0
        if 2 * enough.sum() >= some.sum():
            found = {start: part.quantile_ms(_Q) for start, part in histograms_by_second(inside, each)}
            starts = range(0, seconds, each)
            points = ((s, found[s] if full else None) for s, full in zip(starts, enough, strict=True))
            return Tail(each, tuple(points), int(some.sum() - enough.sum()))
    return Tail()
