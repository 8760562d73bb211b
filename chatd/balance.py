"""Who should go where, among several nodes. No I/O, no clock; a node judges by what the registry says.

Three judgements: the *weight* of a node, which is the room that it has, and for a node that has just come
a growing share of it, so that it is not hit by everybody at once; the *destinations* that a client which is
sent away is told; and how many connections a node that has more than its share *sheds*, and how fast.
PROTOCOL.md § Operations.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import Final

from .store.bus import Node

RAMP_S: Final = 30.0  # from a node's start until it has its full weight
RAMP_FROM: Final = 0.1
TOLD: Final = 2  # addresses that a client is told: one to go to, and one in case it does not answer
SHED_ABOVE: Final = 1.2  # times the own share, from which a node begins to shed
SHED_UNTIL: Final = 1.1  # times the own share, at which it stops
SHED_PER_S: Final = 0.01  # of its connections


def weight(node: Node, now_ms: int) -> float:
    """How much of those who look for a node should come to this one: connections, 0 for nobody.

    >>> node = Node("n1", "ws://h:1", "up", connections=40, capacity=100, lag_s=0.0, started_ms=0)
    >>> [round(weight(node, at_ms), 1) for at_ms in (0, 15_000, 30_000, 90_000)]
    [6.0, 33.0, 60.0, 60.0]
    """
    if node.state != "up":
        return 0.0
    age_s = max(0.0, (now_ms - node.started_ms) / 1000)
    ramp = min(1.0, RAMP_FROM + (1 - RAMP_FROM) * age_s / RAMP_S)
    return max(0, node.capacity - node.connections) * ramp


def destinations(nodes: Iterable[Node], own: str, now_ms: int, rng: random.Random) -> list[str]:
    """Where one client that leaves this node should go, the best first; [] when there is nowhere.

    Each client draws for itself, by weight, so that many of them spread as the weights say.
    (Efraimidis and Spirakis 2006: the largest of u^(1/w) is a weighted draw without replacement.)
    """
    return _drawn([(node, weight(node, now_ms)) for node in nodes if node.name != own], rng)


def emptier(nodes: Sequence[Node], own: str, rng: random.Random) -> list[str]:
    """Where one client goes that a node with more than its share sends away: as ``destinations``, but only to
    nodes that have less than theirs, by how much. At the pace of shedding none of them needs a ramp; by its
    weight a client might go to another node that has too many."""
    lacking = [(node, fair_share(node, nodes)) for node in nodes if node.name != own and node.state == "up"]
    return _drawn([(node, (share or 0.0) - node.connections) for node, share in lacking], rng)


def _drawn(weighted: Iterable[tuple[Node, float]], rng: random.Random) -> list[str]:
    """The first few of a draw by weight; nodes without weight or address are left out."""
    keyed = [
        (math.log(1.0 - rng.random()) / share, node.url) for node, share in weighted if share > 0 and node.url
    ]
    return [url for _, url in sorted(keyed, reverse=True)[:TOLD]]


class Shedder:
    """How many connections a node sends away now, so that one that has just come gets its share.

    A node's share is that of its capacity among the nodes that are up. Between the two bounds nothing
    begins and nothing stops, so that two nodes do not play ball with their clients.
    """

    def __init__(self) -> None:
        self.active = False
        self._owed = 0.0  # connections, in fractions
        self._last: float | None = None

    def observe(self, now: float, own: Node, nodes: Sequence[Node]) -> int:
        """Look at the registry; returns how many of the own connections to send away now.

        Args:
            now: seconds, monotonic.
            own: this node as it is now; what ``nodes`` say of it is older.
            nodes: of the registry.
        """
        passed_s, self._last = now - (now if self._last is None else self._last), now
        share = fair_share(own, nodes)
        if share is None or own.state != "up" or own.connections <= SHED_UNTIL * share:
            self.active = False
        elif own.connections > SHED_ABOVE * share:
            self.active = True
        if not self.active or share is None:
            self._owed = 0.0
            return 0
        self._owed += passed_s * SHED_PER_S * own.connections
        most = math.ceil(own.connections - SHED_UNTIL * share)
        shed = min(int(self._owed), most)
        self._owed -= shed
        return shed


def fair_share(own: Node, nodes: Iterable[Node]) -> float | None:
    """Of all connections, what this node's capacity makes its part; None when it is alone."""
    others = [node for node in nodes if node.name != own.name and node.state == "up"]
    room = own.capacity + sum(node.capacity for node in others)
    if not others or not room:
        return None
    return (own.connections + sum(node.connections for node in others)) * own.capacity / room
