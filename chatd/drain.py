"""Leaving in good order: who is sent away when. The judgement is ``told``; the rest carries it out.

Readiness is false and new clients are refused by the time that this begins. Connections are
told goodbye at a steady pace, so that the node that they come back to is not hit by all at once;
each is closed with 4101 as soon as its publishes in flight have their answers, and whoever is
left at the deadline is closed then. PROTOCOL.md § Operations.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Final

from .connection import Connection
from .protocol.errors import CloseCode

STEP_S: Final = 0.05
HANDSHAKES_PER_S: Final = 2000  # that a node which others come back to takes in its stride
LEAST_SPREAD_MS: Final = 250


def told(count: int, share_per_s: float, elapsed_s: float) -> int:
    """How many of ``count`` connections have heard goodbye ``elapsed_s`` after the first did.

    >>> [told(200, 0.25, elapsed_s) for elapsed_s in (0, 1, 3.9, 4, 9)]
    [3, 53, 198, 200, 200]
    """
    return min(count, math.ceil(count * share_per_s * (elapsed_s + STEP_S)))


def spread_ms(count: int) -> tuple[int, int]:
    """Over how long the clients should come back, as ``goodbye.after_ms``."""
    return 0, max(LEAST_SPREAD_MS, 1000 * count // HANDSHAKES_PER_S)


async def drain(
    connections: Callable[[], Sequence[Connection]],
    idle: Callable[[], bool],
    clock: Callable[[], float],
    *,
    share_per_s: float,
    drain_s: float,
    to: Callable[[], Sequence[str]] = tuple,
) -> None:
    """Send everybody away; back when nothing is open and nothing in flight, or after ``drain_s``.

    Args:
        connections: those that are open.
        idle: whether no publish is on its way into the log.
        to: draws, for one client, where else to go.
    """
    waiting = list(connections())
    count, after_ms, began = len(waiting), spread_ms(len(waiting)), clock()
    while (elapsed_s := clock() - began) < drain_s:
        due = told(count, share_per_s, elapsed_s) - (count - len(waiting))
        for connection in waiting[:due]:
            connection.send_away(CloseCode.DRAIN, "drain", after_ms, to())
        del waiting[:due]
        if idle() and not connections():
            break
        await asyncio.sleep(STEP_S)
    for connection in connections():
        connection.send_away(CloseCode.DRAIN, "drain", after_ms, to())
        connection.close(CloseCode.DRAIN, "drain")
