"""Coming back: how many dial at once, and how many of them may not go on from where they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from reports.history import Flag, Kind
from reports.latency import EVERYTHING, Selection, clients_of, narrowed
from reports.periods import NS

if TYPE_CHECKING:
    from reports.history import History


def dials_per_client(history: History, selection: Selection = EVERYTHING) -> float | None:
    """Dials begun in the busiest second, wherever it begins, for each client; failed ones count as well.

    Only ``phase`` and ``persona`` of the selection are heeded; without a phase, warm-ups are left out.

    Returns:
        None when nobody dialled.
    Raises:
        SelectionError: the run has no such phase or persona.
    """
    rows = history.scan().filter((pl.col("kind") == Kind.CONN) & (pl.col("client") != 0))
    begun = narrowed(rows.select("client", due_ns="t2"), history, selection).collect()["due_ns"]
    clients = (
        [c for c in history.names.subscriptions if c]
        if selection.persona is None
        else clients_of(history.names, selection.persona)
    )
    if begun.is_empty() or not clients:
        return None
    times = np.sort(begun.to_numpy())
    within = np.searchsorted(times, times + NS, side="left") - np.arange(len(times))
    return float(within.max()) / len(clients)


def refused_resumes(history: History, selection: Selection = EVERYTHING) -> float | None:
    """Share (0-1) of the subscriptions asked from a position that did not go on from there.

    Only ``phase``, in which it was asked for, and ``persona`` are heeded. None when nobody asked.

    Raises:
        SelectionError: the run has no such phase or persona.
    """
    asked = history.scan().filter(
        (pl.col("kind") == Kind.SUB) & (pl.col("client") != 0) & (pl.col("publisher") != 0)
    )
    resumed = pl.col("flags") & int(Flag.RESUMED) != 0
    rows = narrowed(asked.select("client", due_ns="t2", resumed=resumed), history, selection, scheduled=False)
    share = rows.select(1 - pl.col("resumed").mean()).collect().item()
    return None if share is None else float(share)
