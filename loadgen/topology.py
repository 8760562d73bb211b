"""Which channels there are and who is on them: [workload.topology]. Pure and seeded.

Ids count from 1: first the *rooms* (``workload.channels`` of them, of which each client has
``channels_per_client``, dealt evenly or by popularity), then the channels of the *sized* groups, each with a
given number of members, then the *direct* ones, of two. Names: ``room:7``, and ``dm:c1,c2`` after the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from .section import Purpose, Section, Share, drawn

Side = Literal["all", "odd", "even"]
Ids = npt.NDArray[np.uint32]

SIDES: Final[dict[str, int]] = {"all": 0, "odd": 1, "even": 2}
_FEW: Final = 512  # rooms up to which each client's draw looks at all of them
_CELLS: Final = 4_000_000  # clients x rooms looked at in one step


class Sized(Section):
    """Channels with a given number of members, drawn evenly from all clients: [[workload.topology.sized]]."""

    channels: int = Field(ge=1, le=1_000_000)
    members: int | None = Field(default=None, ge=1)
    share: Share | None = None
    """Of all clients, in place of ``members``; 1: a mega channel with everybody."""

    @model_validator(mode="after")
    def _one(self) -> Sized:
        if (self.members is None) == (self.share is None):
            raise ValueError("write exactly one of members and share")
        return self

    def size(self, clients: int) -> int:
        """Members of each channel."""
        return self.members if self.members is not None else max(1, round((self.share or 0.0) * clients))


class Topology(Section):
    """Everything about channels but their number; without it rooms are all as popular."""

    zipf: float = Field(default=0.0, ge=0, le=5, allow_inf_nan=False)
    """Popularity of the r-th room is 1 / r^zipf. 0: rooms are dealt like cards, and have equal sizes."""
    sized: tuple[Sized, ...] = ()
    direct_per_client: float = Field(default=0.0, ge=0, le=1_000, allow_inf_nan=False)
    """Channels of two (``dm:``) that a client has on average. The pairs are drawn evenly, none twice."""

    def direct_count(self, clients: int) -> int:
        """How many channels of two there are."""
        return min(round(clients * self.direct_per_client / 2), clients * (clients - 1) // 2)

    def faults(self, clients: int) -> Iterator[str]:
        """What does not fit that many clients."""
        for number, sized in enumerate(self.sized, start=1):
            if sized.size(clients) > clients:
                yield f"topology.sized number {number}: members is {sized.members}: must be at most {clients}"
        if (
            self.direct_per_client
            and round(clients * self.direct_per_client / 2) > clients * (clients - 1) // 2
        ):
            yield (
                f"topology.direct_per_client is {self.direct_per_client:g}: must be at most {clients - 1}, "
                "one with each other client"
            )


@dataclass(frozen=True, slots=True)
class Membership:
    """Who is on which channel. Client c has ``channel[first[c]:first[c + 1]]``, sorted; client 0 has none."""

    first: npt.NDArray[np.int64]  # (clients + 2,)
    channel: Ids
    names: tuple[str, ...]  # by id; the 0th is empty
    rooms: int
    direct: int  # the last so many channels are of two

    @property
    def channels(self) -> int:
        return len(self.names) - 1

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Members of each channel, by id."""
        return np.bincount(self.channel, minlength=len(self.names))

    @property
    def client(self) -> Ids:
        """The client of each entry of ``channel``."""
        return np.repeat(np.arange(len(self.first) - 1, dtype="<u4"), np.diff(self.first))

    def of(self, client: int) -> tuple[int, ...]:
        """Channel ids of a client."""
        return tuple(self.channel[self.first[client] : self.first[client + 1]].tolist())


def build(
    *,
    clients: int,
    rooms: int,
    rooms_per_client: int,
    topology: Topology,
    sides: Sequence[Side] | None,
    seed: int,
) -> Membership:
    """Deal the channels.

    Args:
        sides: by client, of which rooms it may have: all, those of odd ids, those of even ids; None: all.
    """
    pairs = [
        *_rooms(clients, rooms, rooms_per_client, topology.zipf, sides, seed),
        *_sized(clients, rooms, topology, seed),
    ]
    before = rooms + sum(sized.channels for sized in topology.sized)
    left, right = _direct(clients, topology.direct_count(clients), seed)
    ids = before + 1 + np.arange(len(left))
    pairs += [(left, ids), (right, ids)]
    client = np.concatenate([np.asarray(c, np.int64) for c, _ in pairs])
    channel = np.concatenate([np.asarray(ch, np.int64) for _, ch in pairs])
    order = np.lexsort((channel, client))
    first = np.searchsorted(client[order], np.arange(clients + 2))
    names = ["", *(f"room:{room}" for room in range(1, before + 1))]
    names += [f"dm:{','.join(sorted((f'c{a}', f'c{b}')))}" for a, b in zip(left, right, strict=True)]
    return Membership(first, channel[order].astype("<u4"), tuple(names), rooms, len(left))


