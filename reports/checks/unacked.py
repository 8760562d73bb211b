"""V3 unacked-on-live-connection: a publish was never answered, and its connection lived on.

An attempt is due an answer within ack_s. It counts when it was never answered on its connection, which
was open at MARK(drain) and, at some time between the attempt and the end of waiting or of the connection,
had been open for ack_s on end without any fault in force. Where a message was sent several times on one
connection and some attempts were answered, those are taken to be the first ones.

Publishers whose log is torn are not accused: what was answered is not known.
"""

from __future__ import annotations

import numpy as np

from reports.history import Flag
from reports.periods import NS

from .facts import CONTROL, Facts
from .part import Part
from .result import CAP, Finding, Found
from .rows import NEVER, Int, Rows, joined, next_after, pack
from .telling import finding


def unacked(part: Part) -> Found:
    """Counts messages."""
    facts = part.facts
    over_t, drain_t = facts.marks.drained_t, facts.marks.drain_t
    if drain_t is None or over_t is None:
        return Found(unknown=("the run has no drain: nobody was waited for",))
    sends, answers = part.records.sends, joined(part.records.acks, part.records.nacks)
    sends = sends.where((sends.client != CONTROL) & ~facts.owners.broken(sends.client))
    answers = answers.where((answers.client == answers.publisher) & ~answers.flag(Flag.NOT_OPEN))
    lacking = sends.where(_unanswered(facts, sends, answers))
    ends_t = np.minimum(_end_t(facts, lacking), over_t)
    alive = ends_t > drain_t
    alive &= ends_t - lacking.t >= facts.contract.ack_ns
    guilty = [
        i
        for i in np.flatnonzero(alive).tolist()
        if facts.quiet_ns(int(lacking.t[i]), int(ends_t[i])) >= facts.contract.ack_ns
    ]
    guilty.sort(key=lambda i: (int(lacking.t[i]), lacking.reference(i)))
    at = np.array(guilty, np.intp)
    return Found(
        len(guilty),
        tuple(_tell(part, lacking, i, int(ends_t[i])) for i in guilty[:CAP]),
        spread=facts.spread(lacking.t[at], ends_t[at], at=lacking.t[at]),
    )


def _unanswered(facts: Facts, sends: Rows, answers: Rows) -> Int:
    """By message and connection, the first attempt that must be among those that lack an answer.

    If the answers are of the first attempts, the others have waited least.
    """
    key = np.concatenate([_connection(facts, sends), _connection(facts, answers)])
    message = np.concatenate([sends.message, answers.message])
    row = np.concatenate([sends.row, answers.row])
    is_send = np.arange(len(key)) < len(sends)
    order = np.lexsort((row, ~is_send, key, message))  # a connection's attempts, then its answers
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (message[order][1:] != message[order][:-1]) | (key[order][1:] != key[order][:-1])
    group = np.cumsum(begins) - 1
    attempts = np.bincount(group, is_send[order]).astype(np.int64)
    answered = np.bincount(group, ~is_send[order]).astype(np.int64)
    lacking = np.flatnonzero(attempts > answered)
    return np.asarray(order[np.flatnonzero(begins)[lacking] + answered[lacking]])


def _connection(facts: Facts, rows: Rows) -> Int:
    """Which connection each record belongs to: the position of the CLOSE that ends it."""
    return np.asarray(next_after(pack(rows.client, rows.row), pack(facts.closes.client, facts.closes.row)))


def _end_t(facts: Facts, sends: Rows) -> Int:
    """When the connection of each attempt ended; NEVER: it did not."""
    at = _connection(facts, sends)
    closes = facts.closes
    client = np.append(closes.client.astype(np.int64), -1)[at]
    return np.where(client == sends.client, np.append(closes.t, NEVER)[at], NEVER)


def _tell(part: Part, sends: Rows, i: int, end_t: int) -> Finding:
    facts, client, message = part.facts, int(sends.client[i]), int(sends.message[i])
    channel, t = int(sends.channel[i]), int(sends.t[i])
    return finding(
        part,
        "V3",
        f"{facts.message(message)}, sent to {facts.names.channel(channel)} at {facts.at(t)}, was not "
        f"answered by {facts.at(end_t)} on a connection that was open all the time; an answer is due within "
        f"{facts.contract.ack_ns / NS:g} s",
        channel=channel,
        epoch=0,
        ranges=[],
        first_t=t,
        last_t=end_t,
        records=[sends.reference(i)],
        clients=[client],
        message=message,
    )
