"""V2 never-reconnected: a client that lost its connection and did not come back.

Judged after MARK(drain) only: the client's last connection is closed, not on purpose (or it never
got one and kept trying), and no later attempt succeeded before waiting was over. A connection
lost after the drain began must have been gone for settle_s to count. Its messages are owed as far
as it received any, no further.
"""

from __future__ import annotations

import numpy as np

from reports.history import CONN_OK, Flag

from .facts import Facts
from .result import CAP, Finding, Found
from .rows import Rows, joined, runs


def never_reconnected(facts: Facts) -> Found:
    """Counts clients."""
    marks = facts.marks
    over_t = marks.drained_t
    if marks.drain_t is None or over_t is None:
        return Found(unknown=("the run has no drain: nobody was waited for",))
    rows, is_close = _connections(facts, over_t)
    last = runs(rows.client)[1] - 1
    opened = ~is_close[last] & (rows.serial[last] == CONN_OK)
    left = is_close[last] & rows.flag(Flag.ON_PURPOSE)[last]
    gone = last[~opened & ~left & ~facts.owners.broken(rows.client[last])]
    guilty = []
    for at in gone.tolist():
        since = _gone_since(rows, is_close, at)
        if rows.t[since] <= marks.drain_t or over_t - rows.t[since] >= facts.contract.settle_ns:
            guilty.append((since, at))
    told = sorted(guilty, key=lambda pair: (int(rows.t[pair[0]]), rows.reference(pair[0])))[:CAP]
    gone_t = [int(rows.t[since]) for since, _ in guilty]
    return Found(
        len(guilty),
        tuple(_tell(facts, rows, is_close, *pair, over_t) for pair in told),
        spread=facts.spread(gone_t, [over_t] * len(guilty), at=gone_t),
    )


def _connections(facts: Facts, over_t: int) -> tuple[Rows, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """CONN and CLOSE records until waiting was over, by (client, row), and which are CLOSE."""
    rows = joined(facts.connects, facts.closes)
    is_close = np.arange(len(rows)) >= len(facts.connects)
    order = np.lexsort((rows.row, rows.client))
    order = order[rows.t[order] <= over_t]
    return rows.where(order), is_close[order]


def _gone_since(rows: Rows, is_close: np.ndarray[tuple[int], np.dtype[np.bool_]], at: int) -> int:
    """Position of the record since which the client has been away: its last CLOSE, or its first failure."""
    client = rows.client[at]
    while not is_close[at] and at > 0 and rows.client[at - 1] == client:
        if not is_close[at - 1] and rows.serial[at - 1] == CONN_OK:
            break  # a connection of which no end was seen, and a failed dial after it
        at -= 1
    return at


def _tell(
    facts: Facts,
    rows: Rows,
    is_close: np.ndarray[tuple[int], np.dtype[np.bool_]],
    since: int,
    at: int,
    over_t: int,
) -> Finding:
    client, first_t = facts.names.client(int(rows.client[at])), int(rows.t[since])
    failed = int((~is_close[since : at + 1]).sum())
    if is_close[since]:
        lost = f"{client} lost its connection at {facts.at(first_t)} (code {int(rows.serial[since])})"
    else:
        lost = f"{client} failed to connect at {facts.at(first_t)}"
    dials = f"{failed} attempts failed" if failed else "it made no attempt"
    return Finding(
        cls="V2",
        sentence=f"{lost} and was not back at {facts.at(over_t)}: {dials}{facts.under(first_t, over_t)}",
        clients=(client,),
        first_t=first_t,
        last_t=over_t,
        faults=facts.active(first_t, over_t),
        records=(rows.reference(since), rows.reference(at)) if since != at else (rows.reference(at),),
    )
