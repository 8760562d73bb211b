"""Who is let in: between a client's first bytes and the dial of its upstream.

Nobody comes here while no toxic is a ``Door``. A door decides by the client's ordinal, which its first
bytes tell; of a client that says nothing it decides after a second, without one.
"""

import asyncio
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from chaos.proxy.chain import ActiveToxic
from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import NEVER, Answer, Door, End, Knock

if TYPE_CHECKING:
    from chaos.proxy.connection import Connection

FIRST_BYTES_S = 1.0


class Threshold:
    """Where one connection waits until it is let in."""

    __slots__ = ("_connection", "_stirred")

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        """Something has changed: first bytes, or the toxics."""
        self._stirred.set()

    async def admitted(self) -> bool:
        """Whether its upstream is to be dialled now; False: it has been ended instead."""
        while True:
            self._stirred.clear()
            now = monotonic()
            until = self._decide(now)
            if until is None:
                return False
            if until <= now:
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout(None if until == NEVER else until - now):
                    await self._stirred.wait()

    def _decide(self, now: float) -> float | None:
        connection = self._connection
        doors = connection.proxy.doors
        known_at = connection.opened_at + FIRST_BYTES_S
        if doors and not connection.identified and now < known_at:
            return known_at
        until = now
        for active in doors:
            if not connection.hit_by(active):
                continue
            verdict = self._ask(active, now)
            if isinstance(verdict, (End, Answer)):
                active.counts["refused"] += 1
                how = verdict.value if isinstance(verdict, End) else "answer"
                connection.proxy.tell(connection, event="refused", toxic=active.name, how=how)
                connection.refuse(verdict)
                return None
            until = max(until, verdict)
        return until

    def _ask(self, active: ActiveToxic, now: float) -> End | Answer | float:
        connection, toxic = self._connection, active.toxic
        assert isinstance(toxic, Door)
        whose = connection.whose()
        draws = Draws(connection.proxy.seed, active.name, *whose, "door")
        first = connection.first_bytes
        return toxic.admit(Knock(whose, connection.opened_at, now, active.since, draws, first))
