"""Where each message stands, once for all checks that compare places with times of sending.

A message that was observed stands where it was observed; one that nobody saw stands where its acks
say. Messages seen at two places, or acked at two and seen at none, are left out: other classes
speak of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .lineage import Lineage
from .messages import Entries, Messages, Places
from .rows import NEVER, Bool, Index, Int, Rows, distinct, member, repeated, runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Messages with exactly one known place, by place. Equally long columns."""

    place: Int
    message: Int
    at: Int  # position in Messages
    acked_t: Int  # of the first ack that names its place; NEVER: none

    def __len__(self) -> int:
        return len(self.place)

    def where(self, which: Int) -> Placed:
        return Placed(
            place=self.place[which],
            message=self.message[which],
            at=self.at[which],
            acked_t=self.acked_t[which],
        )


def placed(messages: Messages, entries: Entries, at_home: Bool, acks: Rows, ack_place: Int) -> Placed:
    """All messages of which one place is known."""
    seen_message, seen_place = entries.message[at_home], entries.place[at_home]
    single_message, single_place = _single(seen_message, seen_place)
    unseen = ~member(acks.message, distinct(seen_message)) & (ack_place >= 0)
    acked_message, acked_place = _single(acks.message[unseen], ack_place[unseen])
    message = np.concatenate([single_message, acked_message])
    place = np.concatenate([single_place, acked_place])
    order = np.argsort(place, kind="stable")
    message, place = message[order], place[order]
    alone = ~member(place, repeated(place))
    message, place = message[alone], place[alone]
    at = np.searchsorted(messages.message, message)
    known = at < len(messages.message)
    known[known] = messages.message[at[known]] == message[known]
    place, message, at = place[known], message[known], at[known]
    return Placed(place=place, message=message, at=at, acked_t=_acked_t(messages, place, at, acks, ack_place))


def unsaid(acks: Rows) -> Bool:
    """Acks of a server that does not say where it placed the message."""
    return np.asarray((acks.epoch == 0) & (acks.serial == 0))


def located(acks: Rows, entries: Entries, at_home: Bool, places: Places) -> Rows:
    """The acks, those that name no place with the one where their message was first seen, if it was."""
    bare = np.flatnonzero(unsaid(acks))
    if not len(bare):
        return acks
    home = np.flatnonzero(at_home)
    home = home[np.lexsort((entries.first_t[home], entries.message[home]))]
    begins, _ = runs(entries.message[home])
    first = home[begins]
    seen = entries.message[first]
    bare = bare[member(acks.message[bare], seen)]
    place = entries.place[first[np.searchsorted(seen, acks.message[bare])]]
    epoch, serial = acks.epoch.copy(), acks.serial.copy()
    epoch[bare], serial[bare] = places.epochs(place), place & 0xFFFF_FFFF
    return replace(acks, epoch=epoch, serial=serial)


def _acked_t(messages: Messages, place: Int, at: Int, acks: Rows, ack_place: Int) -> Int:
    """When each message was first acked where it stands: a retry may have been placed in another life."""
    stands = np.full(len(messages.message), -1, np.int64)
    stands[at] = place
    acked_t = np.full(len(messages.message), NEVER)
    if not len(stands):  # acks alone, as in an excerpt
        return acked_t
    of = np.searchsorted(messages.message, acks.message)
    of[of == len(stands)] = 0
    answered = member(acks.message, messages.message) & (stands[of] == ack_place)
    np.minimum.at(acked_t, of[answered], acks.t[answered])
    return acked_t[at]


def _single(message: Int, place: Int) -> tuple[Int, Int]:
    """Messages, with their place, that are at one place only."""
    order = np.lexsort((place, message))
    message, place = message[order], place[order]
    begins, ends = runs(message)
    one = place[begins] == place[ends - 1]
    return message[begins][one], place[begins][one]


def lines(placed: Placed, places: Places, lineage: Lineage) -> tuple[Int, Index]:
    """Placed messages line by line of epochs, each in the order of serials: number of line, and position.

    A stream is a line; so is an epoch with all that it goes on from, whose messages come again.
    """
    line, at = [placed.place >> 32], [np.arange(len(placed))]
    number = int(line[0].max(initial=-1))
    for channel, epoch in lineage.children:
        number += 1
        spans = places.spans(channel, epoch, 1, (1 << 32) - 1)
        for begin, end in spans:
            lo, hi = np.searchsorted(placed.place, begin), np.searchsorted(placed.place, end, side="right")
            at.append(np.arange(lo, hi))
            line.append(np.full(hi - lo, number))
    return np.concatenate(line), np.concatenate(at)