_Pairs = tuple[npt.ArrayLike, npt.ArrayLike]  # clients, channels


def _rooms(
    clients: int, rooms: int, each: int, zipf: float, sides: Sequence[Side] | None, seed: int
) -> Iterator[_Pairs]:
    if not each:
        return
    side = np.array([SIDES[s] for s in sides] if sides is not None else [0] * clients)
    every = np.arange(1, rooms + 1)
    for number in np.unique(side).tolist():
        mine = np.flatnonzero(side == number) + 1
        offered = every if not number else every[every % 2 == number % 2]
        key = (Purpose.ASSIGNMENT,) if not number else (Purpose.ASSIGNMENT, number)
        rng = drawn(seed, *key)
        if zipf:
            hands = popular(len(mine), offered, each, zipf, rng)
        else:
            hands = np.array(deal(len(mine), offered, each, rng), np.int64).reshape(len(mine), each)
        yield np.repeat(mine, each), hands.ravel()


def deal(clients: int, rooms: npt.NDArray[np.int64], each: int, rng: np.random.Generator) -> list[list[int]]:
    """Rooms of each client, dealt like cards from one shuffled deck after another.

    So their numbers of members differ by at most one, and no client has a room twice.
    """
    deck: list[int] = []
    dealt: list[list[int]] = []
    for _ in range(clients):
        hand = deck[:each]
        deck = deck[each:]
        missing = each - len(hand)
        if missing:
            fresh = rooms[rng.permutation(len(rooms))].tolist()
            taken = [room for room in fresh if room not in hand][:missing]
            hand = hand + taken
            deck = [room for room in fresh if room not in taken]
        dealt.append(hand)
    return dealt


def popular(
    clients: int, rooms: npt.NDArray[np.int64], each: int, zipf: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Rooms of each client, shape (clients, each), drawn without replacement by 1 / id^zipf."""
    weight = 1.0 / rooms.astype(np.float64) ** zipf
    if len(rooms) <= _FEW or each > len(rooms) // 4:
        return rooms[_all_at_once(clients, np.log(weight), each, rng)]
    cumulative = np.cumsum(weight) / weight.sum()
    picked = np.searchsorted(cumulative, rng.random((clients, each)), side="right")
    while True:
        picked.sort(axis=1)
        again = np.zeros(picked.shape, np.bool_)
        again[:, 1:] = picked[:, 1:] == picked[:, :-1]
        if not (count := int(again.sum())):
            return rooms[picked]
        picked[again] = np.searchsorted(cumulative, rng.random(count), side="right")


def _all_at_once(
    clients: int, log_weight: npt.NDArray[np.float64], each: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Gumbel top-k: the ``each`` greatest of log weight + noise are a weighted draw without replacement.

    Source: Kool, van Hoof & Welling, "Stochastic Beams and Where to Find Them" (2019), section 2.
    """
    rows = max(1, _CELLS // len(log_weight))
    parts = [np.empty((0, each), np.int64)]
    for begin in range(0, clients, rows):
        noise = rng.gumbel(size=(min(rows, clients - begin), len(log_weight)))
        parts.append(np.argsort(-(noise + log_weight), axis=1)[:, :each])
    return np.concatenate(parts)


def _sized(clients: int, before: int, topology: Topology, seed: int) -> Iterator[_Pairs]:
    for group, sized in enumerate(topology.sized):
        size = sized.size(clients)
        rng = drawn(seed, Purpose.SIZED, group)
        for number in range(sized.channels):
            members = rng.choice(clients, size, replace=False) + 1
            yield members, np.full(size, before + number + 1)
        before += sized.channels


def _direct(clients: int, count: int, seed: int) -> tuple[list[int], list[int]]:
    """The pairs of the channels of two, lower ordinal first, sorted."""
    rng = drawn(seed, Purpose.DIRECT)
    found: set[tuple[int, int]] = set()
    if count > clients * (clients - 1) // 4:  # so many that drawing until they are new would take long
        every = [(a, b) for a in range(1, clients + 1) for b in range(a + 1, clients + 1)]
        found = {every[i] for i in rng.choice(len(every), count, replace=False).tolist()}
    while len(found) < count:
        for a, b in rng.integers(1, clients + 1, (count - len(found), 2)).tolist():
            if a != b:
                found.add((min(a, b), max(a, b)))
    pairs = sorted(found)
    return [a for a, _ in pairs], [b for _, b in pairs]
