"""D2 false-resume: the server said `resumed`, and continuity was broken all the same.

Either a serial after the position asked for, within what the replay had to bring, never came in
that window; or another epoch's stream was served: its SUB, its LIVE or a message is of an epoch
that the one asked for does not go on into. What the replay had to bring ends at its LIVE; of a
replay that was cut, at where the client then stood. Holes after that are D1's.

A missing serial proves something only if the client's log is whole; another epoch always does.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import numpy as np

from .delivery_gap import span
from .owed import Missing
from .part import Part
from .result import CAP, Finding, Found, Range
from .telling import finding, messages_text, place_text


def false_resume(part: Part) -> Found:
    """Counts resumes: one per SUB that said `resumed` and was not kept."""
    lacking: dict[int, list[Missing]] = {}
    for missing in part.missing:
        if missing.by_resume:
            lacking.setdefault(missing.window, []).append(missing)
    other = _other_epochs(part)
    windows = part.windows
    guilty = sorted(lacking.keys() | other.keys())
    told = heapq.nsmallest(CAP, guilty, key=lambda w: (int(windows.t[w]), windows.reference(w)))
    resumed = windows.t[np.array(guilty, np.intp)]
    until = [_until(part, w, lacking.get(w, [])) for w in guilty]
    return Found(
        len(guilty),
        tuple(_tell(part, w, lacking.get(w, []), other) for w in told),
        spread=part.facts.spread(resumed, until, at=resumed),
    )


def _until(part: Part, w: int, lacking: list[Missing]) -> int:
    """By when all was due that a resumed window lacks."""
    return max([int(part.windows.t[w]), *(span(part, missing)[1] for missing in lacking)])


def _other_epochs(part: Part) -> Mapping[int, int]:
    """Resumed windows that served another epoch's stream, and that epoch."""
    windows, lineage, arrivals = part.windows, part.facts.lineage, part.records.arrivals
    found: dict[int, int] = {}
    resumed = windows.resumed & (windows.asked_epoch != 0)
    stranger = (windows.epoch != windows.asked_epoch) & (windows.epoch != 0)
    stranger |= (windows.live_epoch != windows.epoch) & (windows.live_epoch != 0)
    for w in np.flatnonzero(resumed & stranger).tolist():
        channel, asked = int(windows.channel[w]), int(windows.asked[w])
        for epoch in (int(windows.epoch[w]), int(windows.live_epoch[w])):
            if epoch and not lineage.goes_on(channel, int(windows.asked_epoch[w]), epoch, asked):
                found.setdefault(w, epoch)
    for at in np.flatnonzero((windows.window >= 0) & ~windows.sequel).tolist():
        if resumed[w := int(windows.window[at])]:
            found.setdefault(w, int(arrivals.epoch[at]))
    return found


def _tell(part: Part, w: int, lacking: list[Missing], other: Mapping[int, int]) -> Finding:
    windows, facts, names = part.windows, part.facts, part.facts.names
    channel, client, asked_epoch = (int(c[w]) for c in (windows.channel, windows.client, windows.asked_epoch))
    ranges: tuple[Range, ...] = ()
    records, last_t, parts = [windows.reference(w)], _until(part, w, lacking), []
    if w in other:
        parts.append(f"the stream served was {names.epoch(other[w])}'s")
    if lacking:
        ranges = tuple(sorted({r for missing in lacking for r in missing.ranges}))
        places = np.unique(np.concatenate([missing.places for missing in lacking]))
        what = messages_text(part, places)
        never = place_text(part, channel, int(windows.epoch[w]), ranges)
        parts.append(f"{never} ({what}) did not come")
        for missing in lacking:
            records += [record for record in span(part, missing)[2] if record not in records]
    return finding(
        part,
        "D2",
        f"{names.client(client)} resumed {names.channel(channel)} after {names.epoch(asked_epoch)} "
        f"{int(windows.asked[w])} at {facts.at(int(windows.t[w]))}, and {' and '.join(parts)}",
        channel=channel,
        epoch=int(windows.epoch[w]),
        ranges=ranges,
        first_t=int(windows.t[w]),
        last_t=last_t,
        records=records,
        clients=[client],
    )
