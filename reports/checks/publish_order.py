"""L10 publisher-reorder and L11 realtime-inversion: the log contradicts the order of publishing.

- L10: the last attempt of one message was written before the first attempt of another of the same
  publisher to the same channel, and yet the later one stands before it. Order is that of the
  publisher's own log.
- L11: a message was acked before another was first sent, by anyone, and yet the later one stands before
  it. Across clients only times count: an interval shorter than the clocks' uncertainty
  (``clock.uncertainty_ns`` in run.json, 1 µs on one host) proves nothing.

Messages count whose place is known for certain (placing.py). An attempt that a torn log has lost may be the
last one, or the first: publishers with such a log are left out, in L11 only as the later one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .part import Part
from .result import CAP, Finding, Found
from .rows import NEVER, Index, Int, distinct, pack, runs
from .telling import finding, place_text


@dataclass(frozen=True, slots=True)
class _Inversion:
    """Positions in ``part.placed``."""

    early: int  # the message that should stand first
    late: int  # the one that stands before it


def publisher_reorder(part: Part) -> Found:
    """Counts messages: the later ones."""
    line, at = part.lines
    placed, messages = part.placed, part.messages
    trusted = ~part.facts.owners.broken(placed.message[at] >> 32)
    line, at = line[trusted], at[trusted]
    publisher = placed.message[at] >> 32
    order = np.lexsort((np.arange(len(at)), publisher, line))
    line, at, publisher = line[order], at[order], publisher[order]
    group = np.cumsum((_begins(line) | _begins(publisher)).astype(np.int64))
    known = placed.at[at]
    found = _inversions(group, at, messages.last_row[known], messages.first_row[known])
    return _told(part, "L10", found)


def realtime_inversion(part: Part) -> Found:
    """Counts messages: the later ones."""
    line, at = part.lines
    placed, messages = part.placed, part.messages
    acked_t, first_t = placed.acked_t[at], messages.sent_t[messages.begin[placed.at[at]]]
    since = np.where(acked_t == NEVER, NEVER, acked_t + max(part.facts.contract.clock_ns, 1) - 1)
    ranks = np.unique(np.concatenate([since, first_t]), return_inverse=True)[1].astype(np.int64)
    untrusted = part.facts.owners.broken(placed.message[at] >> 32)
    begins = np.where(untrusted, -1, ranks[len(at) :])
    return _told(part, "L11", _inversions(line, at, ranks[: len(at)], begins))


def _begins(key: Int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    begins = np.ones(len(key), np.bool_)
    begins[1:] = key[1:] != key[:-1]
    return begins


def _inversions(group: Int, at: Index, over: Int, begun: Int) -> list[_Inversion]:
    """Per group, in the order of serials: who began after somebody that stands behind it was over.

    Args:
        group: rises.
        at: positions in ``part.placed``; inside a group they rise.
        over, begun: below 2^32, comparable inside a group; -1: never began.
    """
    if not len(group):
        return []
    ranked = pack(group, over)  # later groups rank higher, so a minimum from behind stays in its group
    behind = np.minimum.accumulate(ranked[::-1])[::-1]
    following = np.append(behind[1:], NEVER)
    guilty = np.flatnonzero((begun >= 0) & (following < pack(group, np.maximum(begun, 0))))
    guilty = guilty[following[guilty] >> 32 == group[guilty]]
    _, first = np.unique(at[guilty], return_index=True)  # a message can be on several lines of epochs
    ends = runs(group)[1]
    found = []
    for i in guilty[np.sort(first)].tolist():
        end = int(ends[np.searchsorted(ends, i, side="right")])
        early = i + 1 + int(np.argmin(over[i + 1 : end]))
        found.append(_Inversion(int(at[early]), int(at[i])))
    return found


def _told(part: Part, cls: str, found: list[_Inversion]) -> Found:
    def key(inversion: _Inversion) -> tuple[int, int]:
        return _sent(part, inversion.late)[0], int(part.placed.place[inversion.late])

    told = sorted(found, key=key)[:CAP]
    one, other = ([t[i] for t in (_times(part, cls, inversion) for inversion in found)] for i in (0, 1))
    return Found(
        len(found),
        tuple(_tell(part, cls, inversion) for inversion in told),
        spread=part.facts.spread(np.minimum(one, other), np.maximum(one, other)),
    )


def _times(part: Part, cls: str, inversion: _Inversion) -> tuple[int, int]:
    """When the earlier message was over, and when the later one was first sent."""
    acked_t = int(part.placed.acked_t[inversion.early])
    over_t = acked_t if cls == "L11" else _sent(part, inversion.early)[1]
    return over_t, _sent(part, inversion.late)[0]


def _sent(part: Part, at: int) -> tuple[int, int]:
    """Times of the first and of the last attempt."""
    sent = part.messages.sent(int(part.placed.at[at]))
    return int(sent[0]), int(sent[-1])


def _tell(part: Part, cls: str, inversion: _Inversion) -> Finding:
    placed, facts, early, late = part.placed, part.facts, inversion.early, inversion.late
    over_t, sent_t = _times(part, cls, inversion)
    how = "acked" if cls == "L11" else "last sent"
    serials = [int(placed.place[i]) & 0xFFFF_FFFF for i in (late, early)]
    channel, epoch = part.places.stream(int(placed.place[late]))
    messages = [int(placed.message[i]) for i in (late, early)]
    return finding(
        part,
        cls,
        f"{facts.message(messages[1])} was {how} at {facts.at(over_t)}, before {facts.message(messages[0])} "
        f"was first sent at {facts.at(sent_t)}, and stands behind it: {serials[1]} after "
        f"{place_text(part, channel, epoch, [(serials[0], serials[0])])}",
        channel=channel,
        epoch=epoch,
        ranges=[(serial, serial) for serial in serials],
        first_t=min(over_t, sent_t),
        last_t=max(over_t, sent_t),
        records=[part.send_of(message) for message in messages],
        clients=distinct(np.array(messages) >> 32).tolist(),
        message=messages[0],
    )
