"""The client's token: where it comes from, and when it is time for a fresh one. PROTOCOL.md § Security.

``TokenClock`` does no I/O; ``fetch`` calls what the application gave.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

Token = str | Callable[[], str | Awaitable[str]]
"""A token, or a function, asynchronous or not, that gives a fresh one whenever it is called."""

USED: Final = 0.8  # of a token's time, before it is renewed
LATEST_S: Final = 60.0  # but no earlier than this before its end


@dataclass(slots=True)
class TokenClock:
    """When the token of this connection is to be renewed. ``renews``: whether there is somebody to ask."""

    renews: bool = False
    due_s: float | None = None  # None: not now

    def started(self, token_s: float | None, now_s: float) -> None:
        """The server said how long the token lasts from now on; None: for ever."""
        if token_s is None or not self.renews:
            self.due_s = None
        else:
            self.due_s = now_s + max(token_s * USED, token_s - LATEST_S)

    def due(self, now_s: float) -> bool:
        """Whether to ask for a fresh one; true once."""
        if self.due_s is None or now_s < self.due_s:
            return False
        self.due_s = None
        return True


async def fetch(token: Token | None) -> str | None:
    """The token to show. Raises what the application's function raises."""
    if token is None or isinstance(token, str):
        return token
    given = token()
    return await given if inspect.isawaitable(given) else given
