"""L9 ack-contradiction: an ack says that a message stands where it does not.

Either two acks of one message name different places, or the place that an ack names was seen to
hold another message of that channel, and never the acked one.

Two acks may differ where the server may have forgotten the first: when a retry outside of dedupe_s
can have caused the second, or when the places are on streams of which neither goes on from the other
(as in L2x). Positive evidence, so a torn log accuses as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .duplicate_commit import in_time, one_stream, witness
from .part import Part
from .result import CAP, Finding, Found
from .rows import distinct, runs
from .telling import finding, place_text

_Fault = tuple[int, int, int]  # the ack; an earlier ack that differs, or -1; the message seen there, or -1


def ack_contradiction(part: Part) -> Found:
    """Counts messages."""
    acks = part.acks
    guilty: dict[int, _Fault] = {}
    for fault in (*_differing(part), *_holding_another(part)):
        guilty.setdefault(int(acks.message[fault[0]]), fault)
    told = sorted(guilty.values(), key=lambda f: (int(acks.t[f[0]]), acks.reference(f[0])))[:CAP]
    one = acks.t[np.array([ack for ack, _, _ in guilty.values()], np.intp)]
    other = acks.t[np.array([ack if e < 0 else e for ack, e, _ in guilty.values()], np.intp)]
    return Found(
        len(guilty),
        tuple(_tell(part, *fault) for fault in told),
        spread=part.facts.spread(np.minimum(one, other), np.maximum(one, other)),
    )


def _differing(part: Part) -> Iterator[_Fault]:
    """Acks that name another place than an earlier ack of their message."""
    acks, place, message = part.acks, part.ack_place, part.acks.message
    known = np.flatnonzero(part.ack_known)
    order = known[np.lexsort((acks.row[known], acks.t[known], message[known]))]
    begins, ends = runs(message[order])
    several = np.flatnonzero(ends - begins > 1)
    for begin, end in zip(begins[several].tolist(), ends[several].tolist(), strict=True):
        mine = order[begin:end].tolist()
        if len({int(place[at]) for at in mine}) > 1:
            yield from _first_difference(part, mine)


def _first_difference(part: Part, mine: list[int]) -> Iterator[_Fault]:
    acks, place = part.acks, part.ack_place
    for number, again in enumerate(mine):
        for first in mine[:number]:
            one, other = int(place[first]), int(place[again])
            if one != other and one_stream(part, one, other):
                if in_time(part, int(acks.message[again]), int(acks.t[again])):
                    yield again, first, -1
                    return


def _holding_another(part: Part) -> Iterator[_Fault]:
    """Acks of a place that holds another message of the channel and not theirs."""
    acks, entries = part.acks, part.entries
    home = np.flatnonzero(part.at_home)
    places, messages = entries.place[home], entries.message[home]
    if not len(places):
        return
    at = np.minimum(np.searchsorted(places, part.ack_place), len(places) - 1)
    wrong = (places[at] == part.ack_place) & (messages[at] != acks.message)
    wrong &= part.ack_known
    for ack in np.flatnonzero(wrong).tolist():
        end = np.searchsorted(places, part.ack_place[ack], side="right")
        if int(acks.message[ack]) not in messages[at[ack] : end].tolist():
            yield ack, -1, int(messages[at[ack]])


def _tell(part: Part, ack: int, earlier: int, holds: int) -> Finding:
    acks, facts = part.acks, part.facts
    channel, epoch, serial = int(acks.channel[ack]), int(acks.epoch[ack]), int(acks.serial[ack])
    message, acked_t = int(acks.message[ack]), int(acks.t[ack])
    serials, records, first_t = {serial}, [acks.reference(ack)], acked_t
    where = place_text(part, channel, epoch, [(serial, serial)])
    if earlier >= 0:
        first_t = int(acks.t[earlier])
        before = f"{facts.names.epoch(int(acks.epoch[earlier]))} {int(acks.serial[earlier])}"
        why = f"at {facts.at(first_t)} it was acked at {before}"
        serials.add(int(acks.serial[earlier]))
        records.append(acks.reference(earlier))
    else:
        why = f"{facts.message(holds)} stands there"
        records += witness(part, int(part.ack_place[ack]), holds)
    return finding(
        part,
        "L9",
        f"{facts.message(message)} was acked at {where} at {facts.at(acked_t)}, but {why}",
        channel=channel,
        epoch=epoch,
        ranges=[(s, s) for s in distinct(np.array(sorted(serials))).tolist()],
        first_t=min(first_t, acked_t),
        last_t=max(first_t, acked_t),
        records=records,
        clients=[message >> 32],
        message=message,
    )
