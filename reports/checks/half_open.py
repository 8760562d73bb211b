"""V4 undetected-half-open: a dead connection was kept for longer than ping + pong.

A fault that swallows data (``timeout``), or stops the server (``pause``), leaves a connection open on
which nothing is answered. It is proven dead for a client by a publish that was written while the fault was
in force, and answered by nobody from then on: that is when the fault took effect on it. Within ping_s +
pong_s of that, and a second for the news to travel, one of the two sides has to notice and the client to
see a CLOSE; a connection that is still open then, with the fault still in force, counts. Clients that got
any answer in that time are none of the fault's, and of those that wrote nothing nothing is known. Nor is it
of a client that read nothing by its own persona (MARK deaf): it could not see its connection end.

Judged in runs that reached MARK(drain); clients with a torn log are left out.
"""

from __future__ import annotations

import numpy as np

from reports.periods import NS

from .facts import Facts
from .result import CAP, Finding, Found
from .rows import NEVER
from .silence import SLACK_NS


def half_open(facts: Facts) -> Found:
    """Counts connections."""
    if facts.marks.drain_t is None:
        return Found(unknown=("the run has no drain: nobody was waited for",))
    if facts.contract.detect_ns is None:
        return Found()
    limit_ns = facts.contract.detect_ns + SLACK_NS
    told = []
    for silence in facts.silences:
        close_t = _close_t(facts, silence.client, silence.record[1])
        due_t = silence.since_t + limit_ns
        if facts.marks.was_deaf(silence.client, silence.since_t, due_t):
            continue
        if silence.until_t > due_t and close_t > due_t:
            told.append((silence.since_t, silence.client, close_t, silence.record))
    told = [each for each in told if not facts.owners.broken(np.array([each[1]]))[0]]
    told.sort()
    since = [since_t for since_t, _, _, _ in told]
    until = [min(close_t, facts.last_t) for _, _, close_t, _ in told]
    return Found(
        len(told),
        tuple(_tell(facts, *each) for each in told[:CAP]),
        spread=facts.spread(since, until, at=since),
    )


def _close_t(facts: Facts, client: int, row: int) -> int:
    """When the connection on which a client wrote a record ended."""
    after = np.flatnonzero((facts.closes.client == client) & (facts.closes.row > row))
    return int(facts.closes.t[after[0]]) if len(after) else NEVER


def _tell(facts: Facts, since_t: int, client: int, close_t: int, record: tuple[int, int]) -> Finding:
    name, detect_s = facts.names.client(client), (facts.contract.detect_ns or 0) / NS
    last_t = min(close_t, facts.last_t)
    then = f"until {facts.at(close_t)}" if close_t != NEVER else "to the end"
    return Finding(
        cls="V4",
        sentence=f"{name}'s connection was dead from {facts.at(since_t)}, when it wrote what nothing "
        f"answered, and stayed open {then}: ping and pong notice within {detect_s:g} s"
        + facts.under(since_t, last_t),
        clients=(name,),
        first_t=since_t,
        last_t=last_t,
        faults=facts.active(since_t, last_t),
        records=(record,),
    )
