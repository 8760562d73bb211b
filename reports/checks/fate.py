"""What became of acked messages: kept, lost, or never witnessed.

A message is lost when the last complete final read that covers its place has it nowhere, or
when no read covers its place, some subscriber was owed it, and nothing but the ack ever showed
it. Where an ack does not say the place and nothing showed the message, a read covers it that has the
whole of the channel's only epoch. Of a place that cannot be read for damage nothing is said. An acked
message that no read covers, nobody was owed and nothing showed is *unwitnessed*: coverage, not an anomaly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .lineage import Lineage
from .reads import FinalReads, Read
from .rows import Bool, Int, Rows, distinct, member

_UNCOVERED, _THERE, _LACKING, _UNREADABLE = range(4)  # what reads say of an acked message


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """Positions are of acks."""

    lost: tuple[int, ...] = ()
    read: dict[int, Read] = field(default_factory=dict)  # the read that lacks it, where one covers it
    unwitnessed: int = 0


def fate(
    acks: Rows,
    place: Int,
    *,
    sent: Int,
    seen: Int,
    observed: Int,
    hidden: Bool,
    owed: Int,
    one_life: Int,
    reads: FinalReads,
    lineage: Lineage,
    trusted: Bool,
    clock_ns: int,
) -> Fate:
    """Judge the first ack of every message (a later one that disagrees is L9's).

    Args:
        place: of each ack.
        sent: sorted messages that were sent; acks of others are left out.
        seen: sorted places that a delivery or read showed.
        observed: sorted messages that a delivery or read showed.
        hidden: per ack, whether it is of client 0 and echo is off, so that no read shows its message.
        owed: sorted places that some subscriber was owed and never got.
        one_life: sorted channels that had one epoch only.
        trusted: per ack, whether its publisher's log is whole.
        clock_ns: what the clocks of reader and publisher may be apart.
    """
    _, first = np.unique(acks.message, return_index=True)
    first = np.sort(first[member(acks.message[first], sent)])
    mine, places = acks.where(first), place[first]
    state, by = _read_state(mine, places < 0, reads, lineage, hidden[first], one_life, clock_ns)
    silent = (state == _UNCOVERED) & ~member(places, seen) & ~member(mine.message, observed)
    was_owed = member(places, owed)
    lost = np.flatnonzero(((state == _LACKING) | (silent & was_owed)) & trusted[first])
    return Fate(
        lost=tuple(first[lost].tolist()),
        read={int(first[i]): by[i] for i in lost.tolist() if i in by},
        unwitnessed=int((silent & ~was_owed).sum()),
    )


def _read_state(
    acks: Rows,
    bare: Bool,
    reads: FinalReads,
    lineage: Lineage,
    hidden: Bool,
    one_life: Int,
    clock_ns: int,
) -> tuple[Int, dict[int, Read]]:
    """What the last complete read that covers each acked place says of its message."""
    state = np.full(len(acks), _UNCOVERED, np.int64)
    by: dict[int, Read] = {}
    order = np.argsort(acks.channel, kind="stable")
    for channel, several in reads.by_channel.items():
        lo, hi = np.searchsorted(acks.channel[order], [channel, channel + 1])
        at = order[lo:hi]
        mine = acks.where(at)
        epoch = lineage.epochs(mine.channel, mine.epoch, mine.serial)
        for read in several:
            whole = read.floor <= 1 and bool(member(np.array([channel]), one_life)[0])
            covered = read.covers(lineage, epoch, mine.serial.astype(np.int64))
            covered = np.where(bare[at], whole, covered) & (mine.t < read.asked_t - clock_ns)
            covered &= ~hidden[at]
            found = member(mine.message, distinct(read.intact().message))
            unreadable = member(mine.serial, read.strange_serials())
            says = np.where(found, _THERE, np.where(unreadable, _UNREADABLE, _LACKING))
            state[at[covered]] = says[covered]
            by |= dict.fromkeys(at[covered & (says == _LACKING)].tolist(), read)
    return state, {i: read for i, read in by.items() if state[i] == _LACKING}
