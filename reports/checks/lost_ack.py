"""L3 lost-acked: the server acked a message, and the log does not hold it.

Either a complete final read covers the acked serial and has the message nowhere (a message that
stands at another serial than its ack said is not lost: that is L9's), or no read covers the serial,
some subscriber was owed it, and nothing but the ack ever showed it. Of several covering reads the
last decides. Where the entry at the serial is damaged, L7 speaks and L3 does not.

What nobody was owed and no read covers is `unwitnessed`, a coverage figure. Messages of
publishers whose log is torn are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .part import Part
from .result import CAP, Finding, Found
from .rows import distinct
from .telling import earliest_of, finding, place_text


def lost_acked(part: Part) -> Found:
    """Counts messages."""
    lost = np.array(part.fate.lost, np.intp)
    acks = part.acks.where(lost)
    told = lost[earliest_of(acks.t, acks)].tolist()
    read = [part.fate.read.get(ack) for ack in lost.tolist()]
    until = [t if by is None else by.asked_t for t, by in zip(acks.t.tolist(), read, strict=True)]
    return Found(
        len(lost),
        tuple(_tell(part, ack) for ack in told),
        tuple(sorted(_unsure(part))[:CAP]),
        part.facts.spread(acks.t, until, at=acks.t),
    )


def _unsure(part: Part) -> Iterator[str]:
    """Why there may be more: channels with acked messages that were not read twice, alike."""
    disagreeing = set(part.final_reads.disagreeing())
    acked = set(distinct(part.acks.channel).tolist())
    for channel in acked.intersection(part.channels):
        name, reads = part.facts.names.channel(channel), part.final_reads.of(channel)
        if not reads:
            yield f"no complete final read of {name}"
        elif len(reads) < 2:
            yield f"{name} was read only once: two final reads must agree"
        elif channel in disagreeing:
            yield f"two final reads of {name} disagree"


def _tell(part: Part, ack: int) -> Finding:
    acks, facts, names = part.acks, part.facts, part.facts.names
    channel, epoch, serial = int(acks.channel[ack]), int(acks.epoch[ack]), int(acks.serial[ack])
    message, acked_t = int(acks.message[ack]), int(acks.t[ack])
    read = part.fate.read.get(ack)
    records, last_t = [acks.reference(ack)], acked_t
    if read is not None:
        why = f"the final read at {facts.at(read.asked_t)} of {read.floor} to {read.head} does not have it"
        records.append(read.record)
        last_t = read.asked_t
    else:
        why = "no final read covers it, a subscriber was owed it, and nothing but the ack ever showed it"
    where = (
        f"at {place_text(part, channel, epoch, [(serial, serial)])}"
        if serial
        else f"in {names.channel(channel)}"
    )
    return finding(
        part,
        "L3",
        f"{facts.message(message)} was acked {where} at {facts.at(acked_t)} to "
        f"{names.client(message >> 32)}, and {why}",
        channel=channel,
        epoch=epoch,
        ranges=[(serial, serial)] if serial else [],
        first_t=acked_t,
        last_t=last_t,
        records=records,
        clients=[message >> 32],
        message=message,
    )
