"""What can go wrong between a client and chatd, as values.

::

    ChatdError
      BadRequest              400  a field is missing, of the wrong type or out of range
      Unauthorized            401  no token, or one that does not verify
      TokenExpired            402
      Forbidden               403
      Unknown                 404  no such request type, or no such channel subscription
      AlreadySubscribed       405  subscribe without `from` on an open subscription
      IdReused                409  the message id was used with other content
      PositionUnrecoverable   410
      OutOfOrder              412  an earlier publish on this channel failed temporarily: resend it first
      TooLarge                413
      RateLimited             429  temporary
      Internal                500
      Unavailable             503  temporary: certainly not stored
      OutcomeUnknown          504  temporary, not definite: retry with the same message id

``definite`` says that the operation certainly did not happen; the checks of a
run depend on it. PROTOCOL.md § Errors prints this table and a test compares them.
"""

from __future__ import annotations

from typing import ClassVar, Final


class ChatdError(Exception):
    """Base class. Instances carry the reason in words; classes carry what a client decides on."""

    code: ClassVar[int] = 500
    temporary: ClassVar[bool] = False
    definite: ClassVar[bool] = True

    def __init__(self, reason: str, *, after_ms: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_ms = after_ms


class BadRequest(ChatdError):
    code = 400


class Unauthorized(ChatdError):
    code = 401


class TokenExpired(ChatdError):
    code = 402


class Forbidden(ChatdError):
    code = 403


class Unknown(ChatdError):
    code = 404


class AlreadySubscribed(ChatdError):
    code = 405


class IdReused(ChatdError):
    code = 409


class PositionUnrecoverable(ChatdError):
    code = 410


class OutOfOrder(ChatdError):
    code = 412


class TooLarge(ChatdError):
    code = 413


class RateLimited(ChatdError):
    code = 429
    temporary = True


class Internal(ChatdError):
    code = 500
    definite = False


class Unavailable(ChatdError):
    code = 503
    temporary = True


class OutcomeUnknown(ChatdError):
    code = 504
    temporary = True
    definite = False


ERRORS: Final[dict[int, type[ChatdError]]] = {
    cls.code: cls
    for cls in (
        BadRequest, Unauthorized, TokenExpired, Forbidden, Unknown, AlreadySubscribed, IdReused,
        PositionUnrecoverable, OutOfOrder, TooLarge, RateLimited, Internal, Unavailable, OutcomeUnknown,
    )
}  # fmt: skip


class CloseCode:
    """WebSocket close codes; the range says what a client does next (PROTOCOL.md § Close codes)."""

    # 40xx: come back with backoff and resume.
    GENERIC: Final = 4000
    SLOW_CONSUMER: Final = 4003
    NO_PONG: Final = 4004
    TOKEN_EXPIRED: Final = 4005
    INTERNAL: Final = 4006
    RESYNC: Final = 4007
    RATE: Final = 4008
    # 41xx: come back elsewhere at once, jittered by `goodbye.after_ms`.
    DRAIN: Final = 4101
    SHED: Final = 4102
    UNHEALTHY: Final = 4103
    # 45xx: do not come back.
    BAD_TOKEN: Final = 4500
    PROTOCOL: Final = 4501
    NEVER_CONNECTED: Final = 4502
    KICKED: Final = 4503
    CONNECTION_LIMIT: Final = 4504
    VERSION: Final = 4505
    FORBIDDEN: Final = 4506
    REPLACED: Final = 4509


def may_return(close_code: int) -> bool:
    """Whether a client should come back after this close code (all but the 45xx)."""
    return not 4500 <= close_code <= 4599
