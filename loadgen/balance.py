"""Which node a client dials: [workload.balance]. Pure: time, random numbers and news are arguments.

``Balancer`` is one worker's view of the nodes. It hears what the registry says (``learn``), which dials
failed (``failed``), and counts its own dials since: news are up to a second old, and in that second many
clients may come back. A node is left out while it is not up, while the registry does not name it any more,
and for a while after a dial that failed; when that leaves nobody, all are tried.

Sources: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001); Thaler and
Ravishankar, "A Name-Based Mapping Scheme for Rendezvous" (1996).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

Policy = Literal["fixed", "round_robin", "least", "hash", "two_choices"]
POLICIES: Final[tuple[str, ...]] = get_args(Policy)

NEWS_S: Final = 5.0  # a node that the registry has not named for so long is gone, as its own ttl says
LEFT_OUT_S: Final = 0.5  # after a failed dial; doubled by each that follows
LEFT_OUT_CAP_S: Final = 8.0


@dataclass(slots=True)
class _Known:
    """What this worker knows of one node."""

    connections: int = 0  # as the registry says, and our dials since
    heard_s: float = float("-inf")
    up: bool = True
    out_until_s: float = 0.0
    failures: int = 0  # in a row


class Balancer:
    """One worker's choice.

    Args:
        nodes: their names; client c has its place by ``fixed`` on node (c // halves) mod their count.
        halves: wires before each node; a client's is fixed.
    """

    def __init__(self, policy: Policy, nodes: Sequence[str], *, halves: int = 1, first: int = 0) -> None:
        self._policy, self._nodes, self._halves = policy, tuple(nodes), halves
        self._known = [_Known() for _ in nodes]
        self._news_s = float("-inf")
        self._turn = first  # of round robin: where it begins

    @property
    def listens(self) -> bool:
        """Whether the registry has to be asked."""
        return self._policy != "fixed" and len(self._nodes) > 1

    def learn(self, news: Mapping[str, tuple[str, int]], now_s: float) -> None:
        """What the registry says: (state, connections) by name of node."""
        self._news_s = now_s
        for name, known in zip(self._nodes, self._known, strict=True):
            if name in news:
                state, known.connections = news[name]
                known.heard_s, known.up = now_s, state == "up"

    def failed(self, node: int, now_s: float) -> None:
        """A dial of this node led nowhere."""
        known = self._known[node]
        known.failures += 1
        wait_s = min(LEFT_OUT_CAP_S, LEFT_OUT_S * 2.0 ** (known.failures - 1))
        known.out_until_s = now_s + wait_s

    def connected(self, node: int) -> None:
        """A dial of this node succeeded."""
        self._known[node].failures, self._known[node].out_until_s = 0, 0.0

    def choose(self, ordinal: int, now_s: float, rng: random.Random) -> int:
        """The index of the node that a client dials now."""
        place = ordinal // self._halves % len(self._nodes)
        if self._policy == "fixed":
            return place
        able = self._able(now_s)
        chosen = self._pick(able, ordinal, rng)
        self._known[chosen].connections += 1
        return chosen

    def _pick(self, able: Sequence[int], ordinal: int, rng: random.Random) -> int:
        match self._policy:
            case "least":
                fewest = min(self._known[node].connections for node in able)
                return rng.choice([node for node in able if self._known[node].connections == fewest])
            case "two_choices":
                two = rng.sample(list(able), min(2, len(able)))
                return min(two, key=lambda node: self._known[node].connections)
            case "hash":
                return max(able, key=lambda node: _score(ordinal, self._nodes[node]))
            case _:
                self._turn += 1
                return able[self._turn % len(able)]

    def _able(self, now_s: float) -> list[int]:
        """Nodes that may be dialled."""
        known = list(enumerate(self._known))
        rested = [node for node, one in known if one.out_until_s <= now_s]
        if now_s - self._news_s > NEWS_S:  # nobody tells us anything: by our own failures alone
            return rested or [node for node, _ in known]
        named = [node for node in rested if self._known[node].up and self._heard(node, now_s)]
        return named or rested or [node for node, _ in known]

    def _heard(self, node: int, now_s: float) -> bool:
        return now_s - self._known[node].heard_s <= NEWS_S


def _score(ordinal: int, node: str) -> bytes:
    """Of rendezvous hashing: the client goes to the node with the highest, so that one node less moves
    only its own clients."""
    return hashlib.blake2b(f"{ordinal}/{node}".encode(), digest_size=8).digest()
