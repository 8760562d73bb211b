"""door: who is let in, and when."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import MS, NEVER, Answer, Chunk, End, Knock, Release

HOW = ("rst", "fin", "delay", "hold", "forbid")
UPGRADE = re.compile(rb"\r\nupgrade: *websocket *\r\n", re.IGNORECASE)
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@dataclass(slots=True)
class Door:
    """Acts on new connections, before their upstream is dialled; toxicity is the share of attempts.

    ``how``: rst or fin ends the connection; delay dials ``delay`` ± ``jitter`` ms after it came; hold
    dials when the toxic goes; forbid answers the upgrade of a WebSocket with 403 and lets all others in.
    ``first``: only the first so many attempts of each client; 0: all.
    """

    how: str = "rst"
    first: int = 0
    delay: int = 0  # ms
    jitter: int = 0  # ms
    _attempts: Counter[tuple[object, ...]] = field(default_factory=Counter, init=False)

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """All of it, at once."""
        yield t, data

    def admit(self, knock: Knock) -> End | Answer | float:
        """By ``how``."""
        if self.first and self._is_past(knock):
            return knock.now
        match self.how:
            case "rst":
                return End.RESET
            case "fin":
                return End.CLOSE
            case "hold":
                return NEVER
            case "forbid":
                return Answer(FORBIDDEN) if UPGRADE.search(knock.first) else knock.now
            case _:
                delay_ms = self.delay + (knock.draws.uniform(-self.jitter, self.jitter) if self.jitter else 0)
                return knock.opened_at + max(delay_ms, 0) * MS

    def broken_rule(self) -> str | None:
        """A way, and numbers that go with it."""
        if self.how not in HOW:
            return f"how is {self.how!r}: must be one of {', '.join(HOW)}"
        if self.jitter > self.delay:
            return f"jitter is {self.jitter}: must not be above delay, which is {self.delay}"
        if self.first and self.how in ("delay", "hold"):
            return f"first is {self.first}: goes with how rst, fin or forbid"
        return None

    def _is_past(self, knock: Knock) -> bool:
        """Whether this client has failed often enough; counts this attempt if not."""
        client = knock.client[:2] if len(knock.client) > 2 else ()  # without an ordinal all are one
        if self._attempts[client] >= self.first:
            return True
        self._attempts[client] += 1
        return False
