"""V5 no-progress: after healing, a channel accepted nothing.

Judged after MARK(drain) only, per channel: something was sent to it after healing, the sentinel
included, and within settle_s of the first such attempt no message that was sent after healing was acked, or
seen. Where client 0 could not connect at all for settle_s after healing, no channel had progress.

Only publishers with whole logs count, for attempts as for answers.
"""

from __future__ import annotations

import numpy as np

from reports.history import CONN_OK
from reports.periods import NS

from .part import Part
from .result import CAP, Finding, Found, Reference
from .telling import finding


def no_progress(part: Part) -> Found:
    """Counts channels."""
    facts, marks = part.facts, part.facts.marks
    if marks.drain_t is None:
        return Found(unknown=("the run has no drain: nobody was waited for",))
    healed_t = marks.drain_t if marks.heal_t is None else marks.heal_t
    shut = _shut_out(part, healed_t)
    sends = part.records.sends
    late = sends.where((sends.t >= healed_t) & ~facts.owners.broken(sends.client))
    guilty: list[tuple[int, int, Reference]] = []
    for channel in part.channels:
        tries = np.flatnonzero(late.channel == channel)
        if len(tries):
            first = int(tries[np.argmin(late.t[tries])])
            t = int(late.t[first])
            if t + facts.contract.settle_ns <= facts.last_t and not _accepted(
                part, np.unique(late.message[tries]), t + facts.contract.settle_ns
            ):
                guilty.append((channel, t, late.reference(first)))
        elif shut is not None:
            guilty.append((channel, *shut))
    guilty.sort(key=lambda fault: (fault[1], fault[2], fault[0]))
    since = np.array([t for _, t, _ in guilty], np.int64)
    return Found(
        len(guilty),
        tuple(_tell(part, *fault) for fault in guilty[:CAP]),
        spread=facts.spread(since, since + facts.contract.settle_ns, at=since),
    )


def _accepted(part: Part, messages: np.ndarray[tuple[int], np.dtype[np.int64]], until_t: int) -> bool:
    """Whether one of some messages was acked or seen by a time."""
    acks, entries = part.records.acks, part.entries
    acked = np.isin(acks.message, messages) & (acks.t <= until_t)
    seen = np.isin(entries.message, messages) & (entries.first_t <= until_t)
    return bool(acked.any() or seen.any())


def _shut_out(part: Part, healed_t: int) -> tuple[int, Reference] | None:
    """The first dial of client 0 after healing, if none succeeded for settle_s."""
    dials, facts = part.facts.control_connects, part.facts
    late = dials.where(np.flatnonzero(dials.t >= healed_t))
    if not len(late) or facts.owners.control_broken:
        return None
    until_t = int(late.t[0]) + facts.contract.settle_ns
    if until_t > facts.last_t or ((late.serial == CONN_OK) & (late.t <= until_t)).any():
        return None
    return int(late.t[0]), late.reference(0)


def _tell(part: Part, channel: int, t: int, record: Reference) -> Finding:
    facts = part.facts
    until_t = t + facts.contract.settle_ns
    return finding(
        part,
        "V5",
        f"{facts.names.channel(channel)} accepted nothing from {facts.at(t)}, after healing, to "
        f"{facts.at(until_t)}: progress is due within {facts.contract.settle_ns / NS:g} s",
        channel=channel,
        epoch=0,
        ranges=[],
        first_t=t,
        last_t=until_t,
        records=[record],
    )
