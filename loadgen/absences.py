"""Who is offline on purpose, and when: pure, seeded, the same for any number of workers.

An absence is one client's stretch of time without a connection: a planned one, [[workload.absence]], whose
clients are drawn from the seed, or the time between two sessions of a persona with ``session_s``. A
client's overlapping absences are one. ``begin_ns`` and ``end_ns`` are offsets from the start of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from .personas import members, personas_of
from .section import SECOND_NS, Purpose, drawn
from .workload import Absence, Workload

ABSENCE: Final = np.dtype([("begin_ns", "<i8"), ("end_ns", "<i8"), ("client", "<u4")])
SESSION: Final = np.dtype([("due_ns", "<i8"), ("client", "<u4")])
CHURN, DROPS, DEAFNESS = 0, 1, 2  # second spawn key of Purpose.MOVES

Absences = npt.NDArray[np.void]
Sessions = npt.NDArray[np.void]
Span = tuple[int, int]  # begin_ns, end_ns
_US: Final = 1_000  # ns: what is drawn is rounded to it, so that predictions may count in microseconds


def sessions(workload: Workload, seed: int) -> Sessions:
    """When each client arrives: a ``SESSION`` array in order of ordinal.

    ``clients`` arrivals of a Poisson process within ``connect_over_s`` are as many sorted uniform draws; so
    are those of a persona with an ``arrive_at_s`` of its own. Without such, they are in order of time too.
    """
    rng = drawn(seed, Purpose.SESSIONS)
    arrivals = np.empty(workload.clients, SESSION)
    arrivals["due_ns"] = np.sort(rng.random(workload.clients)) * (workload.connect_over_s * SECOND_NS)
    arrivals["client"] = np.arange(1, workload.clients + 1)
    for index, persona in enumerate(personas_of(workload)):
        if persona.arrive_at_s is not None:
            mine = members(workload, seed, index) - 1
            offsets_s = np.sort(drawn(seed, Purpose.SESSIONS, 1 + index).random(len(mine)))
            at_s = persona.arrive_at_s + offsets_s * persona.arrive_over_s
            arrivals["due_ns"][mine] = at_s * SECOND_NS
    return arrivals


@lru_cache(maxsize=4)
def absences(workload: Workload, seed: int) -> Absences:
    """Every absence of every client, an ``ABSENCE`` array in order of begin and client."""
    spans = _planned(workload, workload.absence, seed, Purpose.ABSENCES)
    for client, own in _between_sessions(workload, seed):
        spans.setdefault(client, []).extend(own)
    return _table(workload, seed, spans)


def pauses(workload: Workload, seed: int) -> Absences:
    """The same of every [[workload.pause]]: from unsubscribing to subscribing again."""
    return _table(workload, seed, _planned(workload, workload.pause, seed, Purpose.PAUSES))


def deafness(workload: Workload, seed: int) -> Absences:
    """When clients keep their socket and do not read or write, as ``absences``; at the end all hear again."""
    spans: dict[int, list[Span]] = {}
    last_ns = round(workload.duration_s * SECOND_NS)
    for index, persona in enumerate(personas_of(workload)):
        if persona.deaf_after_s is None:
            continue
        rng, wait_s = drawn(seed, Purpose.MOVES, index, DEAFNESS), persona.deaf_after_s
        arrived = sessions(workload, seed)["due_ns"]
        for client in members(workload, seed, index).tolist():
            at_ns = int(arrived[client - 1])
            while True:
                at_ns += _rounded(rng.uniform(0.5, 1.5) * wait_s)
                if at_ns >= last_ns:
                    break
                end_ns = min(last_ns, at_ns + _rounded(persona.deaf_s))
                spans.setdefault(client, []).append((at_ns, end_ns))
                at_ns = end_ns
    return _table(workload, seed, spans)


def drops(workload: Workload, seed: int) -> Sessions:
    """When clients lose their connection without a word: a ``SESSION`` array in order of time."""
    rows: list[tuple[int, int]] = []
    last_ns = round(workload.duration_s * SECOND_NS)
    for index, persona in enumerate(personas_of(workload)):
        if persona.drop_every_s is None:
            continue
        rng, every_s = drawn(seed, Purpose.MOVES, index, DROPS), persona.drop_every_s
        arrived = sessions(workload, seed)["due_ns"]
        for client in members(workload, seed, index).tolist():
            # The first one comes sooner: the clients have not all begun to be unlucky at the same time.
            at_ns = int(arrived[client - 1]) + _rounded(rng.uniform(0.0, 1.0) * every_s)
            while at_ns < last_ns:
                rows.append((at_ns, client))
                at_ns += _rounded(rng.uniform(0.5, 1.5) * every_s)
    return np.array(sorted(rows), SESSION)


def joined(spans: Iterable[Span]) -> list[Span]:
    """Spans of time, in order, with those that overlap or touch made one.

    >>> joined([(5, 7), (0, 2), (2, 3), (6, 9)])
    [(0, 3), (5, 9)]
    """
    whole: list[Span] = []
    for begin, end in sorted(spans):
        if whole and begin <= whole[-1][1]:
            whole[-1] = whole[-1][0], max(whole[-1][1], end)
        else:
            whole.append((begin, end))
    return whole


def _planned(
    workload: Workload, table: Iterable[Absence], seed: int, purpose: Purpose
) -> dict[int, list[Span]]:
    """When each client takes part in what is planned for some that are drawn."""
    spans: dict[int, list[Span]] = {}
    for index, planned in enumerate(table):
        begin_ns = round(planned.at_s * SECOND_NS)
        end_ns = begin_ns + round(planned.duration_s * SECOND_NS)
        rng = drawn(seed, purpose, index)
        count = planned.count(workload.clients)
        for client in rng.choice(workload.clients, count, replace=False).tolist():
            spans.setdefault(client + 1, []).append((begin_ns, end_ns))
    return spans


def _between_sessions(workload: Workload, seed: int) -> Iterator[tuple[int, list[Span]]]:
    """Absences of clients whose sessions end. One that would last beyond the load is not begun."""
    last_ns = round(workload.duration_s * SECOND_NS)
    for index, persona in enumerate(personas_of(workload)):
        if persona.session_s is None:
            continue
        rng = drawn(seed, Purpose.MOVES, index, CHURN)
        arrived = sessions(workload, seed)["due_ns"]
        for client in members(workload, seed, index).tolist():
            own, at_ns = [], int(arrived[client - 1])
            while True:
                begin_ns = at_ns + max(SECOND_NS, _rounded(rng.exponential(persona.session_s)))
                at_ns = begin_ns + max(SECOND_NS // 2, _rounded(rng.exponential(persona.away_s)))
                if at_ns > last_ns:
                    break
                own.append((begin_ns, at_ns))
            yield client, own


def _table(workload: Workload, seed: int, spans: dict[int, list[Span]]) -> Absences:
    """Spans by client as one array, from the client's arrival on."""
    arrived = sessions(workload, seed)["due_ns"] if spans else np.empty(0, np.int64)
    rows = [
        (max(begin, int(arrived[client - 1])), end, client)
        for client, own in spans.items()
        for begin, end in joined(own)
        if end > arrived[client - 1]
    ]
    return np.array(sorted(rows, key=lambda row: (row[0], row[2])), ABSENCE)


def _rounded(seconds: float) -> int:
    return round(seconds * SECOND_NS / _US) * _US
