"""L1 divergent-serial: one place of a stream was seen with two identities.

Deliveries and final reads say what stands at a place, as far as it was sent to that channel (what
was not is L5's or L6's). Where none says anything, two acks of different messages at one
serial do; an ack that only contradicts what was seen there is L9's.

Positive evidence, so a torn log accuses as well.
"""

from __future__ import annotations

import numpy as np

from .duplicate_commit import witness
from .part import Part
from .result import CAP, Finding, Found
from .rows import Int, distinct, member, runs
from .telling import finding, place_text


def divergent_serial(part: Part) -> Found:
    """Counts places."""
    place, message, t = _identities(part)
    begins, ends = runs(place)
    guilty = np.flatnonzero(ends - begins > 1)
    begins, ends = begins[guilty], ends[guilty]
    since = np.array([t[begin:end].min() for begin, end in zip(begins, ends, strict=True)], np.int64)
    until = np.array([t[begin:end].max() for begin, end in zip(begins, ends, strict=True)], np.int64)
    told = np.lexsort((place[begins], since))[:CAP]
    return Found(
        len(guilty),
        tuple(
            _tell(part, int(place[b]), message[b:e], t[b:e])
            for b, e in zip(begins[told], ends[told], strict=True)
        ),
        spread=part.facts.spread(since, until),
    )


def _identities(part: Part) -> tuple[Int, Int, Int]:
    """Distinct (place, message) by place, and when each was first seen."""
    entries, acks = part.entries, part.acks
    home = np.flatnonzero(part.at_home)
    place, message, t = entries.place[home], entries.message[home], entries.first_t[home]
    alone = ~member(part.ack_place, distinct(place)) & part.ack_known
    more = np.flatnonzero(alone & (part.ack_place >= 0))
    place = np.concatenate([place, part.ack_place[more]])
    message = np.concatenate([message, acks.message[more]])
    t = np.concatenate([t, acks.t[more]])
    if len(more):
        order = np.lexsort((t, message, place))
        place, message, t = place[order], message[order], t[order]
        new = np.ones(len(place), np.bool_)
        new[1:] = (place[1:] != place[:-1]) | (message[1:] != message[:-1])
        place, message, t = place[new], message[new], t[new]
    return place, message, t


def _tell(part: Part, place: int, messages: Int, times: Int) -> Finding:
    facts, order = part.facts, np.lexsort((messages, times))
    channel, epoch = part.places.stream(place)
    serial = place & 0xFFFF_FFFF
    seen = [f"{facts.message(int(messages[i]))} (seen at {facts.at(int(times[i]))})" for i in order[:3]]
    more = f" and {len(messages) - 3} more" if len(messages) > 3 else ""
    return finding(
        part,
        "L1",
        f"{place_text(part, channel, epoch, [(serial, serial)])} holds {' and '.join(seen)}{more}",
        channel=channel,
        epoch=epoch,
        ranges=[(serial, serial)],
        first_t=int(times.min()),
        last_t=int(times.max()),
        records=[r for i in order[:3] for r in witness(part, place, int(messages[i]))],
        clients=sorted({int(message) >> 32 for message in messages}),
        message=int(messages[order[0]]),
    )
