"""D1 delivery-gap: a subscriber who stayed never received a message that it was owed.

Owed are, per segment, all serials in (start, last received], whatever became of the client
later; and, for a segment that was open from before its channel's sentinel to the drain
deadline, all up to the sentinel: who is behind at the deadline is stalled (V1), and what does
not arrive after one forced reconnect that was resumed is lost. Left out: serials that no ack,
delivery or read ever showed (L4's), declared gaps, what arrived damaged (L7's), holes in what
a resume promised to replay (D2's), and one's own messages where echo is off.

A client whose log is torn or missing is not accused: what it received is not known.
"""

from __future__ import annotations

import heapq

from .owed import Missing
from .part import Part, channels_without
from .result import CAP, Finding, Found, Reference
from .telling import finding, messages_text, place_text


def delivery_gap(part: Part) -> Found:
    """Counts deliveries: one per subscriber and message."""
    mine = [missing for missing in part.missing if not missing.by_resume]
    told = heapq.nsmallest(CAP, mine, key=lambda missing: _key(part, missing))
    untold = channels_without(part, part.sentinels)
    why = [
        f"no acked sentinel in {name}: what its subscribers owe at the end is not known" for name in untold
    ]
    return Found(
        sum(len(missing.places) for missing in mine),
        tuple(_tell(part, missing) for missing in told),
        tuple(why[:CAP]),
    )


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


def _key(part: Part, missing: Missing) -> tuple[int, Reference]:
    first_t, _, records = span(part, missing)
    return first_t, records[0]


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
