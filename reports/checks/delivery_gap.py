"""D1 delivery-gap: a subscriber who stayed never received a message that it was owed.

Owed are, per segment, all serials in (start, last received], whatever became of the client
later; and, for a segment that was open from before its channel's sentinel to the drain
deadline, all up to the sentinel: who is behind at the deadline is stalled (V1), and what does
not arrive after one forced reconnect that was resumed is lost. Left out: serials that no ack,
delivery or read ever showed (L4's), declared gaps, what arrived damaged (L7's), holes in what
a resume promised to replay (D2's), and one's own messages where echo is off.

A client whose log is torn or missing is not accused: what it received is not known.

What never came falls, among the phases, where its message was first sent.
"""

from __future__ import annotations

import heapq

import numpy as np

from reports.by_phase import NOTHING, Spread

from .owed import Missing
from .part import Part, channels_without
from .result import CAP, Finding, Found, Reference
from .rows import Int
from .telling import finding, messages_text, place_text


def delivery_gap(part: Part) -> Found:
    """Counts deliveries: one per subscriber and message."""
    mine = [missing for missing in part.missing if not missing.by_resume]
    spans = [span(part, missing) for missing in mine]
    told = heapq.nsmallest(CAP, range(len(mine)), key=lambda i: (spans[i][0], spans[i][2][0]))
    untold = channels_without(part, part.sentinels)
    why = [
        f"no acked sentinel in {name}: what its subscribers owe at the end is not known" for name in untold
    ]
    return Found(
        sum(len(missing.places) for missing in mine),
        tuple(_tell(part, mine[i]) for i in told),
        tuple(why[:CAP]),
        _spread(part, mine, [(first_t, last_t) for first_t, last_t, _ in spans]),
    )


def _spread(part: Part, mine: list[Missing], spans: list[tuple[int, int]]) -> Spread:
    """By when the messages were first sent; where that is not known, by when they began to be missing."""
    if not mine:
        return NOTHING
    first, last = np.repeat(np.array(spans, np.int64), [len(m.places) for m in mine], axis=0).T
    sent = _first_sent(part, np.concatenate([missing.places for missing in mine]))
    return part.facts.spread(first, last, at=np.where(sent < 0, first, sent))


def _first_sent(part: Part, places: Int) -> Int:
    """When the message at each place was first sent; -1: it is not known which one stands there."""
    placed, messages = part.placed, part.messages
    sent = np.full(len(places), -1, np.int64)
    if len(placed):
        at = np.minimum(np.searchsorted(placed.place, places), len(placed) - 1)
        known = placed.place[at] == places
        sent[known] = messages.sent_t[messages.begin[placed.at[at[known]]]]
    return sent


def span(part: Part, missing: Missing) -> tuple[int, int, list[Reference]]:
    """From when to when it went missing, and the records that show it."""
    windows, arrivals, w = part.windows, part.records.arrivals, missing.window
    first_t, records = int(windows.t[w]), [windows.reference(w)]
    if missing.before >= 0:
        first_t, records = int(arrivals.t[missing.before]), [arrivals.reference(missing.before)]
    if missing.after >= 0:
        last_t = int(arrivals.t[missing.after])
        records.append(arrivals.reference(missing.after))
    else:
        over_t = part.facts.marks.drained_t or part.facts.last_t
        last_t = min(int(windows.end_t[w]), over_t)
    return min(first_t, last_t), max(first_t, last_t), records


def _tell(part: Part, missing: Missing) -> Finding:
    windows, facts, w = part.windows, part.facts, missing.window
    channel, epoch, client = (int(c[w]) for c in (windows.channel, windows.epoch, windows.client))
    first_t, last_t, records = span(part, missing)
    what = messages_text(part, missing.places)
    when = f"between {facts.at(first_t)} and {facts.at(last_t)}"
    if missing.after < 0:
        when = f"though it was resumed and subscribed until {facts.at(last_t)}"
    return finding(
        part,
        "D1",
        f"{facts.names.client(client)} never received {place_text(part, channel, epoch, missing.ranges)} "
        f"({what}), {when}",
        channel=channel,
        epoch=epoch,
        ranges=missing.ranges,
        first_t=first_t,
        last_t=last_t,
        records=records,
        clients=[client],
        message=part.message_at(int(missing.places[0])) if len(missing.places) == 1 else None,
    )
