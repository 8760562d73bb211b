"""D10 ack-protocol: an answer to a publish that was not due.

An ack or nack of a message that its receiver never sent, an answer to no open request, a second answer
to one attempt, an ack and a nack of one attempt. Answers are counted against attempts in the order of
the publisher's log: one answer is due to each attempt, whichever it is for.

An attempt that a torn log has lost may be the one that was answered: of its clients only answers
that were known to answer no open request count.
"""

from __future__ import annotations

import numpy as np

from reports.history import Flag

from .part import Part
from .result import Finding, Found
from .rows import Bool, Rows, joined, runs
from .telling import earliest_of, finding


def ack_protocol(part: Part) -> Found:
    """Counts answers."""
    acks, nacks = part.records.acks, part.records.nacks
    answers = joined(acks, nacks)
    is_ack = np.arange(len(answers)) < len(acks)
    unasked = answers.flag(Flag.NOT_OPEN)
    known = np.concatenate([part.ack_known, part.facts.sends.known(nacks.message)])
    strange = ~known | (answers.client != answers.publisher)
    surplus = _surplus(part.records.sends, answers, counted=~unasked & ~strange)
    trusted = ~part.facts.owners.broken(answers.client)
    guilty = np.flatnonzero(unasked | ((strange | surplus) & trusted))
    mine = answers.where(guilty)
    told = earliest_of(mine.t, mine).tolist()
    return Found(
        len(guilty),
        tuple(
            _tell(part, mine, i, is_ack=bool(is_ack[guilty[i]]), strange=bool(strange[guilty[i]]))
            for i in told
        ),
        spread=part.facts.spread(mine.t, mine.t),
    )


def _surplus(sends: Rows, answers: Rows, *, counted: Bool) -> Bool:
    """Answers that come when every attempt of their message so far is answered."""
    mine = np.flatnonzero(counted)
    message = np.concatenate([sends.message, answers.message[mine]])
    row = np.concatenate([sends.row, answers.row[mine]])
    step = np.concatenate([np.ones(len(sends), np.int64), -np.ones(len(mine), np.int64)])
    order = np.lexsort((row, message))
    begins, ends = runs(message[order])
    group = np.repeat(np.arange(len(begins)), ends - begins)
    balance = np.cumsum(step[order])
    balance -= np.repeat((balance - step[order])[begins], ends - begins)
    # A new low is one answer too many. Each group starts lower than any before it can have got.
    level = -group * (2 * len(order) + 1)
    lowest = np.minimum.accumulate(np.minimum(balance + level, level))
    before = np.minimum(np.concatenate([[0], lowest[:-1]]), level) if len(order) else level
    surplus = np.zeros(len(answers), np.bool_)
    below = order[balance + level < before]
    surplus[mine[below - len(sends)]] = True
    return surplus


def _tell(part: Part, answers: Rows, i: int, *, is_ack: bool, strange: bool) -> Finding:
    facts, t = part.facts, int(answers.t[i])
    channel, client, message = int(answers.channel[i]), int(answers.client[i]), int(answers.message[i])
    serial = int(answers.serial[i])
    what = f"an ack at {facts.names.epoch(int(answers.epoch[i]))} {serial}" if is_ack else "a refusal"
    if not is_ack:
        what += f" with {int(answers.t2[i])}"
    if not message & 0xFFFF_FFFF:
        why = "of a request that it never made"
    elif strange:
        why = f"of {facts.message(message)}, which it never sent"
    else:
        why = f"of {facts.message(message)} when no attempt of it was open"
    return finding(
        part,
        "D10",
        f"{facts.names.client(client)} got {what} at {facts.at(t)} {why}",
        channel=channel,
        epoch=int(answers.epoch[i]),
        ranges=[(serial, serial)] if is_ack else [],
        first_t=t,
        last_t=t,
        records=[answers.reference(i)],
        clients=[client],
        message=message if message & 0xFFFF_FFFF else None,
    )
