"""V1 stalled-subscriber: a subscription that was open, and to which the stream had stopped coming.

Judged after MARK(drain) only: a segment open from before its channel's sentinel was sent until
the drain deadline, whose client had not everything up to the sentinel by then. The deadline is
the forced reconnect, or, when none was needed, the start of the final reads. Where no drain
was marked, or a channel's sentinel was not acked, nothing is known.

What does not come after the forced reconnect either is D1 as well.
"""

from __future__ import annotations

from .part import Part, channels_without
from .result import CAP, Finding, Found
from .tails import Stalled
from .telling import finding


def stalled_subscriber(part: Part) -> Found:
    """Counts subscriptions."""
    marks = part.facts.marks
    if marks.drain_t is None or marks.deadline_t is None:
        return Found(unknown=("the run has no drain: nobody was waited for",))
    windows, found = part.windows, part.stalled
    told = sorted(found, key=lambda s: (int(windows.t[s.window]), windows.reference(s.window)))[:CAP]
    unsure = [f"no acked sentinel in {name}" for name in channels_without(part, part.sentinels)]
    opened = [int(windows.t[stalled.window]) for stalled in found]
    return Found(
        len(found),
        tuple(_tell(part, stalled) for stalled in told),
        tuple(unsure[:CAP]),
        part.facts.spread(opened, [marks.deadline_t] * len(found)),
    )


def _tell(part: Part, stalled: Stalled) -> Finding:
    windows, facts, names, sentinel = part.windows, part.facts, part.facts.names, stalled.sentinel
    w, deadline_t = stalled.window, facts.marks.deadline_t or facts.last_t
    client, opened_t = int(windows.client[w]), int(windows.t[w])
    if stalled.recovered:
        then = "; the rest came after a forced reconnect"
    elif stalled.lost:
        then = "; the rest did not come after a forced reconnect either"
    else:
        then = ""
    first = stalled.stood + 1 if names.epoch(sentinel.epoch) == names.epoch(int(windows.epoch[w])) else 1
    first = min(first, sentinel.serial)
    where = f"{names.epoch(int(windows.epoch[w]))} {stalled.stood}"
    return finding(
        part,
        "V1",
        f"{names.client(client)}, subscribed to {names.channel(sentinel.channel)} "
        f"since {facts.at(opened_t)}, stood at {where} at the drain deadline "
        f"({facts.at(deadline_t)}); the sentinel is {names.epoch(sentinel.epoch)} {sentinel.serial}, "
        f"sent at {facts.at(sentinel.sent_t)}{then}",
        channel=sentinel.channel,
        epoch=sentinel.epoch,
        ranges=[(first, sentinel.serial)],
        first_t=opened_t,
        last_t=deadline_t,
        records=[windows.reference(w), sentinel.record],
        clients=[client],
    )
