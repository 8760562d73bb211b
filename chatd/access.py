"""Who one connection is, what it may do, and until when. No I/O; ``now`` is in seconds, monotonic.

no authority      everybody may do everything but moderate, under the name that he gives
an authority      a token in `connect` or in the handshake's header names the user; `auth` renews it;
                  after its end comes error 402, and ``grace_s`` later the end of the connection
"""

from __future__ import annotations

import math
from typing import Final

from .auth import Authority, Grant
from .protocol.errors import Forbidden, Unauthorized
from .rights import EVERYDAY, Rights

ANYTHING: Final = Rights({"*": EVERYDAY})
GRACE_S: Final = 10.0


class Access:
    """The access of one connection.

    Args:
        authority: judges tokens; None: nobody has to show one.
        header: the token of the handshake's Authorization header, used when `connect` has none.
    """

    __slots__ = ("_authority", "_expires", "_header", "_warned", "grace_s", "rights", "user")

    def __init__(
        self, authority: Authority | None = None, *, header: str | None = None, grace_s: float = GRACE_S
    ) -> None:
        self.user: str | None = None  # who the token says; None before `connect`, and without an authority
        self.rights = ANYTHING
        self._authority = authority
        self._header = header
        self.grace_s = grace_s
        self._expires = math.inf
        self._warned = False

    def connect(self, token: str | None, now: float) -> None:
        """Raises ``Unauthorized`` or ``TokenExpired``."""
        if self._authority is None:
            return
        token = token or self._header  # which stays: a `connect` that is refused may be sent again
        if token is None:
            raise Unauthorized("no token: give one in connect, or in the Authorization header as a Bearer")
        self._take(self._authority.grant(token), now)

    def renew(self, token: str, now: float) -> None:
        """Raises ``Unauthorized``, ``TokenExpired`` or ``Forbidden``, and then changes nothing."""
        if self._authority is None:
            return
        grant = self._authority.grant(token)
        if grant.user != self.user:
            raise Forbidden("token is of another user: this connection stays with the one that it began with")
        self._header = None
        self._take(grant, now)

    def _take(self, grant: Grant, now: float) -> None:
        self.user, self.rights = grant.user, grant.rights
        self._expires, self._warned = now + grant.left_s, False

    def left_s(self, now: float) -> float | None:
        """How long the token lasts; None: there is none to expire."""
        return None if self._expires == math.inf else self._expires - now

    @property
    def due(self) -> float:
        """When ``lapse`` has something to say."""
        return self._expires + self.grace_s if self._warned else self._expires

    def lapse(self, now: float) -> bool | None:
        """None: nothing is due. False: the token has expired, say so. True: the grace is over, close."""
        if now < self.due:
            return None
        if self._warned:
            return True
        self._warned = True
        return False
