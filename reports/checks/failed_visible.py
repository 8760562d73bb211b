"""L8 failed-visible: a publish that certainly failed stands in the log.

Every attempt was refused definitely, or was never written, none was acked; yet a delivery or a final
read showed the message in its channel. An attempt that a torn log has lost may have succeeded,
so messages of its publishers are left out.
"""

from __future__ import annotations

import numpy as np

from .duplicate_commit import witness
from .messages import Outcome
from .part import Part
from .result import CAP, Finding, Found
from .rows import Int, member
from .telling import finding, place_text


def failed_visible(part: Part) -> Found:
    """Counts messages."""
    messages, entries = part.messages, part.entries
    failed = messages.message[messages.outcome == Outcome.FAIL]
    failed = failed[~part.facts.owners.broken(failed >> 32)]
    seen = np.flatnonzero(part.at_home & member(entries.message, failed))
    seen = seen[np.lexsort((entries.place[seen], entries.first_t[seen]))]
    _, first = np.unique(entries.message[seen], return_index=True)
    guilty = seen[np.sort(first)]
    seen_t, refused_t = entries.first_t[guilty], _last_refused(part, entries.message[guilty])
    return Found(
        len(guilty),
        tuple(_tell(part, int(at)) for at in guilty[:CAP]),
        spread=part.facts.spread(np.minimum(seen_t, refused_t), np.maximum(seen_t, refused_t)),
    )


def _last_refused(part: Part, messages: Int) -> Int:
    """When each of some messages that were all refused was refused last."""
    nacks = part.records.nacks
    order = np.lexsort((nacks.t, nacks.message))
    last = np.searchsorted(nacks.message[order], messages, side="right") - 1
    return np.asarray(nacks.t[order[last]])


def _tell(part: Part, at: int) -> Finding:
    entries, facts, nacks = part.entries, part.facts, part.records.nacks
    place, message, seen_t = int(entries.place[at]), int(entries.message[at]), int(entries.first_t[at])
    channel, epoch = part.places.stream(place)
    serial = place & 0xFFFF_FFFF
    refusals = np.flatnonzero(nacks.message == message)
    last = int(refusals[np.argmax(nacks.t[refusals])])
    refused_t, code = int(nacks.t[last]), int(nacks.t2[last])
    how = f"refused with {code}" if code else "never written"
    where = place_text(part, channel, epoch, [(serial, serial)])
    return finding(
        part,
        "L8",
        f"{facts.message(message)} was {how} at {facts.at(refused_t)}, for certain and in every one of its "
        f"{len(refusals)} attempts, and was seen at {where} at {facts.at(seen_t)}",
        channel=channel,
        epoch=epoch,
        ranges=[(serial, serial)],
        first_t=min(refused_t, seen_t),
        last_t=max(refused_t, seen_t),
        records=[nacks.reference(last), *witness(part, place, message)],
        clients=[message >> 32],
        message=message,
    )
