"""Delivery latency as a heat map: how many deliveries took how long, over the time in which they were due.

Made of the buckets that are counted of every second; COLUMNS × ROWS cells hold a run of any length.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from reports.grids import Cells, levels
from reports.histogram import UPPER_US

COLUMNS: Final = 120
ROWS: Final = 40
_EACH_S: Final = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)  # of a column
_PER_DECADE: Final = (20, 10, 8, 5, 4)  # rows: the last holds a microsecond and an hour


def column_s(seconds: int) -> int:
    """How long a column is: the shortest round time of which COLUMNS hold the run."""
    return next((each for each in _EACH_S if each * COLUMNS >= seconds), math.ceil(seconds / COLUMNS))


def heat(counted: pl.DataFrame, seconds: int) -> Cells | None:
    """The heat map of a run.

    Args:
        counted: of ``latency.by_second``.
        seconds: how many the time axis has; what was due outside of them is left out.
    Returns:
        Edges in seconds and in milliseconds, rows equally far apart on a log scale. None: nothing to draw.
    """
    inside = counted.filter(pl.col("second").is_between(0, seconds - 1))
    if not inside.height:
        return None
    each = column_s(seconds)
    columns = -(-seconds // each)
    log_ms = np.log10(np.maximum(UPPER_US[inside["bucket"].to_numpy()], 1) / 1000)
    candidates = ((n, _places(log_ms, n)) for n in _PER_DECADE)
    per_decade, places = next((n, places) for n, places in candidates if np.ptp(places) < ROWS)
    first, rows = int(places.min()), int(np.ptp(places)) + 1
    cell = inside["second"].to_numpy() // each * rows + places - first
    counts = np.bincount(cell, inside["n"].to_numpy(), columns * rows).astype(np.int64).reshape(columns, rows)
    return Cells(
        x_edges=tuple(float(min(seconds, n * each)) for n in range(columns + 1)),
        y_edges=tuple(10 ** ((first + n) / per_decade) for n in range(rows + 1)),
        counts=tuple(tuple(column) for column in counts.tolist()),
        levels=levels(int(counts.max())),
        unit="deliveries",
    )


def _places(log_ms: npt.NDArray[np.float64], per_decade: int) -> npt.NDArray[np.int64]:
    """The row of each latency; one at an edge is above it, whatever its binary fraction."""
    return np.floor(np.round(log_ms * per_decade, 9)).astype(np.int64)
