"""Fan-out: how far apart the subscribers of one message get it.

A message's *spread* is from the first to the last of its live arrivals; it takes two to have one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from reports.histogram import Histogram
from reports.latency import EVERYTHING, Selection, bucket, samples
from reports.periods import FaultWindow

if TYPE_CHECKING:
    from reports.history import History


def spreads(
    history: History, selection: Selection = EVERYTHING, *, windows: Sequence[FaultWindow] | None = None
) -> Histogram:
    """Spread of each message that reached two subscribers or more.

    Args:
        windows: as of ``latency.samples``.
    Raises:
        SelectionError: as of ``latency.samples``.
    """
    arrivals = samples(history, "delivery", selection, windows=windows)
    counted = (
        arrivals.group_by("channel", "publisher", "pub_seq")
        .agg(took_ns=pl.col("end_ns").max() - pl.col("end_ns").min(), reached=pl.len())
        .filter(pl.col("reached") > 1)
        .group_by(bucket())
        .len()
        .collect()
    )
    return Histogram.of_buckets(counted["bucket"].to_numpy(), counted["len"].to_numpy())
