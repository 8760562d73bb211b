"""Names of the wires of a run, and which of them a fault's target means. Pure.

One node has two proxies before it, ``a`` and ``b``, so that half of its clients can be cut off. Each of
several nodes has its own two: ``a1`` and ``b1`` before the first, ``a2`` and ``b2`` before the second. A
*link* is a proxy on the way from a node to the broker: ``link-1`` of the first node. Targets::

    a, b       half of the clients, whichever node they are on
    node-2     all that come to the second node
    a2         the half of them
    all        everybody
    link-2     the second node's way to the broker; link-* all of them
    link-replica   the replica's way to the broker that it follows

A client belongs to one half for good: the even ordinals to ``a``, the odd ones to ``b``. Its node is fixed
too, client c being on proxy c mod (2 × nodes), unless the load is balanced over the nodes. A balancer stands
before these wires, and keeps the halves apart: it chooses among the proxies of the client's own.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import Final

ALL: Final = "all"
HALVES: Final = ("a", "b")
_OF_NODE: Final = re.compile(r"([ab])(\d+)")
_LINK: Final = "link-"


def proxies(nodes: int = 1) -> tuple[str, ...]:
    """Proxies before so many nodes. In this order client c is on number c mod their count."""
    if nodes == 1:
        return HALVES
    return tuple(f"{half}{node}" for node in range(1, nodes + 1) for half in HALVES)


def links(nodes: int) -> tuple[str, ...]:
    """Wires between so many nodes and their broker."""
    return tuple(f"{_LINK}{node}" for node in range(1, nodes + 1))


REPLICA: Final = f"{_LINK}replica"


def is_link(name: str) -> bool:
    return name.startswith(_LINK)


def of_clients(names: Sequence[str]) -> tuple[str, ...]:
    """Of these proxies, those that clients dial."""
    return tuple(name for name in names if not is_link(name))


def targets(names: Sequence[str]) -> tuple[str, ...]:
    """All that a fault on these proxies may be aimed at, the shortest names first."""
    numbered = [found for name in names if (found := _OF_NODE.fullmatch(name))]
    halves = dict.fromkeys(found[1] for found in numbered)
    nodes = dict.fromkeys(f"node-{found[2]}" for found in numbered)
    return (*halves, *nodes, *of_clients(names), ALL, *filter(is_link, names))


def meant(target: str, names: Sequence[str]) -> tuple[str, ...]:
    """The proxies that a target means, in order; () when it means none."""
    if target in names:
        return (target,)
    if target.startswith(_LINK):
        return tuple(fnmatch.filter(names, target))
    own = of_clients(names)
    if target == ALL:
        return own
    found = [(name, _OF_NODE.fullmatch(name)) for name in own]
    return tuple(name for name, parts in found if parts and target in (parts[1], f"node-{parts[2]}"))


def dialling(target: str, clients: int, names: Sequence[str], *, balanced: bool = False) -> tuple[int, ...]:
    """Ordinals of the clients that may dial what a target means; none dials a link.

    Args:
        clients: their ordinals are 1..clients.
        balanced: a client's node is not fixed, only its half.
    """
    own, hit = of_clients(names), meant(target, names)
    places = [place for place, name in enumerate(own) if name in hit]
    each = len(HALVES) if balanced and len(own) > len(HALVES) else max(1, len(own))
    held = {place % each for place in places}
    return tuple(client for client in range(1, clients + 1) if client % each in held)
