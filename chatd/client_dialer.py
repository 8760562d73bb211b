"""When a client dials again, and where: backoff, ``goodbye``, and what close codes ask for.

Sans-I/O. PROTOCOL.md § Close codes is the table that this follows.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from .protocol.cursor import Backoff
from .protocol.messages import Goodbye

ABNORMAL: Final = 1006  # what a close without a close frame counts as (RFC 6455 § 7.1.5)


def _moves(code: int) -> bool:
    return 4100 <= code <= 4199


@dataclass(slots=True)
class Dialer:
    """Where the next dial goes to (``url``), and when (``due_s``).

    Args:
        home: the url that the application gave; also where to turn to when another one fails.
        follow: hosts, besides the one of ``home``, that ``goodbye.to`` may name.
        fixed: (base, cap) of the backoff in seconds; None: the server's ``retry_ms``.
    """

    home: str
    follow: Collection[str] = ()
    fixed: tuple[float, float] | None = None
    url: str = ""
    due_s: float = 0.0
    goodbye: Goodbye | None = None  # of this connection
    reached: bool = False  # this connection got as far as `connected`
    hold_s: float = 0.0  # an error on this connection asked for at least this long a wait
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        self.url = self.home
        if self.fixed is not None:
            self.backoff = Backoff(*self.fixed)

    def connected(self, retry_ms: tuple[int, int], now_s: float) -> None:
        """The server said ``connected``. The backoff forgets its attempts only if this lasts."""
        self.reached = True
        self.backoff.connected(now_s)
        if self.fixed is None:
            self.backoff.base_s, self.backoff.cap_s = retry_ms[0] / 1000, retry_ms[1] / 1000

    def code(self, code: int) -> int:
        """What the close means: where the close frame was lost, the goodbye before it still counts."""
        return self.goodbye.code if self.goodbye is not None and not 4000 <= code <= 4999 else code

    def closed(self, code: int, now_s: float, rng: random.Random, *, retry_after_s: float) -> None:
        """The socket is gone, or never was: fix the next dial."""
        delay_s = self.backoff.next_delay_s(now_s, rng)
        if _moves(code):
            low_ms, high_ms = self.goodbye.after_ms if self.goodbye else (0, 0)
            spread_s = rng.uniform(low_ms, high_ms) / 1000
            # At once, unless the connection before this one did not last either.
            delay_s = spread_s if self.backoff.attempt == 1 else spread_s + delay_s
        self.due_s = now_s + max(delay_s, retry_after_s, self.hold_s)
        if not self.reached:
            self.url = self.home
        elif _moves(code):
            self.url = self._elsewhere() or self.url
        self.goodbye, self.hold_s, self.reached = None, 0.0, False

    def _elsewhere(self) -> str | None:
        """The first url of ``goodbye.to`` with the scheme of ``home`` and a host that is allowed."""
        home = urlsplit(self.home)
        for url in self.goodbye.to if self.goodbye else ():
            try:
                there = urlsplit(url)
                known = there.hostname in (home.hostname, *self.follow) and there.port != 0
            except ValueError:  # no url at all
                continue
            if known and there.scheme == home.scheme:
                return url
        return None
