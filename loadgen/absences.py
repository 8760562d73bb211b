"""Who goes offline on purpose and when: pure, seeded, the same for any number of workers.

An absence is one client's stretch of time without a connection. Who takes part in a
``[[workload.absence]]`` is drawn from ``SeedSequence(seed, spawn_key=(ABSENCES, its index))``; a client's
overlapping absences are one. ``begin_ns`` and ``end_ns`` are offsets from the start of the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from .workload import ABSENCES, PAUSES, Absence, Workload

SECOND_NS: Final = 1_000_000_000
ABSENCE: Final = np.dtype([("begin_ns", "<i8"), ("end_ns", "<i8"), ("client", "<u4")])

Absences = npt.NDArray[np.void]
Crowd = tuple[int, int, tuple[int, ...]]  # begin_ns, end_ns, clients that are away from one to the other


def absences(workload: Workload, seed: int) -> Absences:
    """Every absence of every client, an ``ABSENCE`` array in order of begin and client."""
    return _drawn(workload, workload.absence, seed, ABSENCES)


def pauses(workload: Workload, seed: int) -> Absences:
    """The same of every [[workload.pause]]: from unsubscribing to subscribing again."""
    return _drawn(workload, workload.pause, seed, PAUSES)


def _drawn(workload: Workload, table: Iterable[Absence], seed: int, key: int) -> Absences:
    spans: dict[int, list[tuple[int, int]]] = {}
    for index, planned in enumerate(table):
        begin_ns = round(planned.at_s * SECOND_NS)
        end_ns = begin_ns + round(planned.duration_s * SECOND_NS)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key, index)))
        count = planned.count(workload.clients)
        for drawn in rng.choice(workload.clients, count, replace=False).tolist():
            spans.setdefault(drawn + 1, []).append((begin_ns, end_ns))
    rows = [(begin, end, client) for client, own in spans.items() for begin, end in joined(own)]
    return np.array(sorted(rows, key=lambda row: (row[0], row[2])), ABSENCE)


def joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of time, in order, with those that overlap or touch made one.

    >>> joined([(5, 7), (0, 2), (2, 3), (6, 9)])
    [(0, 3), (5, 9)]
    """
    whole: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if whole and begin <= whole[-1][1]:
            whole[-1] = whole[-1][0], max(whole[-1][1], end)
        else:
            whole.append((begin, end))
    return whole


@lru_cache(maxsize=4)
def crowds(workload: Workload, seed: int) -> tuple[Crowd, ...]:
    """The absences by their time: who is away together, in order of begin and end."""
    found: dict[tuple[int, int], list[int]] = {}
    for begin, end, client in absences(workload, seed).tolist():
        found.setdefault((begin, end), []).append(client)
    return tuple((*span, tuple(clients)) for span, clients in sorted(found.items()))
